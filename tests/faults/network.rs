//! Cables, losses and partitions.

use std::thread;
use std::time::Duration;

use super::scene::{HOSTS, Scene};
use super::{Fault, ITS_OWN, ONE_COPY, UNDER_WAY};
use crate::lab::{Host, Shape};

const OUTAGE: Duration = Duration::from_secs(3);

/// Runs `iptables` and `ip6tables` on a host with the same arguments.
fn filter(host: &Host, arguments: &[&str]) {
    for program in ["iptables", "ip6tables"] {
        let done = host.command(program).arg("-w").args(arguments).status();
        assert!(done.unwrap().success(), "{program} {arguments:?}");
    }
}

/// Drops what comes from `other`, by both of its addresses.
fn shut_out(host: &Host, other: &Host) {
    let (v4, v6) = (other.v4().to_string(), other.v6().to_string());
    for (program, address) in [("iptables", v4), ("ip6tables", v6)] {
        let mut command = host.command(program);
        let done = command
            .args(["-w", "-A", "INPUT", "-s", &address, "-j", "DROP"])
            .status();
        assert!(done.unwrap().success());
    }
}

fn lose(host: &Host, share: &str) {
    #[rustfmt::skip]
    filter(host, &[
        "-A", "INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random", "--probability", share, "-j", "DROP",
    ]);
}

/// Parts the hosts into those before `place` and the rest.
fn part(scene: &Scene<'_>, place: usize) {
    let (one, other) = scene.lab.hosts().split_at(place);
    for (here, there) in one
        .iter()
        .flat_map(|here| other.iter().map(move |there| (here, there)))
    {
        shut_out(here, there);
        shut_out(there, here);
    }
}

fn heal(scene: &Scene<'_>) {
    scene
        .lab
        .hosts()
        .iter()
        .for_each(|host| filter(host, &["-F", "INPUT"]));
}

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::new("cable", "a host's cable is out for three seconds")
            .strikes(|scene| {
                scene.host(4).set_link_up(false);
                thread::sleep(OUTAGE);
                scene.host(4).set_link_up(true);
            })
            .copies(ONE_COPY + UNDER_WAY)
            .late(8),
        Fault::new(
            "partition",
            "three hosts and three do not reach each other for four seconds",
        )
        .strikes(|scene| {
            part(scene, HOSTS / 2);
            thread::sleep(Duration::from_secs(4));
            heal(scene);
        })
        .copies(ITS_OWN)
        .late(10)
        .small(),
        Fault::new(
            "partition-stays",
            "three hosts and three do not reach each other any more",
        )
        .strikes(|scene| part(scene, HOSTS / 2))
        .copies(ITS_OWN)
        .late(12),
        Fault::new("alone", "a host reaches the source and no other host")
            .strikes(|scene| part(scene, 1))
            .copies(ITS_OWN)
            .late(12),
        Fault::new("loss-5", "every host loses 5 % of what it is sent")
            .strikes(|scene| scene.lab.hosts().iter().for_each(|host| lose(host, "0.05")))
            .copies(1.2)
            .late(15),
        Fault::new("loss-30", "one host loses 30 % of what it is sent")
            .strikes(|scene| lose(scene.host(4), "0.3"))
            .copies(ONE_COPY + UNDER_WAY)
            .late(30),
        Fault::new(
            "one-way",
            "a host hears the others and is not heard for three seconds",
        )
        .strikes(|scene| {
            for program in ["iptables", "ip6tables"] {
                let mut command = scene.host(4).command(program);
                let rule = ["-w", "-A", "OUTPUT", "-p", "udp", "-j", "DROP"];
                assert!(command.args(rule).status().unwrap().success());
            }
            thread::sleep(OUTAGE);
            filter(scene.host(4), &["-F", "OUTPUT"]);
        })
        .copies(ONE_COPY + 2.0 * UNDER_WAY)
        .late(10),
        Fault::new("no-udp", "a firewall drops all UDP of a host from then on")
            .strikes(|scene| filter(scene.host(4), &["-A", "INPUT", "-p", "udp", "-j", "DROP"]))
            .copies(ITS_OWN)
            .late(15),
        Fault::new("slow", "a host's link falls to a tenth of its rate")
            .strikes(|scene| scene.lab.reshape(4, Shape::Mbit(5)))
            .late(40),
        Fault::new(
            "mtu-1280",
            "a host's link carries no more than 1,280 bytes a packet",
        )
        .strikes(|scene| scene.host(4).set_mtu(1280))
        .copies(ONE_COPY + UNDER_WAY)
        .late(8)
        .small(),
        Fault::new(
            "source-cable",
            "the source's cable is out for three seconds",
        )
        .strikes(|scene| {
            scene.lab.source().set_link_up(false);
            thread::sleep(OUTAGE);
            scene.lab.source().set_link_up(true);
        })
        .copies(ONE_COPY + UNDER_WAY)
        .late(12),
    ]
}
