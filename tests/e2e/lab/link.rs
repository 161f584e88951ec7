//! Cables with a rate.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::netns::Netns;

/// The link's name inside a host.
pub(super) const HOST_SIDE: &str = "eth0";
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

/// The queue in front of the link: what a switch port or home router holds, 20 to 50 ms. Far less
/// starves TCP, which then looks worse than it is; far more hides a sender that does not pace.
const QUEUE_MS: &str = "30ms";

/// The biggest segment that a host hands to its link. Left at 64 KiB, one segment would be 5 ms of a
/// 100 Mbit link and six would fill its queue, which no real link sees.
const SEGMENT_BYTES: &str = "16384";

impl Shape {
    /// Puts a token bucket on the sending side of `device`.
    fn apply(self, netns: &Netns, device: &str) {
        let Self::Mbit(mbit) = self else { return };
        // mbit · 1e6 / 8 bytes a second, for BURST_MS thousandths of it.
        let burst = (u64::from(mbit) * 125 * BURST_MS).max(16 * 1024);
        netns.ip(&["link", "set", device, "gso_max_size", SEGMENT_BYTES]);
        #[rustfmt::skip]
        netns.tc(&[
            "qdisc", "replace", "dev", device, "root", "tbf",
            "rate", &format!("{mbit}mbit"), "burst", &burst.to_string(), "latency", QUEUE_MS,
        ]);
    }
}

/// Bytes and packets that a host's link has carried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Bytes that left the host.
    pub(crate) sent_bytes: u64,
    /// Bytes that reached the host.
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
    shape.apply(host, HOST_SIDE);
    shape.apply(switch, port);
    switch.ip(&["link", "set", port, "master", BRIDGE, "up"]);
    host.ip(&["link", "set", HOST_SIDE, "up"]);
}

/// Gives the link between `host` and the switch's `port` another rate, both ways.
pub(super) fn reshape(host: &Netns, switch: &Netns, port: &str, shape: Shape) {
    shape.apply(host, HOST_SIDE);
    shape.apply(switch, port);
}

/// Reads the counters of the host's link.
pub(super) fn counters(host: &Netns) -> Counters {
    let json = host.ip(&["-s", "-j", "link", "show", "dev", HOST_SIDE]);
    let links: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let count = |way: &str| links[0]["stats64"][way]["bytes"].as_u64().unwrap();
    Counters {
        sent_bytes: count("tx"),
        received_bytes: count("rx"),
    }
}
