//! Hosts in several places: about one copy crosses each border, whoever dies.

use std::time::Duration;

use dfnode_simulations::{Scenario, Zones, usual};

use crate::trial::{Trial, cases, seed};

cases! {
    forty_hosts_in_four_zones => "zones-of-40",
    forty_hosts_in_four_zones_with_gossip => "zones-with-gossip",
    every_host_in_a_zone_of_its_own => "each-its-own-zone",
    borders_as_thin_as_a_tenth_of_a_host => "zones-thin",
    those_who_read_for_their_zones_die => "zones-readers-die",
    half_of_all_zones_dies => "zones-half-dies",
    a_hundred_hosts_in_four_zones => "zones-of-100",
}

#[test]
fn hosts_that_know_of_no_zones_keep_to_none() {
    let blind = Scenario {
        zones: Some(Zones {
            count: 4,
            trunk_bits_per_sec: 1_000_000_000_000,
            latency: Duration::from_millis(1),
            labelled: false,
        }),
        file_bytes: 20_000_000,
        seed: seed(7),
        ..usual(40, Vec::new())
    };
    let trial = Trial::of("hosts_that_know_of_no_zones_keep_to_none", &blind);
    trial.all_finish(1.0);
    let into = &trial.report.copies_into_zone;
    trial.check(
        into.iter().all(|copies| *copies > 2.0),
        format_args!("the labels are what keeps blocks at home, or {into:?} says little"),
    );
}
