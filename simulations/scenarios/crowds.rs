//! Many hosts, one file, nothing goes wrong: one copy leaves the source and nobody waits long.

use std::time::Duration;

use dfnode_simulations::{Membership, Scenario};

use crate::trial::{Trial, crowd};

const FILE: u64 = 20_000_000;
/// What a run without faults may take from the source.
const COPIES: f64 = 1.02;
/// Bounds for a file as small as this, of which what does not grow with the file is a large part: how a swarm begins
/// and ends. The program shows how near the bound larger files come.
const SMALL_FILE: f64 = 1.4;

#[test]
fn a_lone_node_downloads_as_fast_as_its_link() {
    let trial = Trial::of(
        "a_lone_node_downloads_as_fast_as_its_link",
        &crowd(1, FILE, Vec::new()),
    );
    trial.all_finish(1.0);
    trial.within(1.05);
}

#[test]
fn two_nodes_take_one_copy() {
    let trial = Trial::of("two_nodes_take_one_copy", &crowd(2, FILE, Vec::new()));
    trial.all_finish(COPIES);
    trial.within(SMALL_FILE);
}

#[test]
fn eight_nodes_take_one_copy() {
    let trial = Trial::of("eight_nodes_take_one_copy", &crowd(8, FILE, Vec::new()));
    trial.all_finish(COPIES);
    trial.within(SMALL_FILE);
}

#[test]
fn thirty_nodes_with_gossip_take_one_copy() {
    let scenario = Scenario {
        membership: Membership::Gossip,
        source_bits_per_sec: 1_000_000_000,
        ..crowd(30, FILE, Vec::new())
    };
    let trial = Trial::of("thirty_nodes_with_gossip_take_one_copy", &scenario);
    trial.all_finish(COPIES);
    trial.within(SMALL_FILE);
}

#[test]
fn staggered_starts_take_one_copy() {
    for spread in [1, 10, 60] {
        let scenario = Scenario {
            spread: Duration::from_secs(spread),
            source_bits_per_sec: 1_000_000_000,
            ..crowd(20, FILE, Vec::new())
        };
        let trial = Trial::of("staggered_starts_take_one_copy", &scenario);
        trial.all_finish(COPIES);
        trial.check(
            trial.report.p50 <= 1.1,
            format_args!("half within 1.1 bounds, not {}", trial.report.p50),
        );
        // Whoever is first may have to wait for what a later one reads while peers fill its link.
        trial.within(2.0);
    }
}

#[test]
fn a_file_of_one_block_is_read_once() {
    let trial = Trial::of(
        "a_file_of_one_block_is_read_once",
        &crowd(30, 10_000, Vec::new()),
    );
    trial.all_finish(1.0);
    trial.check(
        trial.report.virtual_s < 0.5,
        format_args!("quickly, not in {} s", trial.report.virtual_s),
    );
}

#[test]
fn a_file_of_one_piece_is_read_once() {
    let trial = Trial::of(
        "a_file_of_one_piece_is_read_once",
        &crowd(30, 3_000_000, Vec::new()),
    );
    trial.all_finish(1.0);
}

#[test]
fn an_empty_file_is_complete_at_once() {
    let trial = Trial::of(
        "an_empty_file_is_complete_at_once",
        &crowd(5, 0, Vec::new()),
    );
    trial.all_finish(0.0);
}
