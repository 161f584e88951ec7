//! What the fuzz targets run; `docs/fuzzing.md` lists them. Not part of any build that is used.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};

use crate::wire::{
    Answer, Datagram, Dst, Header, Item, Last, Load, MAX_CLOCK, Message, Open, Record, Standing,
    Unsigned, events_datagram, split_aged_items, split_items, split_records, swim_datagram,
};
use crate::{
    Config, EventKind, Gossip, Labels, MAX_ADDRS, MAX_BODY_BYTES, MAX_DATAGRAM_BYTES,
    MAX_ITEM_BYTES, MAX_MEMBERS, MAX_SYNC_BYTES, Member, Now, Output, PeerId, Subject, Violation,
    datagram_sender,
};

#[path = "../../fuzz/input.rs"]
pub mod input;
#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

use input::Input;

/// What one call may put out: a packet brings a few records or events, and each sets off a few packets.
const MAX_OUTPUTS: usize = 4096;
/// Timers that may be due one after the other without time passing.
const MAX_TIMEOUTS: usize = 64;

/// A packet: what is read is written as it was, or means the same.
pub fn datagram(bytes: &[u8]) {
    let Ok(datagram) = Datagram::read(bytes) else {
        assert!(datagram_sender(bytes).is_err());
        return;
    };
    match datagram {
        Datagram::Swim(packet) => {
            assert_eq!(swim_datagram(packet), bytes);
            let Ok((header, used)) = Header::from_front(packet) else {
                return;
            };
            assert_eq!(datagram_sender(bytes), Ok(header.src.peer));
            let again = header.to_bytes();
            assert!(again.len() <= used && used <= packet.len());
            assert_eq!(Header::from_front(&again), Ok((header, again.len())));
            records(packet.get(used + 2..).unwrap_or_default());
        }
        Datagram::Events { sender, items } => {
            assert_eq!(events_datagram(&sender, items), bytes);
            assert_eq!(datagram_sender(bytes), Ok(sender));
            let mut seen = 0;
            for bytes in split_items(items).map_while(Result::ok) {
                seen += bytes.len();
                item(bytes);
            }
            assert!(seen <= items.len());
        }
    }
}

/// An event: it is kept byte for byte, and its parts are within their bounds.
pub fn item(bytes: &[u8]) {
    let Ok(item) = Item::read(bytes) else { return };
    assert!(bytes.len() <= MAX_ITEM_BYTES && item.raw == bytes);
    assert!(item.event.clock <= MAX_CLOCK);
    let content = item.event.content.as_deref().unwrap_or_default();
    assert!(content.len() <= MAX_BODY_BYTES);
    let genuine = item.is_genuine();
    let again = if item.event.kind.is_signed() {
        item.event.clone().finish_signed(&[0; 64])
    } else {
        assert!(genuine);
        item.event.clone().finish()
    };
    assert!(again.raw.len() <= bytes.len());
    let read = Item::read(&again.raw).expect("our own item is one");
    assert_eq!(read.event, item.event);
}

/// The three messages of a push/pull: what is read means the same once written again.
pub fn sync(bytes: &[u8]) {
    if let Ok(open) = Open::read(bytes) {
        let again = open.to_bytes();
        assert!(open.me.is_reachable() && again.len() <= bytes.len());
        assert_eq!(Open::read(&again), Ok(open));
    }
    if let Ok(answer) = Answer::read(bytes) {
        let again = answer.to_bytes();
        assert!(answer.me.is_reachable() && again.len() <= bytes.len());
        load(&answer.load);
        assert_eq!(Answer::read(&again), Ok(answer));
    }
    if let Ok(last) = Last::read(bytes) {
        let again = last.to_bytes();
        assert!(last.me.is_reachable() && again.len() <= bytes.len());
        load(&last.load);
        assert_eq!(Last::read(&again), Ok(last));
    }
}

fn load(load: &Load) {
    records(&load.members);
    for aged in split_aged_items(&load.items).map_while(Result::ok) {
        item(aged.item);
    }
}

fn records(bytes: &[u8]) {
    let mut seen = 0;
    for record in split_records(bytes).map_while(Result::ok) {
        assert!(record.member.is_reachable());
        let again = record.to_bytes();
        seen += again.len();
        assert_eq!(Record::from_front(&again), Ok((record, again.len())));
    }
    assert!(seen <= bytes.len());
}

/// The machine under packets and push/pulls of anybody, while time passes and its node does things.
pub fn machine(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut bench = Bench::new();
    while let Some(step) = input.byte() {
        bench.step(step, &mut input);
        bench.drain();
    }
    bench.check();
}

