//! Words of the command line and the configuration file that mean more than their letters.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use dfnode_node::discovery::{JoinTarget, ParseTargetError};
use dfnode_tracker::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

/// Lets serde read and write a type as its text.
macro_rules! as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = <$type as FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(word: $type) -> Self {
                word.to_string()
            }
        }
    };
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WordError(String);

fn wrong<T>(what: impl Into<String>) -> Result<T, WordError> {
    Err(WordError(what.into()))
}

/// A time, as in `5m`, `1h 30m` or, in seconds, `90`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(pub(crate) Duration);
as_text!(Span);

impl FromStr for Span {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let seconds = text.trim().parse().map(Duration::from_secs);
        seconds
            .or_else(|_| humantime::parse_duration(text))
            .map(Self)
            .or_else(|_| {
                wrong(format!(
                    "`{text}` is no time; write for example 90s, 5m or 1h 30m"
                ))
            })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// Where a member may be found, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Endpoint {
    text: String,
    /// What it means.
    pub(crate) target: JoinTarget,
}
as_text!(Endpoint);

impl FromStr for Endpoint {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let target = text.parse()?;
        Ok(Self {
            text: text.to_owned(),
            target,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An address that peers are told, with or without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Advertised {
    /// The address.
    pub(crate) ip: IpAddr,
    /// The port, if it is not the one listened on.
    pub(crate) port: Option<u16>,
}
as_text!(Advertised);

impl FromStr for Advertised {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(address) => Ok(Self {
                ip: address.ip(),
                port: Some(address.port()),
            }),
            Err(_) => wrong(format!(
                "`{text}` is no address; write for example 192.0.2.7 or 192.0.2.7:65000"
            )),
        }
    }
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// Where the status page is shown, if at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum StatusAddr {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}
as_text!(StatusAddr);

impl FromStr for StatusAddr {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        match (text, text.parse()) {
            ("off", _) => Ok(Self::Off),
            (_, Ok(address)) => Ok(Self::At(address)),
            (_, Err(_)) => wrong(format!(
                "`{text}` is no address; write for example 127.0.0.1:65002, or off"
            )),
        }
    }
}

impl fmt::Display for StatusAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// A header for the source. Its value may be a secret and is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The name as typed.
    pub(crate) name: String,
    /// The value without the spaces around it.
    pub(crate) value: String,
}

impl FromStr for Header {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let Some((name, value)) = text.split_once(':') else {
            return wrong("a header is written `Name: value`");
        };
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return wrong("the name of a header has a character that names do not have");
        }
        let value = value.trim();
        if value.contains(|c: char| c.is_control() && c != '\t') {
            return wrong("the value of a header has a control character in it");
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({}: …)", self.name)
    }
}

/// Bytes of a file: the first and the last, both counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// The first byte.
    pub(crate) first: u64,
    /// The last byte, if it is not the file's last.
    pub(crate) last: Option<u64>,
}

impl FromStr for Range {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let parsed = text.split_once('-').and_then(|(first, last)| {
            let first = first.parse().ok()?;
            let last = if last.is_empty() {
                None
            } else {
                Some(last.parse().ok()?)
            };
            Some(Self { first, last })
        });
        match parsed {
            Some(Self {
                first,
                last: Some(last),
            }) if last < first => wrong(format!("the range `{text}` ends before it begins")),
            Some(range) => Ok(range),
            None => wrong(format!(
                "`{text}` is no range; write first and last byte, as in 0-1023, or 1024- to the end"
            )),
        }
    }
}

/// Names of query parameters that do not select content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) struct Filter(pub(crate) Vec<String>);

impl From<String> for Filter {
    fn from(text: String) -> Self {
        Self(
            text.split('&')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.0.join("&")
    }
}

/// Reads `k1&k2`.
#[expect(clippy::unnecessary_wraps, reason = "the shape that clap calls")]
pub(crate) fn filter(text: &str) -> Result<Filter, WordError> {
    Ok(Filter::from(text.to_owned()))
}

/// Reads an MD5 in hexadecimal.
pub(crate) fn md5(text: &str) -> Result<Digest, dfnode_tracker::ParseDigestError> {
    format!("md5:{text}").parse()
}

/// Hexadecimal digits of a task's id that are enough to name it, as in a list; all of them are more.
const ID_DIGITS: std::ops::RangeInclusive<usize> = 10..=64;

/// What `dfnode rm` forgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removed {
    /// What was downloaded from there.
    Url(Url),
    /// The task whose id begins so.
    Id(String),
}

