//! Everything goes wrong at random, for a while: no byte is wrong, and nobody fails or waits without a reason.
//!
//! `DFNODE_CHAOS_SEED` chooses the run; the seed is printed.

mod client;
mod monkey;
mod trouble;

use std::env;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::client::Fared;
use self::trouble::Troubles;
use crate::cluster::{Cluster, Node, Options};
use crate::crowd::as_float;
use crate::disk::Disk;
use crate::engines::PROXY;
use crate::files::{noise, sha256};
use crate::lab::{Host, Lab, Shape, take_turn};
use crate::origin::{Origin, Request};
use crate::sizes::full;

/// How many copies of what was asked for may leave the source, in full size.
const MAX_COPIES: f64 = 1.2;
/// The most memory that a node may have had resident.
const MAX_RSS_BYTES: u64 = 256 << 20;
/// The most descriptors that a node may hold at rest.
const MAX_FILES: usize = 256;
/// The host whose node flips bytes of what it relays, in builds that can (with debug assertions).
const LIAR: usize = 3;
/// The host whose cache lies on a disk of its own, which is filled now and then.
const SMALL_DISK: usize = 1;

/// How much of it.
struct Plan {
    hosts: usize,
    time: Duration,
    /// Bytes of files, each as likely as it is often here.
    sizes: &'static [usize],
    /// The pause between two new files.
    publish_every: Duration,
    /// What each cache may hold: less than is published.
    cache: &'static str,
    /// How big the disk is that is filled: every file fits while it is not.
    disk_mebibytes: usize,
}

const SMALL: Plan = Plan {
    hosts: 4,
    time: Duration::from_secs(20),
    sizes: &[1, 4096, 300_000, 2_000_000, 8_000_000],
    publish_every: Duration::from_secs(2),
    cache: "64M",
    disk_mebibytes: 96,
};

#[rustfmt::skip]
const FULL: Plan = Plan {
    hosts: 12,
    time: Duration::from_mins(30),
    sizes: &[
        1, 100, 4096, 4096, 300_000, 300_000, 1 << 20, 1 << 20, 2_000_000, 2_000_000, 5_000_000, 5_000_000,
        8_000_000, 8_000_000, 16_000_000, 16_000_000, 40_000_000, 40_000_000, 100_000_000, 1 << 30,
    ],
    publish_every: Duration::from_secs(8),
    cache: "3G",
    disk_mebibytes: 2560,
};

/// What can be asked for.
#[derive(Clone)]
struct Published {
    url: String,
    bytes: usize,
    digest: String,
}

/// What clients and the monkey share.
struct World<'lab> {
    lab: &'lab Lab,
    origin: Mutex<Origin>,
    nodes: Vec<Mutex<Node<'lab>>>,
    files: Mutex<Vec<Published>>,
    troubles: Mutex<Troubles>,
    peak_rss_bytes: Mutex<u64>,
    end: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked has failed the test already.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World<'_> {
    fn publish(&self, number: u64, bytes: usize) {
        let content = noise(number, bytes);
        let origin = lock(&self.origin);
        let name = format!("file-{number}");
        origin.publish(&name, &content);
        let url = origin.url(&name);
        drop(origin);
        let digest = sha256(&content);
        lock(&self.files).push(Published { url, bytes, digest });
    }

    fn note_usage(&self, node: &Node<'_>) {
        let peak = node.usage().peak_rss_bytes;
        let mut most = lock(&self.peak_rss_bytes);
        *most = peak.max(*most);
    }
}

fn seed() -> u64 {
    env::var("DFNODE_CHAOS_SEED").map_or(7, |text| text.parse().unwrap())
}

/// How long it lasts: as planned, or as many minutes as the environment says.
fn time(plan: &Plan) -> Duration {
    let minutes = env::var("DFNODE_CHAOS_MINUTES");
    minutes.map_or(plan.time, |text| Duration::from_mins(text.parse().unwrap()))
}

