//! Who is asked: a host and a port, and the scheme that is spoken there.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;
use rustls::pki_types::ServerName;
use url::Url;

/// The longest name of a host.
const MAX_HOST_BYTES: usize = 253;

/// A host and a port. The host is in lower case; an IPv6 address has no brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Authority {
    host: String,
    port: u16,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

impl Authority {
    /// Reads `HOST[:PORT]`; `None` if it is nothing of the kind.
    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (
                    host,
                    port.strip_prefix(':')
                        .or_else(|| port.is_empty().then_some("")),
                )
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, Some("")),
            },
        };
        let port = match port? {
            "" => default_port?,
            digits => digits.parse().ok()?,
        };
        let is_host = host.parse::<IpAddr>().is_ok() || is_name(host);
        is_host.then(|| Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The name that its certificate must have.
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).ok()
    }

    fn is_ipv6(&self) -> bool {
        self.host.contains(':')
    }
}

/// Whether `host` could be a name: what else it is, only its resolver knows.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= MAX_HOST_BYTES && host.split('.').all(is_label)
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ipv6() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Scheme {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Origin {
    /// Whom a URI in absolute form is for.
    pub(crate) fn of_uri(uri: &Uri) -> Option<Self> {
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let host = uri.authority()?;
        // Who is asked stands behind whatever is to prove who asks.
        let text = host.as_str().rsplit('@').next()?;
        let authority = Authority::parse(text, Some(scheme.port()))?;
        Some(Self { scheme, authority })
    }

    /// Whom a URL is for.
    pub(crate) fn of_url(url: &Url) -> Option<Self> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let port = url.port().unwrap_or_else(|| scheme.port());
        let authority = Authority::parse(&format!("{}:{port}", url.host_str()?), None)?;
        Some(Self { scheme, authority })
    }

    /// A place of this origin. `path` begins with a slash.
    pub(crate) fn uri(&self, path: &str) -> Option<Uri> {
        Uri::builder()
            .scheme(self.scheme.as_str())
            .authority(self.short())
            .path_and_query(path)
            .build()
            .ok()
    }

    /// The same as a URL.
    pub(crate) fn url(&self, path: &str) -> Option<Url> {
        Url::parse(&format!(
            "{}://{}{path}",
            self.scheme.as_str(),
            self.authority
        ))
        .ok()
    }

    /// Whether `text`, a `Host` header, names this origin.
    pub(crate) fn is_named(&self, text: &str) -> bool {
        Authority::parse(text, Some(self.scheme.port())).as_ref() == Some(&self.authority)
    }

    /// The authority without a port that goes without saying.
    fn short(&self) -> String {
        let text = self.authority.to_string();
        if self.authority.port == self.scheme.port() {
            let port = format!(":{}", self.authority.port);
            text.strip_suffix(&port).unwrap_or(&text).to_owned()
        } else {
            text
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn authorities_are_read_or_refused() {
        let read = |text| Authority::parse(text, Some(443)).map(|read| read.to_string());
        assert_eq!(read("A.example:5000").as_deref(), Some("a.example:5000"));
        assert_eq!(read("a.example").as_deref(), Some("a.example:443"));
        assert_eq!(read("10.0.0.1:1").as_deref(), Some("10.0.0.1:1"));
        assert_eq!(read("[::1]:1").as_deref(), Some("[::1]:1"));
        for text in [
            "", ":1", "a:", "a:b", "a:70000", "[::1", "[a]:1", "::1", "a b", "a@b", "a/b", "a..b",
        ] {
            let expected = (text == "a:").then(|| "a:443".to_owned());
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn an_origin_goes_by_its_port() {
        let origin = Origin::of_uri(&"https://u:p@A.example/x".parse().unwrap()).unwrap();
        assert_eq!(origin.to_string(), "https://a.example:443");
        assert!(origin.is_named("a.example") && origin.is_named("A.EXAMPLE:443"));
        assert!(!origin.is_named("a.example:80") && !origin.is_named("b.example"));
        assert_eq!(
            origin.uri("/v2/").unwrap().to_string(),
            "https://a.example/v2/"
        );
        assert_eq!(
            Origin::of_url(&Url::parse("http://[::1]/").unwrap())
                .unwrap()
                .to_string(),
            "http://[::1]:80"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            if let Some(authority) = Authority::parse(&text, Some(1)) {
                prop_assert_eq!(Authority::parse(&authority.to_string(), None), Some(authority));
            }
        }
    }
}
