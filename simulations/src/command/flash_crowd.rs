//! `flash-crowd`: one world whose every number stands on the command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use dfnode_simulations::{
    Crowd, Fault, Membership, Scenario, SourceKind, When, plot_crowd, run_watched,
};

use super::progress::Line;
use super::setting::Setting;
use super::table;

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
    #[command(flatten)]
    setting: Setting,
    /// Starts are spread over this time.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    spread: Duration,
    /// Equal seeds give equal runs.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Find members by the production gossip, packet by packet, instead of telling each of all the others.
    #[arg(long)]
    gossip: bool,
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
    /// Nothing passes between this share of the hosts and the rest …
    #[arg(long, default_value_t = 0.0)]
    partition: f64,
    /// … from this time …
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    partition_at: Duration,
    /// … until this.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    partition_until: Duration,
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
    /// Print what homes and readers of the source say and do.
    #[arg(long)]
    log: bool,
    /// Draw pictures into this folder, as SVG and PNG: when the hosts finished, and how the blocks spread.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl FlashCrowd {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let scenario = self.scenario();
        let report = {
            let mut line = Line::of(String::new());
            run_watched(&scenario, &mut |progress| line.show(progress))
        };
        let crowd = Crowd { scenario, report };
        if self.json {
            println!("{}", serde_json::to_string(&crowd.report)?);
        } else {
            table::print(&crowd.report);
        }
        if self.traffic {
            table::print_traffic(&crowd.report);
        }
        if let Some(dir) = &self.plot {
            plot_crowd(&crowd, dir).context("no pictures")?;
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
        if self.partition > 0.0 {
            faults.push(Fault::Partition {
                share: self.partition,
                at: self.partition_at,
                until: self.partition_until,
            });
        }
        faults
    }

    fn scenario(&self) -> Scenario {
        let crowd = self.setting.crowd(self.nodes, self.seed);
        // Gossip is never a shortcut, but messages may go unencoded with it.
        let membership = if self.gossip {
            Membership::Gossip
        } else {
            crowd.membership
        };
        Scenario {
            source: SourceKind {
                ranges: !self.no_ranges,
                tells_length: !self.no_length,
                validator: !self.no_validator,
            },
            spread: self.spread,
            membership,
            gossip_loss: self.gossip_loss,
            log: self.log,
            moments: self.plot.is_some(),
            faults: self.faults(),
            ..crowd
        }
    }
}
