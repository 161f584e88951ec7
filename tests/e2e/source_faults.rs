//! Sources that refuse, fail, stall, change or lie: the right file or a clear exit code, never a part.

use std::fs;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::crowd::{as_float, output};
use crate::fault_source::{FaultSource, content};
use crate::files::{sha256, sha256_of};
use crate::lab::{Finished, Lab, Shape, run_all, take_turn};
use crate::origin::Origin;

/// The documented exit codes.
const SOURCE_REFUSED: i32 = 3;
const NOT_FOUND: i32 = 4;
const SOURCE_FAILED: i32 = 8;

/// Nodes that ask at once: enough to share, few enough to count their requests.
const NODES: usize = 3;
const SIZE: usize = 2_000_000;

/// A cluster and a source with faults.
struct Stage<'lab> {
    cluster: Cluster<'lab>,
    source: FaultSource,
}

impl<'lab> Stage<'lab> {
    fn set(lab: &'lab Lab) -> Self {
        Self {
            cluster: Cluster::start(lab),
            source: FaultSource::start(lab.source()),
        }
    }

    /// All nodes ask for `url` at once.
    fn all_get(&self, url: &str, arguments: &[&str]) -> Vec<Finished> {
        for node in self.cluster.nodes() {
            let _ = fs::remove_file(output(node));
        }
        let jobs = self
            .cluster
            .nodes()
            .iter()
            .map(|node| node.get_with(url, &output(node), arguments));
        run_all(jobs.collect())
    }

    /// All nodes end with `code`, and none leaves anything at its output path.
    fn expect_failure(&self, url: &str, code: i32) {
        for (node, done) in self.cluster.nodes().iter().zip(self.all_get(url, &[])) {
            assert_eq!(done.code, Some(code), "{url}: {done:#?}\n{}", node.log());
            assert!(
                !output(node).exists(),
                "{url}: something is left at the output"
            );
            assert!(
                !done.stderr.trim().is_empty(),
                "{url}: failed without a word"
            );
        }
    }

    /// All nodes succeed, each with one of `contents`, whole.
    fn expect_success(&self, path: &str, contents: &[Vec<u8>]) -> Vec<Finished> {
        let url = self.source.url(path);
        let all = self.all_get(&url, &[]);
        let digests: Vec<_> = contents
            .iter()
            .map(|content| Some(sha256(content)))
            .collect();
        for (node, done) in self.cluster.nodes().iter().zip(&all) {
            assert_eq!(done.code, Some(0), "{path}: {done:#?}\n{}", node.log());
            let got = sha256_of(&output(node));
            assert!(
                digests.contains(&got),
                "{path}: {} has other bytes",
                node.host().name()
            );
        }
        all
    }

    /// How many requests reached the source for `path`, and how many copies of `size` bytes left it.
    fn load(&self, path: &str, size: usize) -> (usize, f64) {
        let asked = self.source.asked_for(path);
        let body_bytes = asked.iter().map(|asked| asked.body_bytes).sum();
        (asked.len(), as_float(body_bytes) / as_float(size as u64))
    }
}

#[test]
fn a_source_that_refuses_is_believed_and_asked_no_more_than_once_by_each() {
    let Some(_turn) = take_turn(&[]) else { return };
    let lab = Lab::new(NODES, Shape::Unshaped, Shape::Unshaped);
    let stage = Stage::set(&lab);
    let cases = [
        ("401", SOURCE_REFUSED),
        ("403", SOURCE_REFUSED),
        ("410", SOURCE_REFUSED),
        ("404", NOT_FOUND),
    ];
    for (path, code) in cases {
        stage.expect_failure(&stage.source.url(path), code);
        let (requests, _copies) = stage.load(path, SIZE);
        assert!(
            (1..=NODES).contains(&requests),
            "{path}: {requests} requests by {NODES} nodes"
        );
    }
}

#[test]
fn a_source_that_fails_for_good_is_given_up_after_a_few_requests() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(NODES, Shape::Unshaped, Shape::Unshaped);
    let stage = Stage::set(&lab);
    for (path, requests_each) in [("500", 10), ("loop", 25), ("wrong-length?size=300000", 10)] {
        stage.expect_failure(&stage.source.url(path), SOURCE_FAILED);
        let (requests, _copies) = stage.load(path, SIZE);
        assert!(
            requests <= NODES * requests_each,
            "{path}: {requests} requests by {NODES} nodes"
        );
    }
    let origin = Origin::start(lab.source());
    origin.publish("file", b"behind a certificate that nobody trusts");
    stage.expect_failure(&origin.untrusted_url("file"), SOURCE_FAILED);
    assert_eq!(origin.copies("file").gets, 0);
}

