//! Hosts, daemons and clients that die, stop or come back.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::scene::{HOSTS, Scene};
use super::{Fault, ITS_OWN, ONE_COPY, UNDER_WAY};

/// Longer than every patience of a session, shorter than the detector's.
const A_WHILE: Duration = Duration::from_secs(3);
/// Between the restarts of two daemons.
const ROLLING: Duration = Duration::from_millis(400);

fn restart(scene: &mut Scene<'_>, place: usize) {
    let node = scene.cluster.node_mut(place);
    node.kill();
    node.start_and_wait();
}

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::new("one-dies", "a host loses power")
            .strikes(|scene| scene.kill_host(5))
            .struck(&[5])
            .copies(ONE_COPY + UNDER_WAY),
        Fault::new("two-die", "two hosts lose power at once")
            .strikes(|scene| {
                scene.kill_host(4);
                scene.kill_host(5);
            })
            .struck(&[4, 5])
            .copies(ONE_COPY + 2.0 * UNDER_WAY),
        Fault::new("half-dies", "half of the hosts lose power at once")
            .strikes(|scene| (3..HOSTS).for_each(|place| scene.kill_host(place)))
            .struck(&[3, 4, 5])
            .copies(ITS_OWN)
            .late(6),
        Fault::new(
            "readers-die",
            "every host that reads the source loses power, two of six at most",
        )
        .strikes(|scene| {
            let readers = scene.readers();
            readers
                .into_iter()
                .take(2)
                .for_each(|place| scene.kill_host(place));
        })
        .copies(ONE_COPY + 2.0 * UNDER_WAY)
        .late(6),
        Fault::new("first-dies", "the host that all others joined loses power")
            .strikes(|scene| scene.kill_host(0))
            .struck(&[0])
            .copies(ONE_COPY + UNDER_WAY),
        Fault::new("daemon-dies", "a daemon is killed under its client")
            .strikes(|scene| scene.cluster.node_mut(3).kill())
            .copies(ITS_OWN)
            .late(8),
        Fault::new(
            "daemon-restarts",
            "a daemon is killed and started again under its client",
        )
        .strikes(|scene| restart(scene, 3))
        .copies(ITS_OWN)
        .late(8),
        Fault::new(
            "rolling-restart",
            "all daemons are restarted one after the other under their clients",
        )
        .strikes(|scene| {
            for place in 0..HOSTS {
                restart(scene, place);
                thread::sleep(ROLLING);
            }
        })
        .copies(2.5)
        .late(15)
        .small(),
        Fault::new("suspended", "a daemon is suspended for three seconds")
            .strikes(|scene| {
                scene.signal(3, Signal::STOP);
                thread::sleep(A_WHILE);
                scene.signal(3, Signal::CONT);
            })
            .copies(ONE_COPY + UNDER_WAY)
            .late(6)
            .small(),
        Fault::new(
            "hangs",
            "a daemon stops for good and keeps its connections open",
        )
        .strikes(|scene| {
            scene.signal(5, Signal::STOP);
            scene.kill_get(5);
        })
        .struck(&[5])
        .copies(ONE_COPY + UNDER_WAY)
        .then(|scene| scene.signal(5, Signal::CONT)),
        Fault::new("client-dies", "a client is killed")
            .strikes(|scene| scene.kill_get(4))
            .struck(&[4]),
        Fault::new("client-again", "a client is killed and started again").strikes(|scene| {
            scene.kill_get(4);
            scene.start_get(4);
        }),
        Fault::new(
            "comes-back",
            "a host loses power, comes back and asks again",
        )
        .strikes(|scene| {
            scene.kill_host(5);
            scene.cluster.node_mut(5).start_and_wait();
            scene.start_get(5);
        })
        .copies(ONE_COPY + 2.0 * UNDER_WAY)
        .late(6),
    ]
}
