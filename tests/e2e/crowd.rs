//! Many hosts ask for the same file: everybody gets it, and the source gives it once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Node};
use crate::files::{noise, sha256, sha256_of};
use crate::lab::{Finished, Job, Lab, Shape, run_all, take_turn};
use crate::origin::{Copies, Origin};
use crate::sizes::full;

/// The promise of the README: 1.02 copies, however many ask.
pub(crate) const ONE_COPY: f64 = 1.02;
/// How far apart "at once" may be.
const AT_ONCE: Duration = Duration::from_millis(100);
/// How much longer than the bound the last finisher may take.
const NEAR_THE_BOUND: f64 = 1.25;
/// How many times as long as curl from nginx a small file of a neighbour may take.
const TIMES_CURL: u32 = 3;

/// The file that a node's host downloads into.
pub(crate) fn output(node: &Node<'_>) -> PathBuf {
    node.host().dir().join("got")
}

/// Panics unless `done` succeeded and wrote exactly the bytes with `digest`.
pub(crate) fn expect_right(node: &Node<'_>, done: &Finished, digest: &str) {
    let name = node.host().name();
    assert!(done.code == Some(0), "{name}: {done:#?}\n{}", node.log());
    assert_eq!(sha256_of(&output(node)).as_deref(), Some(digest), "{name}");
}

/// Panics when more than `limit` copies of a file of `length` bytes were read.
pub(crate) fn expect_copies(copies: Copies, length: usize, limit: f64) {
    let (bytes, allowed) = (as_float(copies.body_bytes), as_float(length as u64) * limit);
    assert!(
        bytes <= allowed,
        "{copies:?} of {length} bytes: more than {limit} copies"
    );
}

#[expect(clippy::cast_precision_loss, reason = "counts of bytes below 2^53")]
pub(crate) fn as_float(count: u64) -> f64 {
    count as f64
}

fn first_start(all: &[Finished]) -> Instant {
    all.iter().map(|done| done.started).min().unwrap()
}

/// Eight hosts behind 100 Mbit ask at once for a file of a source behind `source_mbit`.
fn eight_hosts_ask_at_once(source_mbit: u32) {
    let Some(_turn) = take_turn(&["nginx", "curl"]) else {
        return;
    };
    let length = if full() { 100_000_000 } else { 16_000_000 };
    let lab = Lab::new(8, Shape::Mbit(100), Shape::Mbit(source_mbit));
    let origin = Origin::start(lab.source());
    let content = noise(21, length);
    origin.publish("file", &content);
    let cluster = Cluster::start(&lab);

    let url = origin.url("file");
    let all = run_all(
        cluster
            .nodes()
            .iter()
            .map(|node| node.get(&url, &output(node)))
            .collect(),
    );

    for (node, done) in cluster.nodes().iter().zip(&all) {
        expect_right(node, done, &sha256(&content));
        assert!(
            done.started - first_start(&all) < AT_ONCE,
            "the starts were too far apart"
        );
    }
    expect_copies(origin.copies("file"), length, ONE_COPY);
    if full() {
        let mut curl = lab.hosts()[0].command("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{speed_download}", &url]);
        let rate: f64 = Job::new(curl)
            .run()
            .expect_success("curl")
            .stdout
            .parse()
            .unwrap();
        // All links are as fast as the host's, or faster: one file at a host's rate is the bound.
        let bound = as_float(length as u64) / rate;
        let last = all.iter().map(|done| done.ended).max().unwrap() - first_start(&all);
        let share = last.as_secs_f64() / bound;
        assert!(
            share <= NEAR_THE_BOUND,
            "the last finished after {share:.3} x bound"
        );
    }
}

#[test]
fn eight_hosts_that_ask_at_once_read_one_copy_from_a_source_as_slow_as_they_are() {
    eight_hosts_ask_at_once(100);
}

#[test]
fn eight_hosts_that_ask_at_once_read_one_copy_from_a_source_ten_times_as_fast() {
    eight_hosts_ask_at_once(1000);
}

