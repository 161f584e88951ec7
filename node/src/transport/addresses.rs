//! Where others can reach this node.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use if_addrs::Interface;

use super::private_net::is_private;

/// Interfaces that reach only this host's containers and virtual machines: every host has the same addresses
/// on them, so they come last.
const INNER_INTERFACES: &[&str] = &[
    "docker", "br-", "veth", "virbr", "cni", "flannel", "cali", "podman", "lxc", "lxd", "kube",
];

/// The addresses to advertise for a socket bound to `local`, best first.
///
/// Read from the interfaces: a host may have no default route to ask for.
pub(crate) fn advertised(local: SocketAddr, private_only: bool) -> Vec<SocketAddr> {
    if !local.ip().is_unspecified() {
        return vec![local];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot list the network interfaces");
        Vec::new()
    });
    choose(&interfaces, local, private_only)
}

fn choose(interfaces: &[Interface], local: SocketAddr, private_only: bool) -> Vec<SocketAddr> {
    let mut ranked: Vec<(Rank, IpAddr)> = interfaces
        .iter()
        .filter(|interface| local.is_ipv6() || interface.ip().is_ipv4())
        .filter(|interface| !private_only || is_private(interface.ip()))
        .filter_map(|interface| Some((rank(interface)?, interface.ip())))
        .collect();
    ranked.sort_by_key(|(rank, _)| Reverse(*rank));
    ranked.dedup();
    let best = ranked.first().map(|(rank, _)| *rank);
    ranked
        .into_iter()
        // Loopback is of use only where there is nothing else.
        .filter(|(rank, _)| *rank != Rank::Loopback || best == Some(Rank::Loopback))
        .map(|(_, ip)| SocketAddr::new(ip, local.port()))
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Loopback,
    Inner,
    V6,
    V4,
}

/// `None` for addresses that others cannot use: link-local IPv6 ones mean nothing without an interface.
fn rank(interface: &Interface) -> Option<Rank> {
    let ip = interface.ip();
    if ip.is_loopback() {
        return Some(Rank::Loopback);
    }
    if ip.is_unspecified() || ip.is_multicast() || is_link_local(ip) {
        return None;
    }
    let is_inner = INNER_INTERFACES
        .iter()
        .any(|prefix| interface.name.starts_with(prefix));
    Some(match ip {
        _ if is_inner => Rank::Inner,
        IpAddr::V4(_) => Rank::V4,
        IpAddr::V6(_) => Rank::V6,
    })
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        // Two hosts on a cable have nothing better.
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use if_addrs::{IfAddr, Ifv4Addr, Ifv6Addr};

    use super::*;

    fn interface(name: &str, ip: &str) -> Interface {
        let addr = match ip.parse().unwrap() {
            IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr {
                ip,
                netmask: [255, 255, 255, 0].into(),
                prefixlen: 24,
                broadcast: None,
            }),
            IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr {
                ip,
                netmask: std::net::Ipv6Addr::UNSPECIFIED,
                prefixlen: 64,
                broadcast: None,
            }),
        };
        Interface {
            name: name.to_owned(),
            addr,
            index: None,
            oper_status: if_addrs::IfOperStatus::Up,
            is_p2p: false,
        }
    }

    fn chosen(interfaces: &[Interface], local: &str, private_only: bool) -> Vec<String> {
        choose(interfaces, local.parse().unwrap(), private_only)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn the_addresses_that_others_reach_come_first() {
        let interfaces = [
            interface("lo", "127.0.0.1"),
            interface("docker0", "172.17.0.1"),
            interface("eth0", "fe80::1"),
            interface("eth0", "2001:db8::5"),
            interface("eth0", "10.0.0.5"),
        ];
        assert_eq!(
            chosen(&interfaces, "[::]:65000", false),
            ["10.0.0.5:65000", "[2001:db8::5]:65000", "172.17.0.1:65000"]
        );
        assert_eq!(
            chosen(&interfaces, "0.0.0.0:1", false),
            ["10.0.0.5:1", "172.17.0.1:1"]
        );
        assert_eq!(
            chosen(&interfaces, "[::]:1", true),
            ["10.0.0.5:1", "172.17.0.1:1"]
        );
    }

    #[test]
    fn a_host_without_a_network_has_loopback() {
        let interfaces = [interface("lo", "127.0.0.1"), interface("lo", "::1")];
        assert_eq!(
            chosen(&interfaces, "[::]:1", false),
            ["127.0.0.1:1", "[::1]:1"]
        );
    }

    #[test]
    fn a_bound_address_is_the_only_one() {
        let local: SocketAddr = "127.0.0.1:7".parse().unwrap();
        assert_eq!(advertised(local, false), [local]);
    }
}
