//! What the fuzz targets run; `docs/fuzzing.md` lists them. Not part of any build that is used.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::{Event, EventKind, Labels, Member, Now, PeerId, Subject};

use crate::wire::{MAX_MESSAGE_BYTES, decode, decode_body, encode, encode_body, encoded_len};
use crate::{
    Arrival, BlockDigest, BlockIndex, BlockSet, Config, Digest, Extent, Holds, Layout, Lease,
    LinkState, LocalTracker, MAX_BLOCKS, MAX_PEERS_NAMED, MemberChange, Message, Meta, Origin,
    Outcome, Output, PieceReport, Progress, ReadPlan, SignedBatch, SourceFailure, SourceHead,
    TaskId, Tracker, Validators, VersionId, Wish, decode_length,
};

#[path = "../../fuzz/input.rs"]
pub mod input;
#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

use input::Input;

/// What one call may put out. A home's table copy or a member's death reaches all that a few messages named.
const MAX_OUTPUTS: usize = 4096;
/// Deadlines that may be due one after the other without time passing.
const MAX_TIMEOUTS: usize = 64;
/// Sets larger than this take too long to be counted at each run.
const MAX_COUNTED: u32 = 1 << 16;
/// Blocks looked at one by one; larger versions are looked at in places.
const MAX_LOOKED_AT: u32 = 64;

/// A message: what is read is sound, and means the same once written again.
pub fn message(bytes: &[u8]) {
    let Ok(Some(message)) = decode(bytes) else {
        return;
    };
    sound(&message);
    assert!(encode(&message).len() <= bytes.len());
    for meta in metas(&mut message.clone()) {
        assert!(meta.is_sound());
        layout(&meta.layout);
    }
}

/// What every message has that is read, and every one that this program writes.
fn sound(message: &Message) {
    let bytes = encode(message);
    assert!(bytes.len() <= MAX_MESSAGE_BYTES);
    assert_eq!(bytes.len(), encoded_len(message), "{}", message.name());
    assert_eq!(decode(&bytes).as_ref(), Ok(&Some(message.clone())));
    if let Message::Registered(registered) = message
        && let Outcome::Welcome { peers, .. } = &registered.outcome
    {
        assert!(peers.len() <= MAX_PEERS_NAMED);
    }
}

/// Sets of blocks as they travel: what is unpacked lies within the version, and packs to the same set.
pub fn holds(bytes: &[u8]) {
    let mut input = Input(bytes);
    let limit = u32::from_le_bytes(input.array());
    let limits = [None, Some(limit % 4096), Some(limit % (1 << 18))];
    let blocks = limits[usize::from(input.byte().unwrap_or_default()) % limits.len()];
    let Ok(holds) = decode_body::<Holds>(input.0) else {
        return;
    };
    let Some(set) = holds.unpack(blocks) else {
        return;
    };
    if set.len() > MAX_COUNTED {
        return;
    }
    let runs = set.runs();
    let end = runs.last().map_or(0, |run| run.end);
    assert!(end <= blocks.unwrap_or(MAX_BLOCKS));
    assert_eq!(
        set.len(),
        runs.iter().map(|run| run.end - run.start).sum::<u32>()
    );
    let packed = Holds::pack(&set, blocks);
    let again = packed.unpack(blocks).expect("our own set fits");
    assert_eq!(again.runs(), runs);
    assert!(!set.has_beyond(&again) && !again.has_beyond(&set));
    let read: Holds = decode_body(&encode_body(&packed)).expect("our own set is one");
    assert_eq!(read, packed);
    assert!(!set.contains(set.first_absent(0)));
}

/// Texts and bodies that name things: digests, a task's progress, a stream's length.
pub fn names(bytes: &[u8]) {
    if let Some(progress) = Progress::decode(bytes) {
        assert!(progress.quarters <= Progress::COMPLETE);
        assert_eq!(Progress::decode(&progress.encode()), Some(progress));
    }
    if let Some(meta) = decode_length(bytes) {
        assert!(meta.is_sound());
        layout(&meta.layout);
    }
    let parsed = str::from_utf8(bytes).map(str::parse::<Digest>);
    if let Ok(Ok(digest)) = parsed {
        let text = digest.to_string();
        assert!(text.as_bytes().eq_ignore_ascii_case(bytes));
        assert_eq!(text.parse(), Ok(digest));
    }
}

