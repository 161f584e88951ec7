use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::wire::Unsigned;

const KEEP: Duration = Duration::from_mins(5);
const TOMBSTONES: Duration = Duration::from_hours(24);
const FRESH: Duration = Duration::ZERO;

fn at(seconds: u64) -> Now {
    Now::from_micros(seconds * 1_000_000)
}

fn peer(number: u64) -> PeerId {
    PeerId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn subject(number: u64) -> Subject {
    Subject::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes())
}

/// An item of a store that takes signatures for granted.
fn item(origin: u64, about: u64, kind: EventKind, clock: u64, content: Option<&[u8]>) -> Item {
    let write = Unsigned {
        origin: peer(origin),
        subject: subject(about),
        kind: kind.into(),
        clock,
        content: content.map(Bytes::copy_from_slice),
    };
    if kind.is_signed() {
        write.finish_signed(&[0; 64])
    } else {
        write.finish()
    }
}

fn progress(origin: u64, about: u64, clock: u64) -> Item {
    item(origin, about, EventKind::Progress, clock, Some(b"all"))
}

fn slots() -> Slots {
    Slots::new(KEEP, TOMBSTONES)
}

fn offer(slots: &mut Slots, now: Now, item: &Item) -> bool {
    slots.wants(item, FRESH) && slots.write(now, item.clone(), FRESH)
}

fn count(slots: &Slots, about: u64) -> usize {
    slots.events(&subject(about)).count()
}

#[test]
fn the_write_with_the_higher_clock_stays() {
    let mut slots = slots();
    assert!(offer(&mut slots, at(0), &progress(1, 1, 5)));
    assert!(!offer(&mut slots, at(0), &progress(1, 1, 5)), "known");
    assert!(!offer(&mut slots, at(0), &progress(1, 1, 4)), "older");
    assert!(offer(&mut slots, at(0), &progress(1, 1, 6)));
    assert_eq!(slots.clock_of(&subject(1)), 6);
    assert_eq!(slots.take_changes().len(), 2);
}

#[test]
fn a_removal_ends_what_was_claimed_before_it_and_refuses_it_later() {
    let mut slots = slots();
    offer(&mut slots, at(0), &progress(1, 1, 5));
    offer(&mut slots, at(0), &progress(2, 1, 9));
    offer(&mut slots, at(0), &progress(1, 2, 5));
    slots.take_changes();
    assert!(offer(
        &mut slots,
        at(0),
        &item(3, 1, EventKind::FileRemove, 7, Some(b""))
    ));
    assert!(!offer(&mut slots, at(0), &progress(4, 1, 6)));
    assert!(offer(&mut slots, at(0), &progress(1, 1, 8)));
    assert_eq!((count(&slots, 1), count(&slots, 2)), (3, 1));
    let ended = slots
        .take_changes()
        .into_iter()
        .filter(|change| matches!(change, Change::Emptied { .. }));
    assert_eq!(ended.count(), 1);
}

#[test]
fn accusations_are_not_ended_by_a_removal() {
    let mut slots = slots();
    offer(
        &mut slots,
        at(0),
        &item(1, 1, EventKind::Isolate, 5, Some(b"")),
    );
    offer(
        &mut slots,
        at(0),
        &item(3, 1, EventKind::FileRemove, 7, Some(b"")),
    );
    assert_eq!(count(&slots, 1), 2);
}

#[test]
fn tombstones_are_forgotten_in_time_and_not_taken_back_from_the_late() {
    let mut slots = slots();
    let gone = item(1, 1, EventKind::Progress, 6, None);
    offer(&mut slots, at(0), &progress(1, 1, 5));
    offer(&mut slots, at(0), &gone);
    assert!(
        !offer(&mut slots, at(10), &progress(1, 1, 5)),
        "the tombstone holds"
    );
    assert_eq!(slots.poll_timeout(), Some(at(0) + TOMBSTONES));
    slots.expire(at(0) + TOMBSTONES);
    assert_eq!(
        (slots.poll_timeout(), *slots.digest()),
        (None, [0; EVENT_BUCKETS])
    );
    assert!(!slots.wants(&gone, TOMBSTONES));
    let half = TOMBSTONES / 2;
    slots.write(at(100), gone, half);
    assert_eq!(
        slots.poll_timeout(),
        Some(at(100) + half),
        "its age travels with it"
    );
}

#[test]
fn a_slot_written_anew_after_its_withdrawal_outlives_the_tombstone() {
    let mut slots = slots();
    offer(&mut slots, at(0), &item(1, 1, EventKind::Progress, 6, None));
    offer(&mut slots, at(0), &progress(1, 1, 7));
    assert_eq!(slots.poll_timeout(), None);
    slots.expire(at(0) + TOMBSTONES + TOMBSTONES);
    assert_eq!(count(&slots, 1), 1);
}

#[test]
fn slots_of_the_gone_are_dropped_and_refused_until_they_are_back() {
    let mut slots = slots();
    offer(&mut slots, at(0), &progress(1, 1, 5));
    offer(
        &mut slots,
        at(0),
        &item(1, 2, EventKind::FileRemove, 6, Some(b"")),
    );
    slots.origin_down(at(10), &peer(1));
    slots.origin_down(at(100), &peer(1));
    slots.expire(at(309));
    assert_eq!(count(&slots, 1), 1);
    slots.expire(at(310));
    assert_eq!(
        (count(&slots, 1), count(&slots, 2)),
        (0, 1),
        "a removal needs no origin"
    );
    assert!(!slots.wants(&progress(1, 1, 5), FRESH));
    assert!(slots.wants(&progress(1, 1, 7), FRESH), "said since");
    slots.origin_up(&peer(1));
    assert!(slots.wants(&progress(1, 1, 5), FRESH));
}

