//! The catalogue: one case, or all of them over many seeds.

use std::io::IsTerminal as _;
use std::ops::Range;
use std::sync::Mutex;

use anyhow::Context as _;
use dfnode_simulations::{Case, Report, catalogue, run};

use super::{seeds, table};

/// One scenario of the catalogue.
#[derive(clap::Args)]
pub(crate) struct Run {
    /// Which; without one, all are listed.
    name: Option<String>,
    /// Equal seeds give equal runs.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Print the messages of each kind.
    #[arg(long)]
    traffic: bool,
    /// Print what homes and readers of the source say and do.
    #[arg(long)]
    log: bool,
}

impl Run {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Some(name) = self.name else {
            for case in catalogue() {
                println!("{}", case.name);
            }
            return Ok(());
        };
        let mut case = catalogue()
            .into_iter()
            .find(|case| case.name == name)
            .with_context(|| format!("no scenario is called `{name}`"))?
            .with_seed(self.seed);
        case.scenario.log = self.log;
        let report = run(&case.scenario);
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            table::print(&report);
        }
        if self.traffic {
            table::print_traffic(&report);
        }
        let problems = case.judge(&report);
        anyhow::ensure!(problems.is_empty(), "{name}: {}", problems.join("; "));
        Ok(())
    }
}

/// The catalogue over many seeds.
#[derive(clap::Args)]
pub(crate) struct Sweep {
    /// The seeds, such as 1..20 (both included).
    #[arg(long, default_value = "1..20", value_parser = seeds::parse)]
    seeds: Range<u64>,
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Only scenarios of at most so many hosts.
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// Runs at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

struct Line {
    case: Case,
    report: Report,
    problems: Vec<String>,
}

impl Sweep {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let cases: Vec<Case> = catalogue()
            .into_iter()
            .filter(|case| case.name.contains(&self.only) && case.scenario.nodes <= self.nodes)
            .collect();
        let mut todo: Vec<Case> = Vec::new();
        for case in &cases {
            todo.extend(self.seeds.clone().map(|seed| case.clone().with_seed(seed)));
        }
        let runs = todo.len();
        todo.reverse();
        let (todo, done) = (Mutex::new(todo), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(case) = next(&todo) {
                        let report = run(&case.scenario);
                        let problems = case.judge(&report);
                        let line = Line {
                            case,
                            report,
                            problems,
                        };
                        if let Ok(mut done) = done.lock() {
                            done.push(line);
                            if std::io::stderr().is_terminal() {
                                eprint!("\r{} of {runs} runs", done.len());
                            }
                        }
                    }
                });
            }
        });
        eprintln!("\r{runs} runs done");
        let done = done.into_inner().unwrap_or_default();
        for case in &cases {
            summarise(case.name, &done);
        }
        let bad = done.iter().filter(|line| !line.problems.is_empty()).count();
        anyhow::ensure!(bad == 0, "{bad} of {runs} runs did what they must not do");
        Ok(())
    }
}

fn next(todo: &Mutex<Vec<Case>>) -> Option<Case> {
    todo.lock().ok()?.pop()
}

/// One line for a case, and one for each of its failures with the way to see it again.
fn summarise(name: &str, done: &[Line]) {
    let of_case: Vec<&Line> = done.iter().filter(|line| line.case.name == name).collect();
    let worst = |of: fn(&Report) -> f64| {
        of_case
            .iter()
            .map(|line| of(&line.report))
            .fold(f64::NAN, f64::max)
    };
    println!(
        "{name:<24} {:>3} runs  p99 ≤ {:.3}  max ≤ {:.3}  copies ≤ {:.4}  control ≤ {:.2} %",
        of_case.len(),
        worst(|report| report.p99),
        worst(|report| report.max),
        worst(|report| report.copies),
        worst(|report| report.control_percent),
    );
    for line in of_case.iter().filter(|line| !line.problems.is_empty()) {
        println!(
            "  FAILED {}\n    cargo run --release -p dfnode-simulations -- run {name} --seed {}",
            line.problems.join("; "),
            line.case.scenario.seed
        );
    }
}
