//! One run of a world, with what must hold whatever happens in it, and how to run it again when it does not.

use std::fmt::Display;

use dfnode_simulations::{Case, Report, Scenario, catalogue, run, soundness};

/// A scenario's name and seed, and what came of it.
pub(crate) struct Trial {
    name: &'static str,
    seed: u64,
    pub(crate) report: Report,
}

/// The seed of a run: `DFNODE_SEED`, or `usual`.
pub(crate) fn seed(usual: u64) -> u64 {
    std::env::var("DFNODE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(usual)
}

/// Runs a case of the catalogue, at the seed that the catalogue gives it or `DFNODE_SEED`; all of it must hold.
pub(crate) fn holds(name: &str) -> Report {
    let case: Option<Case> = catalogue().into_iter().find(|case| case.name == name);
    let case = case.unwrap_or_else(|| panic!("the catalogue has no scenario `{name}`"));
    let seed = seed(case.scenario.seed);
    let case = case.with_seed(seed);
    let report = run(&case.scenario);
    let problems = case.judge(&report);
    assert!(
        problems.is_empty(),
        "{name}: {problems:#?}\nreplay: cargo run --release -p dfnode-simulations -- run {name} --seed {seed} --log"
    );
    report
}

/// Makes a test of each case of the catalogue that is named.
macro_rules! cases {
    ($($test:ident => $name:literal),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                $crate::trial::holds($name);
            }
        )*
    };
}
pub(crate) use cases;

impl Trial {
    /// Runs a scenario; what holds in every world is checked at once.
    pub(crate) fn of(name: &'static str, scenario: &Scenario) -> Self {
        let trial = Self {
            name,
            seed: scenario.seed,
            report: run(scenario),
        };
        let problems = soundness(scenario, &trial.report);
        trial.check(problems.is_empty(), format_args!("{problems:#?}"));
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
}
