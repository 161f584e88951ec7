//! A host of the day: its key and its disk, which outlive it, and the machines of its present life.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use dfnode_gossip::{Gossip, Labels, Member, Now, PeerId};
use dfnode_tracker::{BlockDigest, BlockIndex, Config, LocalTracker, Meta, Origin, Part, TaskId};
use ed25519_dalek::SigningKey;

use super::plan::Day;
use super::store::Store;
use crate::signatures;

/// Generations count from here: a node's is the time of day in ms.
const EPOCH_MS: u64 = 1_764_000_000_000;

/// A local caller's wish.
#[derive(Debug)]
pub(super) struct Wishing {
    pub(super) number: u64,
    pub(super) part: Option<Part>,
    pub(super) since: u64,
    /// Whether what is here is what the source has.
    pub(super) current: bool,
}

/// A read of a source under way.
#[derive(Debug)]
pub(super) struct Read {
    /// The version that was asked for, and whether its blocks are.
    pub(super) named: Option<(Meta, bool)>,
    pub(super) next: u32,
    pub(super) end: u32,
}

/// One life of a node.
pub(super) struct Life {
    pub(super) tracker: LocalTracker,
    pub(super) gossip: Gossip,
    pub(super) ready: bool,
    pub(super) timer: Option<u64>,
    /// Links that are up, and when a word last went over each.
    pub(super) links: BTreeMap<PeerId, u64>,
    pub(super) dialling: BTreeSet<PeerId>,
    pub(super) reads: BTreeMap<(TaskId, u64), Read>,
    /// Blocks whose bytes wait for the machine's verdict, and what they hash to.
    pub(super) parked: BTreeMap<(TaskId, BlockIndex, Origin), BlockDigest>,
    pub(super) wishes: BTreeMap<TaskId, Wishing>,
}

impl Life {
    /// The earliest deadline of its machines.
    pub(super) fn deadline(&self) -> Option<Now> {
        [self.tracker.poll_timeout(), self.gossip.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }
}

pub(super) struct Host {
    pub(super) key: SigningKey,
    pub(super) peer: PeerId,
    /// Lives so far.
    pub(super) lives: u64,
    pub(super) life: Option<Box<Life>>,
    pub(super) store: Store,
}

impl Host {
    pub(super) fn new(seed: u64, number: usize) -> Self {
        let secret = blake3::hash(format!("day {seed}/{number}").as_bytes());
        let key = SigningKey::from_bytes(secret.as_bytes());
        Self {
            peer: PeerId::from_bytes(*key.verifying_key().as_bytes()),
            key,
            lives: 0,
            life: None,
            store: Store::default(),
        }
    }

    /// Begins a life: fresh machines, and what the disk has kept.
    pub(super) fn begin(&mut self, day: &Day, number: usize, now: u64, seeds: [u64; 2]) {
        let clock = Now::from_micros(now);
        let [_, _, high, low] = u32::try_from(number).unwrap_or(0).to_be_bytes();
        let addr = SocketAddr::from((Ipv4Addr::new(10, 1, high, low), 7400));
        let member = Member {
            peer: self.peer,
            addrs: vec![addr],
            generation: EPOCH_MS + now / 1000,
            labels: Labels::default(),
        };
        let gossip = dfnode_gossip::Config {
            remember_down: day.remember,
            keep_tombstones: day.remember,
            ..dfnode_gossip::Config::default()
        };
        let tracker = Config {
            verify: signatures::verify,
            ..Config::default()
        };
        let mut tracker = LocalTracker::new(&tracker, self.peer, seeds[0]);
        for (task, stored) in self.store.all() {
            let batches = stored.batches.clone();
            tracker.restore(
                clock,
                *task,
                stored.meta.clone(),
                stored.have.clone(),
                batches,
            );
        }
        self.lives += 1;
        self.life = Some(Box::new(Life {
            gossip: Gossip::new(gossip, member, seeds[1], clock),
            tracker,
            ready: false,
            timer: None,
            links: BTreeMap::new(),
            dialling: BTreeSet::new(),
            reads: BTreeMap::new(),
            parked: BTreeMap::new(),
            wishes: BTreeMap::new(),
        }));
    }
}
