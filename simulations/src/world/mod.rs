//! The event loop of a world: carries messages, blocks and time between the machines.

mod calendar;
mod faults;
mod figures;
mod invariants;
mod log;
mod machines;
mod moments;
mod network;
mod partition;
mod progress;
mod source;
mod transfers;
mod zones;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes as Packet;
use dfnode_gossip::{Now, PeerId};
use dfnode_tracker::{BlockIndex, Layout, Message, Meta, TaskId, VersionId};

use self::moments::Watch;
pub use self::progress::Progress;
use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::links::{self, FlowId, Links};
use crate::node::{Bytes, SimNode};
use crate::report::{Report, Traffic};
use crate::scenario::{Scenario, When};

/// After the last end the world goes on for so long: what was begun must come to rest.
const AFTERMATH: Duration = Duration::from_secs(3);
/// A world in which more happens than this is caught in a circle.
const MAX_EVENTS_PER_NODE: u64 = 1_000_000;
/// Whoever watches is shown how far the world is after so many events: some ten times a second.
const EVENTS_A_LOOK: u64 = 8_192;

/// A message on its way.
#[derive(Debug)]
enum Parcel {
    Bytes(Packet),
    AsItIs(Box<Message>),
}

#[derive(Debug)]
enum Happening {
    Timer {
        node: usize,
    },
    Message {
        from: usize,
        to: usize,
        parcel: Parcel,
    },
    Gossip {
        from: usize,
        to: usize,
        bytes: Packet,
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
        node: usize,
        peer: usize,
    },
    FirstByte {
        node: usize,
        lease: u64,
    },
    FlowEnds {
        flow: FlowId,
    },
    Starts {
        node: usize,
    },
    Dies {
        node: usize,
    },
    Told {
        node: usize,
    },
    HomeDies,
    ReaderDies,
    SourceGone,
    SourceChanges,
    Healed,
    Parts,
    ToldOfParting,
    Mends,
}

#[derive(Debug, Clone, Copy)]
enum Cargo {
    Block {
        from: usize,
        to: usize,
        block: BlockIndex,
        version: VersionId,
        bytes: Bytes,
    },
    Source {
        node: usize,
        lease: u64,
    },
}

struct World {
    scenario: Scenario,
    now: u64,
    agenda: Agenda<Happening>,
    nodes: Vec<SimNode>,
    /// Who is who: asked for each message, so hashed.
    index: HashMap<PeerId, usize>,
    links: Links,
    cargo: BTreeMap<FlowId, Cargo>,
    source_host: usize,
    /// Bytes that crossed the border into each zone.
    into_zone: Vec<f64>,
    source_alive: bool,
    /// The version that a read under way names, and whether its blocks are wanted.
    asked: BTreeMap<(usize, u64), Option<(Meta, bool)>>,
    /// How often the source's content changed.
    revision: u64,
    revisions: BTreeMap<VersionId, u64>,
    source_gone_when: Option<When>,
    /// The nodes on the far side of a split or partition.
    beyond: BTreeSet<usize>,
    /// Whether nothing passes between the two sides.
    parted: bool,
    /// On how many nodes each block has been, and how many blocks were on one and on two.
    spread: BTreeMap<BlockIndex, u32>,
    on_one: u32,
    on_two: u32,
    traffic: BTreeMap<&'static str, Traffic>,
    violations: Vec<String>,
    log: Vec<String>,
    watch: Option<Watch>,
    longest_burst: usize,
    task: TaskId,
    layout: Layout,
    trace: blake3::Hasher,
    chance: Chance,
    events: u64,
    isolations: u64,
    wrong_blocks: u64,
    first_start: u64,
    /// Whether somebody ended or died since it was last looked at.
    may_be_over: bool,
}

/// Runs a scenario to its end.
///
/// # Panics
/// If the scenario's file cannot be cut into blocks.
pub fn run(scenario: &Scenario) -> Report {
    run_watched(scenario, &mut |_| {})
}

