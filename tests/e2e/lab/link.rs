//! Cables with a rate.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::netns::Netns;

/// The link's name inside a host.
pub(super) const HOST_SIDE: &str = "eth0";
/// The name of both ends of what joins two switches.
pub(super) const TRUNK: &str = "trunk";
const BRIDGE: &str = "br0";

/// How fast a link is, the same both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As fast as the kernel copies.
    Unshaped,
    /// So many megabits a second, Ethernet headers included, as on a real port.
    Mbit(u32),
}

/// How much the shaper lets through at once, in time at the link's rate.
///
/// The bucket is refilled by a timer. While the processors are busy (a lab is many hosts on a few
/// cores) it fires some milliseconds late, and what the bucket cannot hold by then is rate lost: with
/// 1 ms of burst one curl reached 80 to 90 % of a busy machine's link, with 4 ms 95 %.
const BURST_MS: u64 = 4;

/// Makes a shaper that has emptied its bucket wait until it is full, so that there is a timer for each burst and not for
/// each packet: with sixteen hosts of 100 Mbit those took a fifth of two processors, which real links do not ask for.
/// Where it is not to be had labs are as right, and slower. It is the whole machine's, and stays.
const HYSTERESIS: &str = "/sys/module/sch_htb/parameters/htb_hysteresis";

/// The queue in front of the link: what a switch port or home router holds, 20 to 50 ms. Far less
/// starves TCP, which then looks worse than it is; far more hides a sender that does not pace.
const QUEUE_MS: u64 = 30;

/// The biggest segment that a host hands to its link. Left at 64 KiB, one segment would be 5 ms of a
/// 100 Mbit link and six would fill its queue, which no real link sees.
const SEGMENT_BYTES: &str = "16384";

impl Shape {
    /// Makes the sending side of `device` one that has a rate.
    fn plug(self, netns: &Netns, device: &str) {
        if self == Self::Unshaped {
            return;
        }
        netns.ip(&["link", "set", device, "gso_max_size", SEGMENT_BYTES]);
        let _needs_root = fs::write(HYSTERESIS, "1");
        let root = ["root", "handle", "1:", "htb", "default", "1"];
        netns.tc(&[&["qdisc", "add", "dev", device][..], &root].concat());
        self.apply(netns, device);
    }

    /// Gives the sending side of `device` its rate, and a queue that suits it.
    fn apply(self, netns: &Netns, device: &str) {
        let Self::Mbit(mbit) = self else { return };
        // mbit · 1e6 / 8 bytes a second, for so many thousandths of it.
        let bytes_in = |millis: u64| u64::from(mbit) * 125 * millis;
        let burst = bytes_in(BURST_MS).max(16 * 1024);
        let queue = (bytes_in(QUEUE_MS) + burst).to_string();
        let (rate, burst) = (format!("{mbit}mbit"), burst.to_string());
        #[rustfmt::skip]
        netns.tc(&[
            "class", "replace", "dev", device, "parent", "1:", "classid", "1:1", "htb",
            "rate", &rate, "burst", &burst, "cburst", &burst, "quantum", SEGMENT_BYTES,
        ]);
        #[rustfmt::skip]
        netns.tc(&[
            "qdisc", "replace", "dev", device, "parent", "1:1", "bfifo", "limit", &queue,
        ]);
    }
}

/// What a link has carried, as seen from one end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Bytes that left that end.
    pub(crate) sent_bytes: u64,
    /// Bytes that reached it.
    pub(crate) received_bytes: u64,
}

impl Counters {
    /// What was carried since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            received_bytes: self.received_bytes - earlier.received_bytes,
        }
    }
}

/// Makes the switch.
pub(super) fn make_bridge(switch: &Netns) {
    // Multicast (mDNS) is flooded: without a querier on the net, snooping would only delay it.
    #[rustfmt::skip]
    switch.ip(&[
        "link", "add", BRIDGE, "type", "bridge",
        "forward_delay", "0", "stp_state", "0", "mcast_snooping", "0",
    ]);
    switch.ip(&["link", "set", BRIDGE, "up"]);
    // A machine with container engines sends each frame through its firewall: no switch does.
    for table in ["iptables", "ip6tables", "arptables"] {
        let knob = format!("net/bridge/bridge-nf-call-{table}");
        if Path::new("/proc/sys").join(&knob).exists() {
            switch.set(&knob, "0");
        }
    }
}

/// Connects `host` to the switch's `port` and gives it its addresses.
pub(super) fn plug(
    host: &Netns,
    switch: &Netns,
    port: &str,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    shape: Shape,
) {
    #[rustfmt::skip]
    host.ip(&[
        "link", "add", HOST_SIDE, "type", "veth", "peer", "name", port, "netns", switch.name(),
    ]);
    host.ip(&["addr", "add", &format!("{v4}/16"), "dev", HOST_SIDE]);
    // Without duplicate detection the address works at once.
    host.ip(&[
        "addr",
        "add",
        &format!("{v6}/64"),
        "dev",
        HOST_SIDE,
        "nodad",
    ]);
    // What the host sends is shaped on its own end, what it receives on the switch's.
    shape.plug(host, HOST_SIDE);
    shape.plug(switch, port);
    switch.ip(&["link", "set", port, "master", BRIDGE, "up"]);
    host.ip(&["link", "set", HOST_SIDE, "up"]);
}

/// Connects two switches.
pub(super) fn join(one: &Netns, other: &Netns, shape: Shape) {
    #[rustfmt::skip]
    one.ip(&[
        "link", "add", TRUNK, "type", "veth", "peer", "name", TRUNK, "netns", other.name(),
    ]);
    for switch in [one, other] {
        shape.plug(switch, TRUNK);
        switch.ip(&["link", "set", TRUNK, "master", BRIDGE, "up"]);
    }
}

/// Gives a link that has a rate, between `host` and the switch's `port`, another one, both ways.
pub(super) fn reshape(host: &Netns, switch: &Netns, port: &str, shape: Shape) {
    shape.apply(host, HOST_SIDE);
    shape.apply(switch, port);
}

/// Reads the counters of `device`.
pub(super) fn counters(netns: &Netns, device: &str) -> Counters {
    let json = netns.ip(&["-s", "-j", "link", "show", "dev", device]);
    let links: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let count = |way: &str| links[0]["stats64"][way]["bytes"].as_u64().unwrap();
    Counters {
        sent_bytes: count("tx"),
        received_bytes: count("rx"),
    }
}
