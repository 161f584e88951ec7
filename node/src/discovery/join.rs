//! `--join HOST[:PORT]`.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::transport::DEFAULT_PORT;

/// Addresses taken from one name.
const MAX_ADDRS_PER_NAME: usize = 256;
/// How long a name server may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a member may be: an address, or a name with any number of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JoinTarget {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// The text names no place to join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither HOST, HOST:PORT, an IP address nor [IPV6]:PORT")]
pub struct ParseTargetError(String);

impl JoinTarget {
    /// The address, if no name server is needed for it.
    pub fn addr(&self) -> Option<SocketAddr> {
        match &self.host {
            Host::Ip(ip) => Some(SocketAddr::new(*ip, self.port)),
            Host::Name(_) => None,
        }
    }

    /// All addresses behind it.
    pub(crate) async fn resolve(&self) -> io::Result<BTreeSet<SocketAddr>> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok([SocketAddr::new(*ip, self.port)].into()),
            Host::Name(name) => name,
        };
        let lookup = tokio::net::lookup_host((name.as_str(), self.port));
        let addrs = tokio::time::timeout(LOOKUP_TIMEOUT, lookup)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(addrs.take(MAX_ADDRS_PER_NAME).collect())
    }
}

impl FromStr for JoinTarget {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let wrong = || ParseTargetError(text.to_owned());
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Self::new(Host::Ip(addr.ip()), addr.port()).ok_or_else(wrong);
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Self::new(Host::Ip(ip), DEFAULT_PORT).ok_or_else(wrong);
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, port.parse().map_err(|_| wrong())?),
            None => (text, DEFAULT_PORT),
        };
        if !is_name(name) {
            return Err(wrong());
        }
        Self::new(Host::Name(name.to_ascii_lowercase()), port).ok_or_else(wrong)
    }
}

impl JoinTarget {
    fn new(host: Host, port: u16) -> Option<Self> {
        (port != 0).then_some(Self { host, port })
    }
}

fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    !name.is_empty() && name.len() <= 253 && name.chars().all(is_allowed)
}

impl fmt::Display for JoinTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_place_is_understood() {
        for (text, means) in [
            ("10.0.0.1", "10.0.0.1:65000"),
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("::1", "[::1]:65000"),
            ("[::1]", "[::1]:65000"),
            ("[fd00::5]:7", "[fd00::5]:7"),
            ("peer-a", "peer-a:65000"),
            (" Peer_A.example:7 ", "peer_a.example:7"),
        ] {
            let target: JoinTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), means);
            assert_eq!(means.parse(), Ok(target));
        }
        for text in [
            "",
            ":7",
            "a:b",
            "a:0",
            "http://a",
            "a b",
            "1.2.3.4:99999",
            "[::1",
        ] {
            assert!(text.parse::<JoinTarget>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_gives_its_addresses_with_the_port() {
        let target: JoinTarget = "localhost:7".parse().unwrap();
        assert_eq!(target.addr(), None);
        let addrs = target.resolve().await.unwrap();
        assert!(
            addrs
                .iter()
                .all(|addr| addr.ip().is_loopback() && addr.port() == 7)
        );
        assert!(!addrs.is_empty());
    }
}
