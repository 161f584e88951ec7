//! Packets that are lost on their way into a host.

use std::process::Command;

use crate::lab::{Host, Lab};

/// Makes everybody hand single packets to its link, as a wire carries them, and not sixteen KiB at once, of which all or
/// nothing would be lost. Costs processor time, so one curl is measured with it as well.
pub(super) fn send_singly(lab: &Lab) {
    for host in lab.hosts().iter().chain([lab.source()]) {
        let mut ip = host.command("ip");
        run(ip.args(["link", "set", "eth0", "gso_max_segs", "1"]));
    }
}

/// Loses `percent` of what reaches each host from now on, each packet by itself. The source loses nothing.
pub(super) fn begin(lab: &Lab, percent: f64) {
    let share = (percent / 100.0).to_string();
    for host in lab.hosts() {
        lose(host, &share);
    }
}

fn lose(host: &Host, share: &str) {
    for program in ["iptables", "ip6tables"] {
        let mut filter = host.command(program);
        #[rustfmt::skip]
        run(filter.args([
            "-w", "-A", "INPUT", "-i", "eth0",
            "-m", "statistic", "--mode", "random", "--probability", share, "-j", "DROP",
        ]));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