#[test]
fn an_origin_that_comes_back_in_time_keeps_its_slots() {
    let mut slots = slots();
    offer(&mut slots, at(0), &progress(1, 1, 5));
    slots.origin_down(at(10), &peer(1));
    slots.origin_up(&peer(1));
    slots.expire(at(100_000));
    assert_eq!(count(&slots, 1), 1);
}

#[test]
fn no_origin_fills_more_than_its_share_and_the_newest_stay() {
    let mut slots = slots();
    let share = u64::try_from(MAX_SLOTS_PER_ORIGIN).unwrap();
    for number in 0..share + 10 {
        assert!(offer(&mut slots, at(0), &progress(1, number, 100 + number)));
    }
    assert_eq!(slots.filled_by(&peer(1)), MAX_SLOTS_PER_ORIGIN);
    assert_eq!((count(&slots, 9), count(&slots, 10)), (0, 1));
    assert!(
        !offer(&mut slots, at(0), &progress(1, 0, 50)),
        "lower than all"
    );
}

#[test]
fn no_subject_has_more_than_its_share_and_removals_go_last() {
    let mut slots = slots();
    offer(
        &mut slots,
        at(0),
        &item(0, 1, EventKind::FileRemove, 1, Some(b"")),
    );
    for origin in 1..=u64::try_from(MAX_SLOTS_PER_SUBJECT).unwrap() {
        assert!(offer(&mut slots, at(0), &progress(origin, 1, 100 + origin)));
    }
    assert_eq!(count(&slots, 1), MAX_SLOTS_PER_SUBJECT);
    let mut kinds = slots.events(&subject(1)).map(|event| event.kind);
    assert!(kinds.any(|kind| kind == EventKind::FileRemove));
}

#[test]
fn the_store_as_a_whole_is_bounded() {
    let mut slots = slots();
    let total = u64::try_from(MAX_SLOTS).unwrap();
    for number in 0..total + 100 {
        offer(
            &mut slots,
            at(0),
            &progress(number / 1000, number, number + 1),
        );
    }
    assert_eq!(slots.by_key.len(), MAX_SLOTS);
    assert_eq!((count(&slots, 99), count(&slots, 100)), (0, 1));
}

/// A few writers, subjects, clocks and contents, so that many writes meet.
fn writes() -> impl Strategy<Value = Vec<Item>> {
    let kinds = prop_oneof![
        4 => Just(EventKind::Progress),
        1 => Just(EventKind::Length),
        1 => Just(EventKind::FileRemove),
        1 => Just(EventKind::Isolate),
    ];
    let contents = prop_oneof![1 => Just(None), 2 => Just(Some(b"a")), 2 => Just(Some(b"b"))];
    let write = (0..4_u64, 0..3_u64, kinds, 1..8_u64, contents).prop_map(
        |(origin, about, kind, clock, content)| {
            item(origin, about, kind, clock, content.map(|c| &c[..]))
        },
    );
    proptest::collection::vec(write, 0..40)
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(writes in writes(), seed: u64) {
        // What a removal ends depends on what came after it, not on when it came.
        let mut shuffled = writes.clone();
        shuffled.sort_by_key(|item| blake3::hash(&[&seed.to_le_bytes()[..], &item.raw].concat()).as_bytes()[0]);
        let mut one = slots();
        let mut other = slots();
        for item in &writes {
            offer(&mut one, at(0), item);
        }
        for item in &shuffled {
            offer(&mut other, at(0), item);
        }
        // Two push/pulls, there and back, as in life.
        for _ in 0..2 {
            exchange(&mut one, &mut other);
        }
        prop_assert_eq!(one.digest(), other.digest());
        for about in 0..3 {
            prop_assert!(one.events(&subject(about)).eq(other.events(&subject(about))));
        }
    }

    #[test]
    fn the_digest_and_the_indices_follow_the_slots(writes in writes()) {
        let mut slots = slots();
        for (second, item) in writes.iter().enumerate() {
            offer(&mut slots, at(second as u64), item);
            slots.origin_down(at(second as u64), &peer(0));
        }
        slots.expire(at(1000));
        let mut digest = [0; EVENT_BUCKETS];
        for (key, slot) in &slots.by_key {
            digest[key.bucket()] ^= slot.hash;
        }
        prop_assert_eq!(&digest, slots.digest());
        prop_assert_eq!(slots.ranks.len(), slots.by_key.len());
        prop_assert_eq!(slots.by_origin.values().map(BTreeSet::len).sum::<usize>(), slots.by_key.len());
        let forgotten = slots.by_key.values().filter(|slot| slot.forget.is_some()).count();
        prop_assert_eq!(slots.expiries.len(), forgotten);
    }
}

fn exchange(one: &mut Slots, other: &mut Slots) {
    let to_other: Vec<Item> = one
        .in_buckets(at(0), Buckets::ALL)
        .map(|(_, raw)| Item::read(raw).unwrap())
        .collect();
    let to_one: Vec<Item> = other
        .in_buckets(at(0), Buckets::ALL)
        .map(|(_, raw)| Item::read(raw).unwrap())
        .collect();
    for item in to_other {
        offer(other, at(0), &item);
    }
    for item in to_one {
        offer(one, at(0), &item);
    }
}
