//! The store as its callers see it, through a restart and through a kill.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dfnode_gossip::PeerId;
use dfnode_tracker::{Layout, SourceHead, Validators};

use super::*;

const MIB: u64 = 1 << 20;

fn task(number: u8) -> TaskId {
    TaskId::from_bytes([number; 32])
}

fn meta(length: Option<u64>, etag: &str) -> Meta {
    let validators = Validators {
        etag: Some(etag.to_owned()),
        last_modified: None,
    };
    let head = SourceHead {
        length,
        validators,
        ranges: true,
        digest: None,
        public: true,
    };
    Meta::of(&head, [1; 32]).expect("a sane length")
}

/// The bytes of a block: a pattern that tells task, version and block.
fn content(seed: u64, layout: &Layout, block: u32) -> Bytes {
    let range = layout.range_of(BlockIndex(block));
    let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("small")];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&block.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn config() -> StoreConfig {
    StoreConfig {
        cache_bytes: 100 * MIB,
        free_floor_bytes: 0,
        writers: 2,
    }
}

fn open(folder: &Path) -> Opened {
    Store::open(folder, config()).expect("opens")
}

fn batch(meta: &Meta, first: u32) -> SignedBatch {
    SignedBatch {
        version: meta.version,
        signer: PeerId::from_bytes([7; 32]),
        first: BlockIndex(first),
        digests: vec![BlockDigest([1; 32]); 8],
        signature: vec![2; 64],
    }
}

async fn fill(store: &Store, task: TaskId, meta: &Meta, seed: u64) {
    let reserved = store.reserve(task, meta, About::default());
    for block in 0..meta.layout.blocks().expect("a known length") {
        let bytes = content(seed, &meta.layout, block);
        store
            .put(task, meta.version, BlockIndex(block), bytes)
            .expect("fits");
    }
    reserved.await.expect("there is room");
}

async fn assert_holds(store: &Store, task: TaskId, meta: &Meta, seed: u64, blocks: &BlockSet) {
    for block in blocks.iter() {
        let bytes = store
            .read(task, meta.version, block)
            .await
            .expect("is there");
        assert_eq!(bytes, content(seed, &meta.layout, block.0), "block {block}");
    }
}

#[tokio::test]
async fn a_block_can_be_read_before_its_file_exists_and_after_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let meta = meta(Some(3 * MIB + 5), "\"a\"");
    fill(&store, task(1), &meta, 1).await;
    let all = BlockSet::all(meta.layout.blocks().unwrap());
    assert_holds(&store, task(1), &meta, 1, &all).await;
    let mut progress = store.progress(task(1)).unwrap();
    progress.wait_for(Progress::is_whole).await.unwrap();
    assert_eq!(progress.borrow().watermark(), 3 * MIB + 5);
    assert_holds(&store, task(1), &meta, 1, &all).await;
    assert_eq!(store.stats().waiting_bytes, 0);
    let file = store.open_file(task(1)).unwrap();
    let mut last = [0; 5];
    file.read_exact_at(&mut last, 3 * MIB).unwrap();
    assert_eq!(last[..], content(1, &meta.layout, 48)[..]);
    assert!(file.write_at(b"no", 0).is_err(), "for reading only");
}

#[tokio::test]
async fn what_was_flushed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let meta = meta(Some(MIB), "\"a\"");
    let about = About {
        url: Some("http://h/x".into()),
        validated_at_ms: 5,
        ..About::default()
    };
    {
        let store = open(folder.path()).store;
        fill(&store, task(1), &meta, 1).await;
        store.put_batch(task(1), batch(&meta, 0)).unwrap();
        store.put_batch(task(1), batch(&meta, 8)).unwrap();
        store.update_about(task(1), |kept| *kept = about.clone());
        store.complete(task(1));
        store.close().await;
    }
    let Opened { store, tasks, .. } = open(folder.path());
    let [found] = tasks.as_slice() else {
        panic!("one task, not {tasks:?}")
    };
    assert_eq!(
        (found.task, &found.meta, &found.about, found.complete),
        (task(1), &meta, &about, true)
    );
    assert_eq!(found.batches, [batch(&meta, 0), batch(&meta, 8)]);
    assert_eq!(found.have.len(), 16);
    assert_holds(&store, task(1), &meta, 1, &found.have).await;
    store.put_batch(task(1), batch(&meta, 1)).unwrap();
    store.close().await;
    assert_eq!(open(folder.path()).tasks[0].batches.len(), 3);
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let refused = Store::open(folder.path(), config()).expect_err("in use");
    assert!(
        refused
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{refused}"
    );
}

