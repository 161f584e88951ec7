//! Sources of every kind: without ranges, without a length, without a validator, and with content that changes.

use std::time::Duration;

use dfnode_simulations::{Fault, Scenario, SourceKind, crowd};

use crate::trial::{Trial, seed};

const FILE: u64 = 20_000_000;

fn from(source: SourceKind, faults: Vec<Fault>) -> Scenario {
    Scenario {
        source,
        seed: seed(7),
        ..crowd(10, FILE, faults)
    }
}

#[test]
fn a_source_without_ranges_is_read_once() {
    let source = SourceKind {
        ranges: false,
        ..SourceKind::default()
    };
    let trial = Trial::of(
        "a_source_without_ranges_is_read_once",
        &from(source, Vec::new()),
    );
    trial.all_finish(1.02);
}

#[test]
fn a_stream_of_unknown_length_is_read_once() {
    for validator in [true, false] {
        let source = SourceKind {
            tells_length: false,
            ranges: false,
            validator,
        };
        let trial = Trial::of(
            "a_stream_of_unknown_length_is_read_once",
            &from(source, Vec::new()),
        );
        trial.all_finish(1.02);
    }
}

#[test]
fn a_source_without_a_validator_is_read_once() {
    let source = SourceKind {
        validator: false,
        ..SourceKind::default()
    };
    let trial = Trial::of(
        "a_source_without_a_validator_is_read_once",
        &from(source, Vec::new()),
    );
    trial.all_finish(1.02);
}

#[test]
fn a_stream_whose_reader_dies_begins_anew() {
    let source = SourceKind {
        tells_length: false,
        ranges: false,
        validator: false,
    };
    let at = Duration::from_millis(800);
    let trial = Trial::of(
        "a_stream_whose_reader_dies_begins_anew",
        &from(source, vec![Fault::ReaderDies { at }]),
    );
    trial.all_finish(2.0);
}

#[test]
fn nobody_mixes_old_and_new_content() {
    for millis in [100, 700, 1500] {
        let at = Duration::from_millis(millis);
        let trial = Trial::of(
            "nobody_mixes_old_and_new_content",
            &from(SourceKind::default(), vec![Fault::SourceChanges { at }]),
        );
        trial.all_finish(2.1);
    }
}
