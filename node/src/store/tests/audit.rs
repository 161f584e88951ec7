//! Bytes that change on disk when nobody wrote them.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use super::*;

/// Signed digests of every block.
fn true_batch(meta: &Meta, seed: u64) -> SignedBatch {
    let blocks = 0..meta.layout.blocks().unwrap();
    let digests = blocks
        .map(|block| BlockDigest::of(&content(seed, &meta.layout, block)))
        .collect();
    SignedBatch {
        digests,
        ..batch(meta, 0)
    }
}

fn corrupt(folder: &Path, at: u64) {
    let mut files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let file = files
        .find(|path| path.file_name().unwrap().len() > 64)
        .unwrap();
    OpenOptions::new()
        .write(true)
        .open(file)
        .unwrap()
        .write_all_at(b"rot", at)
        .unwrap();
}

async fn stored(folder: &Path) -> (Store, Meta) {
    let store = open(folder).store;
    let meta = meta(Some(MIB), "\"a\"");
    fill(&store, task(1), &meta, 1).await;
    store.put_batch(task(1), true_batch(&meta, 1)).unwrap();
    store.flush().await;
    (store, meta)
}

#[tokio::test]
async fn what_an_earlier_process_wrote_is_compared_before_it_is_given_to_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let (store, meta) = stored(folder.path()).await;
    store.close().await;
    corrupt(folder.path(), 3 * 65_536);
    let store = open(folder.path()).store;
    let read = store.read(task(1), meta.version, BlockIndex(3)).await;
    assert!(
        matches!(read, Err(ReadError::Damaged(BlockIndex(3)))),
        "{read:?}"
    );
    assert!(
        store
            .read(task(1), meta.version, BlockIndex(4))
            .await
            .is_ok()
    );
    corrupt(folder.path(), 7 * 65_536);
    assert_eq!(store.audit(task(1)).await.unwrap(), [BlockIndex(7)]);
    assert_eq!(store.audit(task(1)).await.unwrap(), []);
    for block in [3, 7] {
        store
            .put(
                task(1),
                meta.version,
                BlockIndex(block),
                content(1, &meta.layout, block),
            )
            .unwrap();
    }
    store.flush().await;
    assert_eq!(store.audit(task(1)).await.unwrap(), []);
    assert_holds(&store, task(1), &meta, 1, &BlockSet::all(16)).await;
}

#[tokio::test]
async fn a_file_that_somebody_else_touched_is_compared_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, meta) = stored(folder.path()).await;
    assert_eq!(store.audit(task(1)).await.unwrap(), []);
    // File systems stamp changes by a coarse clock.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    corrupt(folder.path(), 5 * 65_536 + 9);
    store.touch(task(1));
    store.flush().await;
    assert_eq!(store.audit(task(1)).await.unwrap(), [BlockIndex(5)]);
    assert!(matches!(
        store.read(task(1), meta.version, BlockIndex(5)).await,
        Err(ReadError::Absent)
    ));
    let epoch = store.progress(task(1)).unwrap().borrow().epoch;
    assert_eq!(epoch, 1, "readers by descriptor learn of it");
}

#[tokio::test]
async fn digests_that_signers_disagree_about_condemn_no_block() {
    let folder = tempfile::tempdir().unwrap();
    let (store, meta) = stored(folder.path()).await;
    store.put_batch(task(1), batch(&meta, 0)).unwrap();
    store.close().await;
    let store = open(folder.path()).store;
    assert_eq!(store.audit(task(1)).await.unwrap(), []);
    assert!(matches!(store.audit(task(2)).await, Err(ReadError::Absent)));
}
