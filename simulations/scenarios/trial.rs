//! One run of a world, with what must hold whatever happens in it, and how to run it again when it does not.

use std::fmt::Display;

use dfnode_simulations::{Fault, Membership, Report, Scenario, run};

/// Outputs that one input may set off in a machine beyond a few for each node of the world.
const BURST: usize = 400;

/// A scenario's name and seed, and what came of it.
pub(crate) struct Trial {
    name: &'static str,
    seed: u64,
    nodes: usize,
    pub(crate) report: Report,
}

/// The seed of a run: `DFNODE_SEED`, or `usual`.
pub(crate) fn seed(usual: u64) -> u64 {
    std::env::var("DFNODE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(usual)
}

/// A crowd that knows each other from the start and hears of deaths after ten seconds.
pub(crate) fn crowd(nodes: usize, file_bytes: u64, faults: Vec<Fault>) -> Scenario {
    Scenario {
        nodes,
        file_bytes,
        membership: Membership::Told {
            detection: std::time::Duration::from_secs(10),
        },
        faults,
        seed: seed(7),
        ..Scenario::default()
    }
}

impl Trial {
    /// Runs a scenario; what holds in every world is checked at once.
    pub(crate) fn of(name: &'static str, scenario: &Scenario) -> Self {
        let trial = Self {
            name,
            seed: scenario.seed,
            nodes: scenario.nodes,
            report: run(scenario),
        };
        let report = &trial.report;
        trial.check(
            report.violations.is_empty(),
            format_args!("no violations, not {:#?}", report.violations),
        );
        trial.check(report.wrong_blocks == 0, "no wrong block is kept");
        trial.check(
            report.finished + report.failed == report.survivors,
            format_args!(
                "nobody waits for ever: {} finished and {} failed of {}",
                report.finished, report.failed, report.survivors
            ),
        );
        trial.check(
            report.longest_burst <= BURST + 4 * trial.nodes,
            format_args!("outputs are few at a time, not {}", report.longest_burst),
        );
        trial
    }

    /// Fails with the way to run the same world again.
    pub(crate) fn check(&self, holds: bool, what: impl Display) {
        assert!(
            holds,
            "{what}\nreplay: DFNODE_SEED={} cargo test -p dfnode-simulations --test scenarios {}",
            self.seed, self.name
        );
    }

    /// Everybody who lives has the file, and the source gave at most so many copies.
    pub(crate) fn all_finish(&self, copies: f64) {
        let report = &self.report;
        let why: Vec<_> = report
            .outcomes
            .iter()
            .filter_map(|one| one.failed.as_ref())
            .collect();
        self.check(
            report.finished == report.survivors,
            format_args!(
                "all finish, not {} of {}: {why:?}",
                report.finished, report.survivors
            ),
        );
        self.check(
            report.copies <= copies,
            format_args!(
                "at most {copies} copies leave the source, not {}",
                report.copies
            ),
        );
    }

    /// The 99th percentile of the survivors' times.
    pub(crate) fn within(&self, bounds: f64) {
        self.check(
            self.report.p99 <= bounds,
            format_args!("p99 within {bounds} bounds, not {}", self.report.p99),
        );
    }
}
