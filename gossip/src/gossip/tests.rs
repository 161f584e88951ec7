use ed25519_dalek::{Signer, SigningKey};
use rand::RngExt;

use std::time::Duration;

use super::*;
use crate::wire::{
    self, Dst, Header, Item, Last, Packer, Record, Standing, Unsigned, events_datagram,
    swim_datagram,
};
use crate::{Labels, MAX_BODY_BYTES, MAX_MEMBERS, MAX_SLOTS_PER_ORIGIN};

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes(key(number).verifying_key().to_bytes())
}

fn member(peer: PeerId) -> Member {
    Member {
        peer,
        addrs: vec!["10.0.0.1:65000".parse().unwrap()],
        generation: 1000,
        labels: Labels::default(),
    }
}

fn subject(number: u64) -> Subject {
    Subject::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn at(millis: u64) -> Now {
    Now::from_micros(millis * 1000)
}

fn node(number: u8) -> Gossip {
    Gossip::new(
        Config::default(),
        member(peer(number)),
        u64::from(number),
        at(0),
    )
}

/// A push/pull from `one` to `other`.
fn sync(now: Now, one: &mut Gossip, other: &mut Gossip) {
    let (first, second) = (one.me().peer, other.me().peer);
    let open = one.sync_open(now);
    let answer = other.sync_answer(now, first, &open).unwrap();
    let last = one.sync_finish(now, second, &answer).unwrap();
    other.sync_close(now, first, &last).unwrap();
}

/// Nodes 1 and 2, which know each other.
fn pair() -> (Gossip, Gossip) {
    let (mut one, mut two) = (node(1), node(2));
    sync(at(0), &mut one, &mut two);
    drain(&mut one);
    drain(&mut two);
    (one, two)
}

fn drain(gossip: &mut Gossip) -> Vec<Output> {
    std::iter::from_fn(|| gossip.poll_output()).collect()
}

/// Runs `gossip` alone until `end` and returns what it wanted.
fn run(gossip: &mut Gossip, end: Now) -> Vec<Output> {
    let mut outputs = drain(gossip);
    while let Some(due) = gossip.poll_timeout().filter(|due| *due <= end) {
        gossip.handle_timeout(due);
        outputs.extend(drain(gossip));
    }
    outputs
}

fn datagrams(outputs: &[Output]) -> Vec<Bytes> {
    let datagram = |output: &Output| match output {
        Output::Datagram { bytes, .. } => Some(bytes.clone()),
        Output::Up(_)
        | Output::Changed(_)
        | Output::Down(_)
        | Output::Event(_)
        | Output::Removed { .. }
        | Output::SyncWith(_)
        | Output::Sign { .. }
        | Output::Renewed(_) => None,
    };
    outputs.iter().filter_map(datagram).collect()
}

fn write(origin: u8, kind: EventKind) -> Unsigned {
    Unsigned {
        origin: peer(origin),
        subject: subject(1),
        kind: kind.into(),
        clock: 2000,
        content: Some(Bytes::from_static(b"body")),
    }
}

fn events_from(sender: u8, items: &[&Item]) -> Vec<u8> {
    let items: Vec<u8> = items
        .iter()
        .flat_map(|item| item.raw.iter().copied())
        .collect();
    events_datagram(&peer(sender), &items)
}

fn carries(outputs: &[Output], item: &[u8]) -> bool {
    datagrams(outputs)
        .iter()
        .any(|bytes| bytes.windows(item.len()).any(|window| window == item))
}

#[test]
fn a_push_pull_makes_two_strangers_members() {
    let (mut one, mut two) = (node(1), node(2));
    assert!(!one.synced());
    sync(at(0), &mut one, &mut two);
    assert!(one.synced() && two.synced());
    assert_eq!(drain(&mut one)[0], Output::Up(member(peer(2))));
    assert_eq!(two.members().collect::<Vec<_>>(), [&member(peer(1))]);
    assert_eq!(two.member(&peer(1)), Some(&member(peer(1))));
    assert_eq!(two.member(&peer(2)), None, "oneself is not among them");
}

#[test]
fn a_datagram_is_taken_only_from_the_one_it_names() {
    let (mut one, mut two) = pair();
    let ping = datagrams(&run(&mut one, at(1500))).pop().unwrap();
    assert_eq!(
        two.handle_datagram(at(1500), peer(3), &ping),
        Err(Violation::SenderMismatch)
    );
    assert_eq!(drain(&mut two), []);
    assert_eq!(
        one.handle_datagram(at(1500), peer(1), &ping),
        Err(Violation::SenderMismatch)
    );
    assert_eq!(two.handle_datagram(at(1500), peer(1), &ping), Ok(()));
    assert_eq!(datagrams(&drain(&mut two)).len(), 1, "the answer");

    let item = write(1, EventKind::Progress).finish();
    let events = events_from(1, &[&item]);
    assert_eq!(
        two.handle_datagram(at(1500), peer(3), &events),
        Err(Violation::SenderMismatch)
    );
    assert_eq!(two.events(&subject(1)).count(), 0);
}

#[test]
fn a_push_pull_is_taken_only_from_the_one_it_names() {
    let (mut one, mut two) = (node(1), node(2));
    let open = one.sync_open(at(0));
    assert_eq!(
        two.sync_answer(at(0), peer(3), &open),
        Err(Violation::SenderMismatch)
    );
    assert_eq!(
        one.sync_answer(at(0), peer(1), &open),
        Err(Violation::SenderMismatch)
    );
    assert_eq!(two.members().count(), 0);
}

#[test]
fn a_forged_event_is_blamed_on_the_sender_and_goes_no_further() {
    let (mut one, mut two) = pair();
    drop(one.sync_open(at(0)));
    let unsigned = write(1, EventKind::Length);
    let forged = unsigned
        .clone()
        .finish_signed(&key(3).sign(&unsigned.bytes_to_sign()).to_bytes());
    let honest = write(1, EventKind::Progress).finish();
    let events = events_from(1, &[&forged, &honest]);
    assert_eq!(
        two.handle_datagram(at(10), peer(1), &events),
        Err(Violation::BadSignature)
    );
    let kinds: Vec<_> = two.events(&subject(1)).map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [EventKind::Progress],
        "the rest of the datagram counts"
    );
    let outputs = run(&mut two, at(900));
    assert!(carries(&outputs, &honest.raw));
    assert!(!carries(&outputs, &forged.raw));
}