#[tokio::test]
async fn a_restarted_version_drops_the_older_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let (old, new) = (meta(Some(MIB), "\"old\""), meta(Some(2 * MIB), "\"new\""));
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
    assert_eq!(store.stats().used_bytes, 2 * MIB);
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
    let length = whole.len() as u64 + 3;
    meta.layout = meta.layout.ended_at(length);
    store
        .reserve(task(1), &meta, About::default())
        .await
        .unwrap();
    assert!(store.progress(task(1)).unwrap().borrow().is_whole());
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
async fn the_least_used_task_makes_room_and_the_pinned_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let Opened {
        store, mut events, ..
    } = open(folder.path());
    let forty = |etag: &str| meta(Some(40 * MIB), etag);
    let pinned = store.pin(task(1));
    store
        .reserve(task(1), &forty("\"1\""), About::default())
        .await
        .unwrap();
    store
        .reserve(task(2), &forty("\"2\""), About::default())
        .await
        .unwrap();
    store.touch(task(2));
    store
        .reserve(task(3), &forty("\"3\""), About::default())
        .await
        .unwrap();
    assert_eq!(
        events.recv().await,
        Some(StoreEvent::Evicted { task: task(2) })
    );
    let refused = store
        .reserve(task(4), &meta(Some(70 * MIB), "\"4\""), About::default())
        .await;
    assert!(
        matches!(refused, Err(ReserveError::NoRoom { .. })),
        "{refused:?}"
    );
    assert!(
        store.progress(task(3)).is_some(),
        "nothing is evicted in vain"
    );
    assert!(store.progress(task(4)).is_none());
    drop(pinned);
    store
        .reserve(task(4), &meta(Some(70 * MIB), "\"4\""), About::default())
        .await
        .unwrap();
    assert_eq!(
        events.recv().await,
        Some(StoreEvent::Evicted { task: task(3) })
    );
    assert_eq!(
        events.recv().await,
        Some(StoreEvent::Evicted { task: task(1) })
    );
    assert_eq!(store.stats().tasks, 1);
}

#[tokio::test]
async fn the_floor_of_the_disk_is_never_touched() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        cache_bytes: u64::MAX,
        free_floor_bytes: u64::MAX / 2,
        writers: 1,
    };
    let store = Store::open(folder.path(), config).unwrap().store;
    let refused = store
        .reserve(task(1), &meta(Some(MIB), "\"1\""), About::default())
        .await;
    assert!(
        matches!(refused, Err(ReserveError::DiskFull { .. })),
        "{refused:?}"
    );
    assert_eq!(
        store.stats(),
        StoreStats {
            cache_bytes: u64::MAX,
            ..StoreStats::default()
        }
    );
}

#[tokio::test]
async fn a_block_that_changed_on_disk_is_noticed_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let meta = meta(Some(MIB), "\"a\"");
    fill(&store, task(1), &meta, 1).await;
    store.flush().await;
    let mut files = fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().path());
    let file = files
        .find(|path| path.file_name().unwrap().len() > 64)
        .unwrap();
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(b"rot", 2 * 65_536).unwrap();
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
    file.set_len(15 * 65_536).unwrap();
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
    let meta = meta(Some(MIB), "\"a\"");
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
    let mut on_disk = vec![0; 65_536];
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
    let meta = meta(Some(MIB), "\"a\"");
    fill(&store, task(1), &meta, 1).await;
    store.flush().await;
    let file = store.open_file(task(1)).unwrap();
    assert_eq!(store.remove(task(1)), MIB);
    assert_eq!(store.remove(task(1)), 0);
    let mut bytes = vec![0; 65_536];
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
async fn a_damaged_index_is_put_aside_and_its_files_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let meta = meta(Some(MIB), "\"a\"");
    let store = open(folder.path()).store;
    fill(&store, task(1), &meta, 1).await;
    store.close().await;
    for damage in [b"this is no index at all".to_vec(), vec![0; 100_000]] {
        fs::write(folder.path().join("index.redb"), damage).unwrap();
        let opened = open(folder.path());
        assert!(opened.tasks.is_empty());
        fill(&opened.store, task(1), &meta, 1).await;
        opened.store.close().await;
        assert!(folder.path().join("index.damaged").exists());
        assert_eq!(open(folder.path()).tasks.len(), 1, "and it works again");
    }
}

