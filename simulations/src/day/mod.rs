//! A whole day of a cluster, and the quiet after it: what comes must also go.
//!
//! A world of its own beside the flash crowd's. There one file on shaped links is a matter of milliseconds; here a
//! thousand tasks, joins, deaths and caches that forget are a matter of hours, so a block takes as long as its bytes at
//! one rate, and links share nothing. The machines are the production ones in both.

mod callers;
mod checks;
mod churn;
mod host;
mod machines;
mod network;
mod plan;
mod rest;
mod source;
mod store;
mod tasks;
mod transfers;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::{Now, PeerId};
use dfnode_tracker::{BlockIndex, TaskId, VersionId};

use self::host::{Host, Life};
pub use self::plan::{Day, DayProgress, DayReport, Rest};
use self::tasks::{Facts, Planned};
use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::world::micros;

/// The cluster forms and comes to rest before the first task.
///
/// Then come a few tasks, and a first quiet: maps that were never used take less than those that were emptied, and
/// it is what grows from day to day that is looked for.
const SETTLING: Duration = Duration::from_mins(15);
/// How long the tasks before the first quiet take to start.
const WARM_UP: Duration = Duration::from_mins(15);
/// One way.
const LATENCY: Duration = Duration::from_micros(500);
/// This share of gossip's packets is lost.
const GOSSIP_LOSS: f64 = 0.01;
/// Whoever watches is shown how far the day is after so many events.
const EVENTS_A_LOOK: u64 = 65_536;
/// Between the longest of the times that machines remember something, and the last look.
const MARGIN: Duration = Duration::from_mins(20);
/// How long gossip refuses what an origin that is gone once said, after it kept that for a while.
const REFUSED: Duration = Duration::from_mins(65);

/// A block on its way: from, to, task and block.
type Transfer = (usize, usize, TaskId, BlockIndex);

#[derive(Debug)]
enum Happening {
    Timer {
        host: usize,
    },
    Message {
        from: usize,
        to: usize,
        bytes: Bytes,
    },
    Gossip {
        from: usize,
        to: usize,
        bytes: Bytes,
    },
    Joins {
        host: usize,
        life: u64,
    },
    Sync {
        from: usize,
        to: usize,
    },
    Linked {
        one: usize,
        other: usize,
    },
    LinkBroke {
        host: usize,
        peer: usize,
    },
    FirstByte {
        host: usize,
        task: TaskId,
        lease: u64,
    },
    SourceBlock {
        host: usize,
        task: TaskId,
        lease: u64,
    },
    Arrives {
        transfer: Transfer,
        number: u64,
        version: VersionId,
    },
    Round {
        task: usize,
    },
    Wants {
        task: usize,
    },
    Cancels {
        host: usize,
        task: TaskId,
        wish: u64,
    },
    Overdue {
        host: usize,
        task: TaskId,
        wish: u64,
    },
    Churn,
    Arrival,
    Returns {
        host: usize,
    },
    Housekeeping {
        host: usize,
        life: u64,
    },
}

/// Everything that lives through the day.
struct Cluster {
    day: Day,
    now: u64,
    agenda: Agenda<Happening>,
    chance: Chance,
    hosts: Vec<Host>,
    index: BTreeMap<PeerId, usize>,
    tasks: Vec<Planned>,
    by_id: BTreeMap<TaskId, usize>,
    transfers: BTreeMap<Transfer, u64>,
    next_number: u64,
    facts: Facts,
    trace: blake3::Hasher,
}

/// Lives a day to its end, and shows now and then how far it is.
///
/// `heap` tells how many bytes of the heap are taken. It is asked at three moments and nothing depends on its answer.
pub fn live(day: &Day, heap: fn() -> usize, show: &mut dyn FnMut(&DayProgress)) -> DayReport {
    let mut cluster = Cluster::new(day.clone());
    cluster.found();
    cluster.plan_tasks(SETTLING, WARM_UP, day.nodes as u64);
    cluster.plan_tasks(day.morning(), day.length, day.tasks);
    cluster.live_until(day.morning(), show);
    let start = cluster.rest(heap);
    cluster.live_until(day.evening(), show);
    let evening = cluster.rest(heap);
    cluster.live_until(day.whole(), show);
    let end = cluster.rest(heap);
    cluster.check_the_end(&start, &end);
    cluster.report([start, evening, end])
}