impl FromStr for Removed {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex && ID_DIGITS.contains(&text.len()) {
            return Ok(Self::Id(text.to_ascii_lowercase()));
        }
        source_url(text).map(Self::Url)
    }
}

/// Reads a URL that can be downloaded.
pub(crate) fn source_url(text: &str) -> Result<Url, WordError> {
    let url = match text.parse::<Url>() {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        // `localhost:8000/file` parses: as the scheme `localhost`.
        Ok(_) | Err(url::ParseError::RelativeUrlWithoutBase) if !text.contains("://") => {
            return wrong(format!(
                "the URL has no scheme: write https://{}",
                text.trim_start_matches('/')
            ));
        }
        Ok(url) => {
            return wrong(format!(
                "cannot download {}:// URLs, only http:// and https://",
                url.scheme()
            ));
        }
        Err(error) => return wrong(format!("this is no URL: {error}")),
    };
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(url),
        _ => wrong("the URL names no host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("5m", 300),
            ("1h 30m", 5400),
            ("0", 0),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Span(Duration::from_secs(seconds))),
                "{text}"
            );
        }
        assert!("soon".parse::<Span>().is_err());
        assert!("-5s".parse::<Span>().is_err());
    }

    #[test]
    fn members_are_hosts_with_or_without_a_port() {
        for sound in [
            "peer-a",
            "peer-a:7000",
            "192.0.2.1",
            "192.0.2.1:7000",
            "2001:db8::1",
            "[2001:db8::1]:7000",
        ] {
            assert!(sound.parse::<Endpoint>().is_ok(), "{sound}");
        }
        for unsound in [
            "",
            ":65000",
            "peer-a:",
            "peer-a:0",
            "peer-a:65536",
            "http://peer-a",
            "peer a",
            "peer-a:x",
        ] {
            assert!(unsound.parse::<Endpoint>().is_err(), "{unsound}");
        }
    }

    #[test]
    fn headers_hide_their_values_and_take_no_line_ends() {
        let header: Header = "Authorization:  Bearer secret ".parse().unwrap();
        assert_eq!(
            (header.name.as_str(), header.value.as_str()),
            ("Authorization", "Bearer secret")
        );
        assert!(!format!("{header:?}").contains("secret"));
        for unsound in ["no colon", ": value", "a b: c", "a: b\r\nc: d", "a: b\0"] {
            let error = unsound.parse::<Header>().unwrap_err().to_string();
            assert!(!error.contains("value`:"), "{error}");
        }
    }

    #[test]
    fn ranges_count_first_and_last_byte_in() {
        assert_eq!(
            "0-0".parse(),
            Ok(Range {
                first: 0,
                last: Some(0)
            })
        );
        assert_eq!(
            "5-".parse(),
            Ok(Range {
                first: 5,
                last: None
            })
        );
        for unsound in ["", "-", "-5", "5", "5-4", "a-b", "0-1,3-4"] {
            assert!(unsound.parse::<Range>().is_err(), "{unsound}");
        }
    }

    #[test]
    fn a_url_without_scheme_is_told_how_to_be_one() {
        for bare in [
            "example.com/file",
            "localhost:8000/file",
            "//example.com/file",
        ] {
            let error = source_url(bare).unwrap_err().to_string();
            assert!(
                error.contains(&format!("write https://{}", bare.trim_start_matches('/'))),
                "{error}"
            );
        }
    }

    #[test]
    fn only_urls_with_a_host_over_http_can_be_downloaded() {
        assert!(source_url("http://example.com/a?b#c").is_ok());
        assert!(source_url("HTTPS://example.com").is_ok());
        for unsound in [
            "ftp://example.com/a",
            "file:///etc/passwd",
            "http://",
            "https://[::1/a",
            "",
        ] {
            assert!(source_url(unsound).is_err(), "{unsound}");
        }
    }

    #[test]
    fn filters_are_names_between_ampersands() {
        assert_eq!(filter("a&&b&").unwrap().0, ["a", "b"]);
    }

    #[test]
    fn a_word_survives_being_written_and_read_again() {
        assert_eq!(
            "192.0.2.7".parse::<Advertised>().unwrap().to_string(),
            "192.0.2.7"
        );
        assert_eq!(
            "[2001:db8::1]:7".parse::<Advertised>().unwrap().to_string(),
            "[2001:db8::1]:7"
        );
        assert_eq!("off".parse::<StatusAddr>().unwrap().to_string(), "off");
        assert_eq!(
            Span(Duration::from_mins(90)).to_string().parse(),
            Ok(Span(Duration::from_mins(90)))
        );
    }
}
