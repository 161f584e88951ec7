//! Hosts without the key, and packets that mean nothing.

use std::env;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use crate::cluster::{Cluster, Node, Options, write_key};
use crate::crowd::{expect_right, output};
use crate::files::{noise, sha256};
use crate::lab::{Job, Lab, Shape, take_turn};
use crate::origin::Origin;

/// The exit code for a key that is missing or not the cluster's.
const KEY_PROBLEM: i32 = 9;
/// The port on which nodes talk.
pub(crate) const PEER_PORT: u16 = 65000;
/// Tells this binary to send garbage: `ADDRESS:PORT`.
pub(crate) const GARBAGE_TO: &str = "DFNODE_E2E_GARBAGE_TO";
const GARBAGE_PACKETS: u64 = 20_000;
/// What a node's memory may grow by, whatever it is sent.
const GROWTH_BYTES: u64 = 16 * 1024 * 1024;

#[test]
fn a_node_with_another_key_neither_joins_nor_reads() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(3, Shape::Mbit(100), Shape::Mbit(100));
    let mut origin = Origin::start(lab.source());
    let content = noise(90, 3_000_000);
    origin.publish("file", &content);
    let mut cluster = Cluster::prepare(&lab, &Options::default());
    cluster.node_mut(0).start_and_wait();
    cluster.node_mut(1).start_and_wait();
    cluster.wait_for_members(2, Duration::from_secs(20));
    let member = &cluster.nodes()[1];
    expect_right(
        member,
        &member.get(&origin.url("file"), &output(member)).run(),
        &sha256(&content),
    );

    let key = lab.dir().join("other.key");
    write_key(&key);
    let key = key.display().to_string();
    let run = ["--cluster-key", &key, "--join", "peer-a"]
        .map(str::to_owned)
        .to_vec();
    let mut stranger = Node::new(
        &lab.hosts()[2],
        Options {
            run,
            env: Vec::new(),
        },
    );
    stranger.start_and_wait();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(stranger.members(), Some(1), "{}", stranger.log());
    assert_eq!(cluster.nodes()[0].members(), Some(2));

    // What the members hold must not reach it when the source is gone.
    origin.stop();
    let got = stranger
        .get_with(
            &origin.url("file"),
            &output(&stranger),
            &["--timeout", "10s"],
        )
        .run();
    assert_ne!(got.code, Some(0));
    assert!(!output(&stranger).exists());
}

#[test]
fn joining_without_a_key_fails_at_once_and_says_what_to_copy_where() {
    let Some(_turn) = take_turn(&[]) else { return };
    let lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let node = Node::new(&lab.hosts()[0], Options::default());
    let job = Job::new(node.command(&["run", "--no-mdns", "--join", "peer-b"]));
    let done = job.within(Duration::from_secs(10)).run();
    assert_eq!(done.code, Some(KEY_PROBLEM), "{done:#?}");
    assert!(done.took() < Duration::from_secs(5), "{done:#?}");
    assert!(done.stderr.contains("cluster.key"), "{done:#?}");
}

#[test]
fn garbage_on_the_peer_port_neither_stops_nor_grows_a_node_nor_makes_a_member() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(3, Shape::Unshaped, Shape::Unshaped);
    let origin = Origin::start(lab.source());
    let content = noise(91, 1_000_000);
    origin.publish("file", &content);
    let mut cluster = Cluster::prepare(&lab, &Options::default());
    cluster.node_mut(0).start_and_wait();
    cluster.node_mut(1).start_and_wait();
    cluster.wait_for_members(2, Duration::from_secs(20));
    let before = cluster.nodes()[0].usage().rss_bytes;

    let mut command = lab.hosts()[2].command("env");
    command.arg(format!("{GARBAGE_TO}={}:{PEER_PORT}", lab.hosts()[0].v4()));
    command.arg(env::current_exe().unwrap());
    command.args(["--exact", "strangers::sends_garbage_when_told_to"]);
    Job::new(command).run().expect_success("the sender");
    thread::sleep(Duration::from_secs(1));

    let grown = cluster.nodes()[0].usage().rss_bytes.saturating_sub(before);
    assert!(grown < GROWTH_BYTES, "grown by {grown} bytes");
    assert_eq!(cluster.nodes()[0].members(), Some(2));
    assert!(
        !cluster.nodes()[0].log().contains("panicked"),
        "{}",
        cluster.nodes()[0].log()
    );
    for node in &cluster.nodes()[..2] {
        expect_right(
            node,
            &node.get(&origin.url("file"), &output(node)).run(),
            &sha256(&content),
        );
    }
}

#[test]
fn sends_garbage_when_told_to() {
    let Ok(to) = env::var(GARBAGE_TO) else { return };
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(&to).unwrap();
    for number in 0..GARBAGE_PACKETS {
        let mut packet = noise(number, usize::try_from(number * 7 % 1400).unwrap());
        // First bytes of every kind: QUIC long and short headers, and what is sealed gossip to a node.
        if let Some(first) = packet.first_mut() {
            *first = [0xc0, 0x40, 0x00, 0x80, *first][usize::try_from(number % 5).unwrap()];
        }
        // A QUIC version that exists gets deeper than one that does not.
        if number % 10 == 0 && packet.len() > 5 {
            packet[1..5].copy_from_slice(&1u32.to_be_bytes());
        }
        // An unreachable port reports itself here; the next packet is sent all the same.
        let _ = socket.send(&packet);
        if number % 100 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
