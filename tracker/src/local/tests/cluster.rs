//! The hand that drives: messages arrive at once, time passes when a test says so.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use dfnode_gossip::{Labels, Member, Now, PeerId, Zone};
use ed25519_dalek::{Signer, SigningKey};

use crate::ids::{BlockDigest, BlockIndex, Digest, TaskId, VersionId};
use crate::local::{Config, LinkState, LocalTracker, MemberChange};
use crate::message::{Batches, Extent, Lease, Message, Outcome, SignedBatch};
use crate::meta::{SourceFailure, SourceHead, Validators};
use crate::output::{Output, TaskEvent, TaskFailure};
use crate::session::Arrival;
use crate::task::Wish;
use crate::tracker::{PieceReport, Tracker};
use crate::view::View;

const STEP: Duration = Duration::from_millis(5);

pub(super) struct Cluster {
    pub(super) nodes: Vec<LocalTracker>,
    pub(super) now: Now,
    /// What was said, by whom to whom, and when.
    pub(super) said: Vec<(Now, usize, usize, Message)>,
    pub(super) dead: BTreeSet<usize>,
    /// What each node wanted done beside sending.
    pub(super) done: Vec<(Now, usize, Output)>,
    /// What the source says that the file has.
    pub(super) file_bytes: u64,
    keys: Vec<SigningKey>,
    members: Vec<Member>,
    waiting: VecDeque<(usize, usize, Message)>,
}

pub(super) fn task() -> TaskId {
    TaskId::from_bytes(*blake3::hash(b"a task").as_bytes())
}

/// What a block of the source hashes to.
pub(super) fn bytes(block: u32) -> BlockDigest {
    BlockDigest::of(&block.to_le_bytes())
}

impl Cluster {
    /// Nodes that know each other and are ready.
    pub(super) fn new(nodes: u8) -> Self {
        let mut cluster = Self::unready(nodes);
        for node in 0..cluster.nodes.len() {
            cluster.nodes[node].set_ready(cluster.now);
        }
        cluster
    }

    /// Nodes that know each other's names and nothing else.
    pub(super) fn unready(nodes: u8) -> Self {
        Self::strangers(&vec![""; usize::from(nodes)])
    }

    /// Nodes that know each other and are ready, each in the zone named.
    pub(super) fn in_zones(zones: &[&str]) -> Self {
        let mut cluster = Self::strangers(zones);
        for node in 0..cluster.nodes.len() {
            cluster.nodes[node].set_ready(cluster.now);
        }
        cluster
    }