#[test]
fn a_certificate_is_trusted_when_its_authority_is_named() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(NODES, Shape::Unshaped, Shape::Unshaped);
    let origin = Origin::start(lab.source());
    origin.publish("file", b"behind a certificate of the lab's own authority");
    let stage = Stage::set(&lab);
    let authority = origin.ca().display().to_string();
    for done in stage.all_get(&origin.https_url("file"), &["--cacert", &authority]) {
        done.expect_success("https");
    }
    assert_eq!(origin.copies("file").gets, 1);
}

#[test]
fn a_busy_source_is_left_alone_as_long_as_it_asks_for() {
    let Some(_turn) = take_turn(&[]) else { return };
    let lab = Lab::new(NODES, Shape::Unshaped, Shape::Unshaped);
    let stage = Stage::set(&lab);
    let path = format!("503?size={SIZE}&times=1");
    let all = stage.expect_success(&path, &[content(0, SIZE)]);
    let first = all.iter().map(Finished::took).min().unwrap();
    assert!(
        first >= Duration::from_secs(2),
        "asked again before Retry-After: done after {first:?}"
    );
    let (requests, copies) = stage.load(&path, SIZE);
    assert!(
        requests <= 2 * NODES && copies <= 1.02,
        "{requests} requests, {copies:.3} copies"
    );
}

#[test]
fn a_slow_source_is_read_once_all_the_same() {
    let Some(_turn) = take_turn(&[]) else { return };
    let lab = Lab::new(NODES, Shape::Unshaped, Shape::Unshaped);
    let stage = Stage::set(&lab);
    for path in [format!("ttfb?size={SIZE}"), format!("slow?size={SIZE}")] {
        stage.expect_success(&path, &[content(0, SIZE)]);
        let (_requests, copies) = stage.load(&path, SIZE);
        assert!(copies <= 1.02, "{path}: {copies:.3} copies");
    }
}

#[test]
fn a_source_that_resets_or_stalls_midway_is_resumed() {
    let Some(_turn) = take_turn(&[]) else { return };
    let lab = Lab::new(NODES, Shape::Unshaped, Shape::Unshaped);
    let stage = Stage::set(&lab);
    for path in [format!("reset?size={SIZE}"), format!("stall?size={SIZE}")] {
        stage.expect_success(&path, &[content(0, SIZE)]);
        let (requests, copies) = stage.load(&path, SIZE);
        // What was on its way when the connection broke is lost: less than the half that was sent.
        assert!(
            copies <= 1.52,
            "{path}: {copies:.3} copies in {requests} requests"
        );
    }
}

#[test]
fn what_a_source_leaves_out_costs_no_second_copy() {
    let Some(_turn) = take_turn(&[]) else { return };
    let lab = Lab::new(NODES, Shape::Mbit(100), Shape::Mbit(60));
    let stage = Stage::set(&lab);
    // Bigger than the first request asks for.
    let size = 6_000_000;
    for fault in [
        "plain",
        "no-range",
        "chunked",
        "weak",
        "no-validator",
        "redirect",
    ] {
        let path = format!("{fault}?size={size}");
        stage.expect_success(&path, &[content(0, size)]);
        let (_requests, copies) = stage.load(&path, size);
        assert!(copies <= 1.02, "{path}: {copies:.3} copies");
    }
    stage.expect_success("empty", &[Vec::new()]);
}

#[test]
fn a_file_that_changes_midway_is_delivered_whole_in_one_version() {
    let Some(_turn) = take_turn(&[]) else { return };
    let lab = Lab::new(NODES, Shape::Mbit(100), Shape::Mbit(20));
    let stage = Stage::set(&lab);
    // Bigger than one piece, so that more than one request is made for it.
    let size = 9_000_000;
    for fault in ["change-etag", "change-silent"] {
        let path = format!("{fault}?size={size}");
        stage.expect_success(&path, &[content(0, size), content(1, size)]);
    }
}

#[test]
fn only_a_caller_with_the_right_credentials_gets_a_members_file() {
    let Some(_turn) = take_turn(&[]) else { return };
    let lab = Lab::new(NODES, Shape::Unshaped, Shape::Unshaped);
    let stage = Stage::set(&lab);
    let path = format!("members?size={SIZE}");
    let url = stage.source.url(&path);
    let [with, without, _other] = stage.cluster.nodes() else {
        unreachable!("three nodes")
    };
    let done = with
        .get_with(&url, &output(with), &["-H", "Authorization: Bearer secret"])
        .run();
    done.expect_success("with credentials");
    assert_eq!(sha256_of(&output(with)), Some(sha256(&content(0, SIZE))));
    assert_eq!(
        without.get(&url, &output(without)).run().code,
        Some(SOURCE_REFUSED)
    );
    assert!(!output(without).exists());
}
