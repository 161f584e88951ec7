//! A member of the cluster.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Labels, PeerId};

/// The most addresses a member advertises.
pub const MAX_ADDRS: usize = 4;

/// A member: who it is, where it listens, and since when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Who it is.
    pub peer: PeerId,
    /// Where its UDP port (QUIC and gossip) is reached, best first; 1 to [`MAX_ADDRS`].
    #[serde(deserialize_with = "at_most_max_addrs")]
    pub addrs: Vec<SocketAddr>,
    /// Which life of the peer this record describes; of two records the higher one wins.
    ///
    /// A node starts with max(unix ms, stored + 1) and adds one when its addresses change or when
    /// it was declared down although it lives.
    pub generation: u64,
    /// What it says about itself.
    pub labels: Labels,
}

impl Member {
    /// The same peer, one generation on.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self {
            generation: self.generation.saturating_add(1),
            ..self.clone()
        }
    }

    /// Whether somebody could talk to this member: it has one to [`MAX_ADDRS`] addresses, and each
    /// of them names one host and one port.
    pub fn is_reachable(&self) -> bool {
        (1..=MAX_ADDRS).contains(&self.addrs.len()) && self.addrs.iter().all(is_unicast)
    }
}

/// The first [`MAX_ADDRS`] of `addrs` that others could use, as others will read them: without what
/// means something on this host only (the scope of a link-local address).
pub(crate) fn advertised(addrs: &[SocketAddr]) -> Vec<SocketAddr> {
    let usable = addrs.iter().filter(|addr| is_unicast(addr));
    usable
        .map(|addr| SocketAddr::new(addr.ip(), addr.port()))
        .take(MAX_ADDRS)
        .collect()
}

/// Reads addresses without ever setting room aside for more than there may be.
fn at_most_max_addrs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    struct Addrs;
    impl<'de> Visitor<'de> for Addrs {
        type Value = Vec<SocketAddr>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_ADDRS} addresses")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut addrs = Vec::with_capacity(MAX_ADDRS);
            while let Some(addr) = seq.next_element()? {
                if addrs.len() == MAX_ADDRS {
                    return Err(A::Error::invalid_length(MAX_ADDRS + 1, &self));
                }
                addrs.push(addr);
            }
            Ok(addrs)
        }
    }
    from.deserialize_seq(Addrs)
}

fn is_unicast(addr: &SocketAddr) -> bool {
    let ip_is_one_host = match addr.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    ip_is_one_host && addr.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(addrs: &[&str]) -> Member {
        Member {
            peer: PeerId::from_bytes([1; 32]),
            addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
            generation: 7,
            labels: Labels::default(),
        }
    }

    #[test]
    fn only_addresses_of_one_host_are_reachable() {
        assert!(member(&["10.0.0.1:65000", "[fd00::1]:65000"]).is_reachable());
        assert!(!member(&[]).is_reachable());
        assert!(!member(&["10.0.0.1:1"; MAX_ADDRS + 1]).is_reachable());
        for addr in [
            "0.0.0.0:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "10.0.0.1:0",
            "[::]:1",
            "[ff02::1]:1",
        ] {
            assert!(!member(&[addr]).is_reachable(), "{addr}");
        }
    }

    #[test]
    fn what_is_advertised_is_what_others_will_read() {
        let addrs = [
            "[fe80::1%3]:9",
            "0.0.0.0:9",
            "10.0.0.1:1",
            "10.0.0.2:1",
            "10.0.0.3:1",
            "10.0.0.4:1",
        ];
        let addrs = addrs.map(|addr| addr.parse().unwrap());
        let expected = ["[fe80::1]:9", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"];
        assert_eq!(advertised(&addrs), member(&expected).addrs);
    }

    #[test]
    fn a_renewed_member_is_the_same_peer_one_generation_on() {
        let old = member(&["10.0.0.1:1"]);
        let new = old.renewed();
        assert_eq!((new.peer, new.generation), (old.peer, 8));
        assert_eq!(new.addrs, old.addrs);
    }
}