    fn strangers(zones: &[&str]) -> Self {
        let keys: Vec<SigningKey> = (1..)
            .zip(zones)
            .map(|(seed, _)| SigningKey::from_bytes(&[seed; 32]))
            .collect();
        let members: Vec<Member> = (1..)
            .zip(&keys)
            .zip(zones)
            .map(|((port, key), zone)| Member {
                peer: PeerId::from_bytes(*key.verifying_key().as_bytes()),
                addrs: vec![SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), port))],
                generation: 1,
                labels: Labels {
                    zone: Zone::try_new(zone).expect("a short name"),
                    ..Labels::default()
                },
            })
            .collect();
        let now = Now::from_micros(1_000_000);
        let mut trackers = Vec::new();
        for (seed, member) in (0..).zip(&members) {
            let mut tracker = LocalTracker::new(
                &Config {
                    zone: member.labels.zone,
                    ..Config::default()
                },
                member.peer,
                seed,
            );
            for other in &members {
                tracker.handle_member(now, &MemberChange::Up(other.clone()));
            }
            trackers.push(tracker);
        }
        Self {
            nodes: trackers,
            now,
            said: Vec::new(),
            dead: BTreeSet::new(),
            done: Vec::new(),
            file_bytes: 3_000_000,
            keys,
            members,
            waiting: VecDeque::new(),
        }
    }

    fn number(&self, peer: &PeerId) -> usize {
        self.members
            .iter()
            .position(|member| member.peer == *peer)
            .expect("a member")
    }

    /// The homes of the task, best first, and then everybody else.
    pub(super) fn by_rank(&self) -> Vec<usize> {
        let mut view = View::new(self.members[0].peer, false, Zone::default());
        for member in &self.members {
            view.up(member);
        }
        let mut order: Vec<usize> = view
            .homes(&task(), |_| false)
            .iter()
            .map(|peer| self.number(peer))
            .collect();
        order.extend(
            (0..self.nodes.len())
                .filter(|node| !order.contains(node))
                .collect::<Vec<_>>(),
        );
        order
    }

    /// All others hear that a node is gone.
    pub(super) fn down(&mut self, gone: usize) {
        self.change(gone, &MemberChange::Down(self.members[gone].peer));
    }

    /// All others hear that a node is there.
    pub(super) fn up(&mut self, come: usize) {
        self.change(come, &MemberChange::Up(self.members[come].clone()));
    }

    fn change(&mut self, about: usize, change: &MemberChange) {
        for node in (0..self.nodes.len()).filter(|node| *node != about) {
            self.nodes[node].handle_member(self.now, change);
        }
        self.settle();
    }

    pub(super) fn want(&mut self, node: usize) {
        self.want_named(node, None);
    }

    /// A node's caller wants content that its own authority gives as `named`.
    pub(super) fn want_named(&mut self, node: usize, named: Option<VersionId>) {
        let wish = Wish {
            can_read: true,
            credentialed: false,
            named,
            seen: None,
            max_age: Duration::from_mins(1),
            part: None,
        };
        self.nodes[node].register(self.now, task(), wish);
        self.settle();
    }

    /// Whether a node has nothing to do with another.
    fn shuts_out(&self, node: usize, other: usize) -> bool {
        let isolated = self.nodes[node].isolated();
        isolated.contains_key(&self.members[other].peer)
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].poll_output() {
            match output {
                Output::Send { to, message } => {
                    let to = self.number(&to);
                    self.said.push((self.now, node, to, message.clone()));
                    self.waiting.push_back((node, to, message));
                }
                Output::Connect { peer } => {
                    let other = self.number(&peer.peer);
                    let state = if self.dead.contains(&other) || self.shuts_out(other, node) {
                        LinkState::Down
                    } else {
                        LinkState::Up
                    };
                    self.nodes[node].handle_link(self.now, peer.peer, state);
                }
                Output::Sign { request, bytes } => {
                    let signature = self.keys[node].sign(&bytes).to_bytes();
                    self.nodes[node].handle_signature(self.now, request, signature);
                }
                Output::ReadSource { .. }
                | Output::StopSource { .. }
                | Output::SendBlock { .. }
                | Output::StopSend { .. }
                | Output::StopReceive { .. }
                | Output::Keep { .. }
                | Output::Drop { .. }
                | Output::KeepBatch { .. }
                | Output::Publish { .. }
                | Output::Withdraw { .. }
                | Output::Task { .. }
                | Output::Blame { .. } => self.done.push((self.now, node, output)),
            }
        }
    }

    /// Delivers what is on its way, and what that sets off.
    pub(super) fn settle(&mut self) {
        for node in 0..self.nodes.len() {
            self.drain(node);
        }
        while let Some((from, to, message)) = self.waiting.pop_front() {
            if self.dead.contains(&from) || self.dead.contains(&to) || self.shuts_out(to, from) {
                continue;
            }
            let peer = self.members[from].peer;
            self.nodes[to]
                .handle_message(self.now, peer, message)
                .expect("honest nodes break no rule");
            self.drain(to);
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            for node in 0..self.nodes.len() {
                let due = self.nodes[node].poll_timeout();
                if !self.dead.contains(&node) && due.is_some_and(|at| at <= self.now) {
                    self.nodes[node].handle_timeout(self.now);
                    self.settle();
                }
            }
        }
    }

    /// Leases that nodes were told to read under: when, who, which.
    pub(super) fn reads(&self) -> Vec<(Now, usize, Lease)> {
        self.done
            .iter()
            .filter_map(|(at, node, output)| {
                let Output::ReadSource { lease, .. } = output else {
                    return None;
                };
                Some((*at, *node, lease.clone()))
            })
            .collect()
    }

    pub(super) fn peer(&self, node: usize) -> PeerId {
        self.members[node].peer
    }

    pub(super) fn version(&self, node: usize) -> VersionId {
        let view = self.nodes[node].task(&task()).expect("a task");
        view.meta.expect("a version").version
    }

    fn newest_read(&self, node: usize) -> u64 {
        let reads = self.reads();
        let read = reads.iter().rev().find(|(_, reader, _)| *reader == node);
        read.map(|(.., lease)| lease.id).expect("a read under way")
    }

    /// The source answers the newest read of a node.
    pub(super) fn head(&mut self, node: usize) {
        self.head_of(node, None);
    }

    /// The source answers the newest read of a node, and would not answer everybody.
    pub(super) fn private_head(&mut self, node: usize) {
        self.answer(node, None, false);
    }

    /// An authority answers the newest read of a node, for content of this name.
    pub(super) fn head_of(&mut self, node: usize, name: Option<(Digest, &str)>) {
        self.answer(node, name, true);
    }

    fn answer(&mut self, node: usize, name: Option<(Digest, &str)>, public: bool) {
        let (digest, authority) = name.unzip();
        let head = SourceHead {
            length: Some(self.file_bytes),
            validators: Validators {
                etag: Some("\"1\"".to_owned()),
                last_modified: None,
            },
            ranges: true,
            digest,
            authority: authority.map(str::to_owned),
            public,
        };
        let lease = self.newest_read(node);
        self.nodes[node].handle_source_head(self.now, &task(), lease, &head);
        self.settle();
    }

    /// The newest read of a node brings a block.
    pub(super) fn read_block(&mut self, node: usize, block: BlockIndex) {
        let lease = self.newest_read(node);
        self.nodes[node].handle_source_block(self.now, &task(), lease, block, bytes(block.0));
        self.settle();
    }

    /// The source answers whatever is read of a known version, until nobody is let read more.
    pub(super) fn read_all(&mut self) {
        let mut answered = 0;
        loop {
            self.pass(Duration::from_millis(1800));
            let reads = self.reads().split_off(answered);
            if reads.is_empty() {
                break;
            }
            answered += reads.len();
            for (_, node, lease) in reads {
                self.give(node, &lease);
            }
        }
    }

    /// The source gives a node all that a lease is about.
    pub(super) fn give(&mut self, node: usize, lease: &Lease) {
        let Extent::Blocks { run, .. } = &lease.extent else {
            return;
        };
        for block in run.clone() {
            let (now, digest) = (self.now, bytes(block));
            let block = BlockIndex(block);
            self.nodes[node].handle_source_block(now, &task(), lease.id, block, digest);
        }
        self.nodes[node].handle_source_end(self.now, &task(), lease.id, Ok(None));
        self.settle();
    }

    /// The newest block that `from` was to send `to` gets there. `false` if none is under way.
    pub(super) fn carry_a_block(&mut self, from: usize, to: usize) -> bool {
        let sends = self.sends(from, to).pop();
        self.carry(from, to, sends).is_some()
    }

    /// The oldest block that `from` was to send `to` gets there.
    pub(super) fn carry_oldest(&mut self, from: usize, to: usize) -> Option<BlockIndex> {
        let sends = self.sends(from, to).first().copied();
        self.carry(from, to, sends)
    }

    /// Where among what was done the blocks are that `from` was to send `to`.
    fn sends(&self, from: usize, to: usize) -> Vec<usize> {
        let receiver = self.peer(to);
        let is_it = |(_, node, output): &(Now, usize, Output)| {
            *node == from && matches!(output, Output::SendBlock { to, .. } if *to == receiver)
        };
        let done = self.done.iter().enumerate();
        done.filter(|(_, done)| is_it(done))
            .map(|(at, _)| at)
            .collect()
    }

    fn carry(&mut self, from: usize, to: usize, sends: Option<usize>) -> Option<BlockIndex> {
        let receiver = self.peer(to);
        let Some((_, _, Output::SendBlock { block, .. })) = sends.map(|at| self.done.remove(at))
        else {
            return None;
        };
        self.nodes[from].handle_block_sent(self.now, receiver, &task(), block, true);
        let report = PieceReport {
            from: self.peer(from),
            task: task(),
            version: self.version(from),
            block,
            digest: bytes(block.0),
        };
        let arrival = self.nodes[to].report_piece(self.now, report);
        self.settle();
        (arrival == Arrival::Good).then_some(block)
    }

    /// A node signs that a block hashes to `digest`, and another hears of it.
    pub(super) fn claim(
        &mut self,
        (signer, hearer): (usize, usize),
        block: BlockIndex,
        digest: BlockDigest,
    ) {
        let version = self.version(hearer);
        let bytes = SignedBatch::signing_bytes(&task(), &version, block, &[digest]);
        let batch = SignedBatch {
            version,
            signer: self.peer(signer),
            first: block,
            digests: vec![digest],
            signature: self.keys[signer].sign(&bytes).to_bytes().to_vec(),
        };
        let batches = Batches {
            task: task(),
            batches: vec![batch],
        };
        let from = self.peer(signer);
        self.nodes[hearer]
            .handle_message(self.now, from, Message::Batches(batches))
            .expect("a sound signature");
        self.settle();
    }

    /// The newest read of a node ends well.
    pub(super) fn end_read(&mut self, node: usize) {
        let lease = self.newest_read(node);
        self.nodes[node].handle_source_end(self.now, &task(), lease, Ok(None));
        self.settle();
    }

    /// How often a node's callers were told that every block is there.
    pub(super) fn completions(&self, node: usize) -> usize {
        self.done
            .iter()
            .filter(|(_, at, output)| {
                let complete = matches!(
                    output,
                    Output::Task {
                        event: TaskEvent::Complete,
                        ..
                    }
                );
                *at == node && complete
            })
            .count()
    }

    /// Ends the newest read of a node with a failure.
    pub(super) fn fail_read(&mut self, node: usize, failure: SourceFailure) {
        let lease = self.newest_read(node);
        self.nodes[node].handle_source_end(self.now, &task(), lease, Err(failure));
        self.settle();
    }

    /// Why a node's callers were told that they cannot have the task.
    pub(super) fn failure(&self, node: usize) -> Option<TaskFailure> {
        self.done.iter().find_map(|(_, at, output)| {
            let Output::Task {
                event: TaskEvent::Failed(failure),
                ..
            } = output
            else {
                return None;
            };
            (*at == node).then(|| failure.clone())
        })
    }

    /// When a home first granted a probe, and which home.
    pub(super) fn first_grant(&self) -> Option<(Now, usize)> {
        self.said.iter().find_map(|(at, from, _, message)| {
            let Message::Registered(answer) = message else {
                return None;
            };
            let Outcome::Welcome {
                lease: Some(lease), ..
            } = &answer.outcome
            else {
                return None;
            };
            (lease.extent == Extent::Probe).then_some((*at, *from))
        })
    }
}