#[tokio::test]
async fn a_bit_that_flips_anywhere_in_the_index_never_makes_false_belief() {
    let folder = tempfile::tempdir().unwrap();
    let meta = meta(Some(MIB), "\"a\"");
    let store = open(folder.path()).store;
    fill(&store, task(1), &meta, 1).await;
    store.close().await;
    let index = folder.path().join("index.redb");
    let sound = fs::read(&index).unwrap();
    for step in 0..60 {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path());
        let mut bytes = sound.clone();
        let at = step * bytes.len() / 60 + step * 7;
        let at = at % bytes.len();
        bytes[at] ^= 1 << (step % 8);
        fs::write(copy.path().join("index.redb"), bytes).unwrap();
        let Opened { store, tasks, .. } = open(copy.path());
        for found in &tasks {
            assert_eq!((found.task, &found.meta), (task(1), &meta));
            assert_holds(&store, task(1), &meta, 1, &found.have).await;
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        // A file may be removed while the folder is copied, as it may be while the power goes.
        let _ = fs::copy(file.path(), to.join(file.file_name()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_moment_a_kill_picks_the_index_agrees_with_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { store, .. } = open(folder.path());
    let store = Arc::new(store);
    let metas: Vec<Meta> = (0..3)
        .map(|number| meta(Some(8 * MIB), &format!("\"{number}\"")))
        .collect();
    let writer = tokio::spawn({
        let (store, metas) = (Arc::clone(&store), metas.clone());
        async move {
            for (number, meta) in (0_u8..).zip(&metas) {
                fill(&store, task(number), meta, u64::from(number)).await;
                store.flush().await;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            store.remove(task(0));
        }
    });
    let mut seen = 0;
    for _ in 0..25 {
        // The index first: what it names must then be in files that are copied later.
        let copy = tempfile::tempdir().unwrap();
        let copied = fs::copy(
            folder.path().join("index.redb"),
            copy.path().join("index.redb"),
        );
        copied.unwrap();
        copy_task_files(folder.path(), copy.path());
        let Opened { store, tasks, .. } = open(copy.path());
        for found in &tasks {
            let number = found.task.as_bytes()[0];
            seen += found.have.len();
            assert_holds(
                &store,
                found.task,
                &metas[usize::from(number)],
                u64::from(number),
                &found.have,
            )
            .await;
        }
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
    writer.await.unwrap();
    assert!(seen > 0, "the copies were taken while something was there");
}

fn copy_task_files(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_name().len() > 64 {
            let _ = fs::copy(file.path(), to.join(file.file_name()));
        }
    }
}

#[tokio::test]
async fn a_killed_process_leaves_what_it_flushed() {
    const CHILD: &str = "DFNODE_TEST_STORE_TO_BE_KILLED";
    let meta = meta(Some(8 * MIB), "\"k\"");
    if let Ok(folder) = std::env::var(CHILD) {
        let store = open(Path::new(&folder)).store;
        let _in_use = store.pin(task(1));
        fill(&store, task(1), &meta, 1).await;
        store.flush().await;
        fs::write(Path::new(&folder).join("flushed"), "").unwrap();
        for seed in 2_u8.. {
            fill(&store, task(seed), &meta, u64::from(seed)).await;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for wait in [0, 15, 70] {
        let _ = fs::remove_file(folder.path().join("flushed"));
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::a_killed_process_leaves_what_it_flushed",
            ])
            .env(CHILD, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !folder.path().join("flushed").exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(wait)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let Opened { store, tasks, .. } = open(folder.path());
        let flushed = tasks
            .iter()
            .find(|found| found.task == task(1))
            .expect("is there");
        assert_eq!(flushed.have.len(), 128, "all that was flushed");
        for found in &tasks {
            let seed = u64::from(found.task.as_bytes()[0]);
            assert_holds(&store, found.task, &meta, seed, &found.have).await;
        }
        store.close().await;
    }
}
