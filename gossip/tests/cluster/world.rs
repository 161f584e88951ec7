//! A cluster of gossip machines under a virtual clock: every packet has a latency, some are lost,
//! nothing else is left to chance. Streams (the push/pulls) are reliable and as slow as datagrams.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use dfnode_gossip::{
    Config, Event, EventKind, Gossip, Labels, MAX_DATAGRAM_BYTES, MAX_SYNC_BYTES, Member, Now,
    Output, PeerId, Subject, Violation,
};
use ed25519_dalek::{Signer, SigningKey};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

/// A node of the world, by the order of its first start.
pub(crate) type Index = usize;

/// What the driver of a node would have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) ups: BTreeMap<PeerId, u32>,
    pub(crate) downs: BTreeMap<PeerId, u32>,
    pub(crate) changes: BTreeMap<PeerId, u32>,
    pub(crate) events: Vec<Event>,
    pub(crate) removed: Vec<(PeerId, Subject, EventKind)>,
    pub(crate) renewals: u32,
    pub(crate) syncs: u32,
    pub(crate) datagrams: u64,
    pub(crate) datagram_bytes: u64,
    pub(crate) sync_bytes: u64,
    pub(crate) violations: Vec<Violation>,
}

pub(crate) struct Node {
    pub(crate) gossip: Gossip,
    pub(crate) seen: Seen,
    key: SigningKey,
    alive: bool,
    wake: Option<Now>,
}

enum Message {
    Datagram(Vec<u8>),
    Open(Vec<u8>),
    Answer(Vec<u8>),
    Last(Vec<u8>),
}

struct Parcel {
    from: Index,
    to: Index,
    message: Message,
}

pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) nodes: Vec<Node>,
    pub(crate) loss: f64,
    config: Config,
    /// What is under way, by arrival.
    air: BTreeMap<(Now, u64), Parcel>,
    /// When nodes want to be woken.
    wakes: BTreeSet<(Now, Index)>,
    sent: u64,
    rng: Xoshiro256PlusPlus,
    indices: BTreeMap<PeerId, Index>,
    /// Which side of a partition a node is on.
    sides: BTreeMap<Index, u8>,
    /// Nodes whose timers do not fire and that receive nothing.
    asleep: BTreeSet<Index>,
    addrs_of: fn(Index) -> Vec<String>,
    trace: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Now::from_micros(1_000_000),
            nodes: Vec::new(),
            loss: 0.0,
            config: Config::default(),
            air: BTreeMap::new(),
            wakes: BTreeSet::new(),
            sent: 0,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            indices: BTreeMap::new(),
            sides: BTreeMap::new(),
            asleep: BTreeSet::new(),
            addrs_of: |index| vec![format!("10.0.{}.{}:65000", index / 250, index % 250 + 1)],
            trace: 0,
        }
    }

    /// The addresses that node number `Index` advertises.
    pub(crate) fn with_addrs(mut self, addrs_of: fn(Index) -> Vec<String>) -> Self {
        self.addrs_of = addrs_of;
        self
    }

    /// Starts a node that knows nobody.
    pub(crate) fn start(&mut self) -> Index {
        let index = self.nodes.len();
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&(index as u64 + 1).to_le_bytes());
        let key = SigningKey::from_bytes(&secret);
        let gossip = self.machine(index, &key, 1_700_000_000_000 + self.now.as_micros() / 1000);
        self.indices.insert(gossip.me().peer, index);
        self.nodes.push(Node {
            gossip,
            seen: Seen::default(),
            key,
            alive: true,
            wake: None,
        });
        self.after(index);
        index
    }

    /// Starts a node and has it dial `seed`.
    pub(crate) fn join(&mut self, seed: Index) -> Index {
        let index = self.start();
        self.sync(index, seed);
        index
    }

    /// Starts `count` nodes within `span`, all of which dial the first.
    pub(crate) fn cluster(&mut self, count: usize, span: Duration) {
        let first = self.start();
        let pause = span / u32::try_from(count).unwrap();
        for _ in 1..count {
            self.run(pause);
            self.join(first);
        }
    }

    /// Starts a node anew that was killed, with the key it had.
    pub(crate) fn restart(&mut self, index: Index, generation: u64) {
        let key = self.nodes[index].key.clone();
        self.nodes[index].gossip = self.machine(index, &key, generation);
        self.nodes[index].alive = true;
        self.after(index);
    }

    fn machine(&mut self, index: Index, key: &SigningKey, generation: u64) -> Gossip {
        let me = Member {
            peer: PeerId::from_bytes(key.verifying_key().to_bytes()),
            addrs: (self.addrs_of)(index)
                .iter()
                .map(|addr| addr.parse().unwrap())
                .collect(),
            generation,
            labels: Labels::default(),
        };
        Gossip::new(self.config.clone(), me, self.rng.next_u64(), self.now)
    }

    pub(crate) fn kill(&mut self, index: Index) {
        self.nodes[index].alive = false;
        self.set_wake(index, None);
    }

    pub(crate) fn leave(&mut self, index: Index) {
        let now = self.now;
        self.nodes[index].gossip.leave(now);
        self.after(index);
    }

    pub(crate) fn split(&mut self, side_of: impl Fn(Index) -> u8) {
        self.sides = (0..self.nodes.len())
            .map(|index| (index, side_of(index)))
            .collect();
    }

    pub(crate) fn heal(&mut self) {
        self.sides.clear();
    }

    pub(crate) fn sleep(&mut self, index: Index) {
        self.asleep.insert(index);
        self.set_wake(index, None);
    }

    pub(crate) fn wake(&mut self, index: Index) {
        self.asleep.remove(&index);
        let now = self.now;
        self.nodes[index].gossip.handle_timeout(now);
        self.after(index);
    }

    pub(crate) fn publish(&mut self, index: Index, subject: Subject, kind: EventKind, body: &[u8]) {
        let body = body.to_vec().into();
        let now = self.now;
        self.nodes[index]
            .gossip
            .publish(now, subject, kind, body)
            .unwrap();
        self.after(index);
    }

    pub(crate) fn withdraw(&mut self, index: Index, subject: Subject, kind: EventKind) {
        let now = self.now;
        self.nodes[index].gossip.withdraw(now, subject, kind);
        self.after(index);
    }

    pub(crate) fn set_addrs(&mut self, index: Index, addrs: Vec<SocketAddr>) {
        let now = self.now;
        self.nodes[index].gossip.set_addrs(now, addrs);
        self.after(index);
    }

    /// Begins a push/pull.
    pub(crate) fn sync(&mut self, from: Index, to: Index) {
        let open = self.nodes[from].gossip.sync_open(self.now);
        self.after(from);
        self.post(from, to, Message::Open(open));
    }

    pub(crate) fn peer(&self, index: Index) -> PeerId {
        self.nodes[index].gossip.me().peer
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = Index> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].alive)
    }

    /// Whether `watcher` thinks that `other` is alive.
    pub(crate) fn sees(&self, watcher: Index, other: Index) -> bool {
        self.nodes[watcher]
            .gossip
            .member(&self.peer(other))
            .is_some()
    }

    /// Whether everybody alive sees exactly those alive.
    pub(crate) fn is_complete(&self) -> bool {
        let alive: BTreeSet<PeerId> = self.alive().map(|index| self.peer(index)).collect();
        self.alive().all(|index| {
            let gossip = &self.nodes[index].gossip;
            let seen = gossip
                .members()
                .map(|member| member.peer)
                .chain([gossip.me().peer]);
            seen.collect::<BTreeSet<_>>() == alive
        })
    }

    pub(crate) fn has_event(&self, index: Index, subject: &Subject) -> bool {
        self.nodes[index].gossip.events(subject).next().is_some()
    }

    /// A fingerprint of all that was ever delivered.
    pub(crate) fn trace(&self) -> u64 {
        self.trace
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, at most for `limit`; says how long it took.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        while !done(self) {
            if self.now - start >= limit {
                return None;
            }
            self.run(Duration::from_millis(50));
        }
        Some(self.now - start)
    }

    fn step(&mut self, end: Now) -> bool {
        let arrival = self.air.keys().next().copied();
        let wake = self.wakes.first().copied();
        let (at, index) = match (arrival, wake) {
            (Some((at, _)), Some((wake, _))) if at <= wake => (at, None),
            (Some((at, _)), None) => (at, None),
            (_, Some((wake, index))) => (wake, Some(index)),
            (None, None) => return false,
        };
        if at > end {
            return false;
        }
        self.now = self.now.max(at);
        if let Some(index) = index {
            let now = self.now;
            self.nodes[index].gossip.handle_timeout(now);
            self.after(index);
        } else if let Some((_, parcel)) = self.air.pop_first() {
            self.deliver(parcel);
        }
        true
    }

    fn deliver(&mut self, Parcel { from, to, message }: Parcel) {
        if !self.nodes[to].alive || self.asleep.contains(&to) || self.is_cut(from, to) {
            return;
        }
        self.note(to, &message);
        let now = self.now;
        let peer = self.peer(from);
        let gossip = &mut self.nodes[to].gossip;
        let (handled, reply) = match message {
            Message::Datagram(bytes) => (gossip.handle_datagram(now, peer, &bytes), None),
            Message::Open(bytes) => match gossip.sync_answer(now, peer, &bytes) {
                Ok(answer) => (Ok(()), Some(Message::Answer(answer))),
                Err(violation) => (Err(violation), None),
            },
            Message::Answer(bytes) => match gossip.sync_finish(now, peer, &bytes) {
                Ok(last) => (Ok(()), Some(Message::Last(last))),
                Err(violation) => (Err(violation), None),
            },
            Message::Last(bytes) => (gossip.sync_close(now, peer, &bytes), None),
        };
        self.nodes[to].seen.violations.extend(handled.err());
        self.after(to);
        if let Some(reply) = reply {
            self.post(to, from, reply);
        }
    }

    /// Does what the machine wants done, and looks when it wants to be woken.
    fn after(&mut self, index: Index) {
        let mut outputs = VecDeque::new();
        loop {
            let node = &mut self.nodes[index];
            outputs.extend(std::iter::from_fn(|| node.gossip.poll_output()));
            let Some(output) = outputs.pop_front() else {
                break;
            };
            self.perform(index, output);
        }
        let wake = self.nodes[index].gossip.poll_timeout();
        self.set_wake(index, wake);
    }

    fn set_wake(&mut self, index: Index, wake: Option<Now>) {
        let node = &mut self.nodes[index];
        if let Some(before) = node.wake.take() {
            self.wakes.remove(&(before, index));
        }
        if node.alive && !self.asleep.contains(&index) {
            node.wake = wake;
            self.wakes.extend(wake.map(|wake| (wake, index)));
        }
    }

    fn perform(&mut self, index: Index, output: Output) {
        let now = self.now;
        let node = &mut self.nodes[index];
        match output {
            Output::Datagram { to, bytes } => {
                assert!(bytes.len() <= MAX_DATAGRAM_BYTES);
                node.seen.datagrams += 1;
                node.seen.datagram_bytes += bytes.len() as u64;
                let to = self.find(&to.peer);
                if self.rng.random_bool(1.0 - self.loss) {
                    self.post(index, to, Message::Datagram(bytes.to_vec()));
                }
            }
            Output::Up(member) => *node.seen.ups.entry(member.peer).or_default() += 1,
            Output::Changed(member) => *node.seen.changes.entry(member.peer).or_default() += 1,
            Output::Down(peer) => *node.seen.downs.entry(peer).or_default() += 1,
            Output::Event(event) => node.seen.events.push(event),
            Output::Removed {
                origin,
                subject,
                kind,
            } => {
                node.seen.removed.push((origin, subject, kind));
            }
            Output::SyncWith(member) => {
                node.seen.syncs += 1;
                let to = self.find(&member.peer);
                self.sync(index, to);
            }
            Output::Sign { request, bytes } => {
                let signature = node.key.sign(&bytes).to_bytes();
                node.gossip.handle_signature(now, request, signature);
            }
            Output::Renewed(_) => node.seen.renewals += 1,
        }
    }

    fn post(&mut self, from: Index, to: Index, message: Message) {
        match &message {
            Message::Datagram(_) => {}
            Message::Open(bytes) | Message::Answer(bytes) | Message::Last(bytes) => {
                assert!(bytes.len() <= MAX_SYNC_BYTES);
                self.nodes[from].seen.sync_bytes += bytes.len() as u64;
            }
        }
        let latency = Duration::from_micros(self.rng.random_range(300..1500));
        self.sent += 1;
        self.air.insert(
            (self.now + latency, self.sent),
            Parcel { from, to, message },
        );
    }

    fn find(&self, peer: &PeerId) -> Index {
        self.indices[peer]
    }

    fn is_cut(&self, from: Index, to: Index) -> bool {
        self.sides.get(&from) != self.sides.get(&to)
    }

    fn note(&mut self, to: Index, message: &Message) {
        let (kind, bytes) = match message {
            Message::Datagram(bytes) => (0_u8, bytes),
            Message::Open(bytes) => (1, bytes),
            Message::Answer(bytes) => (2, bytes),
            Message::Last(bytes) => (3, bytes),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.trace.to_le_bytes());
        hasher.update(&self.now.as_micros().to_le_bytes());
        hasher.update(&(to as u64).to_le_bytes());
        hasher.update(&[kind]);
        hasher.update(bytes);
        self.trace = u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().unwrap());
    }
}

/// A subject for tests.
pub(crate) fn subject(number: u64) -> Subject {
    Subject::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}
