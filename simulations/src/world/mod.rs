//! The event loop of a world: carries messages, blocks and time between the machines.

mod calendar;
mod faults;
mod machines;
mod network;
mod source;
mod transfers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::{Now, PeerId};
use dfnode_tracker::{BlockIndex, Layout, TaskId};

use crate::links::{FlowId, Links};
use crate::node::SimNode;
use crate::report::{Outcome, Report};
use crate::scenario::Scenario;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Timer {
        node: usize,
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
        edition: u32,
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
    SourceGone,
}

#[derive(Debug, Clone, Copy)]
enum Cargo {
    Block {
        from: usize,
        to: usize,
        block: BlockIndex,
    },
    Source {
        node: usize,
        lease: u64,
    },
}

struct World {
    scenario: Scenario,
    now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    nodes: Vec<SimNode>,
    index: BTreeMap<PeerId, usize>,
    links: Links,
    cargo: BTreeMap<FlowId, Cargo>,
    source_host: usize,
    source_alive: bool,
    source_bytes: u64,
    task: TaskId,
    layout: Layout,
    trace: blake3::Hasher,
    chance: u64,
    events: u64,
    isolations: u64,
    wrong_blocks: u64,
    first_start: u64,
}

/// Runs a scenario to its end.
///
/// # Panics
/// If the scenario's file cannot be cut into blocks.
pub fn run(scenario: &Scenario) -> Report {
    let mut world = World::new(scenario.clone());
    world.prepare();
    world.live();
    world.report()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let layout = Layout::of_length(scenario.file_bytes).expect("a file that can be cut");
        let mut world = Self {
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            nodes: Vec::new(),
            index: BTreeMap::new(),
            links: Links::default(),
            cargo: BTreeMap::new(),
            source_host: 0,
            source_alive: true,
            source_bytes: 0,
            task: TaskId::from_bytes(*blake3::hash(&scenario.seed.to_le_bytes()).as_bytes()),
            layout,
            trace: blake3::Hasher::new(),
            chance: scenario.seed,
            events: 0,
            isolations: 0,
            wrong_blocks: 0,
            first_start: 0,
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
        world
    }

    fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn at(&mut self, time: u64, what: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((time, self.sequence, what)));
    }

    fn later(&mut self, after: Duration, what: Happening) {
        self.at(self.now + micros(after), what);
    }

    fn live(&mut self) {
        let limit = self.first_start + micros(self.scenario.limit);
        while let Some(Reverse((time, _, what))) = self.queue.pop() {
            if time > limit || self.is_over() {
                break;
            }
            self.now = time;
            self.events += 1;
            self.happen(what);
        }
    }

    fn is_over(&self) -> bool {
        self.now > self.first_start
            && self
                .nodes
                .iter()
                .all(|node| !node.alive || node.finished.is_some())
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Timer { node } => self.timer(node),
            Happening::Message { from, to, bytes } => self.message(from, to, &bytes),
            Happening::Gossip { from, to, bytes } => {
                let (now, peer) = (self.clock(), self.nodes[from].member.peer);
                if let Some(gossip) = self.alive(to).and_then(|node| node.gossip.as_mut()) {
                    let _ = gossip.handle_datagram(now, peer, &bytes);
                    self.drain(to);
                }
            }
            Happening::Sync { from, to } => self.sync(from, to),
            Happening::Linked { one, other } => self.linked(one, other),
            Happening::LinkBroke { node, peer } => self.link_broke(node, peer),
            Happening::FirstByte { node, lease } => self.first_byte(node, lease),
            Happening::FlowEnds { flow, edition } => {
                if self
                    .links
                    .flow(flow)
                    .is_some_and(|known| known.edition == edition)
                {
                    self.flow_ends(flow);
                }
            }
            Happening::Starts { node } => self.starts(node),
            Happening::Dies { node } => self.dies(node),
            Happening::Told { node } => self.told_of_death(node),
            Happening::SourceGone => self.source_gone(),
        }
    }

    const fn clock(&self) -> Now {
        Now::from_micros(self.now)
    }

    fn alive(&mut self, node: usize) -> Option<&mut SimNode> {
        self.nodes.get_mut(node).filter(|node| node.alive)
    }

    fn note(&mut self, what: &str, node: usize, number: u64) {
        self.trace.update(what.as_bytes());
        self.trace.update(&self.now.to_le_bytes());
        self.trace.update(&(node as u64).to_le_bytes());
        self.trace.update(&number.to_le_bytes());
    }

    fn report(mut self) -> Report {
        let outcomes: Vec<Outcome> = self
            .nodes
            .iter()
            .map(|node| Outcome {
                seconds: node
                    .finished
                    .zip(node.started)
                    .map(|(end, start)| Duration::from_micros(end - start).as_secs_f64()),
                died: !node.alive,
            })
            .collect();
        let nodes = self.nodes.len().max(1) as u64;
        let last = self
            .nodes
            .iter()
            .filter_map(|node| node.finished)
            .max()
            .unwrap_or(self.now);
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
        let copies = self.source_bytes as f64 / self.scenario.file_bytes.max(1) as f64;
        self.note("end", 0, self.source_bytes);
        let mut report = Report {
            bound_s: self.scenario.bound_secs(),
            p50: 0.0,
            p99: 0.0,
            max: 0.0,
            copies,
            control_bytes_per_node: self
                .nodes
                .iter()
                .map(|node| node.control_bytes)
                .sum::<u64>()
                / nodes,
            gossip_bytes_per_node: self.nodes.iter().map(|node| node.gossip_bytes).sum::<u64>()
                / nodes,
            finished: outcomes
                .iter()
                .filter(|one| !one.died && one.seconds.is_some())
                .count(),
            survivors: outcomes.iter().filter(|one| !one.died).count(),
            wrong_blocks: self.wrong_blocks,
            isolations: self.isolations,
            virtual_s: Duration::from_micros(last.saturating_sub(self.first_start)).as_secs_f64(),
            events: self.events,
            trace_hash: self.trace.finalize().to_hex()[..16].to_owned(),
            outcomes,
        };
        report.quantiles();
        report
    }
}