/// A machine and what it said so far.
struct Bench {
    gossip: Gossip,
    now: Now,
    up: BTreeSet<PeerId>,
    unsigned: Vec<(crate::SignRequestId, Vec<u8>)>,
}

/// Members that there are.
const MEMBERS: u8 = 6;

static KEYS: LazyLock<Vec<SigningKey>> = LazyLock::new(|| {
    let key = |number| SigningKey::from_bytes(&[number; 32]);
    (0..MEMBERS).map(key).collect()
});

fn key(number: u8) -> &'static SigningKey {
    &KEYS[usize::from(number % MEMBERS)]
}

/// One of a few members, in one of a few lives; number 0 is the machine's own node.
fn member(number: u8, life: u8) -> Member {
    let number = number % MEMBERS;
    Member {
        peer: PeerId::from_bytes(key(number).verifying_key().to_bytes()),
        addrs: vec![SocketAddr::from((
            [10, 0, life % 2, number + 1],
            65_000 + u16::from(number),
        ))],
        generation: 1_000 + u64::from(life % 8),
        labels: Labels::default(),
    }
}

impl Bench {
    fn new() -> Self {
        let now = Now::from_micros(1_000_000);
        Self {
            gossip: Gossip::new(Config::default(), member(0, 0), 7, now),
            now,
            up: BTreeSet::new(),
            unsigned: Vec::new(),
        }
    }

    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        let stranger = member(1, 0).peer;
        // What comes of a fault is the sender's business; here it must only do no harm.
        match step % 12 {
            0 => {
                let packet = input.chunk();
                let from = datagram_sender(packet).unwrap_or(stranger);
                let _ = self.gossip.handle_datagram(self.now, from, packet);
            }
            1 => {
                let packet = self.swim_packet(input);
                let from = datagram_sender(&packet).unwrap_or(stranger);
                let _ = self.gossip.handle_datagram(self.now, from, &packet);
            }
            2 => {
                let (from, packet) = events(input);
                let _ = self.gossip.handle_datagram(self.now, from, &packet);
            }
            3 => {
                let open = input.chunk();
                let from = Open::read(open).map_or(stranger, |open| open.me.peer);
                let answer = self.gossip.sync_answer(self.now, from, open);
                bounded(answer, |bytes| Answer::read(bytes).is_ok());
            }
            4 => {
                let answer = input.chunk();
                let from = Answer::read(answer).map_or(stranger, |answer| answer.me.peer);
                let last = self.gossip.sync_finish(self.now, from, answer);
                bounded(last, |bytes| Last::read(bytes).is_ok());
            }
            5 => {
                let last = input.chunk();
                let from = Last::read(last).map_or(stranger, |last| last.me.peer);
                let _ = self.gossip.sync_close(self.now, from, last);
            }
            6 => {
                let millis = u64::from(u16::from_le_bytes(input.array()));
                self.now = self.now + Duration::from_millis(millis);
                self.run_timers();
            }
            7 => {
                let (subject, kind) = (subject(input), kind(input));
                let body = Bytes::copy_from_slice(input.chunk());
                let _ = self.gossip.publish(self.now, subject, kind, body);
            }
            8 => {
                let (subject, kind) = (subject(input), kind(input));
                self.gossip.withdraw(self.now, subject, kind);
            }
            9 => {
                if let Some((request, bytes)) = self.unsigned.pop() {
                    let signature = key(0).sign(&bytes).to_bytes();
                    self.gossip.handle_signature(self.now, request, signature);
                }
            }
            10 => {
                let life = input.byte().unwrap_or_default();
                self.gossip.set_addrs(self.now, member(0, life).addrs);
            }
            _ => {
                let [leave, number] = input.array();
                self.gossip.saw_the_same(member(number, 0).peer);
                if leave == 0 {
                    self.gossip.leave(self.now);
                }
            }
        }
    }

    /// A packet for this very machine, from a member, with records of members.
    fn swim_packet(&self, input: &mut Input<'_>) -> Vec<u8> {
        let [number, life, incarnation, kind, detail, third] = input.array();
        let message = match kind % 11 {
            0 => Message::Ping(detail),
            1 => Message::Ack(detail),
            2 => Message::PingReq(member(third, life), detail),
            3 => Message::IndirectPing(member(third, life), detail),
            4 => Message::IndirectAck(member(third, life), detail),
            5 => Message::ForwardedAck(member(third, life), detail),
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            _ => Message::TurnUndead,
        };
        let header = Header {
            src: member(number, life),
            src_incarnation: u16::from(incarnation),
            dst: Dst::of(self.gossip.me()),
            message,
        };
        let mut packet = header.to_bytes();
        let count = input.byte().unwrap_or_default() % 5;
        packet.extend([0, count]);
        for _ in 0..count {
            let [number, life, incarnation, standing] = input.array();
            let record = Record {
                member: member(number, life),
                incarnation: u16::from(incarnation),
                standing: match standing % 3 {
                    0 => Standing::Alive,
                    1 => Standing::Suspect,
                    _ => Standing::Down,
                },
            };
            packet.extend(record.to_bytes());
        }
        swim_datagram(&packet)
    }

    /// Does what is due, until nothing is: a driver must never spin.
    fn run_timers(&mut self) {
        let is_due = |gossip: &Gossip, now| gossip.poll_timeout().is_some_and(|due| due <= now);
        let mut rounds = 0;
        while is_due(&self.gossip, self.now) {
            self.gossip.handle_timeout(self.now);
            self.drain();
            rounds += 1;
            assert!(rounds <= MAX_TIMEOUTS, "the timers never come to an end");
        }
    }

    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.gossip.poll_output() {
            outputs += 1;
            assert!(outputs <= MAX_OUTPUTS, "one call sets off too much");
            match output {
                Output::Datagram { to, bytes } => {
                    assert!(to.is_reachable() && bytes.len() <= MAX_DATAGRAM_BYTES);
                    assert_ne!(to.peer, self.gossip.me().peer);
                    assert_eq!(datagram_sender(&bytes), Ok(self.gossip.me().peer));
                    datagram(&bytes);
                }
                Output::Up(member) => {
                    assert!(member.is_reachable());
                    assert!(self.up.insert(member.peer), "a member is up twice");
                }
                Output::Changed(member) => assert!(self.up.contains(&member.peer)),
                Output::Down(peer) => assert!(self.up.remove(&peer), "a member is down twice"),
                Output::Event(event) => {
                    assert!(event.body.len() <= MAX_BODY_BYTES);
                    assert_ne!(event.origin, self.gossip.me().peer);
                }
                Output::Removed { .. } => {}
                Output::SyncWith(member) => assert_ne!(member.peer, self.gossip.me().peer),
                Output::Sign { request, bytes } => self.unsigned.push((request, bytes)),
                Output::Renewed(me) => assert_eq!(me.peer, self.gossip.me().peer),
            }
        }
    }

    fn check(&self) {
        let me = self.gossip.me();
        assert!(me.addrs.len() <= MAX_ADDRS);
        let members: Vec<PeerId> = self.gossip.members().map(|member| member.peer).collect();
        assert!(members.len() <= MAX_MEMBERS && !members.contains(&me.peer));
        assert!(
            members.iter().eq(&self.up),
            "who is up was told otherwise: {members:?} {:?}",
            self.up
        );
        let _ = self.gossip.glance();
    }
}

