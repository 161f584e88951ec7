//! The event loop of a world: carries messages, blocks and time between the machines.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::{Gossip, Labels, Member, Now, Output as GossipOutput, PeerId};
use dfnode_tracker::{
    BlockDigest, BlockIndex, Config, Extent, Layout, Lease, LinkState, LocalTracker, MemberChange,
    Message, Meta, Origin, Output, PieceReport, SourceFailure, SourceHead, TaskEvent, TaskId,
    Tracker, Validators, VersionId, Wish, wire,
};
use ed25519_dalek::{Signer, SigningKey};

use crate::links::{FlowId, Links};
use crate::node::{SimNode, SourceRead};
use crate::report::{Outcome, Report};
use crate::scenario::{Fault, Membership, Scenario};

/// With gossip, the cluster lives for so long before the first start.
const SETTLING: Duration = Duration::from_secs(6);
/// Bytes that a sealed packet or a QUIC frame adds to a control message, about.
const CONTROL_OVERHEAD: u64 = 40;

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

    fn add_node(&mut self, number: usize, bytes_per_sec: f64) {
        let key = SigningKey::from_bytes(
            blake3::hash(format!("{}/{number}", self.scenario.seed).as_bytes()).as_bytes(),
        );
        let peer = PeerId::from_bytes(*key.verifying_key().as_bytes());
        let port = u16::try_from(number % 60_000).unwrap_or(0) + 1;
        let high = u8::try_from(number / 60_000).unwrap_or(0);
        let member = Member {
            peer,
            addrs: vec![SocketAddr::from((Ipv4Addr::new(10, 0, 0, high), port))],
            generation: 1,
            labels: Labels::default(),
        };
        let seed = self.draw();
        let gossip = (self.scenario.membership == Membership::Gossip).then(|| {
            Gossip::new(
                dfnode_gossip::Config::default(),
                member.clone(),
                seed,
                Now::from_micros(0),
            )
        });
        let mut tracker = LocalTracker::new(&Config::default(), peer, self.draw());
        tracker.set_ready(Now::from_micros(0));
        self.index.insert(peer, number);
        self.links.add_host(bytes_per_sec, bytes_per_sec);
        self.nodes.push(SimNode {
            member,
            key,
            tracker,
            gossip,
            alive: true,
            liar: false,
            started: None,
            finished: None,
            reads: BTreeMap::new(),
            sending: BTreeMap::new(),
            parked: BTreeMap::new(),
            wrong: BTreeSet::new(),
            links: BTreeSet::new(),
            dialling: BTreeSet::new(),
            timer: None,
            control_bytes: 0,
            gossip_bytes: 0,
        });
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

    /// Puts starts and faults on the calendar, and makes nodes known to each other.
    fn prepare(&mut self) {
        let settle = match self.scenario.membership {
            Membership::Gossip => {
                for node in 1..self.nodes.len() {
                    let delay = Duration::from_millis(node as u64 * 2000 / self.nodes.len() as u64);
                    self.later(
                        delay,
                        Happening::Sync {
                            from: node,
                            to: node / 2,
                        },
                    );
                    self.later(
                        delay + Duration::from_secs(2),
                        Happening::Sync { from: node, to: 0 },
                    );
                }
                SETTLING
            }
            Membership::Told { .. } => {
                self.introduce_all();
                Duration::ZERO
            }
        };
        self.first_start = micros(settle);
        for node in 0..self.nodes.len() {
            let spread = self.draw() % micros(self.scenario.spread).max(1);
            self.at(self.first_start + spread, Happening::Starts { node });
        }
        for fault in self.scenario.faults.clone() {
            match fault {
                Fault::Crash { at, share } => {
                    for node in self.some(share) {
                        self.at(self.first_start + micros(at), Happening::Dies { node });
                    }
                }
                Fault::SourceGone { at } => {
                    self.at(self.first_start + micros(at), Happening::SourceGone)
                }
                Fault::Liars { share } => {
                    for node in self.some(share) {
                        self.nodes[node].liar = true;
                    }
                }
            }
        }
        for node in 0..self.nodes.len() {
            self.drain(node);
        }
    }

    fn introduce_all(&mut self) {
        let members: Vec<Member> = self.nodes.iter().map(|node| node.member.clone()).collect();
        for node in &mut self.nodes {
            for member in &members {
                node.tracker
                    .handle_member(Now::from_micros(0), &MemberChange::Up(member.clone()));
            }
        }
    }

    fn some(&mut self, share: f64) -> Vec<usize> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a few thousand nodes"
        )]
        let count = (self.nodes.len() as f64 * share).round() as usize;
        let mut all: Vec<(u64, usize)> = (0..self.nodes.len())
            .map(|node| (self.draw(), node))
            .collect();
        all.sort_unstable();
        all.into_iter().take(count).map(|(_, node)| node).collect()
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

    fn timer(&mut self, index: usize) {
        let now = self.clock();
        let Some(node) = self.alive(index) else {
            return;
        };
        if node.timer != Some(now.as_micros()) {
            // An earlier deadline came up in the meantime and has been served.
            return;
        }
        node.timer = None;
        if node.tracker.poll_timeout().is_some_and(|at| at <= now) {
            node.tracker.handle_timeout(now);
        }
        if let Some(gossip) = node.gossip.as_mut()
            && gossip.poll_timeout().is_some_and(|at| at <= now)
        {
            gossip.handle_timeout(now);
        }
        self.drain(index);
    }

    fn message(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let (now, peer) = (self.clock(), self.nodes[from].member.peer);
        let Ok(Some(message)) = wire::decode(bytes) else {
            return;
        };
        let linked = self.nodes[to].links.contains(&peer);
        if message.needs_link() && !linked {
            return;
        }
        let Some(node) = self.alive(to) else { return };
        let _ = node.tracker.handle_message(now, peer, message);
        self.drain(to);
    }

    /// A push/pull, in one step.
    fn sync(&mut self, from: usize, to: usize) {
        let now = self.clock();
        if !self.nodes[from].alive || !self.nodes[to].alive || from == to {
            return;
        }
        let (one, other) = (self.nodes[from].member.peer, self.nodes[to].member.peer);
        let Some(open) = self.nodes[from]
            .gossip
            .as_mut()
            .map(|gossip| gossip.sync_open(now))
        else {
            return;
        };
        let Some(Ok(answer)) = self.nodes[to]
            .gossip
            .as_mut()
            .map(|gossip| gossip.sync_answer(now, one, &open))
        else {
            return;
        };
        let Some(Ok(last)) = self.nodes[from]
            .gossip
            .as_mut()
            .map(|gossip| gossip.sync_finish(now, other, &answer))
        else {
            return;
        };
        self.nodes[from].gossip_bytes += (open.len() + last.len()) as u64;
        self.nodes[to].gossip_bytes += answer.len() as u64;
        if let Some(gossip) = self.nodes[to].gossip.as_mut() {
            let _ = gossip.sync_close(now, one, &last);
        }
        self.drain(from);
        self.drain(to);
    }

    fn linked(&mut self, one: usize, other: usize) {
        let now = self.clock();
        let (a, b) = (self.nodes[one].member.peer, self.nodes[other].member.peer);
        self.nodes[one].dialling.remove(&b);
        if !self.nodes[one].alive {
            return;
        }
        if !self.nodes[other].alive {
            self.nodes[one].tracker.handle_link(now, b, LinkState::Down);
            self.drain(one);
            return;
        }
        for (here, peer) in [(one, b), (other, a)] {
            if self.nodes[here].links.insert(peer) {
                self.nodes[here]
                    .tracker
                    .handle_link(now, peer, LinkState::Up);
            }
        }
        self.drain(one);
        self.drain(other);
    }

    fn link_broke(&mut self, node: usize, peer: usize) {
        let (now, gone) = (self.clock(), self.nodes[peer].member.peer);
        if self.nodes[node].alive && self.nodes[node].links.remove(&gone) {
            self.nodes[node]
                .tracker
                .handle_link(now, gone, LinkState::Down);
            self.drain(node);
        }
    }

    fn starts(&mut self, node: usize) {
        let (now, task) = (self.clock(), self.task);
        if self.alive(node).is_none() {
            return;
        }
        self.note("start", node, 0);
        self.nodes[node].started = Some(self.now);
        let wish = Wish {
            can_read: true,
            credentialed: false,
            max_age: Duration::from_secs(60),
        };
        self.nodes[node].tracker.register(now, task, wish);
        self.drain(node);
    }

    fn dies(&mut self, node: usize) {
        self.note("die", node, 0);
        self.nodes[node].alive = false;
        let flows: Vec<FlowId> = self
            .cargo
            .iter()
            .filter(|(_, cargo)| match cargo {
                Cargo::Block { from, to, .. } => *from == node || *to == node,
                Cargo::Source { node: reader, .. } => *reader == node,
            })
            .map(|(flow, _)| *flow)
            .collect();
        for flow in flows {
            self.stop_flow(flow);
        }
        if let Membership::Told { detection } = self.scenario.membership {
            self.later(detection, Happening::Told { node });
        }
        // QUIC gives a silent peer up after its idle time-out.
        for other in 0..self.nodes.len() {
            let peer = self.nodes[node].member.peer;
            if self.nodes[other].links.contains(&peer) {
                self.later(
                    Duration::from_secs(10),
                    Happening::LinkBroke {
                        node: other,
                        peer: node,
                    },
                );
            }
        }
    }

    fn told_of_death(&mut self, node: usize) {
        let (now, peer) = (self.clock(), self.nodes[node].member.peer);
        for other in 0..self.nodes.len() {
            if self.nodes[other].alive {
                self.nodes[other]
                    .tracker
                    .handle_member(now, &MemberChange::Down(peer));
                self.drain(other);
            }
        }
    }

    fn source_gone(&mut self) {
        self.source_alive = false;
        let reads: Vec<(FlowId, usize, u64)> = self
            .cargo
            .iter()
            .filter_map(|(flow, cargo)| match cargo {
                Cargo::Source { node, lease } => Some((*flow, *node, *lease)),
                Cargo::Block { .. } => None,
            })
            .collect();
        for (flow, node, lease) in reads {
            self.stop_flow(flow);
            self.read_failed(node, lease);
        }
    }

    fn read_failed(&mut self, node: usize, lease: u64) {
        let (now, task) = (self.clock(), self.task);
        self.nodes[node].reads.remove(&lease);
        if let Some(node) = self.alive(node) {
            let failure = SourceFailure::Transient {
                what: "the source is gone".to_owned(),
            };
            node.tracker
                .handle_source_end(now, &task, lease, Err(failure));
        }
        self.drain(node);
    }

    // --- transfers ---------------------------------------------------------------------------------------------

    fn start_flow(&mut self, from: usize, to: usize, bytes: u64, cargo: Cargo) -> FlowId {
        let mut changed = Vec::new();
        let flow = self.links.start(self.now, from, to, bytes, &mut changed);
        self.cargo.insert(flow, cargo);
        self.reschedule(changed);
        flow
    }

    fn stop_flow(&mut self, flow: FlowId) {
        let mut changed = Vec::new();
        self.links.end(self.now, flow, &mut changed);
        self.cargo.remove(&flow);
        self.reschedule(changed);
    }

    fn reschedule(&mut self, changed: Vec<(FlowId, u32, u64)>) {
        for (flow, edition, end) in changed {
            self.at(end, Happening::FlowEnds { flow, edition });
        }
    }

    fn block_bytes(&self, block: BlockIndex) -> u64 {
        let range = self.layout.range_of(block);
        range.end - range.start
    }

    /// Stands for the bytes of a block; a liar's differ.
    fn digest(block: BlockIndex, genuine: bool) -> BlockDigest {
        BlockDigest::of(&[&block.0.to_le_bytes()[..], &[u8::from(genuine)]].concat())
    }

    fn flow_ends(&mut self, flow: FlowId) {
        let Some(cargo) = self.cargo.get(&flow).copied() else {
            return;
        };
        self.stop_flow(flow);
        match cargo {
            Cargo::Block { from, to, block } => self.block_arrives(from, to, block),
            Cargo::Source { node, lease } => self.source_block(node, lease),
        }
    }

    fn block_arrives(&mut self, from: usize, to: usize, block: BlockIndex) {
        let (now, task) = (self.clock(), self.task);
        let (giver, taker) = (self.nodes[from].member.peer, self.nodes[to].member.peer);
        let genuine = !self.nodes[from].liar && !self.nodes[from].wrong.contains(&block);
        self.nodes[from].sending.remove(&(taker, block));
        self.note("block", to, u64::from(block.0));
        let version = self.version();
        self.nodes[to]
            .parked
            .insert((block, Origin::Peer(giver)), genuine);
        let report = PieceReport {
            from: giver,
            task,
            version,
            block,
            digest: Self::digest(block, genuine),
        };
        self.nodes[to].tracker.report_piece(now, report);
        self.drain(to);
        if let Some(node) = self.alive(from) {
            node.tracker
                .handle_block_sent(now, taker, &task, block, true);
            self.drain(from);
        }
    }

    fn head(&self) -> SourceHead {
        SourceHead {
            length: Some(self.scenario.file_bytes),
            validators: Validators {
                etag: Some("\"1\"".to_owned()),
                last_modified: None,
            },
            ranges: true,
            digest: None,
            public: true,
        }
    }

    fn version(&self) -> VersionId {
        Meta::of(&self.head(), [0; 32])
            .expect("a head that names a version")
            .version
    }

    fn first_byte(&mut self, index: usize, lease: u64) {
        let (now, task, head) = (self.clock(), self.task, self.head());
        if !self.nodes[index].reads.contains_key(&lease) {
            return;
        }
        if !self.source_alive {
            self.read_failed(index, lease);
            return;
        }
        let Some(node) = self.alive(index) else {
            return;
        };
        let plan = node.tracker.handle_source_head(now, &task, lease, &head);
        self.drain(index);
        match plan {
            None => {
                self.nodes[index].reads.remove(&lease);
            }
            Some(plan) => {
                if let Some(read) = self.nodes[index].reads.get_mut(&lease) {
                    (read.next, read.end) = (plan.run.start, plan.run.end);
                }
                self.read_on(index, lease);
            }
        }
    }

    fn read_on(&mut self, index: usize, lease: u64) {
        let Some(read) = self.nodes[index].reads.get(&lease) else {
            return;
        };
        let block = BlockIndex(read.next);
        if read.next >= read.end {
            let (now, task) = (self.clock(), self.task);
            self.nodes[index].reads.remove(&lease);
            self.nodes[index]
                .tracker
                .handle_source_end(now, &task, lease, Ok(None));
            self.drain(index);
            return;
        }
        let cargo = Cargo::Source { node: index, lease };
        let flow = self.start_flow(self.source_host, index, self.block_bytes(block), cargo);
        if let Some(read) = self.nodes[index].reads.get_mut(&lease) {
            read.flow = Some(flow);
        }
    }

    fn source_block(&mut self, index: usize, lease: u64) {
        let (now, task) = (self.clock(), self.task);
        let Some(read) = self.nodes[index].reads.get_mut(&lease) else {
            return;
        };
        let block = BlockIndex(read.next);
        read.next += 1;
        read.flow = None;
        self.source_bytes += self.block_bytes(block);
        self.note("read", index, u64::from(block.0));
        let node = &mut self.nodes[index];
        node.parked.insert((block, Origin::Source(lease)), true);
        node.tracker
            .handle_source_block(now, &task, lease, block, Self::digest(block, true));
        self.drain(index);
        self.read_on(index, lease);
    }

    // --- what machines want ------------------------------------------------------------------------------------

    fn drain(&mut self, index: usize) {
        if !self.nodes[index].alive {
            return;
        }
        loop {
            if let Some(output) = self.nodes[index].tracker.poll_output() {
                self.perform(index, output);
            } else if let Some(output) = self.nodes[index]
                .gossip
                .as_mut()
                .and_then(Gossip::poll_output)
            {
                self.perform_gossip(index, output);
            } else {
                break;
            }
        }
        if let Some(deadline) = self.nodes[index].deadline() {
            let due = deadline.as_micros().max(self.now);
            if self.nodes[index].timer.is_none_or(|at| at > due) {
                self.nodes[index].timer = Some(due);
                self.at(due, Happening::Timer { node: index });
            }
        }
    }

    fn perform_gossip(&mut self, index: usize, output: GossipOutput) {
        let now = self.clock();
        match output {
            GossipOutput::Datagram { to, bytes } => {
                self.nodes[index].gossip_bytes += bytes.len() as u64 + 97;
                if let Some(to) = self.index.get(&to.peer).copied() {
                    self.later(
                        self.scenario.latency,
                        Happening::Gossip {
                            from: index,
                            to,
                            bytes,
                        },
                    );
                }
            }
            GossipOutput::Up(member) | GossipOutput::Changed(member) => {
                self.nodes[index]
                    .tracker
                    .handle_member(now, &MemberChange::Up(member));
            }
            GossipOutput::Down(peer) => self.nodes[index]
                .tracker
                .handle_member(now, &MemberChange::Down(peer)),
            GossipOutput::Event(event) => self.nodes[index].tracker.handle_event(now, &event),
            GossipOutput::SyncWith(member) => {
                if let Some(to) = self.index.get(&member.peer).copied() {
                    self.later(self.scenario.latency, Happening::Sync { from: index, to });
                }
            }
            GossipOutput::Sign { request, bytes } => {
                let signature = self.nodes[index].key.sign(&bytes).to_bytes();
                if let Some(gossip) = self.nodes[index].gossip.as_mut() {
                    gossip.handle_signature(now, request, signature);
                }
            }
            GossipOutput::Removed { .. } | GossipOutput::Renewed(_) => {}
        }
    }

    fn perform(&mut self, index: usize, output: Output) {
        let now = self.clock();
        match output {
            Output::Send { to, message } => self.send(index, to, &message),
            Output::Connect { peer } => self.connect(index, peer.peer),
            Output::ReadSource { lease, .. } => self.read_source(index, lease),
            Output::StopSource { lease, .. } => {
                if let Some(flow) = self.nodes[index]
                    .reads
                    .remove(&lease)
                    .and_then(|read| read.flow)
                {
                    self.stop_flow(flow);
                }
            }
            Output::SendBlock { to, block, .. } => {
                let Some(taker) = self.index.get(&to).copied() else {
                    return;
                };
                if self.nodes[taker].alive {
                    let cargo = Cargo::Block {
                        from: index,
                        to: taker,
                        block,
                    };
                    let flow = self.start_flow(index, taker, self.block_bytes(block), cargo);
                    self.nodes[index].sending.insert((to, block), flow);
                }
            }
            Output::StopSend { to, block, .. } => {
                if let Some(flow) = self.nodes[index].sending.remove(&(to, block)) {
                    self.stop_flow(flow);
                }
            }
            Output::StopReceive { .. } | Output::KeepBatch { .. } => {}
            Output::Keep { block, origin, .. } => {
                let genuine = self.nodes[index]
                    .parked
                    .remove(&(block, origin))
                    .unwrap_or(false);
                if !genuine {
                    self.wrong_blocks += 1;
                    self.nodes[index].wrong.insert(block);
                }
            }
            Output::Drop { block, origin, .. } => {
                self.nodes[index].parked.remove(&(block, origin));
            }
            Output::Sign { request, bytes } => {
                let signature = self.nodes[index].key.sign(&bytes).to_bytes();
                self.nodes[index]
                    .tracker
                    .handle_signature(now, request, signature);
            }
            Output::Publish {
                subject,
                kind,
                body,
            } => {
                if let Some(gossip) = self.nodes[index].gossip.as_mut() {
                    let _ = gossip.publish(now, subject, kind, body);
                }
            }
            Output::Task { event, .. } => {
                if event == TaskEvent::Complete {
                    self.note("done", index, 0);
                    self.nodes[index].finished.get_or_insert(now.as_micros());
                }
            }
            Output::Blame { .. } => self.isolations += 1,
        }
    }

    fn send(&mut self, index: usize, to: PeerId, message: &Message) {
        let Some(to) = self.index.get(&to).copied() else {
            return;
        };
        let bytes = Bytes::from(wire::encode(message));
        self.nodes[index].control_bytes += bytes.len() as u64 + CONTROL_OVERHEAD;
        self.later(
            self.scenario.latency,
            Happening::Message {
                from: index,
                to,
                bytes,
            },
        );
    }

    fn connect(&mut self, index: usize, peer: PeerId) {
        let Some(other) = self.index.get(&peer).copied() else {
            return;
        };
        if self.nodes[index].dialling.insert(peer) {
            // One and a half round trips of QUIC, one of admission.
            self.later(
                self.scenario.latency * 5,
                Happening::Linked { one: index, other },
            );
        }
    }

    fn read_source(&mut self, index: usize, lease: Lease) {
        let (next, end) = match lease.extent {
            Extent::Blocks { run, .. } => (run.start, run.end),
            Extent::Probe | Extent::Validate { .. } => (0, 0),
        };
        self.nodes[index].reads.insert(
            lease.id,
            SourceRead {
                next,
                end,
                flow: None,
            },
        );
        let wait = self.scenario.first_byte + self.scenario.latency * 2;
        self.later(
            wait,
            Happening::FirstByte {
                node: index,
                lease: lease.id,
            },
        );
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
            trace_hash: hex(&self.trace.finalize().as_bytes()[..8]),
            outcomes,
        };
        report.quantiles();
        report
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
