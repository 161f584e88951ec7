//! Which headers are sent, and which of them are secrets.

use dfnode_tracker::SourceFailure;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

/// Headers that belong to the URL, to one connection or to our own way of reading.
const NOT_THE_CALLERS: &[HeaderName] = &[
    header::HOST,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::ACCEPT_ENCODING,
];
/// Headers that follow a redirect to another origin. Any other may be a secret, whatever its name.
const FOR_ANY_ORIGIN: &[HeaderName] = &[
    header::ACCEPT,
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::USER_AGENT,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];
/// Parts of names that mark a header as a secret. Services have too many names for a full list; a header
/// that is wrongly held secret costs a second read, the other error costs the secret.
const SECRET_MARKS: &[&str] = &[
    "auth",
    "cookie",
    "token",
    "key",
    "secret",
    "session",
    "password",
    "signature",
];

/// Whether a request as this one tells the source who asks.
pub fn is_credentialed(url: &Url, headers: &[(String, String)]) -> bool {
    has_user_info(url) || headers.iter().any(|(name, _)| is_secret(name))
}

fn has_user_info(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_MARKS.iter().any(|mark| name.contains(mark))
}

/// The caller's headers, as far as they are the caller's to say.
pub(super) fn of_caller(headers: &[(String, String)]) -> Result<HeaderMap, SourceFailure> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = || SourceFailure::Final {
            what: format!("`{name}` is no valid header of a request"),
        };
        let parsed = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| bad())?;
        if !NOT_THE_CALLERS.contains(&parsed) {
            value.set_sensitive(is_secret(name));
            map.append(parsed, value);
        }
    }
    map.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    Ok(map)
}

/// Drops what only the origin that it was given for may see: all that is not known to be of no one's.
pub fn leave_origin(headers: &mut HeaderMap) {
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| !FOR_ANY_ORIGIN.contains(name))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
}

/// Whether a request has what only the origin that it was given for may see.
pub(super) fn is_for_one_origin(url: &Url, headers: &HeaderMap) -> bool {
    has_user_info(url) || headers.keys().any(|name| !FOR_ANY_ORIGIN.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_secret_is_known_by_its_name_or_place() {
        let plain = Url::parse("http://h/x").expect("a URL");
        let with_user = Url::parse("http://me@h/x").expect("a URL");
        assert!(is_credentialed(&with_user, &[]));
        for name in [
            "Authorization",
            "cookie",
            "PRIVATE-TOKEN",
            "X-Api-Key",
            "Proxy-Authorization",
        ] {
            assert!(is_credentialed(&plain, &headers(&[(name, "x")])), "{name}");
        }
        assert!(!is_credentialed(
            &plain,
            &headers(&[("Accept", "*/*"), ("User-Agent", "a"), ("Range", "b")])
        ));
    }

    #[test]
    fn what_leaves_the_origin_has_only_what_anybody_sends() {
        let list = headers(&[
            ("Authorization", "Bearer x"),
            ("Accept", "text/plain"),
            ("User-Agent", "mine"),
            ("X-Customer", "who I am"),
            ("Referer", "http://intranet/"),
            ("Host", "a"),
            ("Range", "no"),
        ]);
        let mut map = of_caller(&list).expect("valid");
        assert!(map.contains_key(header::AUTHORIZATION));
        assert!(!map.contains_key(header::RANGE) && !map.contains_key(header::HOST));
        let url = Url::parse("https://h/x").expect("a URL");
        assert!(is_for_one_origin(&url, &map));
        leave_origin(&mut map);
        assert!(!is_for_one_origin(&url, &map));
        let mut left: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "accept-encoding", "user-agent"]);
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_named_without_its_value() {
        let failure =
            of_caller(&headers(&[("Authorization", "secret\nvalue")])).expect_err("not valid");
        assert!(
            failure.to_string().contains("Authorization")
                && !failure.to_string().contains("secret")
        );
    }
}
