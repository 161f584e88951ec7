//! What a client proves itself with.

use hyper::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL,
    CONNECTION, COOKIE, DATE, HOST, HeaderMap, HeaderName, PRAGMA, RANGE, REFERER, TE, USER_AGENT,
    VIA,
};

/// Headers that prove who asks.
const PROOFS: &[HeaderName] = &[AUTHORIZATION, COOKIE];

/// Headers that change neither who asks nor what is asked for.
const HARMLESS: &[HeaderName] = &[
    ACCEPT,
    ACCEPT_CHARSET,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    CACHE_CONTROL,
    CONNECTION,
    DATE,
    HOST,
    PRAGMA,
    RANGE,
    REFERER,
    TE,
    USER_AGENT,
    VIA,
];

/// Of those, the ones that have no constant.
const HARMLESS_NAMES: &[&str] = &[
    "docker-distribution-api-version",
    "keep-alive",
    "proxy-connection",
    "traceparent",
    "tracestate",
    "x-request-id",
];

/// A hash of what a client showed. Its key lives as long as the process: it is worth nothing elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Credential([u8; 32]);

impl Credential {
    /// What these headers prove.
    pub(crate) fn of(headers: &HeaderMap, key: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        for name in PROOFS {
            for value in headers.get_all(name) {
                for field in [name.as_str().as_bytes(), value.as_bytes()] {
                    hasher.update(&(field.len() as u64).to_le_bytes());
                    hasher.update(field);
                }
            }
        }
        Self(*hasher.finalize().as_bytes())
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Whether every header is one whose meaning is known.
///
/// Any other could make an upstream answer for something else than the path says, or for somebody else: such a
/// request is passed on and nothing is concluded from its answer.
pub(crate) fn is_plain(headers: &HeaderMap) -> bool {
    headers.keys().all(|name| {
        PROOFS.contains(name) || HARMLESS.contains(name) || HARMLESS_NAMES.contains(&name.as_str())
    })
}

/// The headers that the node may send in this client's name.
pub(crate) fn for_source(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = [ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, USER_AGENT];
    kept.iter()
        .flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8; 32] = &[3; 32];

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_what_proves_something_makes_a_difference() {
        let of = |list: &[(&'static str, &str)]| Credential::of(&headers(list), KEY);
        assert_eq!(
            of(&[("user-agent", "a")]),
            of(&[("user-agent", "b"), ("range", "bytes=1-")])
        );
        assert_ne!(of(&[("authorization", "a")]), of(&[("authorization", "b")]));
        assert_ne!(of(&[("authorization", "a")]), of(&[("cookie", "a")]));
        assert_ne!(of(&[("authorization", "a")]), of(&[]));
    }

    #[test]
    fn an_unknown_header_is_not_plain() {
        assert!(is_plain(&headers(&[
            ("authorization", "a"),
            ("accept", "b"),
            ("range", "c")
        ])));
        for name in [
            "x-original-url",
            "x-forwarded-host",
            "if-none-match",
            "if-range",
            "x-a",
        ] {
            assert!(!is_plain(&headers(&[(name, "1")])), "{name}");
        }
    }
}
