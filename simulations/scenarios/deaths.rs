//! Hosts die, homes die, sources vanish: whoever lives still ends, and the source is hardly asked again.

use std::time::Duration;

use dfnode_simulations::{Fault, Membership, Scenario, When};

use crate::trial::{Trial, crowd};

const FILE: u64 = 20_000_000;
/// What a run with faults may take from the source.
const COPIES: f64 = 1.15;

fn fast_source(faults: Vec<Fault>) -> Scenario {
    Scenario {
        source_bits_per_sec: 1_000_000_000,
        ..crowd(20, FILE, faults)
    }
}

#[test]
fn a_tenth_dies_at_half_time() {
    let at = Duration::from_millis(800);
    let trial = Trial::of(
        "a_tenth_dies_at_half_time",
        &fast_source(vec![Fault::Crash { at, share: 0.1 }]),
    );
    trial.all_finish(COPIES);
    trial.within(2.0);
}

#[test]
fn half_die_at_half_time() {
    let at = Duration::from_millis(800);
    let trial = Trial::of(
        "half_die_at_half_time",
        &fast_source(vec![Fault::Crash { at, share: 0.5 }]),
    );
    trial.all_finish(COPIES);
    trial.within(3.5);
}

#[test]
fn a_tenth_dies_and_gossip_tells() {
    let at = Duration::from_millis(800);
    let scenario = Scenario {
        membership: Membership::Gossip,
        ..fast_source(vec![Fault::Crash { at, share: 0.1 }])
    };
    let trial = Trial::of("a_tenth_dies_and_gossip_tells", &scenario);
    trial.all_finish(COPIES);
}

#[test]
fn the_home_dies_early() {
    for millis in [5, 25, 100, 400] {
        let at = Duration::from_millis(millis);
        let trial = Trial::of(
            "the_home_dies_early",
            &crowd(10, FILE, vec![Fault::HomeDies { at }]),
        );
        trial.all_finish(COPIES);
        trial.check(
            trial.report.virtual_s < trial.report.bound_s * 1.25 + 2.5,
            format_args!("soon, not in {} s", trial.report.virtual_s),
        );
    }
}

#[test]
fn every_home_dies_one_after_the_other() {
    let faults = [50, 700, 1500]
        .map(|millis| Fault::HomeDies {
            at: Duration::from_millis(millis),
        })
        .to_vec();
    let trial = Trial::of(
        "every_home_dies_one_after_the_other",
        &crowd(10, FILE, faults),
    );
    trial.all_finish(1.3);
}

#[test]
fn a_reader_dies() {
    for millis in [30, 300, 900] {
        let at = Duration::from_millis(millis);
        let trial = Trial::of(
            "a_reader_dies",
            &crowd(10, FILE, vec![Fault::ReaderDies { at }]),
        );
        trial.all_finish(COPIES);
    }
}

#[test]
fn the_source_vanishes_after_its_last_block() {
    for when in [When::Read, When::OnTwo] {
        let trial = Trial::of(
            "the_source_vanishes_after_its_last_block",
            &crowd(10, FILE, vec![Fault::SourceGone { when }]),
        );
        trial.all_finish(1.02);
    }
}

#[test]
fn the_source_vanishes_too_early() {
    let when = When::At(Duration::from_millis(600));
    let trial = Trial::of(
        "the_source_vanishes_too_early",
        &crowd(10, FILE, vec![Fault::SourceGone { when }]),
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
        ..crowd(20, FILE, faults)
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
        &crowd(20, FILE, faults),
    );
    trial.all_finish(2.0);
}