/// The blocks of a sound layout tile the file.
fn layout(layout: &Layout) {
    assert!(layout.is_sound());
    let blocks = layout.blocks().unwrap_or(MAX_BLOCKS);
    assert!(blocks <= MAX_BLOCKS);
    let near_end = blocks.saturating_sub(MAX_LOOKED_AT)..blocks;
    for index in (0..blocks.min(MAX_LOOKED_AT)).chain(near_end) {
        let range = layout.range_of(BlockIndex(index));
        assert!(range.start < range.end);
        assert!(range.end - range.start <= u64::from(layout.block_bytes()));
        assert_eq!(layout.block_at(range.start), Some(BlockIndex(index)));
        assert_eq!(layout.block_at(range.end - 1), Some(BlockIndex(index)));
        let next = layout.range_of(BlockIndex(index + 1)).start;
        assert_eq!(range.end, next);
    }
    if let Some(length) = layout.length() {
        assert_eq!(layout.range_of_run(&(0..blocks)).end, length);
        assert!(layout.range_of(BlockIndex(blocks)).is_empty());
    }
}

/// The machine under messages of anybody, while its node reads, receives, sends and gossips.
pub fn machine(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut bench = Bench::new();
    while let Some(step) = input.byte() {
        bench.step(step, &mut input);
        bench.drain();
        bench.check();
    }
}

const PEERS: u8 = 5;
const TASKS: u8 = 2;

struct Bench {
    tracker: LocalTracker,
    now: Now,
    /// Reads that the machine asked for, what each must yield and how far it is.
    reads: BTreeMap<u64, (TaskId, Option<ReadPlan>, u32)>,
    unsigned: Vec<u64>,
    /// Blocks of which the bytes are parked, and were neither kept nor dropped.
    parked: BTreeMap<(TaskId, u32, Origin), u32>,
}

/// One of a few peers; number 0 is the machine's own node.
fn peer(number: u8) -> PeerId {
    PeerId::from_bytes([number % PEERS + 1; 32])
}

fn member(number: u8) -> Member {
    Member {
        peer: peer(number),
        addrs: vec![SocketAddr::from(([10, 0, 0, number % PEERS + 1], 65_000))],
        generation: 1,
        labels: Labels::default(),
    }
}

fn task(number: u8) -> TaskId {
    TaskId::from_bytes([number % TASKS + 1; 32])
}

/// What stands for a signature: the machine is handed this judge in place of Ed25519.
fn is_signed(_signer: &PeerId, _bytes: &[u8], signature: &[u8]) -> bool {
    signature.first().is_some_and(|byte| byte % 2 == 0)
}

/// What a block of any of the versions hashes to.
fn digest(block: u32) -> BlockDigest {
    BlockDigest([block.to_le_bytes()[0]; 32])
}

impl Bench {
    fn new() -> Self {
        let now = Now::from_micros(1_000_000);
        let config = Config {
            verify: is_signed,
            ..Config::default()
        };
        let mut tracker = LocalTracker::new(&config, peer(0), 7);
        for number in 0..PEERS {
            tracker.handle_member(now, &MemberChange::Up(member(number)));
        }
        tracker.set_ready(now);
        Self {
            tracker,
            now,
            reads: BTreeMap::new(),
            unsigned: Vec::new(),
            parked: BTreeMap::new(),
        }
    }