#[test]
fn events_of_unknown_kinds_are_passed_on_and_handed_out_but_not_told() {
    let (_, mut two) = pair();
    let mut raw = write(1, EventKind::Progress).finish().raw.to_vec();
    raw[1] = 0x2a;
    let item = Item::read(&raw).unwrap();
    assert_eq!(
        two.handle_datagram(at(10), peer(1), &events_from(1, &[&item])),
        Ok(())
    );
    let outputs = run(&mut two, at(900));
    assert!(
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Event(_)))
    );
    assert!(carries(&outputs, &raw));
    let mut three = node(3);
    sync(at(900), &mut three, &mut two);
    let mut four = node(4);
    sync(at(900), &mut four, &mut three);
    assert!(four.slots.digest() == two.slots.digest());
}

#[test]
fn a_signed_kind_is_in_force_once_its_signature_is_there() {
    let (mut one, _) = pair();
    one.publish(
        at(0),
        subject(1),
        EventKind::Length,
        Bytes::from_static(b"7"),
    )
    .unwrap();
    let outputs = drain(&mut one);
    let [Output::Sign { request, bytes }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(one.events(&subject(1)).count(), 0);
    let signature = key(1).sign(bytes).to_bytes();
    one.handle_signature(at(1), *request, signature);
    assert_eq!(one.events(&subject(1)).count(), 1);
    one.handle_signature(at(1), *request, signature);
    assert_eq!(drain(&mut one), []);
    assert!(!datagrams(&run(&mut one, at(900))).is_empty());
}

#[test]
fn a_signature_that_does_not_verify_publishes_nothing() {
    let (mut one, _) = pair();
    one.publish(at(0), subject(1), EventKind::Length, Bytes::new())
        .unwrap();
    let outputs = drain(&mut one);
    let [Output::Sign { request, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    one.handle_signature(at(1), *request, [0; 64]);
    assert_eq!(one.events(&subject(1)).count(), 0);
}

#[test]
fn a_write_that_is_withdrawn_before_it_is_signed_never_comes_into_force() {
    let (mut one, _) = pair();
    one.publish(at(0), subject(1), EventKind::Length, Bytes::new())
        .unwrap();
    let outputs = drain(&mut one);
    let [Output::Sign { request, bytes }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    one.withdraw(at(1), subject(1), EventKind::Length);
    one.handle_signature(at(2), *request, key(1).sign(bytes).to_bytes());
    assert_eq!(one.events(&subject(1)).count(), 0);
}

#[test]
fn what_cannot_be_published_changes_nothing() {
    let mut one = node(1);
    let too_long = Bytes::from(vec![0; MAX_BODY_BYTES + 1]);
    let length = too_long.len();
    let refused = one.publish(at(0), subject(1), EventKind::Progress, too_long);
    assert_eq!(refused, Err(PublishError::BodyTooLarge { length }));
    for number in 0..u64::try_from(MAX_SLOTS_PER_ORIGIN).unwrap() {
        one.publish(at(0), subject(number), EventKind::Progress, Bytes::new())
            .unwrap();
    }
    let refused = one.publish(at(0), subject(1 << 40), EventKind::Progress, Bytes::new());
    assert_eq!(refused, Err(PublishError::TooManySlots));
    one.publish(at(0), subject(1), EventKind::Progress, Bytes::new())
        .unwrap();
    one.withdraw(at(0), subject(1), EventKind::Progress);
    one.publish(at(0), subject(1 << 40), EventKind::Progress, Bytes::new())
        .unwrap();
    let mut unsigned = node(2);
    let refusal = (0..1000).find_map(|number| {
        unsigned
            .publish(at(0), subject(number), EventKind::Length, Bytes::new())
            .err()
    });
    assert_eq!(refusal, Some(PublishError::TooManyUnsigned));
}

#[test]
fn to_say_the_same_again_costs_nothing() {
    let (mut one, _) = pair();
    let body = Bytes::from_static(b"all");
    one.publish(at(0), subject(1), EventKind::Progress, body.clone())
        .unwrap();
    let clock = one.events(&subject(1)).next().unwrap().clock;
    one.publish(at(50), subject(1), EventKind::Progress, body.clone())
        .unwrap();
    assert_eq!(one.events(&subject(1)).next().unwrap().clock, clock);
    one.withdraw(at(60), subject(1), EventKind::Progress);
    one.publish(at(70), subject(1), EventKind::Progress, body)
        .unwrap();
    assert_eq!(one.events(&subject(1)).count(), 1);
}

#[test]
fn an_address_with_a_scope_of_this_host_confuses_nobody() {
    let scoped = Member {
        addrs: vec!["[fe80::1%7]:65000".parse().unwrap()],
        ..member(peer(1))
    };
    let mut one = Gossip::new(Config::default(), scoped, 1, at(0));
    let mut two = node(2);
    sync(at(0), &mut one, &mut two);
    assert_eq!(two.member(&peer(1)), Some(one.me()));
    one.set_addrs(at(10), vec!["[fe80::1%8]:65000".parse().unwrap()]);
    assert_eq!(one.me().generation, 1000, "to others nothing changed");
}

#[test]
fn who_left_is_silent() {
    let (mut one, mut two) = pair();
    one.leave(at(10));
    let goodbye = datagrams(&drain(&mut one));
    assert!(!goodbye.is_empty());
    for bytes in goodbye {
        two.handle_datagram(at(11), peer(1), &bytes).unwrap();
    }
    assert!(drain(&mut two).contains(&Output::Down(peer(1))));
    assert_eq!(one.poll_timeout(), None);
    assert_eq!(
        one.publish(at(20), subject(1), EventKind::Progress, Bytes::new()),
        Err(PublishError::Left)
    );
    one.handle_timeout(at(100_000));
    assert_eq!(drain(&mut one), []);
}

#[test]
fn a_flood_of_members_stops_at_the_bound() {
    let (mut one, mut two) = pair();
    let record = |number: u64| {
        let peer = PeerId::from_bytes(*subject(number).as_bytes());
        Record {
            member: member(peer),
            incarnation: 0,
            standing: Standing::Alive,
        }
    };
    let flood: u64 = 1000 + u64::try_from(MAX_MEMBERS).unwrap();
    for batch in 0..2 {
        let mut packer = Packer::default();
        (batch * flood / 2..(batch + 1) * flood / 2)
            .for_each(|number| packer.add_member(&record(number)));
        let last = Last {
            me: one.me().clone(),
            load: packer.finish(),
        };
        two.sync_close(at(10), peer(1), &last.to_bytes()).unwrap();
    }
    assert_eq!(two.members().count(), MAX_MEMBERS);
    drain(&mut two);
    let mut stranger = node(3);
    sync_open_only(&mut stranger, &mut two);
    assert_eq!(two.member(&peer(3)), None);
    sync(at(20), &mut one, &mut two);
    assert!(two.member(&peer(1)).is_some(), "who is known is heard");
}

fn sync_open_only(one: &mut Gossip, other: &mut Gossip) {
    let open = one.sync_open(at(10));
    other.sync_answer(at(10), one.me().peer, &open).unwrap();
}

#[test]
fn garbage_in_the_middle_of_a_life_does_no_harm() {
    let rounds = 20_000;
    let (mut one, mut two) = pair();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(0xF0CA);
    let mut specimens: Vec<Vec<u8>> = Vec::new();
    for kind in [EventKind::Progress, EventKind::DownloadStart] {
        one.publish(at(0), subject(1), kind, Bytes::from_static(b"body"))
            .unwrap();
    }
    specimens.extend(
        datagrams(&run(&mut one, at(8000)))
            .into_iter()
            .map(Vec::from),
    );
    one.set_addrs(at(8000), vec!["10.0.0.2:1".parse().unwrap()]);
    specimens.extend(datagrams(&drain(&mut one)).into_iter().map(Vec::from));
    let open = one.sync_open(at(8000));
    let answer = two.sync_answer(at(8000), peer(1), &open).unwrap();
    let last = one.sync_finish(at(8000), peer(2), &answer).unwrap();
    let mut now = at(8000);
    for round in 0..rounds {
        now = now + Duration::from_millis(rng.random_range(0..20));
        let from = peer([1, 1, 1, 2, 3][rng.random_range(0..5)]);
        let specimen = &specimens[rng.random_range(0..specimens.len())];
        let _either_way = two.handle_datagram(now, from, &damaged(&mut rng, specimen));
        if round % 10 == 0 {
            let _either_way = two.sync_answer(now, peer(1), &damaged(&mut rng, &open));
            let _either_way = two.sync_finish(now, peer(1), &damaged(&mut rng, &answer));
            let _either_way = two.sync_close(now, peer(1), &damaged(&mut rng, &last));
        }
        two.handle_timeout(now);
        drain(&mut two);
    }
    let mut fresh = Gossip::new(Config::default(), member(peer(9)), 9, now);
    sync(now, &mut fresh, &mut two);
    assert!(
        two.member(&peer(9)).is_some(),
        "it is as open to the honest as before"
    );
}

fn damaged(rng: &mut Xoshiro256PlusPlus, specimen: &[u8]) -> Vec<u8> {
    let mut bytes = specimen.to_vec();
    for _ in 0..rng.random_range(0..3) {
        let at = rng.random_range(0..bytes.len());
        bytes[at] = rng.random();
    }
    bytes
}

#[test]
fn nobody_pushes_and_pulls_with_a_former_life_of_its_own() {
    let mut one = node(1);
    let former = Record {
        member: Member {
            generation: 1,
            ..member(peer(1))
        },
        incarnation: 0,
        standing: Standing::Down,
    };
    let head = Header {
        src: member(peer(2)),
        src_incarnation: 0,
        dst: Dst::of(one.me()),
        message: wire::Message::Gossip,
    };
    let packet = [head.to_bytes(), vec![0, 1], former.to_bytes()].concat();
    one.handle_datagram(at(0), peer(2), &swim_datagram(&packet))
        .unwrap();
    // Who told it falls silent, so that none but the dead are left.
    let partners: Vec<PeerId> = run(&mut one, at(3_600_000))
        .into_iter()
        .filter_map(|output| match output {
            Output::SyncWith(member) => Some(member.peer),
            Output::Up(_)
            | Output::Changed(_)
            | Output::Down(_)
            | Output::Event(_)
            | Output::Removed { .. }
            | Output::Datagram { .. }
            | Output::Sign { .. }
            | Output::Renewed(_) => None,
        })
        .collect();
    assert!(!partners.is_empty());
    assert!(partners.iter().all(|partner| *partner == peer(2)));
}