#[test]
fn hosts_that_come_late_or_last_or_after_the_source_is_gone_all_finish_with_one_copy() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let (length, spread, mbit) = if full() {
        (100_000_000, 20, 100)
    } else {
        (10_000_000, 4, 40)
    };
    let lab = Lab::new(8, Shape::Mbit(mbit), Shape::Mbit(mbit));
    let mut origin = Origin::start(lab.source());
    let content = noise(22, length);
    let digest = sha256(&content);
    origin.publish("file", &content);
    let cluster = Cluster::start(&lab);
    let url = origin.url("file");
    let [crowd @ .., late, last] = cluster.nodes() else {
        unreachable!("eight hosts")
    };

    // Six hosts start at uneven moments of the spread.
    let moments =
        [0.0, 0.1, 0.15, 0.45, 0.7, 1.0].map(|part| Duration::from_secs(spread).mul_f64(part));
    let jobs = crowd
        .iter()
        .zip(moments)
        .map(|(node, moment)| node.get(&url, &output(node)).after(moment));
    let all = run_all(jobs.collect());
    for (node, done) in crowd.iter().zip(&all) {
        expect_right(node, done, &digest);
    }
    expect_right(late, &late.get(&url, &output(late)).run(), &digest);
    expect_copies(origin.copies("file"), length, ONE_COPY);

    origin.stop();
    expect_right(last, &last.get(&url, &output(last)).run(), &digest);
    expect_copies(origin.copies("file"), length, ONE_COPY);
}

#[test]
fn a_small_file_is_read_from_the_source_exactly_once_however_many_ask() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(8, Shape::Mbit(100), Shape::Mbit(100));
    let origin = Origin::start(lab.source());
    let cluster = Cluster::start(&lab);
    for (name, length) in [
        ("1B", 1),
        ("4KiB", 4 << 10),
        ("1MiB", 1 << 20),
        ("4MiB", 4 << 20),
    ] {
        let content = noise(23, length);
        origin.publish(name, &content);
        let url = origin.url(name);
        let jobs = cluster
            .nodes()
            .iter()
            .map(|node| node.get(&url, &output(node)));
        let all = run_all(jobs.collect());
        for (node, done) in cluster.nodes().iter().zip(&all) {
            expect_right(node, done, &sha256(&content));
        }
        let once = Copies {
            gets: 1,
            body_bytes: length as u64,
        };
        assert_eq!(
            origin.copies(name),
            once,
            "{name}: {:#?}",
            origin.requests()
        );
    }
}

#[test]
fn a_small_file_that_a_neighbour_holds_comes_nearly_as_fast_as_with_curl() {
    let Some(_turn) = take_turn(&["nginx", "curl"]) else {
        return;
    };
    let files = if full() { 51 } else { 7 };
    let lab = Lab::new(2, Shape::Mbit(100), Shape::Mbit(100));
    let origin = Origin::start(lab.source());
    let cluster = Cluster::start(&lab);
    let [holder, asker] = cluster.nodes() else {
        unreachable!("two hosts")
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..files {
        let name = format!("file-{number}");
        let content = noise(number, 4096);
        origin.publish(&name, &content);
        let url = origin.url(&name);
        expect_right(
            holder,
            &holder.get(&url, &output(holder)).run(),
            &sha256(&content),
        );
        let got = asker.get(&url, &output(asker)).run();
        expect_right(asker, &got, &sha256(&content));
        ours.push(got.took());
        let mut curl = asker.host().command("curl");
        curl.args(["-sS", "-o"])
            .arg(asker.host().dir().join("curled"))
            .arg(&url);
        theirs.push(Job::new(curl).run().expect_success("curl").took());
        // One read by the holder, one by curl.
        assert_eq!(
            origin.copies(&name).gets,
            2,
            "{name}: {:#?}",
            origin.requests()
        );
    }
    ours.sort();
    theirs.sort();
    let (ours, theirs) = (ours[ours.len() / 2], theirs[theirs.len() / 2]);
    assert!(
        !full() || ours <= theirs * TIMES_CURL,
        "{ours:?}, and {theirs:?} with curl"
    );
}
