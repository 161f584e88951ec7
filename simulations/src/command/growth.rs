//! `growth`: one crowd after the other, each greater than the one before.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::Context as _;
use dfnode_simulations::{Crowd, Report, plot_growth, run_watched, soundness};
use serde::Serialize;

use super::progress::Line;
use super::seeds;
use super::setting::Setting;

/// Flash crowds of several sizes: what becomes of time, source and control as they grow.
#[derive(clap::Args)]
pub(crate) struct Growth {
    /// Hosts of each crowd.
    #[arg(long, value_delimiter = ',', default_value = "10,30,100,300,1000")]
    nodes: Vec<usize>,
    #[command(flatten)]
    setting: Setting,
    /// The seeds, such as 1..3 (both included): each is another run of every size.
    #[arg(long, default_value = "1..3", value_parser = seeds::parse)]
    seeds: Range<u64>,
    /// Draw pictures into this folder, as SVG and PNG: time, copies and control, and finish for the greatest crowd.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// All that was run, for programs.
#[derive(Serialize)]
struct Table<'a> {
    runs: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    nodes: usize,
    seed: u64,
    #[serde(flatten)]
    report: &'a Report,
}

impl Growth {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let crowds = self.crowds();
        if self.json {
            let runs = crowds.iter().map(|crowd| Row {
                nodes: crowd.scenario.nodes,
                seed: crowd.scenario.seed,
                report: &crowd.report,
            });
            let table = Table {
                runs: runs.collect(),
            };
            println!("{}", serde_json::to_string(&table)?);
        } else {
            print(&crowds);
        }
        if let Some(dir) = &self.plot {
            plot_growth(&crowds, dir).context("no pictures")?;
        }
        judge(&crowds)
    }

    fn crowds(&self) -> Vec<Crowd> {
        let mut sizes = self.nodes.clone();
        sizes.sort_unstable();
        sizes.dedup();
        let mut crowds = Vec::new();
        for nodes in sizes {
            for seed in self.seeds.clone() {
                let scenario = self.setting.crowd(nodes, seed);
                let name = format!("N = {nodes}, seed {seed}");
                eprintln!("{name} …");
                let mut line = Line::of(format!("{name}: "));
                let report = run_watched(&scenario, &mut |progress| line.show(progress));
                crowds.push(Crowd { scenario, report });
            }
        }
        crowds
    }
}

fn print(crowds: &[Crowd]) {
    println!(
        "{:>8} {:>6} {:>10} {:>8} {:>8} {:>8} {:>14} {:>8}",
        "N", "seed", "bound", "p50", "p99", "copies", "control/node", "of file"
    );
    for Crowd { scenario, report } in crowds {
        println!(
            "{:>8} {:>6} {:>8.3} s {:>8.4} {:>8.4} {:>8.4} {:>12} B {:>6.3} %",
            scenario.nodes,
            scenario.seed,
            report.bound_s,
            report.p50,
            report.p99,
            report.copies,
            report.control_bytes_per_node,
            report.control_percent
        );
    }
}

/// No figure is worth anything of a run in which something went wrong.
fn judge(crowds: &[Crowd]) -> anyhow::Result<()> {
    for Crowd { scenario, report } in crowds {
        let (nodes, seed) = (scenario.nodes, scenario.seed);
        let problems = soundness(scenario, report);
        anyhow::ensure!(
            problems.is_empty(),
            "N = {nodes}, seed {seed}: {}",
            problems.join("; ")
        );
        anyhow::ensure!(
            report.finished == report.survivors,
            "N = {nodes}, seed {seed}: {} of {} finish",
            report.finished,
            report.survivors
        );
    }
    Ok(())
}
