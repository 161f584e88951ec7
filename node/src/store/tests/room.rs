//! Who gets room, and who makes it.

use super::*;

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
