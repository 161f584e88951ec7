//! Who gets room, and who makes it.

use std::time::Duration;

use tokio::time::sleep;

use super::*;

#[tokio::test]
async fn the_least_used_task_makes_room_and_the_pinned_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let Opened {
        store, mut events, ..
    } = open(folder.path());
    let forty = |etag: &str| meta(Some(40 * SIXTEEN), etag);
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
        .reserve(
            task(4),
            &meta(Some(70 * SIXTEEN), "\"4\""),
            About::default(),
        )
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
        .reserve(
            task(4),
            &meta(Some(70 * SIXTEEN), "\"4\""),
            About::default(),
        )
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
async fn a_task_that_peers_still_read_has_its_room_already() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let _read = store.pin(task(1));
    let bytes = 60 * SIXTEEN;
    store
        .reserve(task(1), &meta(Some(bytes), "\"1\""), About::default())
        .await
        .unwrap();
    let look = |task| store.inner().has_place(task, bytes);
    assert!(look(Some(task(1))));
    assert!(!look(Some(task(2))) && !look(None));
}

#[tokio::test]
async fn a_quota_of_what_stays_takes_in_a_larger_file_and_lets_it_go_when_its_crowd_has() {
    let folder = tempfile::tempdir().unwrap();
    let spare = |spare_bytes| StoreConfig {
        spare_bytes,
        ..config()
    };
    let large = meta(Some(300 * SIXTEEN), "\"1\"");
    let small = meta(Some(SIXTEEN), "\"2\"");
    let store = Store::open(folder.path(), spare(Some(0))).unwrap().store;
    fill(&store, task(1), &small, 1).await;
    let pinned = store.pin(task(2));
    fill(&store, task(2), &large, 2).await;
    fill(&store, task(3), &small, 3).await;
    let age = |task| {
        let entry = store.inner().entry(task).unwrap();
        entry.set_used_at_ms(entry.used_at_ms() - 3_600_000);
    };
    store.inner().rack().opened_ms -= 3_600_000;
    age(task(1));
    store.evict_idle();
    assert_eq!(store.stats().tasks, 3, "nothing is evicted in vain");
    drop(pinned);
    fill(&store, task(4), &small, 4).await;
    store.evict_idle();
    assert_eq!(store.stats().tasks, 4, "its peers still come");
    age(task(2));
    store.evict_idle();
    assert!(store.progress(task(2)).is_none());
    assert_eq!(store.stats().tasks, 3, "what is within the quota stays");
    store.close().await;

    let store = Store::open(folder.path(), spare(Some(u64::MAX / 2))).unwrap();
    let refused = store.store.reserve(task(2), &large, About::default()).await;
    assert!(
        matches!(refused, Err(ReserveError::NoRoom { .. })),
        "a disk without so much to spare: {refused:?}"
    );
}

#[tokio::test]
async fn the_floor_of_the_disk_is_never_touched() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        cache_bytes: u64::MAX,
        free_floor_bytes: u64::MAX / 2,
        ..StoreConfig::default()
    };
    let store = Store::open(folder.path(), config).unwrap().store;
    let refused = store
        .reserve(task(1), &meta(Some(SIXTEEN), "\"1\""), About::default())
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
async fn what_nobody_used_for_long_goes_and_what_is_in_use_stays() {
    let folder = tempfile::tempdir().unwrap();
    let idle = |idle_ttl| StoreConfig {
        idle_ttl,
        ..config()
    };
    let ttl = Duration::from_millis(300);
    let Opened {
        store, mut events, ..
    } = Store::open(folder.path(), idle(Some(ttl))).unwrap();
    let meta = meta(Some(SIXTEEN), "\"1\"");
    for number in 1..=4 {
        fill(&store, task(number), &meta, u64::from(number)).await;
    }
    let (read, served) = (store.pin(task(1)), store.hold(task(2)));
    sleep(ttl * 2).await;
    store.touch(task(3));
    store.evict_idle();
    assert_eq!(
        events.recv().await,
        Some(StoreEvent::Evicted { task: task(4) })
    );
    assert_eq!(store.stats().tasks, 3);
    // The end of a read is a use, the end of an upload is none of its own.
    drop((read, served));
    store.evict_idle();
    assert_eq!(
        events.recv().await,
        Some(StoreEvent::Evicted { task: task(2) })
    );
    assert_eq!(store.stats().tasks, 2);
    store.close().await;
    sleep(ttl * 2).await;
    let forever = Store::open(folder.path(), idle(None)).unwrap().store;
    forever.evict_idle();
    assert_eq!(forever.stats().tasks, 2, "off by default");
    forever.close().await;
    let again = Store::open(folder.path(), idle(Some(ttl))).unwrap().store;
    again.evict_idle();
    assert_eq!(again.stats().tasks, 0, "a restart is no use");
}
