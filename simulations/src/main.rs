//! Runs a scenario and prints what came of it.
#![expect(
    clippy::print_stdout,
    reason = "printing the report is what this program is for"
)]

use std::time::Duration;

use clap::{Parser, Subcommand};
use dfnode_simulations::{Fault, Membership, Report, Scenario, SourceKind, When, run};

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
    FlashCrowd(FlashCrowd),
}

#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
struct FlashCrowd {
    /// Hosts.
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// Size of the file in megabytes (10^6).
    #[arg(long, default_value_t = 200)]
    file_mb: u64,
    /// Link of each host, Mbit/s each way.
    #[arg(long, default_value_t = 200)]
    host_mbit: u64,
    /// Link of the source, Mbit/s.
    #[arg(long, default_value_t = 4000)]
    source_mbit: u64,
    /// Starts are spread over this many milliseconds.
    #[arg(long, default_value_t = 10)]
    spread_ms: u64,
    /// Equal seeds give equal runs.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Tell every node of every other instead of running gossip (for large worlds).
    #[arg(long)]
    told: bool,
    /// This share of the hosts dies …
    #[arg(long, default_value_t = 0.0)]
    crash: f64,
    /// … this many milliseconds after the start.
    #[arg(long, default_value_t = 1000)]
    crash_ms: u64,
    /// The source vanishes after this many milliseconds.
    #[arg(long)]
    source_gone_ms: Option<u64>,
    /// The home dies after this many milliseconds.
    #[arg(long)]
    home_dies_ms: Vec<u64>,
    /// A reader of the source dies after this many milliseconds.
    #[arg(long)]
    reader_dies_ms: Vec<u64>,
    /// The source has new content after this many milliseconds.
    #[arg(long)]
    changes_ms: Vec<u64>,
    /// This share of the hosts does not know the rest …
    #[arg(long, default_value_t = 0.0)]
    split: f64,
    /// … for this many milliseconds.
    #[arg(long, default_value_t = 1000)]
    split_ms: u64,
    /// The source cannot be read in parts.
    #[arg(long)]
    no_ranges: bool,
    /// The source does not tell the length before the end.
    #[arg(long)]
    no_length: bool,
    /// The source names its versions by nothing.
    #[arg(long)]
    no_validator: bool,
    /// This share of the hosts alters what it relays.
    #[arg(long, default_value_t = 0.0)]
    liars: f64,
    /// Print the messages of each kind.
    #[arg(long)]
    traffic: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let Command::FlashCrowd(args) = Args::parse().command;
    let report = run(&scenario(&args));
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    if args.traffic {
        for (kind, traffic) in &report.traffic {
            println!(
                "{kind:<12} {:>12} messages {:>14} B",
                traffic.messages, traffic.bytes
            );
        }
    }
    Ok(())
}

fn faults(args: &FlashCrowd) -> Vec<Fault> {
    let mut faults = Vec::new();
    if args.crash > 0.0 {
        faults.push(Fault::Crash {
            at: Duration::from_millis(args.crash_ms),
            share: args.crash,
        });
    }
    if let Some(at) = args.source_gone_ms {
        faults.push(Fault::SourceGone {
            when: When::At(Duration::from_millis(at)),
        });
    }
    if args.liars > 0.0 {
        faults.push(Fault::Liars { share: args.liars });
    }
    let each = |moments: &[u64], fault: fn(Duration) -> Fault| -> Vec<Fault> {
        moments
            .iter()
            .map(|millis| fault(Duration::from_millis(*millis)))
            .collect()
    };
    faults.extend(each(&args.home_dies_ms, |at| Fault::HomeDies { at }));
    faults.extend(each(&args.reader_dies_ms, |at| Fault::ReaderDies { at }));
    faults.extend(each(&args.changes_ms, |at| Fault::SourceChanges { at }));
    if args.split > 0.0 {
        faults.push(Fault::Split {
            share: args.split,
            until: Duration::from_millis(args.split_ms),
        });
    }
    faults
}

fn scenario(args: &FlashCrowd) -> Scenario {
    let membership = if args.told {
        Membership::Told {
            detection: Duration::from_secs(10),
        }
    } else {
        Membership::Gossip
    };
    Scenario {
        nodes: args.nodes,
        file_bytes: args.file_mb * 1_000_000,
        host_bits_per_sec: args.host_mbit * 1_000_000,
        source_bits_per_sec: args.source_mbit * 1_000_000,
        source: SourceKind {
            ranges: !args.no_ranges,
            tells_length: !args.no_length,
            validator: !args.no_validator,
        },
        spread: Duration::from_millis(args.spread_ms),
        seed: args.seed,
        membership,
        faults: faults(args),
        ..Scenario::default()
    }
}

fn print(report: &Report) {
    println!("bound            {:>10.3} s", report.bound_s);
    println!(
        "p50 / p99 / max  {:>10.3} / {:.3} / {:.3} × bound",
        report.p50, report.p99, report.max
    );
    println!("source copies    {:>10.4}", report.copies);
    println!(
        "finished         {:>10} of {} survivors, {} failed",
        report.finished, report.survivors, report.failed
    );
    println!("control per node {:>10} B", report.control_bytes_per_node);
    println!("gossip per node  {:>10} B", report.gossip_bytes_per_node);
    println!(
        "wrong blocks     {:>10}, isolations {}",
        report.wrong_blocks, report.isolations
    );
    for violation in &report.violations {
        println!("violation        {violation}");
    }
    println!(
        "events           {:>10} in {:.2} virtual s",
        report.events, report.virtual_s
    );
    println!("trace            {}", report.trace_hash);
}
