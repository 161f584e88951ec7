//! Hosts that alter what they relay.

use dfnode_simulations::{Fault, Membership, Scenario, crowd};

use crate::trial::{Trial, seed};

fn some_lie(membership: Membership) -> Scenario {
    Scenario {
        membership,
        seed: seed(7),
        source_bits_per_sec: 1_000_000_000,
        ..crowd(20, 20_000_000, vec![Fault::Liars { share: 0.2 }])
    }
}

#[test]
fn liars_are_shut_out_and_the_rest_finish() {
    let told = crowd(20, 0, Vec::new()).membership;
    let trial = Trial::of("liars_are_shut_out_and_the_rest_finish", &some_lie(told));
    trial.all_finish(1.15);
    trial.check(trial.report.isolations > 0, "liars are isolated");
}

#[test]
fn gossip_tells_of_liars() {
    let trial = Trial::of("gossip_tells_of_liars", &some_lie(Membership::Gossip));
    trial.all_finish(1.15);
    trial.check(
        trial.report.isolations >= 4 * 10,
        format_args!(
            "most honest nodes isolate most liars, not {} times in all",
            trial.report.isolations
        ),
    );
}
