use std::time::Duration;

use dfnode_gossip::EventKind;

use crate::world::{World, subject};
use crate::{SEED, secs};

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
fn a_withdrawn_event_is_gone_everywhere_and_stays_gone() {
    let mut world = World::new(SEED);
    world.cluster(20, secs(1));
    world.run(secs(10));
    world.publish(4, subject(1), EventKind::Progress, b"here");
    world.publish(5, subject(1), EventKind::Length, b"9");
    world.run(secs(5));
    world.withdraw(4, subject(1), EventKind::Progress);
    world.withdraw(5, subject(1), EventKind::Length);
    let gone = |world: &World| {
        world
            .alive()
            .all(|index| !world.has_event(index, &subject(1)))
    };
    assert!(world.run_until(secs(3), gone).is_some());
    world.join(3);
    world.run(secs(120));
    assert!(gone(&world));
    assert_eq!(world.nodes[0].seen.removed.len(), 2);
    assert!(
        world.nodes[4]
            .seen
            .removed
            .iter()
            .all(|(origin, ..)| *origin != world.peer(4))
    );
}

#[test]
fn a_removal_ends_older_claims_but_not_newer_ones() {
    let mut world = World::new(SEED);
    world.cluster(20, secs(1));
    world.run(secs(10));
    for holder in 3..8 {
        world.publish(holder, subject(1), EventKind::Progress, b"all");
    }
    world.run(secs(5));
    world.split(|index| u8::from(index == 7));
    world.publish(0, subject(1), EventKind::FileRemove, b"");
    world.run(secs(3));
    for index in world.alive().filter(|index| *index != 7) {
        let kinds: Vec<_> = world.nodes[index]
            .gossip
            .events(&subject(1))
            .map(|event| event.kind)
            .collect();
        assert_eq!(kinds, [EventKind::FileRemove], "node {index}");
    }
    world.heal();
    let only_removal = |world: &World| {
        world.alive().all(|index| {
            world.nodes[index]
                .gossip
                .events(&subject(1))
                .all(|event| event.kind == EventKind::FileRemove)
        })
    };
    assert!(
        world.run_until(secs(90), only_removal).is_some(),
        "who held it while parted"
    );
    let told = (world.peer(7), subject(1), EventKind::Progress);
    assert!(
        world.nodes[7].seen.removed.contains(&told),
        "the holder itself must hear of it"
    );
    world.publish(9, subject(1), EventKind::DownloadStart, b"again");
    world.run(secs(5));
    for index in world.alive() {
        assert_eq!(
            world.nodes[index].gossip.events(&subject(1)).count(),
            2,
            "node {index}"
        );
    }
}

#[test]
fn what_the_dead_said_is_forgotten_after_minutes_everywhere_for_good() {
    let mut world = World::new(SEED);
    world.cluster(10, secs(1));
    world.run(secs(10));
    world.publish(4, subject(1), EventKind::Progress, b"all");
    world.publish(4, subject(2), EventKind::FileRemove, b"");
    world.run(secs(5));
    world.kill(4);
    world.run(secs(240));
    assert!(
        world
            .alive()
            .all(|index| world.has_event(index, &subject(1)))
    );
    world.run(secs(90));
    assert!(
        world
            .alive()
            .all(|index| !world.has_event(index, &subject(1)))
    );
    world.run(secs(600));
    assert!(
        world
            .alive()
            .all(|index| !world.has_event(index, &subject(1)))
    );
    assert!(
        world
            .alive()
            .all(|index| world.has_event(index, &subject(2))),
        "removals stay"
    );
    let late = world.join(0);
    world.run(secs(60));
    assert!(!world.has_event(late, &subject(1)));
}

#[test]
fn who_was_parted_for_long_is_heard_again_with_all_that_it_holds() {
    let mut world = World::new(SEED);
    world.cluster(10, secs(1));
    world.run(secs(10));
    world.publish(4, subject(1), EventKind::Progress, b"all");
    world.run(secs(5));
    world.split(|index| u8::from(index == 4));
    world.run(secs(600));
    assert!(!world.has_event(0, &subject(1)));
    world.heal();
    let all = |world: &World| {
        world
            .alive()
            .all(|index| world.has_event(index, &subject(1)))
    };
    assert!(world.run_until(secs(120), all).is_some());
}

