//! Other URLs that a rule names: shared as the node shares what `dfnode get` asks for.

use std::sync::Arc;
use std::time::Duration;

use dfnode_node::get::GetRequest;
use dfnode_node::source::{is_credentialed, named_version};
use dfnode_tracker::VersionId;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_TYPE, ETAG, EXPIRES, HOST, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, RANGE,
    VARY,
};
use hyper::{Request, Response, StatusCode};
use tokio::time::Instant;
use tracing::debug;
use url::Url;

use crate::answer;
use crate::authorise;
use crate::blob::{Whole, open, part};
use crate::body::Body;
use crate::credential::{for_source, is_plain};
use crate::origin::Origin;
use crate::pour::Sameness;
use crate::proxy::Shared;
use crate::range::Wanted;
use crate::relay;
use crate::upstream::{UpstreamError, copy, head};

/// What an answer says of its content, whoever brings the bytes.
const ABOUT: &[HeaderName] = &[
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    VARY,
];

/// Whether a rule names what is asked for.
pub(crate) fn is_shared(shared: &Shared, origin: &Origin, request: &Request<Body>) -> bool {
    !shared.rules.is_empty()
        && url_of(origin, request)
            .is_some_and(|url| shared.rules.iter().any(|rule| rule.matches(&url)))
}

pub(crate) fn url_of(origin: &Origin, request: &Request<Body>) -> Option<Url> {
    let path = request.uri().path_and_query()?;
    let mut url = origin.url(path.as_str())?;
    // A URL has no `..` and writes some signs in another way: for the upstream that may be something else.
    if (url.path(), url.query()) != (path.path(), path.query()) {
        return None;
    }
    if url.port() == Some(origin.scheme.port()) {
        // This fails only for URLs that cannot have a port.
        let _ = url.set_port(None);
    }
    Some(url)
}

/// Answers with a file.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    origin: &Origin,
    request: Request<Body>,
) -> Response<Body> {
    let headers = request.headers();
    let wanted = match Wanted::of(headers) {
        Some(wanted @ (Wanted::All | Wanted::From(..))) if is_plain(headers) => wanted,
        Some(_) | None => return relay::relay(shared, origin, request).await,
    };
    let Some(url) = url_of(origin, &request) else {
        return relay::relay(shared, origin, request).await;
    };
    // One byte in the client's own name: whether it may have it, and what it is.
    let mut question = copy(&request);
    question.headers_mut().remove(HOST);
    question
        .headers_mut()
        .insert(RANGE, HeaderValue::from_static("bytes=0-0"));
    question
        .headers_mut()
        .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    shared.stats.authorisations.add(1);
    let (about, told) = match relay::ask(shared, origin, question).await {
        Ok(answer) if can_be_shared(&answer) => {
            (answer.headers().clone(), authorise::length_of(&answer))
        }
        // Who answers so late may answer the request itself: without us the client would wait for it, too.
        Ok(_) | Err(UpstreamError::Silent(_)) => {
            return relay::relay(shared, origin, request).await;
        }
        Err(error) => {
            shared.stats.failures.add(1);
            return answer::unreachable(&error.to_string());
        }
    };
    let mut get = GetRequest::new(url);
    get.headers = for_source(request.headers());
    get.max_age = Some(Duration::ZERO);
    // The source has just said so to this client: a host that has this need not ask again, nor wait for its home.
    let seen = named_version(&about);
    get.seen = seen.map(|version| (version, Instant::now()));
    let is_private = is_credentialed(&get.url, &get.headers);
    let begun = match open(shared, get.clone(), wanted).await {
        Ok(begun) => begun,
        Err(error) => {
            debug!(host = %origin.authority, %error, "the node does not have a file; passed on");
            shared.stats.fallbacks.add(1);
            return relay::relay(shared, origin, request).await;
        }
    };
    get.seen = None;
    let found = begun.stream.version();
    let known = match (begun.length, told) {
        (Some(length), told) => {
            let is_it = told.is_none_or(|told| told == length)
                && is_version(&about, length, found, is_private);
            is_it.then_some((length, found))
        }
        // What a late node may go on with must have a name by now.
        (None, Some(told)) => seen.map(|_| (told, seen)),
        (None, None) => None,
    };
    let Some((length, version)) = known else {
        shared.stats.fallbacks.add(1);
        return relay::relay(shared, origin, request).await;
    };
    let mut kept = HeaderMap::new();
    for name in ABOUT {
        for value in about.get_all(name) {
            kept.append(name, value.clone());
        }
    }
    let whole = Whole {
        length,
        sameness: sameness(&about, length, version),
        version,
        about: kept,
    };
    match part(shared, origin, head(&request), get, begun, wanted, whole).await {
        Some(answer) => answer,
        None => relay::relay(shared, origin, request).await,
    }
}

