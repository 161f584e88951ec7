//! Pulls while something fails: no client sees an error, none waits long, and nothing wrong is believed.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::engines::{self, Client, Engines, PROXY, Way};
use crate::engines_themselves::{Shelf, expected};
use crate::fault_source::{FaultSource, REGISTRY_PORT};
use crate::files::sha256_of;
use crate::lab::{Finished, Host, Job, Lab, Process, Shape, take_turn};
use crate::proxied;
use crate::registries::image::Blob;
use crate::registries::{self, Image, Registries, curl};

/// The longest that a client may wait for its next byte.
const PATIENCE_SECS: &str = "10";
/// The layer of the images that faults are tried on.
const LAYER_BYTES: usize = 1_500_000;

fn programs() -> Vec<&'static str> {
    [&engines::PROGRAMS[..], &registries::PROGRAMS].concat()
}

/// An address of a blob.
fn url(registry: &str, repository: &str, blob: &Blob) -> String {
    format!("https://{registry}/v2/{repository}/blobs/{}", blob.digest)
}

/// One GET through the node of `host`, given up when no byte comes for [`PATIENCE_SECS`].
fn patient_curl(host: &Host, url: &str, output: &str) -> (Job, PathBuf) {
    let file = host.dir().join(output);
    let mut command = curl(host);
    command.args(["--fail", "-L", "--proxy", &format!("http://{PROXY}")]);
    command.args(["--speed-limit", "1", "--speed-time", PATIENCE_SECS]);
    // The largest image takes its time on a slow link.
    command.args(["--max-time", "600"]);
    command.arg("-o").arg(&file).arg(url);
    (Job::new(command), file)
}

fn expect_blob(done: &Finished, file: &Path, blob: &Blob, what: &str) {
    done.expect_success(what);
    let got = sha256_of(file).map(|hex| format!("sha256:{hex}"));
    assert_eq!(got.as_ref(), Some(&blob.digest), "{what}");
}

/// Each fault of a registry passes: what was cut, reset, stalled or refused is asked for again inside
/// the answer that the client is reading already. Engines do not: containerd fails at a reset and at
/// a 503, podman at an early end.
#[test]
fn a_registry_that_fails_now_and_then_shows_it_to_no_client() {
    let Some(_turn) = take_turn(&programs()) else {
        return;
    };
    let mut lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let storage = registries.storage();
    let _faults = FaultSource::start_registry(lab.source(), storage.dir(), registries.identity());
    let cluster = proxied::start(&lab, &[]);
    let host = &lab.hosts()[0];
    let mut engines = Engines::new(host, Way::Proxy);
    let registry = format!("fault.test:{REGISTRY_PORT}");
    let mut seed = 100;
    let mut image = |name: &str| {
        seed += 1;
        storage.image(
            &format!("test/{name}"),
            storage.layers(seed, &[LAYER_BYTES]),
        )
    };
    for fault in [
        "plain",
        "truncate",
        "reset",
        "stall",
        "503",
        "no-range",
        "no-length",
    ] {
        let name = format!("{fault}-curl");
        let wanted = image(&name);
        let layer = &wanted.layers[0].blob;
        let address = url(&registry, &format!("{fault}/{name}"), layer);
        let (job, file) = patient_curl(host, &address, "layer");
        expect_blob(&job.run(), &file, layer, fault);
        for client in [Client::Ctr, Client::Podman] {
            let name = format!("{fault}-{client:?}").to_lowercase();
            let wanted = image(&name);
            let got = engines.pull(client, &format!("{registry}/{fault}/{name}"), None);
            let got = got.unwrap_or_else(|done| {
                panic!(
                    "{client:?}, {fault}: {done:#?}\n{}",
                    cluster.nodes()[0].log()
                )
            });
            assert_eq!(got, expected(client, &wanted), "{client:?}, {fault}");
        }
    }
}

#[test]
fn a_layer_that_is_wrong_at_its_registry_is_not_believed_and_spoils_nothing() {
    let Some(_turn) = take_turn(&programs()) else {
        return;
    };
    let mut lab = Lab::new(2, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let storage = registries.storage();
    let _faults = FaultSource::start_registry(lab.source(), storage.dir(), registries.identity());
    let _cluster = proxied::start(&lab, &[]);
    let wanted = storage.image("test/wrong", storage.layers(150, &[LAYER_BYTES]));
    let once = storage.image("test/once", storage.layers(151, &[LAYER_BYTES]));
    let [first, second] = lab.hosts() else {
        unreachable!()
    };
    let mut here = Engines::new(first, Way::Proxy);
    let mut there = Engines::new(second, Way::Proxy);
    let wrong = format!("fault.test:{REGISTRY_PORT}/corrupt/wrong");
    for engines in [&mut here, &mut there] {
        let got = engines.pull(Client::Docker, &wrong, None);
        assert!(got.is_err(), "a wrong layer was believed: {got:?}");
    }
    // The same digests at a registry that has them.
    for engines in [&mut there, &mut here] {
        let got = engines.pull(Client::Docker, "registry.test/test/wrong", None);
        assert_eq!(got.unwrap(), wanted.id());
    }
    let passing = format!("fault.test:{REGISTRY_PORT}/corrupt-once/once");
    let _first_try = here.pull(Client::Docker, &passing, None);
    let again = here.pull(Client::Docker, &passing, None);
    assert_eq!(again.unwrap(), once.id());
}

/// Two nodes that have an image, and two hosts that want it.
struct Stage<'lab> {
    cluster: Cluster<'lab>,
    image: &'lab Image,
}

