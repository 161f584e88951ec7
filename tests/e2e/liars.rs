//! Members that lie about bytes: nobody believes them, and they are named.
//!
//! The lies come from builds with debug assertions alone: `DFNODE_TEST_FAULT` is not read otherwise.

use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, Node, Options};
use crate::crowd::{expect_right, output};
use crate::files::{noise, sha256, sha256_of};
use crate::lab::{Lab, Shape, run_all, take_turn};
use crate::origin::Origin;

/// The exit code for a digest that cannot be had.
const DIGEST_MISMATCH: i32 = 5;
/// The host at place 1 of a lab.
const LIAR: &str = "peer-b";
/// How much earlier than the others the liar asks.
const HEAD_START: Duration = Duration::from_millis(300);

/// Starts a cluster in which the node at `liar` commits `fault`.
fn cluster_with_liar<'lab>(lab: &'lab Lab, liar: usize, fault: &str) -> Cluster<'lab> {
    let mut cluster = Cluster::prepare(lab, &Options::default());
    cluster.node_mut(liar).set_env("DFNODE_TEST_FAULT", fault);
    cluster.start_all();
    cluster
}

/// Whether `node` says that `suspect` is isolated.
fn isolates(node: &Node<'_>, suspect: &str) -> bool {
    let Some(Value::Array(peers)) = node.json("peers") else {
        return false;
    };
    peers
        .iter()
        .any(|peer| peer["peer"] == suspect && peer["isolated"] == true)
}

#[test]
fn a_relay_that_flips_bytes_delivers_none_and_is_isolated_by_name() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(5, Shape::Mbit(100), Shape::Mbit(30));
    let origin = Origin::start(lab.source());
    let content = noise(80, 12_000_000);
    origin.publish("file", &content);
    let cluster = cluster_with_liar(&lab, 2, "flip-relay");
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
    }
    let liar = cluster.nodes()[2].peer_id();
    let judges = cluster
        .nodes()
        .iter()
        .filter(|node| isolates(node, &liar))
        .count();
    assert!(
        judges >= 1,
        "nobody isolates {liar}: {:#?}",
        cluster.nodes()[0].json("peers")
    );
}

#[test]
fn a_reader_that_signs_a_wrong_digest_is_caught_before_a_file_is_complete() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(4, Shape::Mbit(100), Shape::Mbit(30));
    let origin = Origin::start(lab.source());
    let content = noise(81, 12_000_000);
    origin.publish("file", &content);
    let cluster = cluster_with_liar(&lab, 1, "sign-wrong");
    let url = origin.url("file");
    let digest = format!("sha256:{}", sha256(&content));
    // The liar asks first, so that it is the one that reads and signs the first piece: at least a second.
    let jobs = cluster.nodes().iter().map(|node| {
        let job = node.get_with(&url, &output(node), &["--digest", &digest]);
        if node.host().name() == LIAR {
            job
        } else {
            job.after(HEAD_START)
        }
    });
    let all = run_all(jobs.collect());
    for (node, done) in cluster.nodes().iter().zip(&all) {
        if node.host().name() == LIAR {
            // The liar's own download may fail, but it must not leave a wrong file either.
            let got = sha256_of(&output(node));
            assert!(got.is_none() || got == Some(sha256(&content)));
            assert!(matches!(done.code, Some(0 | DIGEST_MISMATCH)), "{done:#?}");
        } else {
            expect_right(node, done, &sha256(&content));
        }
    }
    let liar = cluster.nodes()[1].peer_id();
    let judges = cluster
        .nodes()
        .iter()
        .filter(|node| isolates(node, &liar))
        .count();
    assert!(
        judges >= 1,
        "nobody isolates {liar}: {:#?}",
        cluster.nodes()[0].json("peers")
    );
}

#[test]
fn who_is_shut_out_by_every_holder_has_its_files_all_the_same() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(4, Shape::Mbit(100), Shape::Mbit(100));
    let origin = Origin::start(lab.source());
    let cluster = cluster_with_liar(&lab, 3, "flip-relay");
    let [_, holder, _, liar] = cluster.nodes() else {
        unreachable!("four were made")
    };
    let content = noise(82, 2_000_000);
    origin.publish("bait", &content);
    let bait = origin.url("bait");
    for node in [liar, holder] {
        expect_right(
            node,
            &node.get(&bait, &output(node)).run(),
            &sha256(&content),
        );
    }
    assert!(isolates(holder, &liar.peer_id()));
    // Of so many files some have their home with a host that has nothing against the liar: it holds none of them, and
    // knows that somebody does.
    let files: Vec<(String, Vec<u8>)> = (0..8)
        .map(|number| {
            let bytes = if number < 7 { 300_000 } else { 12_000_000 };
            (format!("file-{number}"), noise(number, bytes))
        })
        .collect();
    for (name, content) in &files {
        origin.publish(name, content);
        let got = output(holder);
        let done = holder.get(&origin.url(name), &got).run();
        expect_right(holder, &done, &sha256(content));
    }
    let place = |name: &str| liar.host().dir().join(name);
    let all = run_all(
        files
            .iter()
            .map(|(name, _)| liar.get_with(&origin.url(name), &place(name), &["--timeout", "30s"]))
            .collect(),
    );
    for ((name, content), done) in files.iter().zip(&all) {
        assert_eq!(done.code, Some(0), "{done:#?}");
        assert_eq!(sha256_of(&place(name)), Some(sha256(content)));
    }
}
