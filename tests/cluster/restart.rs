//! Nothing verified is lost.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use dfnode_node::get::{GetEvent, GetRequest};

use crate::cluster::{Cluster, ME, eventually, get};
use crate::origin::{Origin, Resource, noise};

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_survives_a_restart_and_serves_others() {
    let file = noise(3_000_000, 30);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let mut cluster = Cluster::start(2).await;
    let url = origin.url("/file");
    cluster.get(1, url.clone()).await.unwrap();
    cluster.stop(1).await;
    cluster.restart(1).await;
    cluster.meet().await;
    origin.die();
    assert_eq!(cluster.get(0, url.clone()).await.unwrap().bytes, file);
    let again = cluster.get(1, url).await.unwrap();
    assert_eq!(again.bytes, file);
    assert_eq!(again.summary.from_cache, 3_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_a_crash_ended_resumes() {
    let file = noise(8_000_000, 31);
    let origin = Origin::start(&[("/file", Resource::file(&file).slowly(4_000_000))]).await;
    let mut cluster = Cluster::start(1).await;
    let url = origin.url("/file");
    let mut download = cluster
        .node(0)
        .get(ME, GetRequest::new(url.clone()))
        .await
        .unwrap();
    let mut done = 0;
    while done < 4_000_000 {
        if let GetEvent::Progress(progress) = download.next().await.unwrap().unwrap() {
            done = progress.done_bytes;
        }
    }
    // What is more than a second old is on disk.
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.restart(0).await;
    let got = cluster.get(0, url).await.unwrap();
    assert_eq!(got.bytes, file);
    assert!(got.summary.from_cache > 0, "{:?}", got.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_is_refused_the_same_folder() {
    let cluster = Cluster::start(1).await;
    let refused = dfnode_node::Node::start(cluster.config(0)).await;
    assert!(
        matches!(refused, Err(dfnode_node::StartError::Store(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_is_known_again_when_it_returns() {
    let mut cluster = Cluster::start(3).await;
    cluster.kill(2).await;
    cluster.restart(2).await;
    let returned = cluster.node(2);
    eventually("the node that returned knows the others", async || {
        returned.status().await.peers == 2
    })
    .await;
}

/// Overwrites a few bytes of the only file in a node's cache.
fn damage(cluster: &Cluster, index: usize, at: u64) {
    let folder = cluster.config(index).data.join("cache");
    let mut files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let file = files
        .find(|path| path.file_name().unwrap().len() > 64)
        .unwrap();
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(b"rotten", at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_the_node_was_down_is_asked_for_before_it_is_handed_out() {
    let (old, new) = (noise(1_000_000, 52), noise(1_000_000, 53));
    let origin = Origin::start(&[("/file", Resource::file(&old))]).await;
    let mut cluster = Cluster::start(1).await;
    let url = origin.url("/file");
    assert!(cluster.get(0, url.clone()).await.unwrap().bytes == old);
    cluster.stop(0).await;
    origin.put("/file", Resource::file(&new));
    cluster.restart(0).await;
    let got = cluster.get(0, url).await.unwrap();
    assert!(
        got.bytes == new,
        "what lay in the cache was believed unasked"
    );
}

/// Files of a node's cache that this process has open.
fn open_files(cluster: &Cluster, index: usize) -> usize {
    let folder = cluster.config(index).data.join("cache");
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter_map(|file| fs::read_link(file.path()).ok())
        .filter(|file| file.starts_with(&folder))
        .filter(|file| file.file_name().unwrap().len() > 64)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_keeps_no_file_open_that_nobody_waits_for() {
    let origin = Origin::start(&[]).await;
    let cluster = Cluster::start(1).await;
    for seed in 0..10 {
        let (path, file) = (format!("/file-{seed}"), noise(100_000, seed));
        origin.put(&path, Resource::file(&file));
        assert!(cluster.get(0, origin.url(&path)).await.unwrap().bytes == file);
    }
    eventually("all are closed", async || open_files(&cluster, 0) == 0).await;
    // What was closed is there all the same.
    origin.die();
    let again = cluster.get(0, origin.url("/file-3")).await.unwrap();
    assert!(again.bytes == noise(100_000, 3));
}

/// File systems stamp changes by a coarse clock.
async fn let_the_stamp_age() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_damaged_while_the_node_was_down_is_never_handed_out() {
    let file = noise(5_000_000, 32);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let mut cluster = Cluster::start(2).await;
    let url = origin.url("/file");
    cluster.get(1, url.clone()).await.unwrap();
    cluster.stop(1).await;
    damage(&cluster, 1, 2_000_000);
    cluster.restart(1).await;
    cluster.meet().await;
    let got = cluster.get(1, url.clone()).await.unwrap();
    assert!(got.bytes == file, "wrong bytes were handed out");
    let fetched = 5_000_000 - got.summary.from_cache;
    assert!((1..=300_000).contains(&fetched), "{:?}", got.summary);
    // Nor is it sent to a peer, who would take the sender for a liar.
    let_the_stamp_age().await;
    damage(&cluster, 1, 4_000_000);
    assert!(cluster.get(0, url).await.unwrap().bytes == file);
    let peers = cluster.node(0).peers().await;
    assert!(peers.iter().all(|peer| !peer.isolated), "{peers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_while_the_node_runs_is_never_handed_out() {
    let file = noise(5_000_000, 33);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let cluster = Cluster::start(1).await;
    let url = origin.url("/file");
    cluster.get(0, url.clone()).await.unwrap();
    let_the_stamp_age().await;
    damage(&cluster, 0, 3_000_000);
    let mut request = GetRequest::new(url.clone());
    request.range = Some((2_900_000, Some(3_100_000)));
    let got = get(&cluster.node(0), request).await.unwrap();
    assert!(got.bytes[2_900_000..] == file[2_900_000..=3_100_000]);
    let_the_stamp_age().await;
    damage(&cluster, 0, 1_000_000);
    assert!(cluster.get(0, url).await.unwrap().bytes == file);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_while_a_get_runs_is_fetched_again_by_it() {
    let file = noise(6_000_000, 34);
    let origin = Origin::start(&[("/file", Resource::file(&file).slowly(4_000_000))]).await;
    let cluster = Cluster::start(1).await;
    let url = origin.url("/file");
    let mut running = cluster
        .node(0)
        .get(ME, GetRequest::new(url.clone()))
        .await
        .unwrap();
    let (mut last, mut is_damaged) = (None, false);
    loop {
        match running.next().await.unwrap().unwrap() {
            GetEvent::Started(started) => last = Some(started.file.0),
            GetEvent::Progress(progress) if progress.done_bytes > 2_000_000 && !is_damaged => {
                damage(&cluster, 0, 1_000_000);
                is_damaged = true;
            }
            GetEvent::Progress(_) | GetEvent::Restarted => {}
            GetEvent::Done(_) => break,
        }
    }
    // Whoever copies the file at the end gets what was verified.
    let mut bytes = vec![0; 6_000_000];
    last.unwrap().read_exact_at(&mut bytes, 0).unwrap();
    assert!(is_damaged && bytes == file);
}
