//! Runs scenarios and prints what came of them.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing the report is what this program is for"
)]

mod command;
mod large_pages;

use cap::Cap;
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use crate::command::day::ADay;
use crate::command::flash_crowd::FlashCrowd;
use crate::command::growth::Growth;
use crate::command::sweep::{Run, Sweep};

/// Counts the heap: whether a day's memory returns to its start is a figure of the report.
#[global_allocator]
static HEAP: Cap<MiMalloc> = Cap::new(MiMalloc, usize::MAX);

#[derive(Parser)]
#[command(
    about = "The swarm under a virtual clock: the production machines, simulated links and faults"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every host wants one file from one source at the same time.
    FlashCrowd(Box<FlashCrowd>),
    /// Flash crowds of several sizes: what becomes of time, source and control as they grow.
    Growth(Growth),
    /// A day with joins, deaths and many tasks, and the quiet after it: does everything return to its start?
    Day(ADay),
    /// One scenario of the catalogue, judged; without a name, lists them.
    Run(Run),
    /// The catalogue over many seeds.
    Sweep(Sweep),
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    large_pages::ask_for();
    match args.command {
        Command::FlashCrowd(command) => command.run(),
        Command::Growth(command) => command.run(),
        Command::Day(command) => command.run(|| HEAP.allocated()),
        Command::Run(command) => command.run(),
        Command::Sweep(command) => command.run(),
    }
}
