//! Whole clusters under a virtual clock.
#![expect(clippy::unwrap_used, reason = "test code")]
#![expect(
    clippy::print_stdout,
    reason = "the measured numbers are for the reader"
)]

use std::time::Duration;

use dfnode_gossip::EventKind;

mod world;

use world::{World, subject};

const SEED: u64 = 0xD0F5;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn twenty_nodes_that_start_together_know_each_other_within_five_seconds() {
    for seed in 0..5 {
        let mut world = World::new(SEED + seed);
        world.cluster(20, secs(1));
        let took = world.run_until(secs(5), World::is_complete);
        println!("seed {seed}: complete after {took:?}");
        assert!(took.is_some(), "seed {seed}");
    }
}

#[test]
fn a_crash_among_twenty_is_known_to_all_within_fifteen_seconds() {
    for seed in 0..5 {
        let mut world = World::new(SEED + seed);
        world.cluster(20, secs(1));
        world.run(secs(10));
        assert!(world.is_complete());
        world.kill(7);
        let took = world.run_until(secs(15), World::is_complete);
        println!("seed {seed}: known to all after {took:?}");
        assert!(took.is_some(), "seed {seed}");
        assert!(
            world
                .alive()
                .all(|index| world.nodes[index].seen.downs.len() == 1)
        );
    }
}

#[test]
fn who_leaves_is_known_to_be_gone_within_two_seconds() {
    let mut world = World::new(SEED);
    world.cluster(20, secs(1));
    world.run(secs(10));
    world.leave(3);
    world.kill(3);
    assert!(world.run_until(secs(2), World::is_complete).is_some());
}

#[test]
fn an_event_reaches_all_within_two_seconds() {
    let mut world = World::new(SEED);
    world.cluster(100, secs(10));
    world.run(secs(20));
    for (number, kind) in [EventKind::Progress, EventKind::Length]
        .into_iter()
        .enumerate()
    {
        let subject = subject(number as u64);
        world.publish(42, subject, kind, b"body");
        let reached = world.run_until(secs(2), |world| {
            world.alive().all(|index| world.has_event(index, &subject))
        });
        println!("{kind:?}: {reached:?}");
        assert!(reached.is_some(), "{kind:?}");
    }
}

#[test]
fn a_late_joiner_learns_all_events_by_one_push_pull() {
    let mut world = World::new(SEED);
    world.cluster(10, secs(1));
    world.run(secs(5));
    for number in 0..40 {
        world.publish(
            number % 10,
            subject(number as u64),
            EventKind::Progress,
            b"body",
        );
    }
    world.run(secs(10));
    let late = world.join(0);
    world.run(Duration::from_millis(10));
    assert!(world.nodes[late].gossip.synced());
    assert!((0..40).all(|number| world.has_event(late, &subject(number))));
    assert_eq!(world.nodes[late].seen.events.len(), 40);
}

#[test]
fn halves_that_were_parted_find_together_again() {
    let mut world = World::new(SEED);
    world.cluster(20, secs(1));
    world.run(secs(10));
    world.split(|index| u8::from(index < 10));
    world.run(secs(120));
    assert!(!world.sees(0, 15) && !world.sees(15, 0));
    assert!(world.sees(0, 5) && world.sees(15, 12));
    let subject = subject(1);
    world.publish(0, subject, EventKind::Progress, b"while parted");
    world.heal();
    let took = world.run_until(secs(90), World::is_complete);
    println!("together after {took:?}");
    assert!(took.is_some());
    let took = world.run_until(secs(60), |world| {
        world.alive().all(|index| world.has_event(index, &subject))
    });
    assert!(took.is_some());
}

#[test]
fn two_lone_nodes_that_were_parted_find_together_again() {
    let mut world = World::new(SEED);
    world.cluster(2, secs(1));
    world.run(secs(10));
    world.split(|index| u8::from(index == 0));
    world.run(secs(60));
    assert!(!world.sees(0, 1) && !world.sees(1, 0));
    world.heal();
    assert!(world.run_until(secs(30), World::is_complete).is_some());
}

#[test]
fn equal_seeds_give_equal_runs() {
    let run = |seed| {
        let mut world = World::new(seed);
        world.loss = 0.05;
        world.cluster(30, secs(3));
        world.publish(3, subject(1), EventKind::Length, b"x");
        world.run(secs(20));
        world.kill(5);
        world.run(secs(20));
        world.trace()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn losing_one_packet_in_twenty_makes_nobody_dead() {
    let mut world = World::new(SEED);
    world.loss = 0.05;
    world.cluster(100, secs(10));
    world.run(secs(300));
    assert!(world.is_complete());
    let downs: usize = world.nodes.iter().map(|node| node.seen.downs.len()).sum();
    let renewals: u32 = world.nodes.iter().map(|node| node.seen.renewals).sum();
    assert_eq!((downs, renewals), (0, 0));
}

#[test]
fn an_idle_node_sends_at_most_700_bytes_a_second() {
    // What every packet costs besides: 48 bytes of IPv6 and UDP headers, 49 of the seal.
    const AROUND: u64 = 97;
    // What a push/pull message costs besides: QUIC packets, acknowledgements, streams.
    const AROUND_SYNC: u64 = 300;
    let wide = |_| {
        [
            "10.1.2.3:65000",
            "192.168.100.200:65000",
            "[2001:db8:1:2:3:4:5:6]:65000",
            "[fd00:1:2:3:4:5:6:7]:65000",
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let narrow = |_| vec!["10.1.2.3:65000".to_owned()];
    for (name, addrs) in [
        ("one address", narrow as fn(usize) -> Vec<String>),
        ("four", wide),
    ] {
        let mut world = World::new(SEED).with_addrs(addrs);
        world.cluster(100, secs(10));
        world.run(secs(60));
        let cost = |world: &World| {
            let each = world.nodes.iter().map(|node| {
                let seen = &node.seen;
                (
                    seen.datagrams * AROUND + seen.datagram_bytes,
                    seen.sync_bytes + u64::from(seen.syncs) * AROUND_SYNC,
                    seen.datagrams,
                )
            });
            each.fold((0, 0, 0), |sum, one| {
                (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2)
            })
        };
        let before = cost(&world);
        world.run(secs(60));
        let after = cost(&world);
        let per_second = |before: u64, after: u64| (after - before) as f64 / 60.0 / 100.0;
        let datagrams = per_second(before.0, after.0);
        let syncs = per_second(before.1, after.1);
        println!(
            "{name}: {datagrams:.0} B/s in {:.2} datagrams/s, {syncs:.0} B/s of push/pull",
            per_second(before.2, after.2)
        );
        assert!(datagrams + syncs <= 700.0);
    }
}

#[test]
fn one_who_was_cut_off_comes_back_without_disturbing_the_others() {
    let mut world = World::new(SEED);
    world.cluster(20, secs(1));
    world.run(secs(10));
    world.split(|index| u8::from(index == 4));
    world.run(secs(60));
    assert!(!world.sees(4, 15) && !world.sees(15, 4));
    world.heal();
    let took = world.run_until(secs(60), World::is_complete);
    println!("back after {took:?}");
    assert!(took.is_some());
    world.run(secs(60));
    for index in world.alive().filter(|index| *index != 4) {
        let downs = &world.nodes[index].seen.downs;
        assert_eq!(
            downs.keys().collect::<Vec<_>>(),
            [&world.peer(4)],
            "node {index}"
        );
    }
    assert!(world.is_complete());
}
