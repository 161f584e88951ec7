//! Many hosts, one file, nothing goes wrong: one copy leaves the source and nobody waits long.

use crate::trial::{cases, holds};

cases! {
    a_lone_node_downloads_as_fast_as_its_link => "lone",
    two_nodes_take_one_copy => "two",
    eight_nodes_take_one_copy => "eight",
    eight_nodes_take_a_small_file => "eight-5mb",
    eight_nodes_come_near_the_bound => "eight-100mb",
    thirty_nodes_with_gossip_take_one_copy => "thirty-with-gossip",
    starts_within_a_second_take_one_copy => "spread-1s",
    starts_within_ten_seconds_take_one_copy => "spread-10s",
    starts_within_a_minute_take_one_copy => "spread-60s",
    a_file_of_one_block_is_read_once => "one-block",
    a_file_of_one_piece_is_read_once => "one-piece",
    a_small_file_is_there_at_once_for_all_who_start_together => "one-piece-at-once",
    an_empty_file_is_complete_at_once => "empty",
    ten_nodes_come_near_the_bound => "crowd-10",
    a_hundred_nodes_come_near_the_bound => "crowd-100",
    a_source_slower_than_a_host_is_the_bound => "source-100-of-100",
    a_source_as_fast_as_a_host_is_nearly_the_bound => "source-200-of-100",
    gossip_that_loses_a_fifth_holds_nobody_up => "gossip-loses-a-fifth",
    a_source_twice_as_fast_as_a_host_is_used_well => "source-400-of-100",
}

#[test]
fn a_thousand_nodes_come_near_the_bound() {
    let report = holds("crowd-1000");
    assert!(
        report.control_percent <= 1.0,
        "control traffic is {} % of the file",
        report.control_percent
    );
}

#[test]
fn a_sampled_membership_changes_nothing() {
    let (full, sampled) = (holds("crowd-300"), holds("crowd-300-sampled"));
    let differ = |one: f64, other: f64| (one - other).abs() / one;
    assert!(
        differ(full.p99, sampled.p99) < 0.01,
        "{} and {}",
        full.p99,
        sampled.p99
    );
    assert!(
        differ(full.control_percent, sampled.control_percent) < 0.05,
        "{} % and {} %",
        full.control_percent,
        sampled.control_percent
    );
}
