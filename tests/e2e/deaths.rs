//! Hosts die in the middle of it; what they had verified is not lost.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::crowd::{as_float, expect_copies, expect_right, output};
use crate::files::{noise, sha256};
use crate::lab::{Host, Lab, Process, Shape, run_all, take_turn};
use crate::origin::Origin;
use crate::sizes::full;

/// How many copies may leave the source, by its link's counter, when two of eight hosts die.
const COPIES_WITH_DEATHS: f64 = 1.15;
/// What Ethernet, IP and TCP headers, and acknowledgements, add to a body.
const HEADERS: f64 = 1.05;
const TIMEOUT: Duration = Duration::from_mins(1);

/// Waits until `ready` or panics.
fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let give_up = Instant::now() + TIMEOUT;
    while !ready() {
        assert!(
            Instant::now() < give_up,
            "{what} did not happen in {TIMEOUT:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// The hosts that read from the source right now: those with a connection to its port.
pub(crate) fn readers(lab: &Lab) -> BTreeSet<String> {
    let mut sockets = lab.source().command("ss");
    let listed = sockets
        .args(["-Htn", "state", "established", "sport = :80"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let reads = |host: &&Host| {
        text.contains(&format!(" {}:", host.v4())) || text.contains(&format!("[{}]:", host.v6()))
    };
    lab.hosts()
        .iter()
        .filter(reads)
        .map(|host| host.name().to_owned())
        .collect()
}

/// Two of eight hosts lose power once `percent` of the file has left the source.
fn two_hosts_die_at(percent: u64) {
    let length: usize = if full() { 100_000_000 } else { 16_000_000 };
    let lab = Lab::new(8, Shape::Mbit(100), Shape::Mbit(100));
    let origin = Origin::start(lab.source());
    let content = noise(50 + percent, length);
    origin.publish("file", &content);
    let mut cluster = Cluster::start(&lab);
    let url = origin.url("file");
    let before = lab.source().counters();

    let mut victims = Vec::new();
    let finished = thread::scope(|scope| {
        // The gets run here and not under `run_all`, because two of them are to be killed.
        let gets: Vec<_> = cluster
            .nodes()
            .iter()
            .map(|node| {
                Process::start(
                    &mut node.get_command(&url, &output(node)),
                    &node.host().dir().join("get.log"),
                )
            })
            .collect();
        let mut gets: Vec<_> = gets.into_iter().map(Some).collect();
        wait_until("the download", || {
            let sent = lab.source().counters().since(before).sent_bytes;
            sent * 100 >= length as u64 * percent
        });
        // One that reads from the source, if any does at this moment, and one that does not.
        let reading = readers(&lab);
        let is_reading = |host: &Host| reading.contains(host.name());
        let hosts = lab.hosts();
        let first = (0..hosts.len())
            .find(|&place| is_reading(&hosts[place]))
            .unwrap_or(3);
        let second = (0..hosts.len())
            .rev()
            .find(|&place| place != first && !is_reading(&hosts[place]));
        victims = vec![first, second.unwrap_or((first + 1) % hosts.len())];
        for &victim in &victims {
            gets[victim] = None;
            cluster.node_mut(victim).kill();
        }
        let rest = gets
            .into_iter()
            .enumerate()
            .filter_map(|(place, get)| Some((place, get?)));
        let waiting: Vec<_> = rest
            .map(|(place, mut get)| scope.spawn(move || (place, get.wait().code(), get.log())))
            .collect();
        waiting
            .into_iter()
            .map(|wait| wait.join().unwrap())
            .collect::<Vec<_>>()
    });

    for (place, code, log) in finished {
        let node = &cluster.nodes()[place];
        assert_eq!(
            code,
            Some(0),
            "{}: {log}\n{}",
            node.host().name(),
            node.log()
        );
        let got = crate::files::sha256_of(&output(node));
        assert_eq!(got, Some(sha256(&content)), "{}", node.host().name());
    }
    let sent = as_float(lab.source().counters().since(before).sent_bytes);
    let copies = sent / as_float(length as u64);
    // In the small size one extent is a quarter of the file, and each of the two may have died with one.
    let extents = if full() {
        0.0
    } else {
        2.0 * 4_194_304.0 / as_float(length as u64)
    };
    assert!(
        copies <= (COPIES_WITH_DEATHS + extents) * HEADERS,
        "{copies:.3} copies left the source, victims {victims:?}"
    );
}

#[test]
fn two_hosts_that_die_at_a_tenth_cost_little_and_stop_nobody() {
    let Some(_turn) = take_turn(&["nginx", "ss"]) else {
        return;
    };
    two_hosts_die_at(10);
}

#[test]
fn two_hosts_that_die_at_the_half_cost_little_and_stop_nobody() {
    let Some(_turn) = take_turn(&["nginx", "ss"]) else {
        return;
    };
    two_hosts_die_at(50);
}

#[test]
fn two_hosts_that_die_near_the_end_cost_little_and_stop_nobody() {
    let Some(_turn) = take_turn(&["nginx", "ss"]) else {
        return;
    };
    two_hosts_die_at(90);
}

#[test]
fn a_killed_node_fetches_little_of_what_it_had_verified_again() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let (length, mbit): (usize, u32) = if full() {
        (200_000_000, 100)
    } else {
        // The last second, which is not synced yet, is 7 % of three quarters then.
        (30_000_000, 12)
    };
    let lab = Lab::new(2, Shape::Mbit(mbit), Shape::Mbit(mbit));
    let origin = Origin::start(lab.source());
    let content = noise(54, length);
    origin.publish("file", &content);
    let mut cluster = Cluster::start(&lab);
    let url = origin.url("file");
    let host = &lab.hosts()[1];

    let before = host.counters();
    let log = host.dir().join("get.log");
    let node = cluster.node_mut(1);
    let get = Process::start(&mut node.get_command(&url, &output(node)), &log);
    let received = || host.counters().since(before).received_bytes;
    wait_until("three quarters", || received() * 4 >= length as u64 * 3);
    // Headers are no part of the file; counting them as verified would ask too much.
    let verified = as_float(received()) / HEADERS;
    drop(get);
    node.kill();

    node.start_and_wait();
    cluster.wait_for_members(2, TIMEOUT);
    let before = host.counters();
    let node = &cluster.nodes()[1];
    expect_right(
        node,
        &node.get(&url, &output(node)).run(),
        &sha256(&content),
    );
    let again = as_float(host.counters().since(before).received_bytes) / HEADERS;
    let missing = as_float(length as u64) - verified;
    let lost = (again - missing) / verified;
    assert!(
        lost < 0.1,
        "{:.1} % of the verified bytes were fetched again",
        lost * 100.0
    );
}

#[test]
fn neighbours_learn_again_what_a_restarted_node_holds() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(3, Shape::Mbit(100), Shape::Mbit(100));
    let mut origin = Origin::start(lab.source());
    let content = noise(55, 6_000_000);
    origin.publish("file", &content);
    let mut cluster = Cluster::start(&lab);
    let url = origin.url("file");
    let holder = &cluster.nodes()[1];
    expect_right(
        holder,
        &holder.get(&url, &output(holder)).run(),
        &sha256(&content),
    );
    thread::sleep(Duration::from_secs(2));

    cluster.node_mut(1).kill();
    cluster.wait_for_members(2, TIMEOUT);
    origin.stop();
    cluster.node_mut(1).start_and_wait();
    cluster.wait_for_members(3, TIMEOUT);

    let asker = &cluster.nodes()[2];
    expect_right(
        asker,
        &asker.get(&url, &output(asker)).run(),
        &sha256(&content),
    );
    expect_copies(origin.copies("file"), content.len(), 1.0);
}

#[test]
fn a_download_survives_the_death_of_the_daemon_under_it() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(2, Shape::Mbit(20), Shape::Mbit(20));
    let origin = Origin::start(lab.source());
    let content = noise(56, 5_000_000);
    origin.publish("file", &content);
    let mut cluster = Cluster::start(&lab);
    let job = cluster.nodes()[1].get(&origin.url("file"), &output(&cluster.nodes()[1]));
    let done = thread::scope(|scope| {
        let get = scope.spawn(move || run_all(vec![job]).remove(0));
        thread::sleep(Duration::from_secs(1));
        cluster.node_mut(1).kill();
        get.join().unwrap()
    });
    expect_right(&cluster.nodes()[1], &done, &sha256(&content));
}
