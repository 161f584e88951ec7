//! The scenarios that every change must pass, by name: what happens in each, and what must come of it.
//!
//! Tests run them at fixed seeds, the program's `sweep` at as many as one likes.

use std::time::Duration;

use crate::case::Case;
use crate::scenario::{Fault, Membership, Scenario, SourceKind, When, Zones};

/// What a run without faults may take from the source.
const ONE_COPY: f64 = 1.0;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A crowd that knows each other from the start and hears of deaths after ten seconds: hosts and source of 100 Mbit/s.
pub fn crowd(nodes: usize, file_bytes: u64, faults: Vec<Fault>) -> Scenario {
    Scenario {
        nodes,
        file_bytes,
        membership: Membership::Told {
            detection: Duration::from_secs(10),
        },
        faults,
        seed: 7,
        ..Scenario::default()
    }
}

/// The usual crowd: 200 MB, hosts of 200 Mbit/s, a source of 4 Gbit/s.
pub fn usual(nodes: usize, faults: Vec<Fault>) -> Scenario {
    Scenario {
        host_bits_per_sec: 200_000_000,
        source_bits_per_sec: 4_000_000_000,
        ..crowd(nodes, 200_000_000, faults)
    }
}

/// Every case, the small ones first.
pub fn catalogue() -> Vec<Case> {
    let mut cases = small_crowds();
    cases.extend(deaths());
    cases.extend(sources());
    cases.extend(zones());
    cases.extend(large());
    cases
}

const SMALL: u64 = 20_000_000;

fn small_crowds() -> Vec<Case> {
    let fast = |scenario| Scenario {
        source_bits_per_sec: 1_000_000_000,
        ..scenario
    };
    let spread = |seconds| Scenario {
        spread: Duration::from_secs(seconds),
        ..fast(crowd(20, SMALL, Vec::new()))
    };
    let at_once = Scenario {
        spread: Duration::ZERO,
        file_bytes: 1_000_000,
        ..usual(30, Vec::new())
    };
    vec![
        Case::new("lone", ONE_COPY, crowd(1, SMALL, Vec::new())).within(1.05),
        Case::new("two", ONE_COPY, crowd(2, SMALL, Vec::new())).within(1.15),
        Case::new("eight", ONE_COPY, crowd(8, SMALL, Vec::new())).within(1.1),
        Case::new("eight-5mb", ONE_COPY, crowd(8, 5_000_000, Vec::new())).within(1.3),
        Case::new("eight-100mb", ONE_COPY, crowd(8, 100_000_000, Vec::new())).within(1.04),
        Case::new(
            "thirty-with-gossip",
            ONE_COPY,
            Scenario {
                membership: Membership::Gossip,
                ..fast(crowd(30, SMALL, Vec::new()))
            },
        )
        .within(1.1),
        Case::new("spread-1s", ONE_COPY, spread(1)).within(1.2),
        Case::new("spread-10s", ONE_COPY, spread(10)).within(1.35),
        Case::new("spread-60s", ONE_COPY, spread(60)).within(1.2),
        Case::new("one-block", ONE_COPY, crowd(30, 10_000, Vec::new())).in_seconds(0.5),
        Case::new("one-piece", ONE_COPY, crowd(30, 3_000_000, Vec::new())),
        // All come while the home still asks its ranks, and are told of the version unasked.
        Case::new("one-piece-at-once", ONE_COPY, at_once).in_seconds(0.3),
        Case::new("empty", 0.0, crowd(5, 0, Vec::new())).in_seconds(0.5),
    ]
}

