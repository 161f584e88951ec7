//! What is to happen in a world.

use std::time::Duration;

/// How nodes learn of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// By the production gossip machine, packet by packet.
    Gossip,
    /// Everybody knows everybody from the start, and hears of deaths after this time: the shortcut for large worlds.
    Told {
        /// From a death until all know of it.
        detection: Duration,
    },
    /// The shortcut for ten thousand nodes: each knows the task's first homes and a few others by chance, and hears
    /// of deaths among these.
    Sampled {
        /// From a death until those who know the dead hear of it.
        detection: Duration,
        /// How many others each node knows.
        known: usize,
    },
}

impl Membership {
    /// From a death until it is known, where no gossip tells of it.
    pub(crate) const fn detection(self) -> Option<Duration> {
        match self {
            Self::Gossip => None,
            Self::Told { detection } | Self::Sampled { detection, .. } => Some(detection),
        }
    }
}

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So long after the first start.
    At(Duration),
    /// As soon as every block has left the source.
    Read,
    /// As soon as every block is on two live nodes.
    OnTwo,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// This share of the hosts dies at once.
    Crash {
        /// When, from the first start.
        at: Duration,
        /// How many, of 1.
        share: f64,
    },
    /// Whoever acts as the task's home then dies.
    HomeDies {
        /// When, from the first start.
        at: Duration,
    },
    /// One of those who read the source then dies.
    ReaderDies {
        /// When, from the first start.
        at: Duration,
    },
    /// The source answers nothing any more.
    SourceGone {
        /// When.
        when: When,
    },
    /// The source has other content from then on; answers under way end as they began.
    SourceChanges {
        /// When, from the first start.
        at: Duration,
    },
    /// This share of the hosts relays altered blocks.
    Liars {
        /// How many, of 1.
        share: f64,
    },
    /// This share of the hosts has slow links, and is no part of the percentiles.
    Slow {
        /// How many, of 1.
        share: f64,
        /// What is left of their rates, of 1.
        rate: f64,
    },
    /// This share of the hosts and the rest do not know of each other until then. Only with [`Membership::Told`].
    Split {
        /// How many, of 1.
        share: f64,
        /// From the first start.
        until: Duration,
    },
    /// Nothing passes between this share of the hosts and the rest for a while, and what was under way is lost; all
    /// reach the source. Not with [`Membership::Sampled`].
    Partition {
        /// How many, of 1.
        share: f64,
        /// From the first start.
        at: Duration,
        /// From the first start.
        until: Duration,
    },
}

/// What kind of source it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceKind {
    /// Whether it can be read in parts.
    pub ranges: bool,
    /// Whether it tells the length before the end.
    pub tells_length: bool,
    /// Whether it names its versions by a strong validator.
    pub validator: bool,
}

impl Default for SourceKind {
    fn default() -> Self {
        Self {
            ranges: true,
            tells_length: true,
            validator: true,
        }
    }
}

/// How hosts are dealt out to zones, and what lies between these.
///
/// The source stands outside of all: what a host reads from it crosses the border of the host's zone as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zones {
    /// How many; the hosts are dealt out one by one.
    pub count: usize,
    /// Bits per second across each zone's border, each way.
    pub trunk_bits_per_sec: u64,
    /// One way, between hosts of different zones.
    pub latency: Duration,
    /// Whether members are told of each other's zones: if not, nobody can keep to his own.
    pub labelled: bool,
}

/// A flash crowd: every host wants one file from one source.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Hosts.
    pub nodes: usize,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bits per second of each host, each way.
    pub host_bits_per_sec: u64,
    /// Bits per second of the source.
    pub source_bits_per_sec: u64,
    /// Bits per second that all hosts and the source get through together, if they share one machine's processors.
    pub machine_bits_per_sec: Option<u64>,
    /// What kind of source it is.
    pub source: SourceKind,
    /// The zones that hosts are in, if there is more than one place.
    pub zones: Option<Zones>,
    /// Starts are spread evenly at random over this time.
    pub spread: Duration,
    /// One way.
    pub latency: Duration,
    /// From a request to the source's first byte.
    pub first_byte: Duration,
    /// Chance's seed.
    pub seed: u64,
    /// Uploads, and downloads, that a host has under way at once, if not the production default.
    pub slots: Option<usize>,
    /// This share of gossip's packets is lost.
    pub gossip_loss: f64,
    /// Whether messages travel as bytes, encoded and decoded, or as they are: only their lengths are then computed.
    pub codec: bool,
    /// Whether to write down what homes and readers of the source say and do.
    pub log: bool,
    /// Whether to write down, a few hundred times, who holds what: the picture of the blocks is made of it.
    pub moments: bool,
    /// How nodes learn of each other.
    pub membership: Membership,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// The world ends here whatever is still going on.
    pub limit: Duration,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            nodes: 8,
            file_bytes: 100_000_000,
            host_bits_per_sec: 100_000_000,
            source_bits_per_sec: 100_000_000,
            machine_bits_per_sec: None,
            source: SourceKind::default(),
            zones: None,
            spread: Duration::from_millis(10),
            latency: Duration::from_micros(250),
            first_byte: Duration::from_millis(20),
            seed: 1,
            slots: None,
            gossip_loss: 0.0,
            codec: true,
            log: false,
            moments: false,
            membership: Membership::Gossip,
            faults: Vec::new(),
            limit: Duration::from_mins(10),
        }
    }
}

impl Scenario {
    /// The shortest time in which anybody could serve all: seconds.
    ///
    /// max{F/us, F/d, N·F/(us + Σu), F/t}: the source must send each byte once, each host must receive all of it, all
    /// uplinks together must carry N copies, and one copy must cross the border into each zone.
    pub fn bound_secs(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "sizes and rates far below 2^53")]
        let (file, nodes, host, source) = (
            self.file_bytes as f64 * 8.0,
            self.nodes as f64,
            self.host_bits_per_sec as f64,
            self.source_bits_per_sec as f64,
        );
        #[expect(clippy::cast_precision_loss, reason = "rates far below 2^53")]
        let trunk = self
            .zones
            .map_or(f64::INFINITY, |zones| zones.trunk_bits_per_sec as f64);
        (file / source)
            .max(file / host)
            .max(nodes * file / (source + nodes * host))
            .max(file / trunk)
    }
}
