//! Many clients that pull, cancel and resume, for a while: nothing leaks, and every digest is right.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Node;
use crate::dice::Dice;
use crate::engines::PROXY;
use crate::files::sha256_of;
use crate::lab::{Host, Lab, Process, Shape, take_turn};
use crate::proxied;
use crate::registries::image::Blob;
use crate::registries::{self, Image, Registries, curl};
use crate::sizes::full;

/// The most memory that a node may have resident at any time.
const MAX_RSS_BYTES: u64 = 256 << 20;
/// How many files a node may have open at rest beyond those before: pooled connections upstream.
const MORE_FILES: usize = 40;
const CLIENTS: u64 = 8;

/// How a client fared.
#[derive(Default)]
struct Fared {
    whole: u32,
    cancelled: u32,
}

/// Reads blobs on `host` until `end`; every other read is cancelled somewhere and resumed later.
fn pull_and_cancel(host: &Host, number: u64, blobs: &[(String, &Blob)], end: Instant) -> Fared {
    let mut dice = Dice::new(number);
    let file = host.dir().join(format!("client-{number}"));
    let log = host.dir().join(format!("client-{number}.log"));
    let mut fared = Fared::default();
    while Instant::now() < end {
        let (address, blob) = dice.pick(blobs);
        let _ = fs::remove_file(&file);
        loop {
            let mut command = curl(host);
            command.args(["--fail", "--proxy", &format!("http://{PROXY}")]);
            command.args(["-C", "-", "-o"]).arg(&file).arg(address);
            let mut reading = Process::start(&mut command, &log);
            if dice.roll(2) == 0 {
                thread::sleep(Duration::from_millis(dice.roll(300)));
                if reading.is_running() {
                    reading.kill();
                    fared.cancelled += 1;
                    let had = fs::metadata(&file).map_or(0, |file| file.len());
                    if had < blob.bytes as u64 {
                        continue;
                    }
                    break;
                }
            }
            let status = reading.wait();
            assert!(status.success(), "{status}: {}", reading.log());
            break;
        }
        let got = sha256_of(&file);
        assert_eq!(
            got.as_deref(),
            Some(blob.hex()),
            "{address} on {}",
            host.name()
        );
        fared.whole += 1;
    }
    fared
}

fn open_files(node: &mut Node<'_>) -> usize {
    let pid = node.process().pid().as_raw_nonzero();
    fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"))
        .unwrap()
        .count()
}

#[test]
fn pulling_cancelling_and_resuming_leaks_nothing() {
    let Some(_turn) = take_turn(&registries::PROGRAMS) else {
        return;
    };
    let time = Duration::from_secs(if full() { 600 } else { 15 });
    let mut lab = Lab::new(2, Shape::Mbit(200), Shape::Mbit(100));
    let registries = Registries::open(&mut lab);
    let storage = registries.storage();
    let sizes = [3_000_000, 1_000_000, 100_000];
    let make = |seed| storage.image(&format!("test/soak-{seed}"), storage.layers(seed, &sizes));
    let images: Vec<(u64, Image)> = (0..6).map(|seed| (seed, make(seed))).collect();
    let mut cluster = proxied::start(&lab, &[]);
    let blobs: Vec<_> = images
        .iter()
        .flat_map(|(seed, image)| image.blobs().map(move |blob| (seed, blob)))
        .map(|(seed, blob)| {
            let digest = &blob.digest;
            (
                format!("https://registry.test/v2/test/soak-{seed}/blobs/{digest}"),
                blob,
            )
        })
        .collect();
    let files_before: Vec<_> = (0..2)
        .map(|place| open_files(cluster.node_mut(place)))
        .collect();
    let end = Instant::now() + time;
    let fared: Vec<_> = thread::scope(|scope| {
        let hosts = lab.hosts().iter().cycle();
        let clients: Vec<_> = (0..CLIENTS)
            .zip(hosts)
            .map(|(number, host)| {
                let blobs = &blobs;
                scope.spawn(move || pull_and_cancel(host, number, blobs, end))
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    let whole: u32 = fared.iter().map(|fared| fared.whole).sum();
    let cancelled: u32 = fared.iter().map(|fared| fared.cancelled).sum();
    assert!(
        whole > 50 && cancelled > 50,
        "{whole} whole, {cancelled} cancelled: too few to tell"
    );
    // What was cancelled last is noticed within moments.
    let give_up = Instant::now() + Duration::from_secs(30);
    for (place, before) in (0..).zip(files_before) {
        while open_files(cluster.node_mut(place)) > before + MORE_FILES {
            assert!(
                Instant::now() < give_up,
                "node {place} has {} files open, {before} before",
                open_files(cluster.node_mut(place))
            );
            thread::sleep(Duration::from_millis(200));
        }
        let peak = cluster.nodes()[place].usage().peak_rss_bytes;
        eprintln!(
            "node {place}: at most {} MiB; {whole} whole, {cancelled} cancelled",
            peak >> 20
        );
        assert!(
            peak < MAX_RSS_BYTES,
            "node {place} had {peak} bytes resident"
        );
    }
}