impl Day {
    /// How long everything takes to be forgotten: the last absent node comes, then caches forget, and then gossip does.
    fn quiet(&self) -> Duration {
        churn::LONGEST_ABSENCE + self.cache_ttl + self.remember.max(REFUSED) + MARGIN
    }

    /// When the day begins.
    fn morning(&self) -> Duration {
        SETTLING + WARM_UP + self.quiet()
    }

    /// When the last task starts.
    fn evening(&self) -> Duration {
        self.morning() + self.length
    }

    fn whole(&self) -> Duration {
        self.evening() + self.quiet()
    }
}

impl Cluster {
    fn new(day: Day) -> Self {
        Self {
            now: 0,
            agenda: Agenda::default(),
            chance: Chance::new(day.seed),
            hosts: Vec::new(),
            index: BTreeMap::new(),
            tasks: Vec::new(),
            by_id: BTreeMap::new(),
            transfers: BTreeMap::new(),
            next_number: 0,
            facts: Facts::default(),
            trace: blake3::Hasher::new(),
            day,
        }
    }

    fn at(&mut self, time: u64, what: Happening) {
        self.agenda.put(time, what);
    }

    fn later(&mut self, after: Duration, what: Happening) {
        self.at(self.now + micros(after), what);
    }

    const fn clock(&self) -> Now {
        Now::from_micros(self.now)
    }

    fn alive(&mut self, host: usize) -> Option<&mut Life> {
        self.hosts.get_mut(host)?.life.as_deref_mut()
    }

    /// A number never used before.
    const fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn live_until(&mut self, until: Duration, show: &mut dyn FnMut(&DayProgress)) {
        let until = micros(until);
        while let Some((time, what)) = self.agenda.take() {
            if time > until {
                self.agenda.put(time, what);
                break;
            }
            self.now = time;
            self.facts.events += 1;
            self.happen(what);
            if self.facts.events.is_multiple_of(EVENTS_A_LOOK) {
                show(&self.progress());
            }
        }
        self.now = until;
    }

    fn progress(&self) -> DayProgress {
        DayProgress {
            passed: Duration::from_micros(self.now),
            of: self.day.whole(),
            got: self.facts.got,
            living: self.living().count(),
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Timer { host } => self.timer(host),
            Happening::Message { from, to, bytes } => self.message(from, to, &bytes),
            Happening::Gossip { from, to, bytes } => self.gossip(from, to, &bytes),
            Happening::Joins { host, life } => self.joins(host, life),
            Happening::Sync { from, to } => self.sync(from, to),
            Happening::Linked { one, other } => self.linked(one, other),
            Happening::LinkBroke { host, peer } => self.link_broke(host, peer),
            Happening::FirstByte { host, task, lease } => self.first_byte(host, task, lease),
            Happening::SourceBlock { host, task, lease } => self.source_block(host, task, lease),
            Happening::Arrives {
                transfer,
                number,
                version,
            } => self.arrives(transfer, number, version),
            Happening::Round { task } => self.round(task),
            Happening::Wants { task } => self.wants(task),
            Happening::Cancels { host, task, wish } => self.cancels(host, task, wish),
            Happening::Overdue { host, task, wish } => self.overdue(host, task, wish),
            Happening::Churn => self.churn(),
            Happening::Arrival => self.arrival(),
            Happening::Returns { host } => self.returns(host),
            Happening::Housekeeping { host, life } => self.housekeeping(host, life),
        }
    }

    /// Makes a run's trace: two runs with the same trace went the same way.
    fn note(&mut self, what: &str, host: usize, number: u64) {
        self.trace.update(what.as_bytes());
        self.trace.update(&self.now.to_le_bytes());
        self.trace.update(&(host as u64).to_le_bytes());
        self.trace.update(&number.to_le_bytes());
    }
}