#[test]
fn who_starts_anew_and_does_not_repeat_a_claim_loses_it() {
    let mut world = World::new(SEED);
    world.cluster(10, secs(1));
    world.run(secs(10));
    for number in 1..4 {
        world.publish(4, subject(number), EventKind::Progress, b"all");
    }
    world.publish(4, subject(3), EventKind::FileRemove, b"");
    for number in [4, 5] {
        world.publish(4, subject(number), EventKind::Isolate, b"why");
    }
    world.run(secs(5));
    world.kill(4);
    // A clock that went back: what the new life says must count all the same.
    world.restart(4, 7);
    world.publish(4, subject(1), EventKind::Recover, b"still");
    world.publish(4, subject(1), EventKind::Progress, b"new");
    world.publish(4, subject(5), EventKind::Isolate, b"again");
    world.sync(4, 0);
    world.run(secs(30));
    assert!(
        world.has_event(0, &subject(2)),
        "there is time to repeat it"
    );
    world.run(secs(60));
    for index in world.alive() {
        let gossip = &world.nodes[index].gossip;
        let bodies: Vec<_> = gossip
            .events(&subject(1))
            .map(|event| event.body.clone())
            .collect();
        assert_eq!(bodies, ["new", "still"], "node {index}");
        assert_eq!(gossip.events(&subject(2)).count(), 0, "node {index}");
        let accused = [4, 5].map(|number| gossip.events(&subject(number)).count());
        assert_eq!(accused, [0, 1], "node {index}: one is said again");
        assert_eq!(
            gossip.events(&subject(3)).count(),
            1,
            "node {index}: removals are no claims"
        );
    }
}

#[test]
fn an_event_is_quick_although_everybody_joins_at_once() {
    let mut world = World::new(SEED);
    world.cluster(100, secs(5));
    world.run(secs(20));
    for _ in 0..60 {
        world.join(0);
    }
    world.publish(42, subject(1), EventKind::Progress, b"body");
    let old = |world: &World| (0..100).all(|index| world.has_event(index, &subject(1)));
    let took = world.run_until(secs(3), old);
    println!("reached the old ones after {took:?}");
    assert!(took.is_some());
}

#[test]
fn a_node_with_much_to_say_is_held_to_its_rate_and_loses_nothing() {
    let mut world = World::new(SEED);
    world.cluster(10, secs(1));
    world.run(secs(10));
    for number in 0..100 {
        world.publish(4, subject(number), EventKind::Progress, b"1");
        world.publish(4, subject(number), EventKind::Progress, b"2");
    }
    let heard = |world: &World| {
        (0..100)
            .filter(|number| world.has_event(0, &subject(*number)))
            .count()
    };
    world.run(secs(2));
    let early = heard(&world);
    world.run(secs(60));
    assert!((20..=35).contains(&early), "a burst and the rate: {early}");
    assert_eq!(heard(&world), 100);
    assert!(
        world.nodes[0]
            .seen
            .events
            .iter()
            .all(|event| event.body == "2"),
        "coalesced"
    );
}

#[test]
fn a_thousand_events_reach_everybody_although_the_backlog_is_bounded() {
    let mut world = World::new(SEED);
    world.cluster(20, secs(1));
    // Alone, nobody limits them; the push/pull brings them in all at once.
    let rich = world.start();
    for number in 0..1000 {
        world.publish(rich, subject(number), EventKind::Progress, b"all");
    }
    world.run(Duration::from_millis(100));
    world.sync(rich, 0);
    let all = |world: &World| {
        world
            .alive()
            .all(|index| (0..1000).all(|number| world.has_event(index, &subject(number))))
    };
    assert!(world.run_until(secs(120), all).is_some());
}

#[test]
fn lost_packets_delay_an_event_but_never_lose_it() {
    let mut world = World::new(SEED);
    world.loss = 0.2;
    world.cluster(50, secs(5));
    world.run(secs(30));
    for number in 0..10 {
        world.publish(number, subject(number as u64), EventKind::Progress, b"body");
    }
    let all = |world: &World| {
        world
            .alive()
            .all(|index| (0..10).all(|number| world.has_event(index, &subject(number))))
    };
    let took = world.run_until(secs(120), all);
    println!("all everywhere after {took:?}");
    assert!(took.is_some());
}