    /// The version that the node has of a task, else one of a few.
    fn version(&self, task: TaskId, number: u8) -> VersionId {
        let known = self.tracker.task(&task).and_then(|view| view.meta);
        match known {
            Some(meta) if !number.is_multiple_of(8) => meta.version,
            Some(_) | None => VersionId::from_bytes([number / 8 % 2 + 1; 32]),
        }
    }

    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        let now = self.now;
        let [from, number, version] = input.array();
        let (from, id) = (peer(from), task(number));
        match step % 19 {
            0..=4 => {
                // What comes of a fault is the sender's business; here it must only do no harm.
                if let Ok(Some(mut message)) = decode(input.chunk()) {
                    aim(&mut message, id, self.version(id, version), self.leases(id));
                    let _ = self.tracker.handle_message(now, from, message);
                }
            }
            5 => {
                let (first, count) = (u32::from(number / 2), u32::from(version % 16) + 1);
                let batch = SignedBatch {
                    version: self.version(id, version),
                    signer: peer(input.byte().unwrap_or_default()),
                    first: BlockIndex(first),
                    digests: (first..first + count).map(digest).collect(),
                    signature: vec![0; 64],
                };
                let batches = crate::Batches {
                    task: id,
                    batches: vec![batch],
                };
                let _ = self
                    .tracker
                    .handle_message(now, from, Message::Batches(batches));
            }
            6 => self.tracker.register(
                now,
                id,
                Wish {
                    can_read: version % 2 == 0,
                    credentialed: version / 2 % 2 == 0,
                    named: (version / 4 % 4 == 0).then(|| VersionId::from_bytes([1; 32])),
                    seen: None,
                    max_age: Duration::from_secs(u64::from(version / 16)),
                    part: (version % 3 == 0).then(|| {
                        let first = u64::from(number) << 13;
                        (
                            first,
                            (version % 2 == 0).then_some(first + u64::from(version)),
                        )
                    }),
                },
            ),
            7 => self.tracker.service_down(now, &id),
            8 => {
                let state = if version % 2 == 0 {
                    LinkState::Up
                } else {
                    LinkState::Down
                };
                self.tracker.handle_link(now, from, state);
            }
            9 => {
                let change = if version % 2 == 0 {
                    MemberChange::Up(member(number))
                } else {
                    MemberChange::Down(from)
                };
                self.tracker.handle_member(now, &change);
            }
            10 => {
                let millis = u64::from(u16::from_le_bytes([number, version]));
                self.now = now + Duration::from_millis(millis);
                self.run_timers();
            }
            11 => self.source_head(number, input),
            12 => self.source_block(number),
            13 => self.source_end(number, version),
            14 => self.block(from, id, version, input),
            15 => {
                let block = BlockIndex(u32::from(input.byte().unwrap_or_default()));
                match version % 5 {
                    0 => self.tracker.handle_flow(now, &from, &id, block),
                    1 => self.tracker.handle_block_lost(now, from, &id, block),
                    4 => self.tracker.handle_send_broken_off(now, from, &id, block),
                    2 => self.tracker.handle_block_sent(now, from, &id, block, true),
                    _ => self.tracker.handle_block_sent(now, from, &id, block, false),
                }
            }
            16 => {
                if let Some(request) = self.unsigned.pop() {
                    self.tracker.handle_signature(now, request, [0; 64]);
                }
            }
            17 => self.event(from, id, version, input),
            _ => match version % 4 {
                0 => self.tracker.forget(now, &id),
                1 => self.restore(id, input),
                2 => self
                    .tracker
                    .handle_block_damaged(now, &id, BlockIndex(u32::from(number))),
                _ => self.tracker.handle_wrong_digest(now, &id),
            },
        }
    }

    fn leases(&self, id: TaskId) -> Option<u64> {
        let mut leases = self.reads.iter();
        leases
            .find(|(_, (task, ..))| *task == id)
            .map(|(lease, _)| *lease)
    }

    fn read(&self, number: u8) -> Option<u64> {
        let count = self.reads.len().max(1);
        self.reads.keys().nth(usize::from(number) % count).copied()
    }

    fn source_head(&mut self, number: u8, input: &mut Input<'_>) {
        let [length, flags] = input.array();
        let head = SourceHead {
            length: (flags % 4 != 0).then(|| u64::from(length) * 40_000),
            validators: Validators {
                etag: (flags / 4 % 2 == 0).then(|| "\"1\"".to_owned()),
                last_modified: None,
            },
            ranges: flags / 8 % 2 == 0,
            digest: None,
            authority: None,
            public: flags / 16 % 2 == 0,
        };
        let Some(lease) = self.read(number) else {
            return;
        };
        let (task, plan, next) = self.reads.get_mut(&lease).expect("it was just found");
        if plan.is_some() {
            return;
        }
        *plan = self
            .tracker
            .handle_source_head(self.now, task, lease, &head);
        if let Some(plan) = plan {
            layout(&plan.meta.layout);
            *next = plan.run.start;
        } else {
            self.reads.remove(&lease);
        }
    }

    fn source_block(&mut self, number: u8) {
        let Some(lease) = self.read(number) else {
            return;
        };
        let Some((task, Some(plan), next)) = self.reads.get_mut(&lease) else {
            return;
        };
        if *next >= plan.run.end.min(MAX_LOOKED_AT * 4) {
            return;
        }
        let (id, block) = (*task, *next);
        *next += 1;
        let origin = Origin::Source(lease);
        *self.parked.entry((id, block, origin)).or_default() += 1;
        self.tracker
            .handle_source_block(self.now, &id, lease, BlockIndex(block), digest(block));
    }

    fn source_end(&mut self, number: u8, how: u8) {
        let Some(lease) = self.read(number) else {
            return;
        };
        let Some((id, plan, next)) = self.reads.remove(&lease) else {
            return;
        };
        // Only the end of a stream tells a length.
        let streamed = plan.filter(|plan| plan.run.end == u32::MAX);
        let bytes = streamed.map(|plan| plan.meta.layout.range_of_run(&(0..next)).end);
        let end = match how % 6 {
            0 => Ok(None),
            1 => Ok(bytes),
            2 => Err(SourceFailure::NotFound),
            3 => Err(SourceFailure::Changed),
            4 => Err(SourceFailure::Refused { status: 403 }),
            _ => Err(SourceFailure::Busy {
                status: 503,
                retry_after_ms: u64::from(how) * 100,
            }),
        };
        self.tracker.handle_source_end(self.now, &id, lease, end);
    }

    /// A block came from a peer, as it should be or not.
    fn block(&mut self, from: PeerId, id: TaskId, version: u8, input: &mut Input<'_>) {
        let [block, wrong] = input.array();
        let block = u32::from(block);
        let bytes = if wrong % 8 == 0 { block + 1 } else { block };
        let report = PieceReport {
            from,
            task: id,
            version: self.version(id, version),
            block: BlockIndex(block),
            digest: digest(bytes),
        };
        *self
            .parked
            .entry((id, block, Origin::Peer(from)))
            .or_default() += 1;
        let arrival = self.tracker.report_piece(self.now, report);
        let expected = self.tracker.digest(&id, BlockIndex(block));
        if arrival == Arrival::Good {
            assert_eq!(expected, Some(digest(bytes)), "believed without a digest");
        }
    }

    fn event(&mut self, from: PeerId, id: TaskId, flags: u8, input: &mut Input<'_>) {
        let accused = peer(flags / 8);
        let (kind, subject) = match flags % 6 {
            0 => (EventKind::DownloadStart, None),
            1 => (EventKind::Progress, None),
            2 => (EventKind::Recover, None),
            3 => (EventKind::Length, None),
            4 => (EventKind::FileRemove, None),
            _ => (EventKind::Isolate, Some(Subject::from(accused))),
        };
        let event = Event {
            origin: from,
            subject: subject.unwrap_or_else(|| Subject::from_bytes(*id.as_bytes())),
            kind,
            clock: 1,
            body: Bytes::copy_from_slice(input.chunk()),
        };
        self.tracker.handle_event(self.now, &event);
    }

    /// What a store held when the node started.
    fn restore(&mut self, id: TaskId, input: &mut Input<'_>) {
        let length = u64::from(input.byte().unwrap_or_default()) * 40_000;
        let head = SourceHead {
            length: Some(length),
            validators: Validators {
                etag: Some("\"1\"".to_owned()),
                last_modified: None,
            },
            ranges: true,
            digest: None,
            authority: None,
            public: true,
        };
        let Some(meta) = Meta::of(&head, [1; 32]) else {
            return;
        };
        let blocks = meta.layout.blocks().unwrap_or_default();
        let have: BlockSet = input
            .array::<8>()
            .into_iter()
            .map(|block| BlockIndex(u32::from(block)))
            .filter(|block| block.0 < blocks)
            .collect();
        self.tracker.forget(self.now, &id);
        self.drain();
        self.tracker.restore(self.now, id, meta, have, Vec::new());
    }

    /// Does what is due, until nothing is: a driver must never spin.
    fn run_timers(&mut self) {
        let mut rounds = 0;
        while self
            .tracker
            .poll_timeout()
            .is_some_and(|due| due <= self.now)
        {
            self.tracker.handle_timeout(self.now);
            self.drain();
            rounds += 1;
            assert!(rounds <= MAX_TIMEOUTS, "the deadlines never come to an end");
        }
    }

    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.tracker.poll_output() {
            outputs += 1;
            assert!(outputs <= MAX_OUTPUTS, "one call sets off too much");
            match output {
                Output::Send { to, message } => {
                    assert_ne!(to, peer(0), "a message to itself left the machine");
                    sound(&message);
                }
                Output::ReadSource { task, lease } => {
                    let Lease { id, extent } = lease;
                    if let Extent::Blocks { meta, run } = &extent {
                        layout(&meta.layout);
                        assert!(run.start <= run.end);
                    }
                    self.reads.insert(id, (task, None, 0));
                }
                Output::StopSource { task: _, lease } => {
                    self.reads.remove(&lease);
                    // The bytes that it parked go with it.
                    self.parked
                        .retain(|(_, _, origin), _| *origin != Origin::Source(lease));
                }
                Output::Keep {
                    task,
                    block,
                    origin,
                    ..
                } => self.unpark(task, block, origin),
                Output::Drop {
                    task,
                    block,
                    origin,
                } => {
                    // A drop too many does no harm: there are no bytes to be thrown away.
                    if self.parked.contains_key(&(task, block.0, origin)) {
                        self.unpark(task, block, origin);
                    }
                }
                Output::Sign { request, .. } => self.unsigned.push(request),
                Output::KeepBatch { batch, .. } => {
                    assert!(is_signed(&batch.signer, &[], &batch.signature));
                }
                Output::Connect { peer: named } => assert_ne!(named.peer, peer(0)),
                Output::SendBlock { to, .. } | Output::StopSend { to, .. } => {
                    assert_ne!(to, peer(0));
                }
                Output::StopReceive { from, .. } => assert_ne!(from, peer(0)),
                Output::Publish { body, .. } => {
                    assert!(body.len() <= dfnode_gossip::MAX_BODY_BYTES);
                }
                Output::Task { .. } | Output::Withdraw { .. } => {}
                Output::Blame { peer: blamed, .. } => assert_ne!(blamed, peer(0)),
            }
        }
        let from_peers = self
            .parked
            .keys()
            .any(|(_, _, origin)| matches!(origin, Origin::Peer(_)));
        assert!(!from_peers, "a peer's block is neither kept nor dropped");
    }

    fn unpark(&mut self, task: TaskId, block: BlockIndex, origin: Origin) {
        let key = (task, block.0, origin);
        let count = self.parked.get_mut(&key);
        let count = count.expect("a block was kept that is not there");
        *count -= 1;
        if *count == 0 {
            self.parked.remove(&key);
        }
    }

    fn check(&self) {
        let config = Config::default();
        assert!(self.tracker.uploads() <= config.upload_slots);
        assert!(self.tracker.downloads() <= config.download_slots);
        for view in self.tracker.tasks() {
            if let Some(meta) = &view.meta {
                assert!(meta.is_sound());
                let blocks = meta.layout.blocks().unwrap_or(MAX_BLOCKS);
                assert!(view.blocks_held <= blocks);
                assert!(!view.complete || view.blocks_held == blocks);
            }
        }
        assert!(!self.tracker.isolated().contains_key(&peer(0)));
    }
}

