//! A scenario with a name, and what must come of it.

use crate::report::Report;
use crate::scenario::Scenario;

/// Outputs that one input may set off in a machine beyond a few for each node of the world.
const BURST: usize = 400;

/// A scenario, and what must come of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Names the case in tests and on the command line.
    pub name: &'static str,
    /// What happens.
    pub scenario: Scenario,
    /// Copies that may leave the source.
    pub copies: f64,
    /// Copies that may cross the border into any zone.
    pub into_zone: Option<f64>,
    /// The 99th percentile of the survivors' times, in bounds, where it matters.
    pub p99: Option<f64>,
    /// Virtual seconds from the first start to the last end, where they matter.
    pub seconds: Option<f64>,
    /// Whether every liar must be isolated by somebody.
    pub catches_liars: bool,
}

impl Case {
    pub(crate) fn new(name: &'static str, copies: f64, scenario: Scenario) -> Self {
        Self {
            name,
            scenario,
            copies,
            into_zone: None,
            p99: None,
            seconds: None,
            catches_liars: false,
        }
    }

    pub(crate) fn within(self, p99: f64) -> Self {
        Self {
            p99: Some(p99),
            ..self
        }
    }

    pub(crate) fn into_zone(self, copies: f64) -> Self {
        Self {
            into_zone: Some(copies),
            ..self
        }
    }

    pub(crate) fn in_seconds(self, seconds: f64) -> Self {
        Self {
            seconds: Some(seconds),
            ..self
        }
    }

    pub(crate) fn catching_liars(self) -> Self {
        Self {
            catches_liars: true,
            ..self
        }
    }

    /// The same case with other chance.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.scenario.seed = seed;
        self
    }

    /// What a run of it did that it must not do, in words; empty if all is well.
    pub fn judge(&self, report: &Report) -> Vec<String> {
        let mut problems = soundness(&self.scenario, report);
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        check(
            report.finished == report.survivors,
            format!("{} of {} finish", report.finished, report.survivors),
        );
        check(
            report.copies <= self.copies,
            format!("{:.4} copies, at most {}", report.copies, self.copies),
        );
        if let Some(most) = self.into_zone {
            let worst = report.copies_into_zone.iter().copied().fold(0.0, f64::max);
            check(
                worst <= most,
                format!("{worst:.4} copies into a zone, at most {most}"),
            );
        }
        if let Some(p99) = self.p99 {
            check(
                report.p99 <= p99,
                format!("p99 {:.4} bounds, at most {p99}", report.p99),
            );
        }
        if self.catches_liars {
            let (caught, liars) = (report.liars_isolated, report.liars);
            check(
                liars > 0 && caught == liars,
                format!("{caught} of {liars} liars are isolated"),
            );
        }
        if let Some(seconds) = self.seconds {
            check(
                report.virtual_s <= seconds,
                format!("{:.3} s, at most {seconds}", report.virtual_s),
            );
        }
        problems
    }
}

/// What holds in every world, whatever happens in it.
pub fn soundness(scenario: &Scenario, report: &Report) -> Vec<String> {
    let mut problems = report.violations.clone();
    if report.wrong_blocks > 0 {
        problems.push(format!("{} wrong blocks are kept", report.wrong_blocks));
    }
    if report.finished + report.failed != report.survivors {
        problems.push(format!(
            "{} finished and {} failed of {}",
            report.finished, report.failed, report.survivors
        ));
    }
    if report.longest_burst > BURST + 4 * scenario.nodes {
        problems.push(format!("a burst of {} outputs", report.longest_burst));
    }
    problems
}
