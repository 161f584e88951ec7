use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::{
    EventKind, Labels, MAX_ADDRS, MAX_BODY_BYTES, MAX_DATAGRAM_BYTES, MAX_ITEM_BYTES, Member,
    PeerId, Subject, Zone,
};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn origin() -> PeerId {
    PeerId::from_bytes(key().verifying_key().to_bytes())
}

fn member(byte: u8) -> Member {
    Member {
        peer: PeerId::from_bytes([byte; 32]),
        addrs: vec![
            "10.0.0.1:65000".parse().unwrap(),
            "[fd00::1]:65000".parse().unwrap(),
        ],
        generation: 1_700_000_000_000,
        labels: Labels {
            zone: Zone::try_new("hall-3").unwrap(),
            weight: 100,
            leech: false,
        },
    }
}

fn biggest_member() -> Member {
    Member {
        peer: PeerId::from_bytes([0xff; 32]),
        addrs: vec![
            "[fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
                .parse()
                .unwrap();
            MAX_ADDRS
        ],
        generation: u64::MAX,
        labels: Labels {
            zone: Zone::try_new("fifteen-letters").unwrap(),
            weight: 255,
            leech: true,
        },
    }
}

fn header(message: Message) -> Header {
    Header {
        src: member(1),
        src_incarnation: 3,
        dst: Dst::of(&member(2)),
        message,
    }
}

fn write(kind: EventKind, content: Option<&'static [u8]>) -> Unsigned {
    Unsigned {
        origin: origin(),
        subject: Subject::from_bytes([9; 32]),
        kind: kind.into(),
        clock: 1_700_000_000_123,
        content: content.map(Bytes::from_static),
    }
}

fn signed(write: Unsigned) -> Item {
    let signature = key().sign(&write.bytes_to_sign()).to_bytes();
    write.finish_signed(&signature)
}

fn swim_packet() -> Vec<u8> {
    let record = Record {
        member: member(3),
        incarnation: 1,
        standing: Standing::Suspect,
    };
    let mut packet = header(Message::Gossip).to_bytes();
    packet.extend([0, 1]);
    packet.extend(record.to_bytes());
    packet
}

fn load() -> Load {
    let mut packer = Packer::default();
    packer.add_member(&Record {
        member: member(3),
        incarnation: 0,
        standing: Standing::Down,
    });
    packer.add_item(
        Duration::from_mins(5),
        &write(EventKind::Progress, Some(b"all")).finish().raw,
    );
    packer.finish()
}

/// One valid message of each kind, by the name of its golden file.
fn specimens() -> BTreeMap<&'static str, Vec<u8>> {
    let ping_req = header(Message::PingReq(member(4), 9)).to_bytes();
    BTreeMap::from([
        (
            "swim_ping",
            swim_datagram(&header(Message::Ping(200)).to_bytes()),
        ),
        ("swim_ping_req", swim_datagram(&ping_req)),
        ("swim_gossip", swim_datagram(&swim_packet())),
        (
            "event_progress",
            write(EventKind::Progress, Some(b"all"))
                .finish()
                .raw
                .to_vec(),
        ),
        (
            "event_withdrawn",
            write(EventKind::Progress, None).finish().raw.to_vec(),
        ),
        (
            "event_length",
            signed(write(EventKind::Length, Some(b"4096"))).raw.to_vec(),
        ),
        ("events", {
            let start = write(EventKind::DownloadStart, Some(b"")).finish();
            let recover = write(EventKind::Recover, Some(b"all")).finish();
            events_datagram(&origin(), &[start.raw, recover.raw].concat())
        }),
        ("sync_open", {
            let hash = |bucket: usize| u32::try_from(bucket).unwrap() << 24;
            Open {
                me: member(1),
                members: std::array::from_fn(hash),
                events: std::array::from_fn(hash),
            }
            .to_bytes()
        }),
        (
            "sync_answer",
            Answer {
                me: member(2),
                members_differ: Buckets::differing(
                    &[0; 256],
                    &std::array::from_fn(|bucket| u32::from(bucket == 255)),
                ),
                events_differ: Buckets::differing(
                    &[0; 64],
                    &std::array::from_fn(|bucket| u32::from(bucket == 3)),
                ),
                load: load(),
            }
            .to_bytes(),
        ),
        (
            "sync_last",
            Last {
                me: member(1),
                load: Load {
                    more: true,
                    ..load()
                },
            }
            .to_bytes(),
        ),
    ])
}