/// Has a message speak of what the machine knows: arbitrary names would pass it by.
fn aim(message: &mut Message, id: TaskId, version: VersionId, own_lease: Option<u64>) {
    for meta in metas(message) {
        meta.version = version;
    }
    match message {
        Message::Register(m) => m.task = id,
        Message::Registered(m) => {
            m.task = id;
            if let (Outcome::LeaseGone { lease }, Some(own)) = (&mut m.outcome, own_lease) {
                *lease = own;
            }
        }
        Message::LeaseReport(m) => {
            m.task = id;
            m.lease = own_lease.unwrap_or(m.lease);
        }
        Message::Leave(task) | Message::Room(task) | Message::Bye(task) => *task = id,
        Message::HomeProbe(m) => m.task = id,
        Message::HomeState(m) => {
            m.task = id;
            for (number, (holder, ..)) in
                (0..).zip(m.table.iter_mut().flat_map(|table| &mut table.leases))
            {
                *holder = peer(number);
            }
        }
        Message::Hello(m) => m.task = id,
        Message::Batches(m) => {
            m.task = id;
            for batch in &mut m.batches {
                batch.version = version;
            }
        }
        Message::Have(m) => (m.task, m.version) = (id, version),
        Message::Offer(m) => (m.task, m.version) = (id, version),
        Message::Want(m) => (m.task, m.version) = (id, version),
        Message::Decline(m) => m.task = id,
        Message::Cancel(m) | Message::Refuse(m) => (m.task, m.version) = (id, version),
        Message::AskDigests(m) => (m.task, m.version) = (id, version),
        Message::Border(m) => m.task = id,
    }
}

