//! Blocks and versions, while the store is open.

use std::fs;
use std::os::unix::fs::FileExt;

use super::*;

#[tokio::test]
async fn a_block_can_be_read_before_its_file_exists_and_after_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let meta = meta(Some(3 * SIXTEEN + 5), "\"a\"");
    fill(&store, task(1), &meta, 1).await;
    let all = BlockSet::all(meta.layout.blocks().unwrap());
    assert_holds(&store, task(1), &meta, 1, &all).await;
    let mut progress = store.progress(task(1)).unwrap();
    progress.wait_for(Progress::is_whole).await.unwrap();
    assert_eq!(progress.borrow().watermark(), 3 * SIXTEEN + 5);
    assert_holds(&store, task(1), &meta, 1, &all).await;
    assert_eq!(store.stats().waiting_bytes, 0);
    let file = store.open_file(task(1)).unwrap();
    let mut last = [0; 5];
    file.read_exact_at(&mut last, 3 * SIXTEEN).unwrap();
    assert_eq!(last[..], content(1, &meta.layout, 48)[..]);
    assert!(file.write_at(b"no", 0).is_err(), "for reading only");
}

#[tokio::test]
async fn a_restarted_version_drops_the_older_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let (old, new) = (
        meta(Some(SIXTEEN), "\"old\""),
        meta(Some(2 * SIXTEEN), "\"new\""),
    );
    fill(&store, task(1), &old, 1).await;
    let watcher = store.progress(task(1)).unwrap();
    fill(&store, task(1), &new, 2).await;
    assert!(watcher.borrow().gone);
    assert!(matches!(
        store.read(task(1), old.version, BlockIndex(0)).await,
        Err(ReadError::Absent)
    ));
    assert_eq!(
        store.put(task(1), old.version, BlockIndex(0), Bytes::new()),
        Err(PutError::NotReserved)
    );
    assert_eq!(store.stats().used_bytes, 2 * SIXTEEN);
    store.close().await;
    let Opened { store, tasks, .. } = open(folder.path());
    assert_eq!(tasks[0].meta, new);
    assert_holds(&store, task(1), &new, 2, &tasks[0].have).await;
    let files = fs::read_dir(folder.path())
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().len() > 64);
    assert_eq!(files.count(), 1, "the older file is gone");
}

#[tokio::test]
async fn a_stream_learns_its_length_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let mut meta = meta(None, "\"s\"");
    store
        .reserve(task(1), &meta, About::default())
        .await
        .unwrap();
    let whole = content(1, &meta.layout, 0);
    store
        .put(task(1), meta.version, BlockIndex(0), whole.clone())
        .unwrap();
    store
        .put(
            task(1),
            meta.version,
            BlockIndex(1),
            Bytes::from_static(b"end"),
        )
        .unwrap();
    store.flush().await;
    assert_eq!(
        store
            .read(task(1), meta.version, BlockIndex(1))
            .await
            .unwrap(),
        b"end"[..]
    );
    let progress = store.progress(task(1)).unwrap();
    let shown = || {
        let progress = progress.borrow();
        (progress.byte_runs().last().cloned(), progress.watermark())
    };
    let full = whole.len() as u64;
    assert_eq!(shown(), (Some(0..full), full), "nothing behind the end");
    let length = full + 3;
    meta.layout = meta.layout.ended_at(length);
    store
        .reserve(task(1), &meta, About::default())
        .await
        .unwrap();
    assert!(progress.borrow().is_whole());
    assert_eq!(shown(), (Some(0..length), length));
    assert_eq!(store.stats().used_bytes, length);
    assert_eq!(
        store
            .read(task(1), meta.version, BlockIndex(1))
            .await
            .unwrap(),
        b"end"[..]
    );
    store.close().await;
    assert_eq!(open(folder.path()).tasks[0].have.len(), 2);
}