#[test]
fn whatever_goes_wrong_no_byte_does() {
    let Some(_turn) = take_turn(&["nginx", "curl", "mount", "umount", "iptables"]) else {
        return;
    };
    let plan = if full() { FULL } else { SMALL };
    let seed = seed();
    eprintln!("DFNODE_CHAOS_SEED={seed}");
    let lab = Lab::new(plan.hosts, Shape::Mbit(100), Shape::Mbit(200));
    let origin = Origin::start(lab.source());
    let options = [
        "--proxy",
        PROXY,
        "--proxy-rule",
        ".",
        "--cache-size",
        plan.cache,
    ];
    let options = Options {
        run: options.map(str::to_owned).to_vec(),
        ..Options::default()
    };
    let mut cluster = Cluster::prepare(&lab, &options);
    cluster
        .node_mut(LIAR)
        .set_env("DFNODE_TEST_FAULT", "flip-relay");
    let small = cluster.nodes()[SMALL_DISK].data().to_owned();
    let _disk = Disk::small(&small, plan.disk_mebibytes);
    cluster.start_all();
    let world = World {
        lab: &lab,
        origin: Mutex::new(origin),
        nodes: cluster.into_nodes().into_iter().map(Mutex::new).collect(),
        files: Mutex::default(),
        troubles: Mutex::default(),
        peak_rss_bytes: Mutex::default(),
        end: Instant::now() + time(&plan),
    };
    world.publish(0, 300_000);
    let fared: Vec<Fared> = thread::scope(|scope| {
        scope.spawn(|| monkey::publish(&world, &plan, seed));
        scope.spawn(|| monkey::run(&world, seed));
        let clients: Vec<_> = (0..plan.hosts)
            .map(|place| {
                scope.spawn({
                    let world = &world;
                    move || client::run(world, place, seed)
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    judge(&world, &fared);
}

/// Whether a host made a request: one whose cable was pulled has lost its IPv6 address.
fn is_from(request: &Request, host: &Host) -> bool {
    let (v4, v6) = (host.v4().to_string(), host.v6().to_string());
    request.from == v6 || request.from.rsplit(':').next() == Some(&v4)
}

fn judge(world: &World<'_>, fared: &[Fared]) {
    let sum = |of: fn(&Fared) -> u64| fared.iter().map(of).sum::<u64>();
    let wrongs: Vec<&String> = fared.iter().flat_map(|one| &one.wrongs).collect();
    let asked: u64 = lock(&world.files)
        .iter()
        .filter(|file| fared.iter().any(|one| one.urls.contains(&file.url)))
        .map(|file| file.bytes as u64)
        .sum();
    // Nobody gives to a liar that was found out: it reads for itself.
    let liar = &world.lab.hosts()[LIAR];
    let requests = lock(&world.origin).requests();
    let sent: u64 = requests
        .iter()
        .filter(|one| !cfg!(debug_assertions) || !is_from(one, liar))
        .map(|one| one.body_bytes)
        .sum();
    let copies = as_float(sent) / as_float(asked);
    for host in world.lab.hosts() {
        let of_host = requests.iter().filter(|one| is_from(one, host));
        let bytes: u64 = of_host.map(|one| one.body_bytes).sum();
        eprintln!("{} read {} MB", host.name(), bytes / 1_000_000);
    }
    let mut files = 0;
    for node in &world.nodes {
        let mut node = lock(node);
        world.note_usage(&node);
        let pid = node.process().pid().as_raw_nonzero();
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count();
        files = files.max(open);
    }
    let peak = *lock(&world.peak_rss_bytes);
    eprintln!(
        "{} downloads whole, {} cancelled, {} failed with a reason; {copies:.3} copies of {} MB; at most {} MiB, {files} descriptors\n{}",
        sum(|one| one.whole),
        sum(|one| one.cancelled),
        sum(|one| one.excused),
        asked / 1_000_000,
        peak >> 20,
        lock(&world.troubles).summary(),
    );
    for wrong in &wrongs {
        eprintln!("wrong: {}", wrong.lines().next().unwrap_or_default());
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
    assert!(sum(|one| one.whole) > 20, "too few to tell");
    // In twenty seconds two deaths of a file's only holder are most of what was read.
    if full() {
        assert!(copies < MAX_COPIES, "{copies} copies: {requests:#?}");
    }
    assert!(peak < MAX_RSS_BYTES, "{peak} bytes resident");
    assert!(files < MAX_FILES, "{files} descriptors");
}