/// The versions that a message speaks of.
fn metas(message: &mut Message) -> Vec<&mut Meta> {
    fn of(lease: &mut Lease) -> Option<&mut Meta> {
        match &mut lease.extent {
            Extent::Probe => None,
            Extent::Blocks { meta, .. } | Extent::Validate { meta } => Some(meta),
        }
    }
    match message {
        Message::Register(m) => {
            let leases = m.leases.iter_mut().filter_map(of);
            m.meta.iter_mut().chain(leases).collect()
        }
        Message::Registered(m) => match &mut m.outcome {
            Outcome::Welcome { meta, lease, .. } => {
                let lease = lease.as_mut().and_then(of);
                meta.iter_mut().chain(lease).collect()
            }
            Outcome::Redirect { .. }
            | Outcome::NotYet
            | Outcome::Failed { .. }
            | Outcome::Report
            | Outcome::LeaseGone { .. }
            | Outcome::Busy => Vec::new(),
        },
        Message::LeaseReport(m) => m.meta.iter_mut().collect(),
        Message::HomeState(m) => {
            let Some(table) = &mut m.table else {
                return Vec::new();
            };
            let leases = table.leases.iter_mut();
            let leases = leases.filter_map(|(_, lease, _)| of(lease));
            table.meta.iter_mut().chain(leases).collect()
        }
        Message::Hello(m) => m.meta.iter_mut().collect(),
        Message::Leave(_)
        | Message::HomeProbe(_)
        | Message::Batches(_)
        | Message::Have(_)
        | Message::Offer(_)
        | Message::Want(_)
        | Message::Decline(_)
        | Message::Room(_)
        | Message::Cancel(_)
        | Message::Refuse(_)
        | Message::Bye(_)
        | Message::AskDigests(_)
        | Message::Border(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpora_pass() {
        replay::replay(&[
            ("tracker_message", message),
            ("tracker_holds", holds),
            ("tracker_names", names),
            ("tracker_machine", machine),
        ]);
    }
}