fn deaths() -> Vec<Case> {
    let fast = |faults| Scenario {
        source_bits_per_sec: 1_000_000_000,
        ..crowd(20, SMALL, faults)
    };
    let crash = |at, share| Fault::Crash {
        at: millis(at),
        share,
    };
    let mut cases = vec![
        Case::new("tenth-dies", 1.03, fast(vec![crash(800, 0.1)])).within(1.9),
        // Of so few hosts half may well be all who hold a block.
        Case::new("half-dies", 1.15, fast(vec![crash(800, 0.5)])).within(2.7),
        Case::new(
            "tenth-dies-with-gossip",
            1.03,
            Scenario {
                membership: Membership::Gossip,
                ..fast(vec![crash(800, 0.1)])
            },
        ),
        Case::new("tenth-dies-early", 1.05, fast(vec![crash(100, 0.1)])),
        Case::new(
            "two-of-eight-die",
            1.05,
            crowd(8, 16_000_000, vec![crash(640, 0.25)]),
        ),
        Case::new(
            "homes-die",
            1.02,
            crowd(
                10,
                SMALL,
                [50, 700, 1500]
                    .map(|at| Fault::HomeDies { at: millis(at) })
                    .to_vec(),
            ),
        ),
    ];
    // Each side takes the other for dead, and finds it again before the end.
    for (name, share, copies) in [("three-cut-off", 0.15, 1.4), ("halves-cut-off", 0.5, 1.1)] {
        let (at, until) = (millis(800), millis(3000));
        let scenario = Scenario {
            membership: Membership::Told {
                detection: millis(1000),
            },
            ..fast(vec![Fault::Partition { share, at, until }])
        };
        cases.push(Case::new(name, copies, scenario).within(2.3));
    }
    for (name, at) in [
        ("home-dies-5ms", 5),
        ("home-dies-25ms", 25),
        ("home-dies-100ms", 100),
        ("home-dies-400ms", 400),
    ] {
        let scenario = crowd(10, SMALL, vec![Fault::HomeDies { at: millis(at) }]);
        cases.push(Case::new(name, 1.02, scenario).in_seconds(1.6 * 1.25 + 2.5));
    }
    for (name, at) in [
        ("reader-dies-30ms", 30),
        ("reader-dies-300ms", 300),
        ("reader-dies-900ms", 900),
    ] {
        let scenario = crowd(10, SMALL, vec![Fault::ReaderDies { at: millis(at) }]);
        cases.push(Case::new(name, 1.02, scenario));
    }
    for (name, when) in [
        ("source-gone-read", When::Read),
        ("source-gone-on-two", When::OnTwo),
    ] {
        let scenario = crowd(10, SMALL, vec![Fault::SourceGone { when }]);
        cases.push(Case::new(name, ONE_COPY, scenario));
    }
    cases
}

fn sources() -> Vec<Case> {
    let from = |source| Scenario {
        source,
        ..crowd(10, SMALL, Vec::new())
    };
    vec![
        Case::new(
            "no-ranges",
            1.02,
            from(SourceKind {
                ranges: false,
                ..SourceKind::default()
            }),
        ),
        Case::new(
            "no-validator",
            1.02,
            from(SourceKind {
                validator: false,
                ..SourceKind::default()
            }),
        ),
    ]
}

/// The same hosts, dealt out to zones whose borders carry so many Mbit/s.
fn dealt_out(count: usize, trunk_mbit: u64, scenario: Scenario) -> Scenario {
    Scenario {
        zones: Some(Zones {
            count,
            trunk_bits_per_sec: trunk_mbit * 1_000_000,
            latency: millis(1),
            labelled: true,
        }),
        ..scenario
    }
}

fn zones() -> Vec<Case> {
    let few = |nodes, faults| Scenario {
        source_bits_per_sec: 1_000_000_000,
        ..crowd(nodes, SMALL, faults)
    };
    let crash = |share| Fault::Crash {
        at: millis(500),
        share,
    };
    let readers_die = [100, 300, 500, 700].map(|at| Fault::ReaderDies { at: millis(at) });
    let by_gossip = Scenario {
        membership: Membership::Gossip,
        ..few(40, Vec::new())
    };
    let uncoded = Scenario {
        codec: false,
        ..usual(1000, Vec::new())
    };
    vec![
        Case::new(
            "zones-of-40",
            ONE_COPY,
            dealt_out(4, 100, few(40, Vec::new())),
        )
        .into_zone(1.1),
        Case::new("zones-with-gossip", ONE_COPY, dealt_out(4, 100, by_gossip)).into_zone(1.1),
        Case::new(
            "each-its-own-zone",
            ONE_COPY,
            dealt_out(5, 100, few(5, Vec::new())),
        )
        .into_zone(1.01),
        // Worse than what large files take behind trunks as thin; docs/simulation.md has the figures.
        Case::new(
            "zones-thin",
            ONE_COPY,
            dealt_out(4, 10, few(40, Vec::new())),
        )
        .into_zone(1.25)
        .within(1.75),
        Case::new(
            "zones-readers-die",
            1.1,
            dealt_out(4, 100, few(40, readers_die.to_vec())),
        ),
        Case::new(
            "zones-half-dies",
            1.2,
            dealt_out(4, 100, few(40, vec![crash(0.5)])),
        ),
        // What crosses each border is a tenth of what the zone's hosts can do.
        Case::new(
            "zones-of-100",
            ONE_COPY,
            dealt_out(4, 500, usual(100, Vec::new())),
        )
        .into_zone(1.1)
        .within(1.1),
        Case::new("zones-of-1000", ONE_COPY, dealt_out(4, 5000, uncoded))
            .into_zone(1.1)
            .within(1.1),
    ]
}

