//! Bytes that change on disk when nobody wrote them.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

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

fn task_file(folder: &Path) -> PathBuf {
    let mut files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    files
        .find(|path| path.file_name().unwrap().len() > 64)
        .unwrap()
}

fn corrupt(folder: &Path, at: u64) {
    OpenOptions::new()
        .write(true)
        .open(task_file(folder))
        .unwrap()
        .write_all_at(b"rot", at)
        .unwrap();
}

async fn stored(folder: &Path) -> (Store, Meta) {
    let store = open(folder).store;
    let meta = meta(Some(SIXTEEN), "\"a\"");
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
    corrupt(folder.path(), 3 * 32_768);
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
    corrupt(folder.path(), 7 * 32_768);
    assert_eq!(
        store.audit(task(1), 0..u64::MAX).await.unwrap(),
        [BlockIndex(7)]
    );
    assert_eq!(store.audit(task(1), 0..u64::MAX).await.unwrap(), []);
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
    assert_eq!(store.audit(task(1), 0..u64::MAX).await.unwrap(), []);
    assert_holds(&store, task(1), &meta, 1, &BlockSet::all(16)).await;
}

#[tokio::test]
async fn what_is_in_doubt_is_not_given_to_anybody_while_the_index_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (store, meta) = stored(folder.path()).await;
    store.close().await;
    corrupt(folder.path(), 3 * 32_768);
    let store = open(folder.path()).store;
    store.0.inner.index.close();
    for block in [3, 4] {
        let read = store.read(task(1), meta.version, BlockIndex(block)).await;
        assert!(matches!(read, Err(ReadError::Io(_))), "{read:?}");
    }
    let audited = store.audit(task(1), 0..u64::MAX).await;
    assert!(matches!(audited, Err(ReadError::Io(_))), "{audited:?}");
}

#[tokio::test]
async fn a_file_that_somebody_else_touched_is_compared_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, meta) = stored(folder.path()).await;
    assert_eq!(store.audit(task(1), 0..u64::MAX).await.unwrap(), []);
    // File systems stamp changes by a coarse clock.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    corrupt(folder.path(), 5 * 32_768 + 9);
    store.touch(task(1));
    store.flush().await;
    assert_eq!(
        store.audit(task(1), 0..u64::MAX).await.unwrap(),
        [BlockIndex(5)]
    );
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
    assert_eq!(store.audit(task(1), 0..u64::MAX).await.unwrap(), []);
    assert!(matches!(
        store.audit(task(2), 0..u64::MAX).await,
        Err(ReadError::Absent)
    ));
}

#[tokio::test]
async fn a_file_that_is_touched_between_two_writes_is_compared_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let meta = meta(Some(SIXTEEN), "\"a\"");
    store
        .reserve(task(1), &meta, About::default())
        .await
        .unwrap();
    store.put_batch(task(1), true_batch(&meta, 1)).unwrap();
    let put = |block| {
        let bytes = content(1, &meta.layout, block);
        store.put(task(1), meta.version, BlockIndex(block), bytes)
    };
    for block in 0..8 {
        put(block).unwrap();
    }
    store.flush().await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    corrupt(folder.path(), 2 * 32_768);
    for block in 8..16 {
        put(block).unwrap();
    }
    store.flush().await;
    let audit = store.audit(task(1), 0..u64::MAX).await.unwrap();
    assert_eq!(audit, [BlockIndex(2)]);
}

#[tokio::test]
async fn only_what_is_asked_for_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _meta) = stored(folder.path()).await;
    store.close().await;
    corrupt(folder.path(), 2 * 32_768);
    let store = open(folder.path()).store;
    let audit = |range| store.audit(task(1), range);
    assert_eq!(audit(0..2 * 32_768).await.unwrap(), []);
    assert_eq!(audit(3 * 32_768..u64::MAX).await.unwrap(), []);
    assert_eq!(
        audit(3 * 32_768 - 1..u64::MAX).await.unwrap(),
        [BlockIndex(2)]
    );
}

#[tokio::test]
async fn a_file_that_somebody_took_away_or_replaced_is_found_missing() {
    for replaced in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (store, meta) = stored(folder.path()).await;
        let path = task_file(folder.path());
        fs::remove_file(&path).unwrap();
        if replaced {
            fs::write(&path, vec![0; 16 * 32_768]).unwrap();
        }
        let found = store.audit(task(1), 0..u64::MAX).await.unwrap();
        assert_eq!(found.len(), 16, "replaced: {replaced}");
        fill(&store, task(1), &meta, 1).await;
        store.close().await;
        let Opened { store, tasks, .. } = open(folder.path());
        assert_eq!(tasks[0].have.len(), 16);
        assert_holds(&store, task(1), &meta, 1, &BlockSet::all(16)).await;
    }
}

#[tokio::test]
async fn a_file_that_was_taken_away_is_made_again_for_all_who_come_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _meta) = stored(folder.path()).await;
    let entry = store.0.inner.entry(task(1)).unwrap();
    let path = task_file(folder.path());
    for _ in 0..200 {
        fs::remove_file(&path).unwrap();
        entry.let_go();
        let barrier = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    store.open_file(task(1)).unwrap();
                });
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_nobody_touches_is_compared_again_after_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let (store, meta) = stored(folder.path()).await;
    assert_eq!(store.audit(task(1), 0..u64::MAX).await.unwrap(), []);
    // Rot that leaves no stamp: here the signed digests change instead of the bytes.
    let other = true_batch(&meta, 2);
    store
        .0
        .inner
        .entry(task(1))
        .unwrap()
        .keep_digests(vec![other]);
    tokio::time::advance(std::time::Duration::from_mins(30)).await;
    assert_eq!(store.audit(task(1), 0..u64::MAX).await.unwrap(), []);
    tokio::time::advance(std::time::Duration::from_mins(31)).await;
    assert_eq!(store.audit(task(1), 0..u64::MAX).await.unwrap().len(), 16);
}