/// Events of one member, signed as they should be.
fn events(input: &mut Input<'_>) -> (PeerId, Vec<u8>) {
    let [sender, origin, withdrawn, clock] = input.array();
    let origin = origin % MEMBERS;
    let event = Unsigned {
        origin: member(origin, 0).peer,
        subject: subject(input),
        kind: kind(input).into(),
        clock: 1_000 + u64::from(clock),
        content: (withdrawn % 4 != 0).then(|| {
            let content = input.chunk();
            Bytes::copy_from_slice(&content[..content.len().min(MAX_BODY_BYTES)])
        }),
    };
    let item = if event.kind.is_signed() {
        let signature = key(origin).sign(&event.bytes_to_sign()).to_bytes();
        event.finish_signed(&signature)
    } else {
        event.finish()
    };
    let sender = member(sender, 0).peer;
    (sender, events_datagram(&sender, &item.raw))
}

fn subject(input: &mut Input<'_>) -> Subject {
    Subject::from_bytes([input.byte().unwrap_or_default() % 4; 32])
}

fn kind(input: &mut Input<'_>) -> EventKind {
    match input.byte().unwrap_or_default() % 6 {
        0 => EventKind::DownloadStart,
        1 => EventKind::Progress,
        2 => EventKind::Length,
        3 => EventKind::FileRemove,
        4 => EventKind::Recover,
        _ => EventKind::Isolate,
    }
}

fn bounded(reply: Result<Vec<u8>, Violation>, reads: impl Fn(&[u8]) -> bool) {
    if let Ok(bytes) = reply {
        assert!(bytes.len() <= MAX_SYNC_BYTES && reads(&bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpora_pass() {
        replay::replay(&[
            ("gossip_datagram", datagram),
            ("gossip_item", item),
            ("gossip_sync", sync),
            ("gossip_machine", machine),
        ]);
    }
}