/// Runs a scenario to its end, and shows now and then how far it is.
///
/// What is shown depends on the scenario alone and `show` cannot reach into the world: watched or not, it is one run.
///
/// # Panics
/// If the scenario's file cannot be cut into blocks.
pub fn run_watched(scenario: &Scenario, show: &mut dyn FnMut(&Progress)) -> Report {
    let mut world = World::new(scenario.clone());
    world.prepare();
    world.live(show);
    world.check_the_end();
    world.report()
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let layout = if scenario.source.tells_length {
            Layout::of_length(scenario.file_bytes).expect("a file that can be cut")
        } else {
            Layout::of_stream().ended_at(scenario.file_bytes)
        };
        let mut world = Self {
            now: 0,
            agenda: Agenda::default(),
            nodes: Vec::new(),
            index: HashMap::new(),
            links: Links::default(),
            cargo: BTreeMap::new(),
            source_host: 0,
            into_zone: Vec::new(),
            source_alive: true,
            asked: BTreeMap::new(),
            revision: 0,
            revisions: BTreeMap::new(),
            source_gone_when: None,
            beyond: BTreeSet::new(),
            parted: false,
            spread: BTreeMap::new(),
            on_one: 0,
            on_two: 0,
            traffic: BTreeMap::new(),
            violations: Vec::new(),
            log: Vec::new(),
            watch: scenario.moments.then(|| Watch::of(&scenario)),
            longest_burst: 0,
            task: TaskId::from_bytes(*blake3::hash(&scenario.seed.to_le_bytes()).as_bytes()),
            layout,
            trace: blake3::Hasher::new(),
            chance: Chance::new(scenario.seed),
            events: 0,
            isolations: 0,
            wrong_blocks: 0,
            first_start: 0,
            may_be_over: false,
            scenario,
        };
        #[expect(clippy::cast_precision_loss, reason = "rates far below 2^53")]
        let (host, source) = (
            world.scenario.host_bits_per_sec as f64 / 8.0,
            world.scenario.source_bits_per_sec as f64 / 8.0,
        );
        for node in 0..world.scenario.nodes {
            world.add_node(node, host);
        }
        world.source_host = world.links.add_host(source, source);
        if let Some(bits) = world.scenario.machine_bits_per_sec {
            #[expect(clippy::cast_precision_loss, reason = "rates far below 2^53")]
            world.links.share_machine(bits as f64 / 8.0);
        }
        world.deal_out();
        world
    }

    const fn draw(&mut self) -> u64 {
        self.chance.draw()
    }

    fn at(&mut self, time: u64, what: Happening) {
        self.agenda.put(time, what);
    }

    fn later(&mut self, after: Duration, what: Happening) {
        self.at(self.now + micros(after), what);
    }

    fn live(&mut self, show: &mut dyn FnMut(&Progress)) {
        let mut limit = self.first_start + micros(self.scenario.limit);
        let mut over = false;
        while let Some((time, what)) = self.agenda.take() {
            if !over && std::mem::take(&mut self.may_be_over) && self.is_over() {
                over = true;
                limit = limit.min(self.now + micros(AFTERMATH));
                self.look_last();
            }
            if time > limit {
                break;
            }
            if self.events >= MAX_EVENTS_PER_NODE * self.nodes.len() as u64 {
                self.violation("the world does not come to rest");
                break;
            }
            self.look_until(time);
            self.now = time;
            self.events += 1;
            self.happen(what);
            if self.events.is_multiple_of(EVENTS_A_LOOK) {
                show(&self.progress());
            }
        }
        self.look_last();
    }

    /// Whether nobody waits any more. Looked at where somebody's end or death may have made it so.
    fn is_over(&self) -> bool {
        self.now > self.first_start
            && self
                .nodes
                .iter()
                .all(|node| node.liar || !node.is_waited_for())
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Timer { node } => self.timer(node),
            Happening::Message { from, to, parcel } => self.message(from, to, parcel),
            Happening::Gossip { from, to, bytes } if self.reaches(from, to) => {
                let (now, peer) = (self.clock(), self.nodes[from].member.peer);
                if let Some(gossip) = self.alive(to).and_then(|node| node.gossip.as_mut()) {
                    let sound = gossip.handle_datagram(now, peer, &bytes).is_ok();
                    self.drain(to);
                    if !sound {
                        self.violation(&format!("node {to} refuses a packet of node {from}"));
                    }
                }
            }
            Happening::Gossip { .. } => {}
            Happening::Sync { from, to } => self.sync(from, to),
            Happening::Linked { one, other } => self.linked(one, other),
            Happening::LinkBroke { node, peer } => self.link_broke(node, peer),
            Happening::FirstByte { node, lease } => self.first_byte(node, lease),
            Happening::FlowEnds { flow } => match self.links.look(self.now, flow) {
                links::Due::Done => self.flow_ends(flow),
                links::Due::Later(end) => self.at(end, Happening::FlowEnds { flow }),
                links::Due::Stale => {}
            },
            Happening::Starts { node } => self.starts(node),
            Happening::Dies { node } => self.dies(node),
            Happening::Told { node } => self.told_of_death(node),
            Happening::HomeDies => self.home_dies(),
            Happening::ReaderDies => self.reader_dies(),
            Happening::SourceGone => self.source_gone(),
            Happening::SourceChanges => self.source_changes(),
            Happening::Healed => self.introduce_all(false),
            Happening::Parts => self.parts(),
            Happening::ToldOfParting => self.told_of_parting(),
            Happening::Mends => self.mends(),
        }
    }

    /// Writes down what happens now, if somebody wants to read it.
    fn log(&mut self, what: impl std::fmt::Display) {
        if self.scenario.log {
            let line = format!("{:>12} {what}", self.now.saturating_sub(self.first_start));
            self.log.push(line);
        }
    }

    const fn clock(&self) -> Now {
        Now::from_micros(self.now)
    }

    fn alive(&mut self, node: usize) -> Option<&mut SimNode> {
        self.nodes.get_mut(node).filter(|node| node.alive)
    }

    fn note(&mut self, what: &str, node: usize, number: u64) {
        if what != "block" && what != "read" {
            self.log(format_args!("node {node}: {what} {number}"));
        }
        self.trace.update(what.as_bytes());
        self.trace.update(&self.now.to_le_bytes());
        self.trace.update(&(node as u64).to_le_bytes());
        self.trace.update(&number.to_le_bytes());
    }
}