const NAME: &str = "registry.test/test/big";

impl<'lab> Stage<'lab> {
    /// `env` is what the first two nodes have in their environment.
    fn set(lab: &'lab Lab, image: &'lab Image, env: Option<(&str, &str)>) -> Self {
        let mut cluster = proxied::prepare(lab, &[]);
        if let Some((name, value)) = env {
            cluster.node_mut(0).set_env(name, value);
        }
        cluster.start_all();
        let stage = Self { cluster, image };
        for host in &lab.hosts()[..2] {
            for blob in image.blobs() {
                let (job, file) =
                    patient_curl(host, &url("registry.test", "test/big", blob), "prepared");
                expect_blob(&job.run(), &file, blob, host.name());
            }
        }
        stage
    }

    /// Reads the biggest layer on the third host with curl while docker pulls on the fourth, and does
    /// `harm` once both receive.
    fn pull_while(&mut self, lab: &'lab Lab, harm: impl FnOnce(&mut Cluster<'lab>)) {
        let [_a, _b, third, fourth] = lab.hosts() else {
            unreachable!()
        };
        let mut engines = Engines::new(fourth, Way::Proxy);
        let mut pull = engines.docker().command(&["pull", NAME]);
        let before = [third, fourth].map(Host::counters);
        let layer = &self.image.layers[0].blob;
        let (job, file) = patient_curl(third, &url("registry.test", "test/big", layer), "layer");
        let log = fourth.dir().join("pull.log");
        let (curled, pulled) = thread::scope(|scope| {
            let curling = scope.spawn(|| job.run());
            let mut pulling = Process::start(&mut pull, &log);
            let give_up = Instant::now() + Duration::from_secs(20);
            let receive = |(host, before): (&&Host, _)| {
                host.counters().since(before).received_bytes > 500_000
            };
            while ![third, fourth].iter().zip(before).all(receive) {
                assert!(Instant::now() < give_up, "nobody receives anything");
                thread::sleep(Duration::from_millis(5));
            }
            harm(&mut self.cluster);
            let curled = curling.join().unwrap();
            (curled, (pulling.wait(), pulling.log()))
        });
        expect_blob(&curled, &file, layer, "curl");
        assert!(pulled.0.success(), "docker: {}", pulled.1);
        assert!(
            !pulled.1.contains("Retrying"),
            "docker had to retry: {}",
            pulled.1
        );
        assert_eq!(engines.docker().id(NAME).unwrap(), self.image.id());
    }
}

/// Links on which the biggest layer takes long enough to be interrupted.
fn slow_lab() -> Lab {
    Lab::new(4, Shape::Mbit(20), Shape::Mbit(20))
}

#[test]
fn a_pull_goes_on_when_the_peers_that_serve_it_are_killed() {
    let Some(_turn) = take_turn(&programs()) else {
        return;
    };
    let mut lab = slow_lab();
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    let mut stage = Stage::set(&lab, &shelf.big, None);
    stage.pull_while(&lab, |cluster| {
        // Half of all nodes, and all that have the whole.
        cluster.node_mut(0).kill();
        cluster.node_mut(1).kill();
    });
}

#[test]
fn a_pull_goes_on_when_the_registry_is_switched_off() {
    let Some(_turn) = take_turn(&programs()) else {
        return;
    };
    let mut lab = slow_lab();
    let mut registries = Registries::open(&mut lab);
    let image = Shelf::fill(&registries).big;
    let mut stage = Stage::set(&lab, &image, None);
    stage.pull_while(&lab, |_cluster| registries.switch_off());
}

#[test]
fn a_peer_that_flips_bits_reaches_no_client() {
    let Some(_turn) = take_turn(&programs()) else {
        return;
    };
    let mut lab = slow_lab();
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    let liar = Some(("DFNODE_TEST_FAULT", "flip-relay"));
    let mut stage = Stage::set(&lab, &shelf.big, liar);
    stage.pull_while(&lab, |_cluster| ());
}
