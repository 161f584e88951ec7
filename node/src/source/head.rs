//! What the head of an answer tells of a resource.

use dfnode_tracker::{Digest, MAX_VALIDATOR_BYTES, SourceHead, Validators, VersionId};
use reqwest::StatusCode;
use reqwest::header::{self, AsHeaderName, HeaderMap};

/// `Last-Modified` counts only when it lies further back than this: within a second a file may change twice,
/// and clocks differ.
const MIN_AGE_SECS: u64 = 60;

/// A `Content-Range` of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// First and last byte; absent when the range asked for does not exist.
    pub(super) span: Option<(u64, u64)>,
    /// The length of the whole, if told.
    pub(super) total: Option<u64>,
}

impl ContentRange {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(text(headers, header::CONTENT_RANGE)?)
    }

    pub(super) fn parse(value: &str) -> Option<Self> {
        let (span, total) = value
            .trim()
            .strip_prefix("bytes")?
            .trim_start()
            .split_once('/')?;
        let total = match total.trim() {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        let span = match span.trim() {
            "*" => None,
            span => {
                let (first, last) = span.split_once('-')?;
                Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
            }
        };
        let is_sound = span
            .is_none_or(|(first, last)| first <= last && total.is_none_or(|total| last < total));
        is_sound.then_some(Self { span, total })
    }
}

/// Reads the head of an answer.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, credentialed: bool) -> SourceHead {
    let is_part =
        status == StatusCode::PARTIAL_CONTENT || status == StatusCode::RANGE_NOT_SATISFIABLE;
    let length = if is_part {
        ContentRange::of(headers).and_then(|range| range.total)
    } else {
        text(headers, header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok())
    };
    SourceHead {
        length,
        validators: validators(headers),
        ranges: is_part,
        digest: repr_digest(headers),
        authority: None,
        public: !credentialed && may_be_shared(headers),
    }
}

/// The version that the head of an answer names, as nodes call it.
pub fn named_version(headers: &HeaderMap) -> Option<VersionId> {
    read(StatusCode::OK, headers, true).named()
}

fn validators(headers: &HeaderMap) -> Validators {
    let etag = text(headers, header::ETAG).map(str::trim);
    let etag = etag.filter(|etag| etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"'));
    let modified = text(headers, header::LAST_MODIFIED).map(str::trim);
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let last_modified = modified.filter(|modified| {
        let sent = text(headers, header::DATE).and_then(|sent| date(sent.trim()));
        let age = sent
            .zip(date(modified))
            .and_then(|(sent, modified)| sent.duration_since(modified).ok());
        age.is_some_and(|age| age.as_secs() > MIN_AGE_SECS)
    });
    let kept = |text: Option<&str>| {
        text.filter(|text| text.len() <= MAX_VALIDATOR_BYTES)
            .map(str::to_owned)
    };
    Validators {
        etag: kept(etag),
        last_modified: kept(last_modified),
    }
}

fn may_be_shared(headers: &HeaderMap) -> bool {
    let names = |name: header::HeaderName, forbidden: &[&str]| {
        let values = headers.get_all(name).into_iter();
        values
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .any(|part| {
                let part = part.split('=').next().unwrap_or_default().trim();
                forbidden.iter().any(|word| part.eq_ignore_ascii_case(word))
            })
    };
    !names(header::CACHE_CONTROL, &["private", "no-store"])
        && !names(header::VARY, &["authorization", "cookie", "*"])
}

/// The SHA-256 of the whole, as RFC 9530 writes it: `sha-256=:BASE64:`.
fn repr_digest(headers: &HeaderMap) -> Option<Digest> {
    let value = text(headers, "repr-digest")?;
    value.split(',').find_map(|member| {
        let (name, digest) = member.trim().split_once('=')?;
        let digest = digest.trim().strip_prefix(':')?.strip_suffix(':')?;
        let digest = name
            .eq_ignore_ascii_case("sha-256")
            .then(|| base64_32(digest))??;
        Some(Digest::Sha256(digest))
    })
}

/// Decodes 32 bytes of base64.
fn base64_32(text: &str) -> Option<[u8; 32]> {
    const DIGITS: usize = 43;
    let digits = text.strip_suffix('=')?.as_bytes();
    if digits.len() != DIGITS {
        return None;
    }
    let mut bytes = Vec::with_capacity(33);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    bytes.truncate(32);
    bytes.try_into().ok()
}

fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    value.parse().expect("valid"),
                )
            })
            .collect()
    }

    #[test]
    fn a_content_range_is_read_or_is_nonsense() {
        let whole = |first, last, total| {
            Some(ContentRange {
                span: Some((first, last)),
                total,
            })
        };
        assert_eq!(ContentRange::parse("bytes 0-9/10"), whole(0, 9, Some(10)));
        assert_eq!(ContentRange::parse("bytes 5-9/*"), whole(5, 9, None));
        assert_eq!(
            ContentRange::parse("bytes */0"),
            Some(ContentRange {
                span: None,
                total: Some(0)
            })
        );
        for nonsense in [
            "bytes 0-10/10",
            "bytes 9-5/20",
            "items 0-1/2",
            "bytes 0-/3",
            "bytes 1/3",
            "",
        ] {
            assert_eq!(ContentRange::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn only_strong_validators_count() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let of = |list: &[(&'static str, &str)]| validators(&headers(list));
        assert_eq!(of(&[("etag", "\"a\"")]).etag.as_deref(), Some("\"a\""));
        assert_eq!(of(&[("etag", "W/\"a\"")]).etag, None);
        assert_eq!(
            of(&[("etag", &format!("\"{}\"", "a".repeat(255)))]).etag,
            None
        );
        assert_eq!(
            of(&[date, ("last-modified", "Sun, 06 Nov 1994 08:48:37 GMT")]).last_modified,
            None
        );
        assert!(
            of(&[date, ("last-modified", "Sun, 06 Nov 1994 08:48:36 GMT")])
                .last_modified
                .is_some()
        );
        assert_eq!(
            of(&[("last-modified", "Sun, 06 Nov 1994 08:48:36 GMT")]).last_modified,
            None
        );
    }

    #[test]
    fn what_is_private_is_not_public() {
        let public =
            |list: &[(&'static str, &str)]| read(StatusCode::OK, &headers(list), false).public;
        assert!(public(&[
            ("cache-control", "max-age=5, public"),
            ("vary", "Accept-Encoding")
        ]));
        assert!(!public(&[("cache-control", "max-age=5, Private")]));
        assert!(!public(&[("cache-control", "private=\"x\"")]));
        assert!(!public(&[("vary", "Accept, Cookie")]));
        assert!(!read(StatusCode::OK, &HeaderMap::new(), true).public);
    }

    #[test]
    fn a_digest_that_the_source_vouches_for_is_read() {
        let value = "sha-512=:AAAA:, sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            repr_digest(&headers(&[("repr-digest", value)])),
            Some(empty.parse().expect("a digest"))
        );
        assert_eq!(
            repr_digest(&headers(&[("repr-digest", "sha-256=:47DE:")])),
            None
        );
    }

    proptest! {
        #[test]
        fn no_header_panics(value in "[ -~]{0,80}") {
            let _ = ContentRange::parse(&value);
            let map = headers(&[("etag", &value), ("last-modified", &value), ("date", &value), ("repr-digest", &value)]);
            let _ = read(StatusCode::OK, &map, false);
        }
    }
}
