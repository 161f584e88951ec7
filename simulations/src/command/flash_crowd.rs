//! `flash-crowd`: one world whose every number stands on the command line.

use std::time::Duration;

use dfnode_simulations::{Fault, Membership, Scenario, SourceKind, When, run};

use super::{size, table};

/// More hosts than this are simulated with shortcuts unless the command line says otherwise.
const MANY: usize = 3_000;
/// Others that each of many hosts knows.
const USUALLY_KNOWN: usize = 64;

/// Every host wants one file from one source at the same time.
#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct FlashCrowd {
    /// Hosts.
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// Size of the file, such as 200MB or 1GiB.
    #[arg(long, default_value = "200MB", value_parser = size::parse)]
    file: u64,
    /// Link of each host, Mbit/s each way.
    #[arg(long, default_value_t = 200)]
    host_mbit: u64,
    /// Link of the source, Mbit/s.
    #[arg(long, default_value_t = 4000)]
    source_mbit: u64,
    /// Starts are spread over this time.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    spread: Duration,
    /// Delay between any two hosts, one way.
    #[arg(long, default_value = "250us", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// From a request to the source's first byte.
    #[arg(long, default_value = "20ms", value_parser = humantime::parse_duration)]
    first_byte: Duration,
    /// Equal seeds give equal runs.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Find members by the production gossip, packet by packet, instead of telling each of all the others.
    #[arg(long)]
    gossip: bool,
    /// Shortcuts for very large worlds: each host knows the task's homes and so many others, and messages are not
    /// encoded. 0 for none; 64 by default above 3,000 hosts.
    #[arg(long)]
    sampled: Option<usize>,
    /// Uploads, and downloads, that a host has under way at once; the production default if not given.
    #[arg(long)]
    slots: Option<usize>,
    /// This share of the hosts dies …
    #[arg(long, default_value_t = 0.0)]
    crash: f64,
    /// … so long after the start.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    crash_at: Duration,
    /// The source vanishes after this time.
    #[arg(long, value_parser = humantime::parse_duration)]
    source_gone: Option<Duration>,
    /// The home dies after this time.
    #[arg(long, value_parser = humantime::parse_duration)]
    home_dies: Vec<Duration>,
    /// A reader of the source dies after this time.
    #[arg(long, value_parser = humantime::parse_duration)]
    reader_dies: Vec<Duration>,
    /// The source has new content after this time.
    #[arg(long, value_parser = humantime::parse_duration)]
    changes: Vec<Duration>,
    /// This share of the hosts does not know the rest …
    #[arg(long, default_value_t = 0.0)]
    split: f64,
    /// … for this time.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    split_for: Duration,
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
    /// This share of the hosts has a tenth of the rate.
    #[arg(long, default_value_t = 0.0)]
    slow: f64,
    /// This share of gossip's packets is lost.
    #[arg(long, default_value_t = 0.0)]
    gossip_loss: f64,
    /// Print the messages of each kind.
    #[arg(long)]
    traffic: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl FlashCrowd {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let report = run(&self.scenario());
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            table::print(&report);
        }
        if self.traffic {
            table::print_traffic(&report);
        }
        Ok(())
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.crash > 0.0 {
            faults.push(Fault::Crash {
                at: self.crash_at,
                share: self.crash,
            });
        }
        faults.extend(
            self.source_gone
                .map(|at| Fault::SourceGone { when: When::At(at) }),
        );
        if self.liars > 0.0 {
            faults.push(Fault::Liars { share: self.liars });
        }
        if self.slow > 0.0 {
            faults.push(Fault::Slow {
                share: self.slow,
                rate: 0.1,
            });
        }
        let each = |moments: &[Duration], fault: fn(Duration) -> Fault| -> Vec<Fault> {
            moments.iter().map(|at| fault(*at)).collect()
        };
        faults.extend(each(&self.home_dies, |at| Fault::HomeDies { at }));
        faults.extend(each(&self.reader_dies, |at| Fault::ReaderDies { at }));
        faults.extend(each(&self.changes, |at| Fault::SourceChanges { at }));
        if self.split > 0.0 {
            faults.push(Fault::Split {
                share: self.split,
                until: self.split_for,
            });
        }
        faults
    }

    fn scenario(&self) -> Scenario {
        let detection = Duration::from_secs(10);
        let usual = if self.nodes > MANY { USUALLY_KNOWN } else { 0 };
        let known = self.sampled.unwrap_or(usual);
        let membership = if self.gossip {
            Membership::Gossip
        } else if known > 0 {
            Membership::Sampled { detection, known }
        } else {
            Membership::Told { detection }
        };
        Scenario {
            nodes: self.nodes,
            file_bytes: self.file,
            host_bits_per_sec: self.host_mbit * 1_000_000,
            source_bits_per_sec: self.source_mbit * 1_000_000,
            source: SourceKind {
                ranges: !self.no_ranges,
                tells_length: !self.no_length,
                validator: !self.no_validator,
            },
            spread: self.spread,
            latency: self.latency,
            first_byte: self.first_byte,
            seed: self.seed,
            slots: self.slots,
            membership,
            codec: known == 0,
            gossip_loss: self.gossip_loss,
            faults: self.faults(),
            ..Scenario::default()
        }
    }
}
