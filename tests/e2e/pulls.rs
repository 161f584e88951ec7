//! Pulls through the node: the same images as without it, read once from the registries.

use crate::engines::{self, Client, Engines, Way};
use crate::engines_themselves::{REFUSED, Shelf, expected};
use crate::lab::{Job, Lab, Shape, run_all, take_turn};
use crate::passing;
use crate::proxied;
use crate::registries::{self, ALICE, Image, Registries, User};

/// What a registry sends to prove that it has a layer that the node knows from another one.
const PROOF_BYTES: u64 = 3 * 4096;

fn programs() -> Vec<&'static str> {
    [&engines::PROGRAMS[..], &registries::PROGRAMS].concat()
}

/// Pulls, and panics unless `client` ends up with `image`.
fn pull(engines: &mut Engines<'_>, client: Client, name: &str, image: &Image, user: Option<User>) {
    let got = engines.pull(client, name, user);
    let got = got.unwrap_or_else(|done| panic!("{client:?} of {name}: {done:#?}"));
    assert_eq!(got, expected(client, image), "{client:?} of {name}");
}

#[test]
fn every_engine_gets_through_the_node_what_it_gets_by_itself_and_the_registries_send_it_once() {
    let Some(_turn) = take_turn(&programs()) else {
        return;
    };
    let mut lab = Lab::new(3, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    let _cluster = proxied::start(&lab, &[]);
    for host in &lab.hosts()[..2] {
        let mut engines = Engines::new(host, Way::Proxy);
        for client in Client::ALL {
            for (name, image, user) in shelf.pulls_of(client) {
                pull(&mut engines, client, name, image, user);
            }
            for (name, user) in REFUSED {
                let got = engines.pull(client, name, user);
                assert!(got.is_err(), "{client:?} of {name} by {user:?}: {got:?}");
            }
        }
    }
    let mut mirrored = Engines::new(&lab.hosts()[2], Way::Mirror);
    for client in [
        Client::Docker,
        Client::Podman,
        Client::Buildah,
        Client::Skopeo,
    ] {
        pull(&mut mirrored, client, "library/one", &shelf.library, None);
    }
    for client in [Client::Ctr, Client::Cri] {
        for (name, image, user) in [
            ("registry.test/test/big", &shelf.big, None),
            ("registry.test/test/multi", &shelf.multi, None),
            ("token.test/private/secret", &shelf.private, Some(ALICE)),
            ("redir.test/test/one", &shelf.one, None),
            ("library/one", &shelf.library, None),
        ] {
            pull(&mut mirrored, client, name, image, user);
        }
    }
    // At each further registry that an image was asked for by, every node proves it once.
    for (name, image, further) in [
        ("one", &shelf.one, 1),
        ("big", &shelf.big, 0),
        ("many", &shelf.many, 0),
        ("multi", &shelf.multi, 0),
        ("private", &shelf.private, 1),
        ("library", &shelf.library, 0),
    ] {
        let proofs = PROOF_BYTES * lab.hosts().len() as u64 * further;
        let most = image.wire_bytes() * 102 / 100 + proofs;
        let sent = registries.blob_bytes(image);
        assert!(
            sent <= most,
            "{sent} bytes of {name} were read, {most} are one copy and the proofs"
        );
    }
}

#[test]
fn all_that_is_no_pull_works_through_the_node_as_by_itself() {
    let Some(_turn) = take_turn(&[&programs()[..], &["openssl"]].concat()) else {
        return;
    };
    let mut lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    let _cluster = proxied::start(&lab, &[]);
    passing::check_all(&lab, Way::Proxy, &registries, &shelf);
}

#[test]
fn a_crowd_that_pulls_at_once_costs_the_registry_one_copy() {
    let Some(_turn) = take_turn(&programs()) else {
        return;
    };
    let mut lab = Lab::new(3, Shape::Mbit(100), Shape::Mbit(100));
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    let _cluster = proxied::start(&lab, &[]);
    let mut all: Vec<_> = lab
        .hosts()
        .iter()
        .map(|host| Engines::new(host, Way::Proxy))
        .collect();
    let before = lab.source().counters();
    let name = "registry.test/test/big";
    let pulls = all
        .iter_mut()
        .map(|engines| Job::new(engines.docker().command(&["pull", "--quiet", name])));
    let pulls = pulls.collect();
    for (done, host) in run_all(pulls).iter().zip(lab.hosts()) {
        done.expect_success(host.name());
    }
    for engines in &mut all {
        assert_eq!(engines.docker().id(name).unwrap(), shelf.big.id());
    }
    let (read, one_copy) = (registries.blob_bytes(&shelf.big), shelf.big.wire_bytes());
    assert!(
        read <= one_copy * 102 / 100,
        "{read} bytes were read, {one_copy} are one copy"
    );
    // Manifests, handshakes and headers are on the link as well.
    let sent = lab.source().counters().since(before).sent_bytes;
    assert!(
        sent < shelf.big.wire_bytes() * 115 / 100,
        "the link carried {sent} bytes for an image of {}",
        shelf.big.wire_bytes()
    );
}

#[test]
fn while_the_node_is_down_a_proxys_clients_are_told_and_a_mirrors_go_to_the_registry() {
    let Some(_turn) = take_turn(&programs()) else {
        return;
    };
    let mut lab = Lab::new(2, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    let mut proxied = Engines::new(&lab.hosts()[0], Way::Proxy);
    let mut mirrored = Engines::new(&lab.hosts()[1], Way::Mirror);
    for client in Client::ALL {
        let refused = proxied.pull(client, "registry.test/test/one", None);
        let refused = refused.expect_err("nothing listens where the engine was sent");
        let told = format!("{}{}", refused.stdout, refused.stderr);
        assert!(told.contains("connection refused"), "{client:?}: {told}");
        let name = match client {
            Client::Ctr | Client::Cri => "registry.test/test/one",
            Client::Docker | Client::Podman | Client::Skopeo | Client::Buildah => "library/one",
        };
        let image = if name == "library/one" {
            &shelf.library
        } else {
            &shelf.one
        };
        pull(&mut mirrored, client, name, image, None);
    }
}