/// Whether further parts of the answer are known to be of the same bytes.
fn can_be_shared(answer: &Response<Body>) -> bool {
    let headers = answer.headers();
    let is_content = matches!(
        answer.status(),
        StatusCode::OK | StatusCode::PARTIAL_CONTENT
    );
    let has_name = strong_etag(headers).is_some() || headers.contains_key(LAST_MODIFIED);
    is_content && has_name && !headers.contains_key(CONTENT_ENCODING)
}

/// What the bytes are called, if equal names mean equal bytes.
fn strong_etag(headers: &HeaderMap) -> Option<&str> {
    let etag = headers.get(ETAG)?.to_str().ok()?.trim();
    etag.starts_with('"').then_some(etag)
}

/// Whether the node's version is the one that the upstream has just described, as far as that can be told.
///
/// A date tells no two versions of one second apart, nor what is made for each caller from what one date has: whoever
/// shows who it is gets by a date only what bears the date that it was told itself.
fn is_version(
    about: &HeaderMap,
    length: u64,
    version: Option<VersionId>,
    is_private: bool,
) -> bool {
    if about.contains_key("repr-digest") {
        return true;
    }
    if let Some(etag) = strong_etag(about) {
        return version == Some(VersionId::derive("etag", etag.as_bytes()));
    }
    !is_private || bears_date(about, length, version)
}

/// Whether the node knows its version by the date that the upstream told, and not only as what it once read.
fn bears_date(about: &HeaderMap, length: u64, version: Option<VersionId>) -> bool {
    let date = about.get(LAST_MODIFIED).and_then(|date| date.to_str().ok());
    date.is_some_and(|date| {
        let name = format!("{}|{length}", date.trim());
        version == Some(VersionId::derive("modified", name.as_bytes()))
    })
}

/// How more bytes of the same are known.
fn sameness(about: &HeaderMap, length: u64, version: Option<VersionId>) -> Sameness {
    let etag = about.get(ETAG).filter(|_| strong_etag(about).is_some());
    let date = about
        .get(LAST_MODIFIED)
        .filter(|_| bears_date(about, length, version));
    match (etag, date) {
        (Some(etag), _) => Sameness::Etag(etag.clone()),
        (None, Some(date)) => Sameness::Date(date.clone()),
        (None, None) => Sameness::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    #[test]
    fn whoever_shows_who_it_is_gets_by_a_date_only_what_bears_it() {
        const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";
        let mut about = HeaderMap::new();
        about.insert(LAST_MODIFIED, HeaderValue::from_static(DATE));
        let dated = |length: u64| {
            let name = format!("{DATE}|{length}");
            Some(VersionId::derive("modified", name.as_bytes()))
        };
        assert!(is_version(&about, 10, dated(10), true));
        assert!(!is_version(&about, 10, dated(11), true));
        assert!(!is_version(
            &about,
            10,
            Some(VersionId::derive("read", b"1")),
            true
        ));
        assert!(!is_version(&about, 10, None, true));
        assert!(is_version(
            &about,
            10,
            Some(VersionId::derive("read", b"1")),
            false
        ));
    }

    #[test]
    fn what_a_url_would_write_otherwise_is_not_shared() {
        let origin = Url::parse("https://a.example").unwrap();
        let origin = Origin::of_url(&origin).unwrap();
        let of = |path: &str| {
            let mut request = Request::new(body::empty());
            *request.uri_mut() = path.parse().unwrap();
            url_of(&origin, &request).map(String::from)
        };
        assert_eq!(
            of("/a%20b/c.bin?x=1&y=%2F").as_deref(),
            Some("https://a.example/a%20b/c.bin?x=1&y=%2F")
        );
        for path in ["/a/../b", "/a/%2e%2E/b", "/a/./b", "/a/..", "/a?x='y'"] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
