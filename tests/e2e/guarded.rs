//! What `authorisation.rs` measured without dfnode holds with it, whoever pulled what before.

use std::collections::BTreeSet;
use std::fs;

use crate::authorisation::{Asker, GUARDED, Road, Table};
use crate::engines_themselves::Shelf;
use crate::lab::{Host, Lab, Shape, take_turn};
use crate::proxied;
use crate::registries::{self, Registries, basic_header};
use crate::secrets::{self, Capture};

/// The shortest run of the secret's bytes that counts as having got some of it.
const RUN_BYTES: usize = 16;

/// Asks through the node of `host`, and compares with what the registries themselves said.
fn expect_same(host: &Host, roads: &[Road], shelf: &Shelf, direct: &Table, when: &str) {
    for road in roads {
        let asker = Asker { host, road: *road };
        let table = asker.table(&GUARDED, shelf);
        let differing: Vec<_> = direct
            .iter()
            .filter(|(row, answer)| table.get(*row) != Some(answer))
            .map(|(row, answer)| {
                format!(
                    "{row}\n  direct {answer:?}\n  {road:?} {:?}",
                    table.get(row)
                )
            })
            .collect();
        assert!(
            differing.is_empty(),
            "{when}, on {}, {} rows differ:\n{}",
            host.name(),
            differing.len(),
            differing.join("\n")
        );
    }
}

/// The attacker asks his own registry about Alice's blob, in every way that he can.
fn expect_nothing_for_the_attacker(
    host: &Host,
    shelf: &Shelf,
    registries: &Registries,
    when: &str,
) {
    let digest = &shelf.private.layers[0].blob.digest;
    let secret = registries.storage().read(digest);
    let runs: BTreeSet<&[u8]> = secret.chunks_exact(RUN_BYTES).collect();
    for road in [Road::Proxy, Road::Mirror] {
        let asker = Asker { host, road };
        for path in [
            format!("/v2/any/thing/blobs/{digest}"),
            // As if the registry's own query could name another one.
            format!("/v2/private/secret/blobs/{digest}?ns=token.test"),
            format!("/v2/private/secret/blobs/{digest}?ns=evil.test&ns=token.test"),
        ] {
            for more in [&[][..], &["--range", "0-65535"], &["--range", "100000-"]] {
                for credential in [None, Some(basic_header("mallory", "mallory"))] {
                    asker.ask("evil.test", &path, credential.as_deref(), more);
                    let body = fs::read(host.dir().join("body")).unwrap();
                    let leaked = body.windows(RUN_BYTES).find(|run| runs.contains(run));
                    assert!(
                        leaked.is_none(),
                        "{when}, {road:?} {path} {more:?} on {} gave away the secret",
                        host.name()
                    );
                }
            }
        }
    }
}

#[test]
fn nobody_gets_through_a_node_what_the_registry_would_refuse() {
    let Some(_turn) = take_turn(&[&registries::PROGRAMS[..], &["curl", "tcpdump"]].concat()) else {
        return;
    };
    let mut lab = Lab::new(2, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    let [first, second] = lab.hosts() else {
        unreachable!()
    };
    let direct = Asker {
        host: first,
        road: Road::Direct,
    }
    .table(&GUARDED, &shelf);
    let captures: Vec<_> = lab.hosts().iter().map(Capture::start).collect();
    let cluster = proxied::start(&lab, &[("DFNODE_LOG_LEVEL", "trace")]);
    let attack = |host, when| expect_nothing_for_the_attacker(host, &shelf, &registries, when);
    attack(first, "before anybody pulled");
    let both = [Road::Proxy, Road::Mirror];
    expect_same(
        first,
        &both,
        &shelf,
        &direct,
        "at first, and after the attacker's zeros",
    );
    attack(first, "after Alice pulled here");
    expect_same(
        first,
        &[Road::Proxy],
        &shelf,
        &direct,
        "after Alice pulled here",
    );
    attack(second, "after Alice pulled elsewhere");
    expect_same(
        second,
        &both,
        &shelf,
        &direct,
        "after Alice pulled elsewhere",
    );
    secrets::expect_none(&cluster, &captures, &registries.secrets());
}
