use std::path::Path;

use super::{Crowd, PlotError, plot_crowd, plot_growth};
use crate::scenario::Scenario;
use crate::world::run;

fn small(nodes: usize, moments: bool) -> Crowd {
    let scenario = Scenario {
        nodes,
        file_bytes: 4_000_000,
        moments,
        ..Scenario::default()
    };
    let report = run(&scenario);
    Crowd { scenario, report }
}

fn assert_pictures(dir: &Path, names: &[&str]) {
    for name in names {
        let svg = std::fs::read_to_string(dir.join(name).with_extension("svg")).unwrap();
        assert!(svg.starts_with("<svg"), "{name} is an SVG");
        assert!(svg.trim_end().ends_with("</svg>"), "{name} is whole");
        let png = std::fs::read(dir.join(name).with_extension("png")).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{name} is a PNG");
        assert!(png.ends_with(b"IEND\xaeB`\x82"), "{name} is whole");
    }
}

#[test]
fn a_crowd_has_its_pictures() {
    let dir = tempfile::tempdir().unwrap();
    plot_crowd(&small(4, true), &dir.path().join("new")).unwrap();
    assert_pictures(&dir.path().join("new"), &["finish", "blocks"]);
}

#[test]
fn crowds_that_grow_have_their_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let crowds = [small(2, false), small(4, false), small(4, false)];
    plot_growth(&crowds, dir.path()).unwrap();
    assert_pictures(dir.path(), &["time", "copies", "control", "finish"]);
}

#[test]
fn asking_for_pictures_changes_nothing_of_the_run() {
    let (plain, watched) = (small(6, false).report, small(6, true).report);
    assert_eq!(plain.trace_hash, watched.trace_hash);
    assert!(plain.moments.is_empty());
    let unwatched = crate::Report {
        moments: Vec::new(),
        ..watched
    };
    assert_eq!(plain, unwatched, "but for the moments, all is the same");
}

#[test]
fn moments_go_from_nobody_to_everybody() {
    let report = small(6, true).report;
    let (first, last) = (&report.moments[0], report.moments.last().unwrap());
    assert!(first.holders.iter().all(|holders| *holders == 0));
    assert!(last.holders.iter().all(|holders| *holders == 6));
    assert!((100..=400).contains(&report.moments.len()));
    assert!(
        report
            .moments
            .is_sorted_by(|one, next| one.seconds <= next.seconds)
    );
}

#[test]
fn a_run_without_moments_has_no_map_of_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let error = plot_crowd(&small(2, false), dir.path()).unwrap_err();
    assert!(matches!(error, PlotError::Nothing { picture: "blocks" }));
}
