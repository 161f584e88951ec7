//! What is left after a restart, a kill or damage.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::*;

#[tokio::test]
async fn what_was_flushed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let meta = meta(Some(SIXTEEN), "\"a\"");
    let about = About {
        url: Some("http://h/x".into()),
        validated_at_ms: 5,
        ..About::default()
    };
    {
        let store = open(folder.path()).store;
        fill(&store, task(1), &meta, 1).await;
        store.put_batch(task(1), batch(&meta, BEYOND)).unwrap();
        store.put_batch(task(1), batch(&meta, BEYOND + 8)).unwrap();
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
    assert_eq!(
        found.batches,
        [batch(&meta, BEYOND), batch(&meta, BEYOND + 8)]
    );
    assert_eq!(found.have.len(), 16);
    assert_holds(&store, task(1), &meta, 1, &found.have).await;
    store.put_batch(task(1), batch(&meta, BEYOND + 1)).unwrap();
    store.close().await;
    assert_eq!(open(folder.path()).tasks[0].batches.len(), 3);
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).store;
    let refused = Store::open(folder.path(), config()).expect_err("in use");
    assert!(
        refused
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{refused}"
    );
    let pin = first.pin(task(1));
    first.close().await;
    open(folder.path()).store.close().await;
    drop(pin);
}

#[tokio::test]
async fn a_damaged_index_is_put_aside_and_its_files_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let meta = meta(Some(SIXTEEN), "\"a\"");
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
    let meta = meta(Some(SIXTEEN), "\"a\"");
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
        .map(|number| meta(Some(8 * SIXTEEN), &format!("\"{number}\"")))
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
    let meta = meta(Some(8 * SIXTEEN), "\"k\"");
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
                "store::tests::crash::a_killed_process_leaves_what_it_flushed",
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
