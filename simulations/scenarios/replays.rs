//! Equal seeds give equal runs.

use dfnode_simulations::{Membership, Report, Scenario};

use crate::trial::{Trial, seed};

fn two_hundred(seed: u64) -> Report {
    let trial = Trial::of(
        "a_run_of_200_nodes_can_be_replayed",
        &Scenario {
            nodes: 200,
            file_bytes: 5_000_000,
            host_bits_per_sec: 200_000_000,
            source_bits_per_sec: 4_000_000_000,
            membership: Membership::Gossip,
            seed,
            ..Scenario::default()
        },
    );
    trial.all_finish(1.0);
    trial.report
}

#[test]
fn a_run_of_200_nodes_can_be_replayed() {
    let seed = seed(42);
    let (once, again) = (two_hundred(seed), two_hundred(seed));
    assert_eq!(once, again, "seed {seed}: the same run twice");
    let other = two_hundred(seed + 1);
    assert_ne!(
        once.trace_hash, other.trace_hash,
        "another seed is another run"
    );
}
