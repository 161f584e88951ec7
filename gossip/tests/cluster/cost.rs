use std::fmt;
use std::time::Duration;

use crate::world::World;
use crate::{SEED, secs};

/// What every packet costs besides: 48 bytes of IPv6 and UDP headers, 65 of the seal.
const AROUND: u64 = 113;
/// What a push/pull message costs besides: QUIC packets, acknowledgements, streams.
const AROUND_SYNC: u64 = 300;

/// What a node at rest sends on the wire, on the average of all.
struct Cost {
    /// Bytes a second.
    datagrams: u64,
    /// Bytes a second.
    syncs: u64,
    datagrams_a_minute: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            datagrams,
            syncs,
            datagrams_a_minute,
        } = self;
        write!(
            f,
            "{datagrams} B/s in {datagrams_a_minute} datagrams a minute, {syncs} B/s of push/pull"
        )
    }
}

impl Cost {
    fn bytes_a_second(&self) -> u64 {
        self.datagrams + self.syncs
    }
}

/// Counts for a minute what the nodes of a world send.
fn at_rest(world: &mut World) -> Cost {
    let sent = |world: &World| {
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
    let before = sent(world);
    world.run(secs(60));
    let after = sent(world);
    let nodes = world.nodes.len() as u64;
    Cost {
        datagrams: (after.0 - before.0).div_ceil(60 * nodes),
        syncs: (after.1 - before.1).div_ceil(60 * nodes),
        datagrams_a_minute: (after.2 - before.2) / nodes,
    }
}

fn narrow(index: usize) -> Vec<String> {
    vec![format!("10.1.{}.{}:65000", index / 250, index % 250 + 1)]
}

fn wide(_: usize) -> Vec<String> {
    [
        "10.1.2.3:65000",
        "192.168.100.200:65000",
        "[2001:db8:1:2:3:4:5:6]:65000",
        "[fd00:1:2:3:4:5:6:7]:65000",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn an_idle_node_sends_at_most_700_bytes_a_second() {
    for (name, addrs) in [
        ("one address", narrow as fn(usize) -> Vec<String>),
        ("four", wide),
    ] {
        let mut world = World::new(SEED).with_addrs(addrs);
        world.cluster(100, secs(10));
        world.run(secs(60));
        let cost = at_rest(&mut world);
        println!("{name}: {cost}");
        assert!(cost.bytes_a_second() <= 700);
    }
}

/// `DFNODE_FULL=1` counts up to three thousand nodes.
#[test]
fn an_idle_node_sends_as_much_however_many_there_are() {
    let is_full = std::env::var("DFNODE_FULL").as_deref() == Ok("1");
    let sizes: &[usize] = if is_full {
        &[100, 1000, 3000]
    } else {
        &[100, 300]
    };
    let mut costs = Vec::new();
    for nodes in sizes {
        let mut world = World::new(SEED).with_addrs(narrow);
        world.cluster(*nodes, secs(10));
        // News of the joins is told on for a while.
        world.run(Duration::from_mins(3));
        assert!(world.is_complete());
        let cost = at_rest(&mut world);
        println!("{nodes} nodes: {cost}");
        costs.push(cost.bytes_a_second());
    }
    let (least, most) = (costs.iter().min().unwrap(), costs.iter().max().unwrap());
    assert!(most * 5 <= least * 6, "more than 20 % apart: {costs:?}");
}
