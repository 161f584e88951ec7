//! Members that lie, and strangers.

use std::env;
use std::process::Command;

use super::scene::Scene;
use super::{Fault, ITS_OWN};
use crate::cluster::{self, dfnode};
use crate::lab::Process;
use crate::strangers::{GARBAGE_TO, PEER_PORT};

/// This binary, sending garbage from the host at `from` to the one at `to`.
fn garbage(scene: &Scene<'_>, from: usize, to: usize) -> Command {
    let mut command = scene.host(from).command("env");
    command.arg(format!("{GARBAGE_TO}={}:{PEER_PORT}", scene.host(to).v4()));
    command.arg(env::current_exe().unwrap());
    command.args(["--exact", "strangers::sends_garbage_when_told_to"]);
    command
}

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::new("flips", "a member alters what it relays")
            .lies("flip-relay")
            .copies(ITS_OWN)
            .late(8),
        Fault::new(
            "signs-wrong",
            "a member signs digests that are wrong; the right one of the whole is known",
        )
        .lies("sign-wrong")
        .with(|scene| vec!["--digest".to_owned(), scene.digest()])
        .struck(&[1])
        .copies(4.5)
        .late(15),
        Fault::new(
            "garbage",
            "a stranger sends twenty thousand packets of garbage to a node",
        )
        .strikes(|scene| assert!(garbage(scene, 5, 0).status().unwrap().success()))
        .late(6),
        Fault::new("stranger", "a node with another key wants to join")
            .strikes(|scene| {
                let host = scene.host(5);
                let key = host.dir().join("other.key");
                cluster::write_key(&key);
                let mut command = dfnode(host);
                command.args([
                    "run",
                    "--no-mdns",
                    "--join",
                    "peer-a",
                    "--listen",
                    "0.0.0.0:7777",
                    "--data",
                ]);
                command
                    .arg(host.dir().join("stranger"))
                    .arg("--cluster-key")
                    .arg(&key);
                let mut stranger = Process::start(&mut command, &host.dir().join("stranger.log"));
                scene.wait_until("the end of the download", |scene| scene.complete() >= 6);
                stranger.kill();
            })
            .then(|scene| assert_eq!(scene.cluster.nodes()[0].members(), Some(6))),
    ]
}
