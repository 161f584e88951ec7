//! Connections to upstreams: straight, or through the proxy that leads there.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use url::Url;

use crate::config::HostPattern;
use crate::origin::{Authority, Origin, Scheme};

/// How long a connection may take: clients give up after ten seconds with their own handshake.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Between the beginnings of two tries.
const STAGGER: Duration = Duration::from_millis(250);
/// How long a connection may be silent before the system asks the other end whether it is there. Shorter than the
/// middleboxes that forget a silent connection take, and than [`crate::upstream`] keeps one that nobody uses.
const PROBE_AFTER: Duration = Duration::from_secs(15);
/// Between two such questions.
const PROBE_PAUSE: Duration = Duration::from_secs(5);
/// Of them, how many may go without an answer.
const PROBES: u32 = 4;
/// The longest answer of a proxy to our CONNECT.
const MAX_REPLY_BYTES: usize = 16 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("cannot find {0}: {1}")]
    Unknown(String, io::Error),
    #[error("cannot reach {0}: {1}")]
    Refused(String, io::Error),
    #[error("cannot reach {0}: no answer in time")]
    Silent(String),
    #[error("{0} leads back to this proxy")]
    Loop(String),
    #[error("the proxy on the way to {0} says: {1}")]
    Proxy(String, String),
}

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Dialer {
    proxy: Option<Hop>,
    direct: Vec<HostPattern>,
    /// Where this proxy itself listens.
    own: SocketAddr,
    /// What this proxy is called in `Via`.
    name: String,
}

/// A proxy on the way.
#[derive(Debug)]
struct Hop {
    authority: Authority,
    login: Option<String>,
}

impl Dialer {
    pub(crate) fn new(
        proxy: Option<&Url>,
        direct: Vec<HostPattern>,
        own: SocketAddr,
        name: String,
    ) -> Option<Self> {
        let proxy = match proxy {
            None => None,
            Some(url) => {
                let origin = Origin::of_url(url).filter(|origin| origin.scheme == Scheme::Http)?;
                let has_login = !url.username().is_empty() || url.password().is_some();
                Some(Hop {
                    authority: origin.authority,
                    login: has_login.then(|| basic(url)),
                })
            }
        };
        Some(Self {
            proxy,
            direct,
            own,
            name,
        })
    }

    /// What this proxy is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The bytes that `authority` would see.
    pub(crate) async fn dial(&self, authority: &Authority) -> Result<TcpStream, DialError> {
        let hop = self
            .proxy
            .as_ref()
            .filter(|_| !self.direct.iter().any(|pattern| pattern.matches(authority)));
        let dialed = match hop {
            Some(hop) => timeout(CONNECT_PATIENCE, self.through(hop, authority)).await,
            None => timeout(CONNECT_PATIENCE, self.straight(authority)).await,
        };
        dialed.unwrap_or_else(|_| Err(DialError::Silent(authority.to_string())))
    }

    async fn straight(&self, authority: &Authority) -> Result<TcpStream, DialError> {
        let name = || authority.to_string();
        let found = lookup_host((authority.host(), authority.port())).await;
        let found = found.map_err(|error| DialError::Unknown(name(), error))?;
        let mut tries: FuturesUnordered<_> = found
            .take(MAX_ADDRESSES)
            .zip(0..)
            .map(|(address, number)| async move {
                sleep(STAGGER * number).await;
                TcpStream::connect(address).await
            })
            .collect();
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        while let Some(tried) = tries.next().await {
            match tried {
                Ok(stream) if self.is_own(&stream) => return Err(DialError::Loop(name())),
                Ok(stream) => {
                    tune(&stream);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(DialError::Refused(name(), last))
    }

    /// Whether a connection ends at this very listener.
    fn is_own(&self, stream: &TcpStream) -> bool {
        let (Ok(there), Ok(here)) = (stream.peer_addr(), stream.local_addr()) else {
            return false;
        };
        there.port() == self.own.port()
            && (there.ip() == here.ip() || there.ip().is_loopback())
            && (self.own.ip().is_unspecified() || self.own.ip() == there.ip())
    }

    async fn through(&self, hop: &Hop, authority: &Authority) -> Result<TcpStream, DialError> {
        let mut stream = self.straight(&hop.authority).await?;
        let failed = |what: String| DialError::Proxy(authority.to_string(), what);
        let login = hop
            .login
            .as_ref()
            .map(|login| format!("Proxy-Authorization: Basic {login}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nVia: 1.1 {}\r\n{login}\r\n",
            self.name
        );
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|error| failed(error.to_string()))?;
        let mut reply = Vec::new();
        // Byte by byte: what follows the empty line is not ours to read.
        while !reply.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await;
            reply.push(byte.map_err(|error| failed(error.to_string()))?);
            if reply.len() > MAX_REPLY_BYTES {
                return Err(failed("more than an answer".to_owned()));
            }
        }
        let line = reply
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let status = line.split(' ').nth(1).unwrap_or_default();
        if line.starts_with("HTTP/1.") && status.starts_with('2') {
            Ok(stream)
        } else {
            Err(failed(line.into_owned()))
        }
    }
}

/// Makes a connection fit for small messages, and has the system look whether the other end is still there.
///
/// Not `TCP_USER_TIMEOUT`: that would also end the connection of a client which takes no bytes for a while.
pub(crate) fn tune(stream: &TcpStream) {
    // Each is a help only: a connection without it works.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, PROBE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(stream, PROBE_PAUSE);
    let _ = sockopt::set_tcp_keepcnt(stream, PROBES);
}

/// User and password of a URL as a proxy wants them.
pub(crate) fn basic(url: &Url) -> String {
    let decoded = |text: &str| {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, others)) = rest.split_first() {
            let code = others
                .get(..2)
                // A sign would be read as part of a number.
                .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .filter(|_| *first == b'%');
            if let Some(code) = code {
                bytes.push(code);
                rest = &others[2..];
            } else {
                bytes.push(*first);
                rest = others;
            }
        }
        bytes
    };
    let mut login = decoded(url.username());
    login.push(b':');
    login.extend(decoded(url.password().unwrap_or_default()));
    base64(&login)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| {
            bits << 8 | usize::from(group.get(at).copied().unwrap_or_default())
        });
        for digit in 0..4 {
            if digit <= group.len() {
                text.push(char::from(DIGITS[bits >> (18 - 6 * digit) & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_looks_whether_an_upstream_is_still_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap().to_string();
        let own = SocketAddr::from(([127, 0, 0, 1], 1));
        let dialer = Dialer::new(None, Vec::new(), own, "x".to_owned()).unwrap();
        let there = Authority::parse(&there, None).unwrap();
        let stream = dialer.dial(&there).await.unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), PROBE_AFTER);
    }

    #[test]
    fn a_login_is_written_as_proxies_read_it() {
        let url = Url::parse("http://al%40ice:s%3Aecret@proxy:3128").unwrap();
        assert_eq!(basic(&url), base64(b"al@ice:s:ecret"));
        let url = Url::parse("http://al%+fice:100%@proxy:3128").unwrap();
        assert_eq!(basic(&url), base64(b"al%+fice:100%"));
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"f"), "Zg==");
        assert_eq!(base64(b"fo"), "Zm8=");
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
    }
}
