use dfnode_gossip::EventKind;

use crate::world::{World, subject};
use crate::{SEED, secs};

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
    for index in world.alive() {
        let companion = |other: &usize| (*other < 10) == (index < 10);
        for other in world.alive().filter(companion) {
            let downs = world.nodes[index].seen.downs.get(&world.peer(other));
            assert_eq!(downs, None, "{index} lost sight of its companion {other}");
        }
    }
    let took = world.run_until(secs(60), |world| {
        world.alive().all(|index| world.has_event(index, &subject))
    });
    assert!(took.is_some());
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
fn a_node_that_slept_takes_nobody_for_dead_and_comes_back() {
    let mut world = World::new(SEED);
    world.cluster(20, secs(1));
    world.run(secs(10));
    world.sleep(4);
    world.run(secs(60));
    assert!(!world.sees(0, 4));
    world.wake(4);
    assert!(world.run_until(secs(30), World::is_complete).is_some());
    world.run(secs(30));
    assert!(world.is_complete());
    assert!(
        world.nodes[4].seen.downs.is_empty(),
        "{:?}",
        world.nodes[4].seen.downs
    );
}

#[test]
fn a_node_that_starts_anew_is_one_member_of_a_higher_generation() {
    let mut world = World::new(SEED);
    world.cluster(10, secs(1));
    world.run(secs(10));
    let before = world.nodes[4].gossip.me().generation;
    world.kill(4);
    world.restart(4, before + 1);
    world.sync(4, 0);
    assert!(world.run_until(secs(5), World::is_complete).is_some());
    world.run(secs(60));
    assert!(world.is_complete());
    let peer = world.peer(4);
    for index in world.alive().filter(|index| *index != 4) {
        let node = &world.nodes[index];
        assert_eq!(node.gossip.member(&peer).unwrap().generation, before + 1);
        assert_eq!(
            node.seen.downs.len(),
            0,
            "it came back before it was missed"
        );
        assert_eq!(node.seen.changes[&peer], 1);
    }
}

#[test]
fn a_node_whose_clock_stepped_back_is_heard_all_the_same() {
    let mut world = World::new(SEED);
    world.cluster(10, secs(1));
    world.run(secs(10));
    let before = world.nodes[4].gossip.me().generation;
    world.kill(4);
    world.run(secs(30));
    world.restart(4, 5);
    world.sync(4, 0);
    assert!(world.run_until(secs(5), World::is_complete).is_some());
    assert!(world.nodes[4].gossip.me().generation > before);
    assert!(world.nodes[4].seen.renewals > 0, "the driver must store it");
}

#[test]
fn new_addresses_reach_all_and_nobody_loses_sight() {
    let mut world = World::new(SEED);
    world.cluster(20, secs(1));
    world.run(secs(10));
    let moved = "10.9.9.9:1".parse().unwrap();
    world.set_addrs(4, vec![moved]);
    let peer = world.peer(4);
    let moved_for = |world: &World, index: usize| {
        world.nodes[index]
            .gossip
            .member(&peer)
            .is_some_and(|member| member.addrs == [moved])
    };
    let all = |world: &World| {
        world
            .alive()
            .filter(|index| *index != 4)
            .all(|index| moved_for(world, index))
    };
    assert!(world.run_until(secs(2), all).is_some());
    world.run(secs(30));
    assert!(world.is_complete());
    assert!(world.nodes.iter().all(|node| node.seen.downs.is_empty()));
}

#[test]
fn a_hundred_nodes_join_through_one_although_one_packet_in_twenty_is_lost() {
    let mut world = World::new(SEED);
    world.loss = 0.05;
    world.cluster(100, secs(5));
    let took = world.run_until(secs(15), World::is_complete);
    println!("complete after {took:?}");
    assert!(took.is_some());
}

#[test]
fn one_packet_in_five_lost_brings_down_next_to_nobody() {
    let mut world = World::new(SEED);
    world.loss = 0.2;
    world.cluster(50, secs(5));
    world.run(secs(200));
    let renewals: u32 = world.nodes.iter().map(|node| node.seen.renewals).sum();
    println!("{renewals} nodes were taken for dead");
    assert!(renewals <= 5);
}

#[test]
fn nobody_is_ever_blamed_among_honest_nodes() {
    let mut world = World::new(SEED);
    world.loss = 0.1;
    world.cluster(30, secs(3));
    world.publish(3, subject(1), EventKind::FileRemove, b"");
    world.run(secs(20));
    world.kill(5);
    world.split(|index| u8::from(index < 10));
    world.run(secs(60));
    world.heal();
    world.restart(5, 1);
    world.sync(5, 20);
    world.run(secs(60));
    for (index, node) in world.nodes.iter().enumerate() {
        assert_eq!(node.seen.violations, [], "node {index}");
    }
}

#[test]
fn who_missed_the_verdict_on_a_suspect_asks_for_it() {
    let mut world = World::new(SEED);
    world.cluster(20, secs(1));
    world.run(secs(10));
    world.kill(7);
    world.run(secs(4));
    world.split(|index| u8::from(index == 5));
    let others_know = |world: &World| {
        let mut others = world.alive().filter(|index| *index != 5);
        others.all(|index| !world.sees(index, 7))
    };
    assert!(world.run_until(secs(10), others_know).is_some());
    world.run(secs(2));
    assert!(world.sees(5, 7), "the scenario needs one that missed it");
    world.heal();
    let took = world.run_until(secs(8), |world| !world.sees(5, 7));
    println!("known after {took:?}");
    assert!(took.is_some());
    assert!(world.run_until(secs(15), World::is_complete).is_some());
}