#[tokio::test]
async fn a_block_that_changed_on_disk_is_noticed_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let meta = meta(Some(SIXTEEN), "\"a\"");
    fill(&store, task(1), &meta, 1).await;
    store.flush().await;
    let mut files = fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().path());
    let file = files
        .find(|path| path.file_name().unwrap().len() > 64)
        .unwrap();
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(b"rot", 2 * 32_768).unwrap();
    let digest = |block| BlockDigest::of(&content(1, &meta.layout, block));
    let (task, version) = (task(1), meta.version);
    assert!(
        store
            .read_verified(task, version, BlockIndex(1), digest(1))
            .await
            .is_ok()
    );
    let damaged = store
        .read_verified(task, version, BlockIndex(2), digest(2))
        .await;
    assert!(
        matches!(damaged, Err(ReadError::Damaged(BlockIndex(2)))),
        "{damaged:?}"
    );
    let epoch = store.progress(task).unwrap().borrow().epoch;
    assert_eq!(epoch, 1);
    file.set_len(15 * 32_768).unwrap();
    let short = store.read(task, version, BlockIndex(15)).await;
    assert!(matches!(short, Err(ReadError::Damaged(_))), "{short:?}");
    store
        .put(task, version, BlockIndex(2), content(1, &meta.layout, 2))
        .unwrap();
    store.close().await;
    let Opened { store, tasks, .. } = open(folder.path());
    assert_eq!(
        (tasks[0].have.len(), tasks[0].have.first_absent(0)),
        (15, BlockIndex(15))
    );
    assert_holds(&store, task, &meta, 1, &tasks[0].have).await;
}

#[tokio::test]
async fn a_replaced_block_wins_even_while_the_first_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let meta = meta(Some(SIXTEEN), "\"a\"");
    store
        .reserve(task(1), &meta, About::default())
        .await
        .unwrap();
    for round in 0..50 {
        for block in 0..16 {
            store
                .put(
                    task(1),
                    meta.version,
                    BlockIndex(block),
                    content(round, &meta.layout, block),
                )
                .unwrap();
        }
    }
    store.flush().await;
    assert_holds(&store, task(1), &meta, 49, &BlockSet::all(16)).await;
    let mut on_disk = vec![0; 32_768];
    store
        .open_file(task(1))
        .unwrap()
        .read_exact_at(&mut on_disk, 0)
        .unwrap();
    assert_eq!(on_disk, content(49, &meta.layout, 0));
    assert_eq!(store.stats().waiting_bytes, 0);
}

#[tokio::test]
async fn a_removed_task_is_forgotten_and_may_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let meta = meta(Some(SIXTEEN), "\"a\"");
    fill(&store, task(1), &meta, 1).await;
    store.flush().await;
    let file = store.open_file(task(1)).unwrap();
    assert_eq!(store.remove(task(1)), SIXTEEN);
    assert_eq!(store.remove(task(1)), 0);
    let mut bytes = vec![0; 32_768];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(
        bytes,
        content(1, &meta.layout, 0),
        "who had it open reads on"
    );
    store
        .reserve(task(1), &meta, About::default())
        .await
        .unwrap();
    assert_eq!(store.progress(task(1)).unwrap().borrow().written.len(), 0);
    store.close().await;
    assert_eq!(open(folder.path()).tasks[0].have.len(), 0);
}

#[tokio::test]
async fn a_replaced_block_takes_back_that_the_whole_was_checked() {
    for is_written in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).store;
        let meta = meta(Some(SIXTEEN), "\"a\"");
        drop(store.reserve(task(1), &meta, About::default()));
        let put = |seed| {
            let bytes = content(seed, &meta.layout, 15);
            store.put(task(1), meta.version, BlockIndex(15), bytes)
        };
        put(1).unwrap();
        if is_written {
            store.flush().await;
        }
        store.complete(task(1));
        put(2).unwrap();
        store.close().await;
        let found = &open(folder.path()).tasks[0];
        assert!(!found.complete, "written before: {is_written}");
    }
}