fn golden(name: &str) -> Vec<u8> {
    let text = match name {
        "swim_ping" => include_str!("../../golden/swim_ping.hex"),
        "swim_ping_req" => include_str!("../../golden/swim_ping_req.hex"),
        "swim_gossip" => include_str!("../../golden/swim_gossip.hex"),
        "event_progress" => include_str!("../../golden/event_progress.hex"),
        "event_withdrawn" => include_str!("../../golden/event_withdrawn.hex"),
        "event_length" => include_str!("../../golden/event_length.hex"),
        "events" => include_str!("../../golden/events.hex"),
        "sync_open" => include_str!("../../golden/sync_open.hex"),
        "sync_answer" => include_str!("../../golden/sync_answer.hex"),
        "sync_last" => include_str!("../../golden/sync_last.hex"),
        other => panic!("no golden file for {other}"),
    };
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn the_bytes_on_the_wire_are_those_of_the_golden_files() {
    for (name, bytes) in specimens() {
        let hex = bytes
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert!(bytes == golden(name), "{name} is now\n{hex}");
    }
}

#[test]
fn golden_bytes_are_read_back() {
    let gossip = golden("swim_gossip");
    let Datagram::Swim(packet) = Datagram::read(&gossip).unwrap() else {
        panic!("not SWIM")
    };
    let (head, used) = Header::from_front(packet).unwrap();
    assert_eq!(head, header(Message::Gossip));
    let (record, rest) = Record::from_front(&packet[used + 2..]).unwrap();
    assert_eq!(
        (record.standing, used + 2 + rest),
        (Standing::Suspect, packet.len())
    );

    let withdrawn = Item::read(&golden("event_withdrawn")).unwrap();
    assert_eq!(
        (
            withdrawn.event.content.as_ref(),
            withdrawn.event.clone().into_event()
        ),
        (None, None)
    );
    let length = Item::read(&golden("event_length")).unwrap();
    assert!(length.is_genuine());
    assert_eq!(length.event, write(EventKind::Length, Some(b"4096")));

    assert_eq!(datagram_sender(&golden("events")), Ok(origin()));
    assert_eq!(datagram_sender(&golden("swim_ping")), Ok(member(1).peer));
    assert_eq!(
        Open::read(&golden("sync_open")).unwrap().events[63],
        63 << 24
    );
    let answer = Answer::read(&golden("sync_answer")).unwrap();
    let aged = split_aged_items(&answer.load.items)
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(aged.age, Duration::from_mins(5));
    assert!(Last::read(&golden("sync_last")).unwrap().load.more);
}

#[test]
fn a_message_with_a_byte_too_many_or_too_few_is_refused() {
    for (name, bytes) in specimens() {
        let longer = [bytes.clone(), vec![0]].concat();
        assert!(read_any(&longer).is_err(), "{name} with a byte more");
        for length in 0..bytes.len() {
            assert!(
                read_any(&bytes[..length]).is_err(),
                "{name} cut to {length}"
            );
        }
    }
}

#[test]
fn a_body_that_is_longer_than_its_value_is_refused() {
    let mut body = bincode::serde::encode_to_vec(
        Last {
            me: member(1),
            load: load(),
        },
        bincode::config::standard(),
    )
    .unwrap();
    body.push(0);
    assert_eq!(
        Last::read(&long_frame(0x12, &body)),
        Err(Violation::Malformed("sync last"))
    );
}

#[test]
fn other_versions_and_kinds_are_told_apart_from_garbage() {
    for (name, mut bytes) in specimens() {
        bytes[0] = 2;
        assert_eq!(
            read_any(&bytes),
            Err(Violation::UnknownVersion(2)),
            "{name}"
        );
    }
    assert!(matches!(
        Datagram::read(&[VERSION, 9, 0, 0]),
        Err(Violation::UnexpectedKind(9))
    ));
    let open = golden("sync_open");
    assert_eq!(Answer::read(&open), Err(Violation::UnexpectedKind(0x10)));
}

#[test]
fn a_member_that_nobody_could_reach_is_refused() {
    for addrs in [
        vec![],
        vec!["0.0.0.0:1".parse().unwrap()],
        vec!["10.0.0.1:1".parse().unwrap(); MAX_ADDRS + 1],
    ] {
        let record = Record {
            member: Member { addrs, ..member(1) },
            incarnation: 0,
            standing: Standing::Alive,
        };
        assert!(Record::from_front(&record.to_bytes()).is_err());
    }
}

#[test]
fn a_signature_covers_every_byte_of_the_event() {
    let genuine = signed(write(EventKind::Length, Some(b"4096")));
    for at in 0..genuine.raw.len() {
        let mut bytes = genuine.raw.to_vec();
        bytes[at] ^= 1;
        let accepted =
            Item::read(&bytes).is_ok_and(|item| item.is_genuine() && item.event.kind.is_signed());
        assert!(!accepted, "byte {at}");
    }
}

#[test]
fn an_unsigned_kind_cannot_be_turned_into_a_signed_one() {
    let mut bytes = write(EventKind::Progress, Some(&[0; 64]))
        .finish()
        .raw
        .to_vec();
    bytes[1] = 0x81;
    assert!(!Item::read(&bytes).is_ok_and(|item| item.is_genuine()));
}

#[test]
fn events_of_unknown_kinds_keep_their_bytes() {
    let mut bytes = golden("event_progress");
    bytes[1] = 0x2a;
    let item = Item::read(&bytes).unwrap();
    assert!(item.is_genuine());
    assert_eq!(
        (&item.raw[..], item.event.clone().into_event()),
        (&bytes[..], None)
    );
}

#[test]
fn the_biggest_event_fits_into_its_bound_and_a_bigger_body_is_refused() {
    let mut write = write(EventKind::Length, None);
    write.clock = MAX_CLOCK;
    write.content = Some(vec![0xff; MAX_BODY_BYTES].into());
    let item = signed(write.clone());
    assert!(item.raw.len() <= MAX_ITEM_BYTES);
    assert!(Item::read(&item.raw).is_ok());
    write.content = Some(vec![0; MAX_BODY_BYTES + 1].into());
    assert!(Item::read(&signed(write.clone()).raw).is_err());
    write.content = Some(vec![0; 1000].into());
    let too_large = Item::read(&signed(write).raw);
    assert!(matches!(
        too_large,
        Err(Violation::TooLarge {
            limit: MAX_ITEM_BYTES,
            ..
        })
    ));
}

#[test]
fn the_biggest_head_leaves_room_for_the_idle_budget() {
    let header = Header {
        src: biggest_member(),
        src_incarnation: u16::MAX,
        dst: Dst::of(&biggest_member()),
        message: Message::Ping(255),
    };
    let bytes = swim_datagram(&header.to_bytes()).len() + 2;
    assert!(bytes <= 230, "{bytes}");
}

#[test]
fn a_load_stops_at_the_size_of_a_message() {
    let mut packer = Packer::default();
    let record = Record {
        member: biggest_member(),
        incarnation: 9,
        standing: Standing::Alive,
    };
    for _ in 0..crate::MAX_MEMBERS {
        packer.add_member(&record);
    }
    let item = signed(write(EventKind::Length, Some(&[1; MAX_BODY_BYTES])));
    for _ in 0..10_000 {
        packer.add_item(Duration::ZERO, &item.raw);
    }
    let last = Last {
        me: biggest_member(),
        load: packer.finish(),
    };
    assert!(last.load.more);
    assert_eq!(
        split_records(&last.load.members).count(),
        crate::MAX_MEMBERS,
        "all members fit"
    );
    let bytes = last.to_bytes();
    assert!(bytes.len() <= crate::MAX_SYNC_BYTES);
    assert_eq!(Last::read(&bytes), Ok(last));
}

/// Reads `bytes` as what its kind says, to the last field.
fn read_any(bytes: &[u8]) -> Result<(), Violation> {
    match bytes.get(1) {
        Some(0x10) => Open::read(bytes).map(drop),
        Some(0x11) => read_load(&Answer::read(bytes)?.load),
        Some(0x12) => read_load(&Last::read(bytes)?.load),
        Some(_) => read_datagram(bytes)
            .or_else(|violation| Item::read(bytes).map(drop).map_err(|_| violation)),
        None => Err(Violation::Malformed("nothing")),
    }
}

fn read_load(load: &Load) -> Result<(), Violation> {
    split_records(&load.members).try_for_each(|record| record.map(drop))?;
    split_aged_items(&load.items).try_for_each(|aged| Item::read(aged?.item).map(drop))
}

fn read_datagram(bytes: &[u8]) -> Result<(), Violation> {
    match Datagram::read(bytes)? {
        Datagram::Swim(packet) => {
            let (_, used) = Header::from_front(packet)?;
            let rest = packet.get(used + 2..).unwrap_or_default();
            split_records(rest).try_for_each(|record| record.map(drop))
        }
        Datagram::Events { items, .. } => split_items(items).try_for_each(|item| {
            let item = Item::read(item?)?;
            let _either_way = item.event.clone().into_event();
            Ok(())
        }),
    }
}

mod fuzz;
