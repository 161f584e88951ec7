//! Hosts die, homes die, sources vanish: whoever lives still ends, and the source is hardly asked again.

use std::time::Duration;

use dfnode_simulations::{Fault, Scenario, When, crowd};

use crate::trial::{Trial, cases, seed};

const FILE: u64 = 20_000_000;

cases! {
    a_tenth_dies_at_half_time => "tenth-dies",
    half_die_at_half_time => "half-dies",
    a_tenth_dies_and_gossip_tells => "tenth-dies-with-gossip",
    a_tenth_dies_while_the_source_is_read => "tenth-dies-early",
    two_of_eight_die_at_half_time => "two-of-eight-die",
    every_home_dies_one_after_the_other => "homes-die",
    the_home_dies_at_once => "home-dies-5ms",
    the_home_dies_when_the_source_answers => "home-dies-25ms",
    the_home_dies_early => "home-dies-100ms",
    the_home_dies_while_the_source_is_read => "home-dies-400ms",
    the_first_reader_dies => "reader-dies-30ms",
    a_reader_dies_early => "reader-dies-300ms",
    a_reader_dies_later => "reader-dies-900ms",
    the_source_vanishes_after_its_last_block => "source-gone-read",
    the_source_vanishes_when_all_is_on_two => "source-gone-on-two",
    three_of_twenty_are_cut_off_for_a_while => "three-cut-off",
    two_halves_are_cut_off_for_a_while => "halves-cut-off",
    a_tenth_of_a_hundred_dies_at_half_time => "crash-10-of-100",
    half_of_a_hundred_die_at_half_time => "crash-50-of-100",
    half_of_a_thousand_die_at_half_time => "crash-50",
    the_source_of_a_thousand_vanishes_when_all_is_on_two => "source-gone",
    a_tenth_of_a_hundred_dies_while_the_source_is_read => "crash-while-read-of-100",
}

#[test]
fn the_source_vanishes_too_early() {
    let when = When::At(Duration::from_millis(600));
    let trial = Trial::of(
        "the_source_vanishes_too_early",
        &seeded(crowd(10, FILE, vec![Fault::SourceGone { when }])),
    );
    let report = &trial.report;
    trial.check(report.failed == 10, "all fail");
    trial.check(
        report.virtual_s < 30.0,
        format_args!("soon, not in {} s", report.virtual_s),
    );
    for outcome in &report.outcomes {
        trial.check(
            outcome.failed.as_deref() == Some("the source is gone"),
            format_args!("each is told why, not {:?}", outcome.failed),
        );
    }
}

#[test]
fn views_that_differ_cost_little() {
    let faults = vec![Fault::Split {
        share: 0.1,
        until: Duration::from_millis(300),
    }];
    let scenario = Scenario {
        spread: Duration::from_secs(2),
        ..seeded(crowd(20, FILE, faults))
    };
    let trial = Trial::of("views_that_differ_cost_little", &scenario);
    // Two nodes that know only each other rightly read for themselves until they hear of the rest.
    trial.all_finish(1.3);
}

#[test]
fn two_halves_that_meet_late_both_finish() {
    let faults = vec![Fault::Split {
        share: 0.5,
        until: Duration::from_millis(500),
    }];
    let trial = Trial::of(
        "two_halves_that_meet_late_both_finish",
        &seeded(crowd(20, FILE, faults)),
    );
    trial.all_finish(2.0);
}

fn seeded(scenario: Scenario) -> Scenario {
    Scenario {
        seed: seed(scenario.seed),
        ..scenario
    }
}
