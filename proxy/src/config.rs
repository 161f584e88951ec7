//! What a proxy is told before it starts.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use regex::Regex;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::origin::Authority;

/// The TCP port of the proxy.
pub const PROXY_PORT: u16 = 65001;
/// Where docker's images are when nothing else is said.
const DOCKER_HUB: &str = "https://registry-1.docker.io";
/// Connections at once: some hundreds of pulls of some tens of layers each.
const MAX_CONNECTIONS: usize = 4096;
/// The longest rule.
const MAX_RULE_BYTES: usize = 4096;

/// Everything that a proxy must know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen. Default: port 65001 of the loopback address.
    pub listen: SocketAddr,
    /// The node's folder: the certificate authority lies in it.
    pub data: PathBuf,
    /// Further hosts whose TLS connections are opened, as registries'. Default: none.
    pub registries: Vec<HostPattern>,
    /// Which other URLs are shared; those of https only on hosts whose connections are opened. Default: none.
    pub rules: Vec<Rule>,
    /// Whether a blob of which only a part was asked for, or whose client left, is fetched to its end. Default: no.
    pub prefetch: bool,
    /// Where a request of docker's mirror mode goes, which does not say. Default: Docker Hub.
    pub mirror_upstream: Url,
    /// A proxy that leads to the upstreams. Variables of the environment are not looked at: they may well name this
    /// proxy. Default: none.
    pub upstream_proxy: Option<Url>,
    /// Hosts that are reached without that proxy. Default: none.
    pub upstream_direct: Vec<HostPattern>,
    /// Further roots of trust for upstreams, PEM. The system's are trusted, but for those that dfnode made.
    pub cacert: Vec<Vec<u8>>,
    /// Connections at once: of clients, and of what they are joined to. Default: 4096.
    pub max_connections: usize,
    /// How long others may say nothing.
    pub patience: Patience,
}

/// How long others may keep the proxy waiting. Nothing that a user sets: tests have less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A registry, for the head of its answer to a question that other clients wait behind. Default: 10 s.
    ///
    /// Shorter than clients wait themselves, longer than a busy registry takes.
    pub question: Duration,
    /// A connection that was kept, for the head of an answer, before the same is asked over a new one as well: the old one
    /// may lead to an address that is no longer this host's. Default: 5 s.
    pub kept: Duration,
    /// The node, for any byte at all, before the upstream is asked itself. Default: 6 s.
    pub node: Duration,
    /// A client, for the head of its next request: connections that nobody uses end then. Default: 5 min.
    pub head: Duration,
    /// A client of HTTP/2, for its answer to a ping, and between two pings. Default: 30 s.
    pub ping: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            question: Duration::from_secs(10),
            kept: Duration::from_secs(5),
            node: Duration::from_secs(6),
            head: Duration::from_mins(5),
            ping: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// The defaults for a node with this folder.
    ///
    /// # Panics
    /// Never: the default upstream is a URL.
    pub fn new(data: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PROXY_PORT)),
            data,
            registries: Vec::new(),
            rules: Vec::new(),
            prefetch: false,
            mirror_upstream: Url::parse(DOCKER_HUB).expect("a URL"),
            upstream_proxy: None,
            upstream_direct: Vec::new(),
            cacert: Vec::new(),
            max_connections: MAX_CONNECTIONS,
            patience: Patience::default(),
        }
    }
}

/// Hosts by name: `registry.example`, `registry.example:5000`, or `.example` for all hosts below that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    host: String,
    port: Option<u16>,
}

/// Not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host; write for example registry.example, registry.example:5000 or .example")]
pub struct ParseHostError(String);

impl HostPattern {
    /// Whether `authority` is one of them. Without a port, every port is meant.
    pub(crate) fn matches(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let is_host = match self.host.strip_prefix('.') {
            Some(domain) => {
                host == domain
                    || host
                        .strip_suffix(domain)
                        .is_some_and(|left| left.ends_with('.'))
            }
            None => host == self.host,
        };
        is_host && self.port.is_none_or(|port| port == authority.port())
    }
}

impl FromStr for HostPattern {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseHostError(text.to_owned());
        let (dot, rest) = match text.strip_prefix('.') {
            Some(rest) => (".", rest),
            None => ("", text),
        };
        // Port 0 stands for none: nobody listens there.
        let authority = Authority::parse(rest, Some(0)).ok_or_else(wrong)?;
        if !dot.is_empty() && authority.host().contains(':') {
            // Nothing is below an address.
            return Err(wrong());
        }
        Ok(Self {
            host: format!("{dot}{}", authority.host()),
            port: Some(authority.port()).filter(|port| *port != 0),
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A regular expression that names URLs to be shared.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule(Regex);

/// Not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRuleError {
    /// It is no regular expression.
    #[error("`{0}` is no regular expression")]
    Regex(String),
    /// It is longer than any sensible one.
    #[error("a rule may have at most {MAX_RULE_BYTES} bytes")]
    TooLong,
}

impl Rule {
    /// Whether the rule names this URL, which is given without user info.
    pub(crate) fn matches(&self, url: &Url) -> bool {
        self.0.is_match(url.as_str())
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl FromStr for Rule {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_RULE_BYTES {
            return Err(ParseRuleError::TooLong);
        }
        Regex::new(text)
            .map(Self)
            .map_err(|_| ParseRuleError::Regex(text.to_owned()))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl TryFrom<String> for HostPattern {
    type Error = ParseHostError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl TryFrom<String> for Rule {
    type Error = ParseRuleError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, authority: &str) -> bool {
        let pattern: HostPattern = pattern.parse().unwrap();
        pattern.matches(&Authority::parse(authority, Some(443)).unwrap())
    }

    #[test]
    fn a_host_means_every_port_unless_it_says_one() {
        assert!(matches("a.example", "a.example:5000"));
        assert!(matches("A.example:5000", "a.example:5000"));
        assert!(!matches("a.example:5000", "a.example"));
        assert!(!matches("a.example", "b.a.example"));
        assert!(matches("[::1]:5000", "[::1]:5000"));
    }

    #[test]
    fn a_dot_means_all_below() {
        assert!(matches(".example", "a.b.example"));
        assert!(matches(".example", "example"));
        assert!(!matches(".example", "badexample"));
    }

    #[test]
    fn what_is_no_host_is_an_error() {
        for text in ["", ".", "a b", "http://a", "a:99999", "a/b", ".[::1]"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_reads_back() {
        for text in ["a.example", ".example", "a.example:5000", "[::1]:5000"] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
        }
    }
}