/// What is promised of 200 MB, hosts of 200 Mbit/s and a source of 4 Gbit/s.
fn large() -> Vec<Case> {
    let crash = |at, share| Fault::Crash {
        at: millis(at),
        share,
    };
    let from = |nodes, mbit: u64| Scenario {
        source_bits_per_sec: mbit * 1_000_000,
        ..usual(nodes, Vec::new())
    };
    let spread = |seconds| Scenario {
        spread: Duration::from_secs(seconds),
        ..usual(1000, Vec::new())
    };
    let slow = |nodes| {
        let share = 0.01;
        usual(nodes, vec![Fault::Slow { share, rate: 0.1 }])
    };
    let sampled = Scenario {
        membership: Membership::Sampled {
            detection: Duration::from_secs(10),
            known: 64,
        },
        codec: false,
        ..usual(300, Vec::new())
    };
    let uncoded = |nodes| Scenario {
        codec: false,
        ..usual(nodes, Vec::new())
    };
    let lossy = |nodes| Scenario {
        membership: Membership::Gossip,
        gossip_loss: 0.2,
        ..usual(nodes, Vec::new())
    };
    let gone = |nodes| {
        let when = When::OnTwo;
        usual(nodes, vec![Fault::SourceGone { when }])
    };
    // It is gossip that tells the others of a liar: without, each finds out for himself.
    let lies = |nodes| Scenario {
        membership: Membership::Gossip,
        ..usual(nodes, vec![Fault::Liars { share: 0.01 }])
    };
    // Long enough that each side takes the other for dead, and finds it again before the end.
    let parted = |nodes, at| Scenario {
        membership: Membership::Told {
            detection: Duration::from_secs(2),
        },
        ..usual(
            nodes,
            vec![Fault::Partition {
                share: 0.3,
                at: millis(at),
                until: millis(at + 3000),
            }],
        )
    };
    vec![
        Case::new("crowd-10", ONE_COPY, usual(10, Vec::new())).within(1.02),
        Case::new("crowd-100", ONE_COPY, usual(100, Vec::new())).within(1.04),
        Case::new("source-100-of-100", ONE_COPY, from(100, 100)).within(1.05),
        Case::new("source-200-of-100", ONE_COPY, from(100, 200)).within(1.13),
        Case::new("source-400-of-100", ONE_COPY, from(100, 400)).within(1.08),
        Case::new("crash-10-of-100", 1.02, usual(100, vec![crash(4000, 0.1)])).within(1.1),
        Case::new("crash-50-of-100", 1.02, usual(100, vec![crash(4000, 0.5)])).within(1.18),
        Case::new(
            "crash-while-read-of-100",
            1.05,
            usual(100, vec![crash(300, 0.1)]),
        )
        .within(1.15),
        Case::new("slow-of-100", ONE_COPY, slow(100)).within(1.15),
        Case::new("gossip-loses-a-fifth", ONE_COPY, lossy(100)).within(1.06),
        Case::new("source-gone-of-100", ONE_COPY, gone(100)).within(1.05),
        Case::new("liars-of-100", ONE_COPY, lies(100))
            .within(1.1)
            .catching_liars(),
        Case::new("partition-of-100", 1.1, parted(100, 4000)).within(1.25),
        Case::new("partition-while-read-of-100", 2.0, parted(100, 1000)).within(1.3),
        Case::new("crowd-300", ONE_COPY, usual(300, Vec::new())).within(1.05),
        Case::new("crowd-300-sampled", ONE_COPY, sampled).within(1.05),
        Case::new("crowd-1000", ONE_COPY, uncoded(1000)).within(1.06),
        Case::new("source-100", ONE_COPY, from(1000, 100)).within(1.05),
        Case::new("source-200", ONE_COPY, from(1000, 200)).within(1.13),
        Case::new("source-400", ONE_COPY, from(1000, 400)).within(1.08),
        Case::new("spread-1s-of-1000", ONE_COPY, spread(1)).within(1.08),
        Case::new("spread-10s-of-1000", ONE_COPY, spread(10)).within(1.08),
        Case::new("spread-100s-of-1000", ONE_COPY, spread(100)).within(1.08),
        Case::new("crash-10", 1.02, usual(1000, vec![crash(4000, 0.1)])).within(1.1),
        Case::new("crash-50", 1.02, usual(1000, vec![crash(4000, 0.5)])).within(1.18),
        Case::new("crash-while-read", 1.05, usual(1000, vec![crash(300, 0.1)])),
        Case::new("slow", ONE_COPY, slow(1000)).within(1.15),
        Case::new("source-gone", ONE_COPY, gone(1000)).within(1.08),
        Case::new("gossip-loss", ONE_COPY, lossy(1000)).within(1.08),
        Case::new("partition", 1.1, parted(1000, 4000)).within(1.3),
        Case::new("partition-while-read", 2.0, parted(1000, 1000)).within(1.3),
        Case::new("liars", ONE_COPY, lies(1000))
            .within(1.15)
            .catching_liars(),
    ]
}
