//! What is measured, and what makes no sense together.

use std::fmt::Write as _;
use std::time::Duration;

use dfnode_node::limits::ByteSize;

use crate::dice::Dice;
use crate::lab::{Layout, Shape};

/// How much slower the link of a slow host is.
const SLOWER: u32 = 10;
/// The seed of the order in which hosts start when starts are spread: the same for everybody, in every run.
const ORDER: u64 = 1;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// How many hosts ask.
    #[arg(long, default_value_t = 8)]
    pub(super) hosts: usize,
    /// The rate of a host's link, both ways.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) mbit: u32,
    /// The rate of the source's link.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) source_mbit: u32,
    /// The file's size.
    #[arg(long, default_value = "100MB")]
    pub(super) file: ByteSize,
    /// How often; the medians are shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) runs: u32,
    /// Who runs.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "dfnode,curl,libtorrent",
        value_parser = ["dfnode", "curl", "libtorrent"]
    )]
    pub(super) only: Vec<String>,
    /// Spread the hosts' starts evenly over this time, in a shuffled order that is always the same; a host's time is then
    /// counted from its own start.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub(super) spread: Duration,
    /// Deal the hosts out in turn to so many zones, each with a switch of its own; the source is in the first. dfnode's
    /// nodes are told their zone.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(super) zones: u8,
    /// The rate of the trunk between the two zones, both ways.
    #[arg(long, value_name = "MBIT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) trunk_mbit: Option<u32>,
    /// Give so many hosts, the last ones, a tenth of --mbit, both ways; their times are shown apart from the others'.
    #[arg(long, value_name = "HOSTS", default_value_t = 0)]
    pub(super) slow: usize,
    /// Lose so many of a hundred packets that reach a host, at random; the source loses none. What one curl reaches is
    /// measured before.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub(super) loss: f64,
}

/// A share of the packets that leaves some.
fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..100.0).contains(&percent) {
        Ok(percent)
    } else {
        Err("must be from 0 to below 100".to_owned())
    }
}

impl Plan {
    /// Whether the options make sense together.
    ///
    /// # Errors
    ///
    /// Says which do not.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let refused = [
            (
                self.zones == 2 && self.trunk_mbit.is_none(),
                "--zones 2 needs --trunk-mbit, the rate between the zones",
            ),
            (
                self.zones == 1 && self.trunk_mbit.is_some(),
                "--trunk-mbit needs --zones 2: a single zone has no trunk",
            ),
            (
                self.hosts < usize::from(self.zones),
                "there must be a host in each zone: raise --hosts",
            ),
            (
                !self.spread.is_zero() && self.hosts < 2,
                "--spread needs more than one of --hosts",
            ),
            (
                self.slow > 0 && self.slow >= self.hosts,
                "--slow must leave one of --hosts that is not",
            ),
            (
                self.slow > 0 && !self.mbit.is_multiple_of(SLOWER),
                "with --slow, --mbit must be a multiple of 10",
            ),
        ];
        let first = refused.into_iter().find(|(applies, _)| *applies);
        first.map_or(Ok(()), |(_, why)| Err(why))
    }

    /// The programs without which nothing can be measured.
    pub(crate) fn programs(&self) -> Vec<&'static str> {
        let mut programs = vec!["nginx", "curl"];
        if self.loss > 0.0 {
            programs.extend(["iptables", "ip6tables"]);
        }
        programs
    }

    /// The links.
    pub(super) fn layout(&self) -> Layout {
        let (link, source_link) = (Shape::Mbit(self.mbit), Shape::Mbit(self.source_mbit));
        let layout = Layout::new(self.hosts, link, source_link)
            .last(self.slow, Shape::Mbit(self.slow_mbit()));
        match self.trunk_mbit {
            Some(trunk) => layout.in_two_zones(Shape::Mbit(trunk)),
            None => layout,
        }
    }

    /// The rate of a slow host's link, both ways.
    pub(super) fn slow_mbit(&self) -> u32 {
        self.mbit / SLOWER
    }

    /// How many hosts, the first ones, are not slow.
    pub(super) fn fast(&self) -> usize {
        self.hosts - self.slow
    }

    /// When each host starts, in the hosts' order, counted from the first start.
    pub(super) fn starts(&self) -> Vec<Duration> {
        let hosts = u32::try_from(self.hosts).unwrap();
        let last = hosts.saturating_sub(1).max(1);
        let mut starts: Vec<_> = (0..hosts).map(|turn| self.spread * turn / last).collect();
        let mut dice = Dice::new(ORDER);
        for end in (1..starts.len()).rev() {
            starts.swap(end, dice.place(end + 1));
        }
        starts
    }

    /// The plan in words.
    pub(super) fn title(&self) -> String {
        let mut title = format!(
            "{} hosts at {} Mbit, source at {} Mbit, {} file, median of {}",
            self.hosts, self.mbit, self.source_mbit, self.file, self.runs
        );
        if !self.spread.is_zero() {
            let spread = humantime::format_duration(self.spread);
            write!(title, ", starts spread over {spread}").unwrap();
        }
        if let Some(trunk) = self.trunk_mbit {
            write!(title, ", {} zones with {trunk} Mbit between", self.zones).unwrap();
        }
        if self.slow > 0 {
            write!(title, ", {} slow at {} Mbit", self.slow, self.slow_mbit()).unwrap();
        }
        if self.loss > 0.0 {
            write!(title, ", {} % lost", self.loss).unwrap();
        }
        title
    }
}
