use crate::world::World;
use crate::{SEED, secs};

#[test]
fn an_idle_node_sends_at_most_700_bytes_a_second() {
    // What every packet costs besides: 48 bytes of IPv6 and UDP headers, 65 of the seal.
    const AROUND: u64 = 113;
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
        let per_second = |before: u64, after: u64| (after - before).div_ceil(60 * 100);
        let datagrams = per_second(before.0, after.0);
        let syncs = per_second(before.1, after.1);
        let each_minute = (after.2 - before.2) / 100;
        println!(
            "{name}: {datagrams} B/s in {each_minute} datagrams a minute, {syncs} B/s of push/pull"
        );
        assert!(datagrams + syncs <= 700);
    }
}
