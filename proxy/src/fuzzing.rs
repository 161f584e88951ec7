//! What the fuzz targets run; `docs/fuzzing.md` lists them. Not part of any build that is used.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfnode_tracker::Digest;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, RANGE,
    TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use url::Url;

use crate::body::{self, Body};
use crate::config::{HostPattern, Patience, Rule};
use crate::credential::{Credential, for_source, is_plain};
use crate::dial::basic;
use crate::entry;
use crate::exchange::is_for;
use crate::file::url_of;
use crate::hosts::{Hosts, Verdict};
use crate::manifest::{MAX_BLOBS, blobs_of};
use crate::mirror;
use crate::origin::{Authority, Origin, Scheme};
use crate::path::{self, Named};
use crate::probe::is_registry;
use crate::range::Wanted;
use crate::relay;
use crate::token::{Tokens, are_kin, realm_of};

#[path = "../../fuzz/input.rs"]
pub mod input;
#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

use input::Input;

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

/// The paths of a registry: what is understood can be read in one way only, by anybody.
pub fn path(bytes: &[u8]) {
    let path = text(bytes);
    let Some(named) = path::read(path) else {
        return;
    };
    let (repository, rest) = match &named {
        Named::Blob { repository, digest } => {
            assert!(matches!(digest, Digest::Sha256(_)));
            (repository, format!("blobs/{digest}"))
        }
        Named::Manifest { repository } => {
            let reference = path.rsplit('/').next().unwrap_or_default();
            assert!(!reference.starts_with('.') && !reference.contains('%'));
            (repository, format!("manifests/{reference}"))
        }
    };
    assert_eq!(format!("/v2/{repository}/{rest}"), path);
    for part in repository.split('/') {
        assert!(!part.is_empty() && part != "." && part != "..");
    }
    assert!(!repository.contains(['%', '?', '#', '\\', ' ']));
    let url = Url::parse(&format!("https://h{path}")).expect("a plain path");
    assert_eq!(url.path(), path, "a URL would mean another path");
}

/// Hosts and origins: what is read is written as it can be read again, and a URI goes where it says.
pub fn origin(bytes: &[u8]) {
    let text = text(bytes);
    for default in [None, Some(443)] {
        if let Some(authority) = Authority::parse(text, default) {
            assert!(!authority.host().contains(['/', '@', '?', '#', '[', ' ']));
            assert_eq!(authority.host(), authority.host().to_ascii_lowercase());
            let again = Authority::parse(&authority.to_string(), None);
            assert_eq!(again.as_ref(), Some(&authority));
            let _ = authority.server_name();
            assert!(are_kin(&authority, &authority));
            both_schemes(&authority);
        }
    }
    let uri = text.parse::<Uri>().ok();
    if let Some(origin) = uri.and_then(|uri| Origin::of_uri(&uri)) {
        both_schemes(&origin.authority);
    }
    if let Some(origin) = Url::parse(text).ok().and_then(|url| Origin::of_url(&url)) {
        let url = origin.url("/v2/").expect("it came from a URL");
        assert_eq!(Origin::of_url(&url), Some(origin));
    }
}

fn both_schemes(authority: &Authority) {
    for scheme in [Scheme::Http, Scheme::Https] {
        let origin = Origin {
            scheme,
            authority: authority.clone(),
        };
        assert!(origin.is_named(&authority.to_string()));
        let uri = origin.uri("/v2/x?y=1");
        if let Some(uri) = uri {
            assert_eq!(Origin::of_uri(&uri), Some(origin.clone()));
            assert_eq!(uri.path(), "/v2/x");
        }
        // A URL may write an address in its usual form; it must then stay so, and keep scheme and port.
        if let Some(url) = origin.url("/v2/x") {
            let seen = Origin::of_url(&url).expect("a URL with a host");
            assert_eq!(
                (seen.scheme, seen.authority.port()),
                (scheme, authority.port())
            );
            let again = seen.url("/v2/x").expect("it came from a URL");
            assert_eq!(Origin::of_url(&again), Some(seen));
        }
    }
}

/// A `Range` header: what is wanted lies within the resource, and says what the header says.
pub fn range(bytes: &[u8]) {
    let mut input = Input(bytes);
    let length = u64::from_le_bytes(input.array());
    let Ok(value) = HeaderValue::from_bytes(input.0) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(RANGE, value.clone());
    let wanted = Wanted::of(&headers);
    if let Some(wanted) = wanted {
        for length in [length, length % 1000, 0, u64::MAX] {
            let Some((first, end)) = wanted.within(length) else {
                continue;
            };
            assert!(first < end && end <= length);
            match wanted {
                Wanted::All => unreachable!("there is a header"),
                Wanted::From(from, last) => {
                    assert_eq!(first, from);
                    assert!(end == length || last == Some(end - 1));
                }
                Wanted::Last(count) => assert!(end == length && end - first == count.min(length)),
            }
        }
        let shown = match wanted {
            Wanted::All => unreachable!("there is a header"),
            Wanted::From(first, last) => {
                format!(
                    "bytes={first}-{}",
                    last.map_or(String::new(), |last| last.to_string())
                )
            }
            Wanted::Last(count) => format!("bytes=-{count}"),
        };
        headers.insert(RANGE, shown.parse().expect("a plain value"));
        assert_eq!(Wanted::of(&headers), Some(wanted));
    }
    headers.append(RANGE, value);
    assert_eq!(Wanted::of(&headers), None, "two ranges are the upstream's");
}

/// A registry's challenge: a stranger names no place outside its own domain.
pub fn challenge(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(WWW_AUTHENTICATE, value.clone());
    let _ = is_registry(&headers);
    let tokens = Tokens::new();
    let stranger = Origin {
        scheme: Scheme::Https,
        authority: Authority::parse("registry.stranger.example", Some(443)).expect("a host"),
    };
    let hosts = Hosts::new(&[]);
    tokens.learn(&hosts, &stranger, &headers);
    let Some(realm) = value.to_str().ok().and_then(realm_of) else {
        return;
    };
    let Some(place) = Origin::of_url(&realm) else {
        return;
    };
    let learnt = tokens.is_realm(&place, realm.path());
    let host = place.authority.host();
    let is_kin = host == "stranger.example" || host.ends_with(".stranger.example");
    assert!(!learnt || is_kin, "{host} was learnt from a stranger");
    let opened = hosts.verdict(&place.authority) == Some(Verdict::Registry);
    assert!(!opened || is_kin || hosts.is_listed(&place.authority));
}

/// A manifest: only SHA-256 digests come of it, and not too many.
pub fn manifest(bytes: &[u8]) {
    let blobs = blobs_of(bytes);
    assert!(blobs.len() <= MAX_BLOBS);
    for digest in &blobs {
        assert!(matches!(digest, Digest::Sha256(_)));
        assert!(
            has_digits(bytes, digest),
            "a digest that the manifest does not have"
        );
    }
}

/// Whether the hexadecimal digits of a digest stand in a text, in either case; what is escaped is taken for granted.
fn has_digits(text: &[u8], digest: &Digest) -> bool {
    let digits = digest.to_string();
    let digits = digits.trim_start_matches("sha256:").as_bytes();
    let mut windows = text.windows(digits.len());
    text.contains(&b'\\') || windows.any(|window| window.eq_ignore_ascii_case(digits))
}

/// A mirror's query: the registry is taken out of it and nothing else is lost; the registry is a host.
pub fn mirrored(bytes: &[u8]) {
    let query = text(bytes);
    let (namespace, rest) = mirror::split(query);
    let is_namespace = |pair: &&str| pair.starts_with("ns=");
    let pairs = || query.split('&').filter(|pair| !pair.is_empty());
    let kept: Vec<&str> = pairs().filter(|pair| !is_namespace(pair)).collect();
    assert_eq!(rest, kept.join("&"));
    assert_eq!(namespace.is_some(), pairs().any(|pair| is_namespace(&pair)));
    if let Some(origin) = namespace.and_then(|namespace| mirror::upstream_of(&namespace)) {
        both_schemes(&origin.authority);
        let host = origin.authority.host();
        let is_loopback = host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
        let is_plain = origin.scheme == Scheme::Http;
        assert_eq!(is_plain, is_loopback || host == "localhost");
    }
}

/// Settings that users write: hosts, rules, the login of a proxy on the way.
pub fn settings(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(pattern) = text.parse::<HostPattern>() {
        assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
        if !text.starts_with('.') {
            let authority = Authority::parse(text, Some(443)).expect("a pattern names a host");
            assert!(authority.port() == 0 || pattern.matches(&authority));
        }
    }
    // Longer ones can take long to compile.
    if text.len() <= 32
        && let Ok(rule) = text.parse::<Rule>()
    {
        assert_eq!(rule.to_string().parse::<Rule>().as_ref(), Ok(&rule));
    }
    if let Some((user, password)) = text.split_once('\n') {
        let mut url = Url::parse("http://proxy:3128").expect("a URL");
        if url.set_username(user).is_ok() && url.set_password(Some(password)).is_ok() {
            // What a URL writes as %XX is decoded, and only that.
            let expected = [
                decoded(url.username().as_bytes()),
                b":".to_vec(),
                decoded(url.password().unwrap_or_default().as_bytes()),
            ]
            .concat();
            assert_eq!(unbase64(&basic(&url)), expected);
        }
    }
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut bytes = Vec::new();
    let mut rest = text;
    while let [first, others @ ..] = rest {
        if let (b'%', [high, low, behind @ ..]) = (first, others)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            bytes.extend(u8::try_from(high * 16 + low));
            rest = behind;
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    bytes
}

fn unbase64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert!(text.len().is_multiple_of(4));
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let digits = group.iter().filter(|digit| **digit != b'=').count();
        let bits = group.iter().fold(0, |bits, digit| {
            let value = DIGITS.find(char::from(*digit)).unwrap_or_default();
            bits << 6 | u32::try_from(value).unwrap_or_default()
        });
        bytes.extend(&bits.to_be_bytes()[1..digits]);
    }
    bytes
}

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Longer than any request of a fuzzer takes; one that takes it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection's bytes, read by the very server that clients talk to, and the way that each request would go.
pub fn request(bytes: &[u8]) {
    let mut input = Input(bytes);
    let is_opened = input.byte().unwrap_or_default() % 2 == 1;
    let opened = Origin {
        scheme: Scheme::Https,
        authority: Authority::parse("registry.example", Some(443)).expect("a host"),
    };
    for request in requests(input.0) {
        if is_opened {
            exchanged(&opened, &request);
        } else {
            entered(request);
        }
    }
}

/// The requests in what a client sends before it hangs up.
fn requests(bytes: &[u8]) -> Vec<Request<Body>> {
    let heard: Arc<Mutex<Vec<Parts>>> = Arc::default();
    let ear = Arc::clone(&heard);
    let service = service_fn(move |request: Request<Incoming>| {
        let (parts, _) = request.into_parts();
        ear.lock().expect("nobody panicked").push(parts);
        async { Ok::<_, Infallible>(Response::new(body::empty())) }
    });
    let conversation = async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.expect("there is room");
        client.shutdown().await.expect("it is open");
        let serving = entry::server(Patience::default());
        let serving = serving.serve_connection_with_upgrades(TokioIo::new(server), service);
        // A connection that breaks is the client's doing.
        let ended = timeout(PATIENCE, serving).await;
        assert!(ended.is_ok(), "a client that hung up is still waited for");
        drop(client);
    };
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_time().build().expect("a runtime")
        });
        runtime.block_on(conversation);
    });
    let heard = std::mem::take(&mut *heard.lock().expect("nobody panicked"));
    heard
        .into_iter()
        .map(|parts| Request::from_parts(parts, body::empty()))
        .collect()
}

/// The way of a request on a connection to the proxy itself.
fn entered(mut request: Request<Body>) {
    let uri = request.uri().clone();
    if request.method() == Method::CONNECT {
        let target = uri.authority();
        if let Some(target) = target.and_then(|target| Authority::parse(target.as_str(), None)) {
            both_schemes(&target);
        }
    } else if uri.scheme().is_none() {
        let query = uri.query().unwrap_or_default();
        mirrored(query.as_bytes());
        let (namespace, rest) = mirror::split(query);
        let Some(origin) = namespace.and_then(|namespace| mirror::upstream_of(&namespace)) else {
            return;
        };
        let path = if rest.is_empty() {
            uri.path().to_owned()
        } else {
            format!("{}?{rest}", uri.path())
        };
        let Ok(path) = path.parse::<Uri>() else {
            return;
        };
        *request.uri_mut() = path;
        request.headers_mut().remove(HOST);
        exchanged(&origin, &request);
    } else if let Some(origin) = Origin::of_uri(&uri) {
        let host = uri.authority().map_or("", |host| host.as_str());
        let host = host.rsplit('@').next().unwrap_or_default();
        if let Ok(host) = HeaderValue::from_str(host) {
            request.headers_mut().insert(HOST, host);
        }
        assert!(is_for(&origin, &request), "a whole URL says whom it is for");
        exchanged(&origin, &request);
    }
}

/// What is concluded from a request for an origin.
fn exchanged(origin: &Origin, request: &Request<Body>) {
    let uri = request.uri();
    let path_and_query = uri.path_and_query();
    if let Some(on) = path_and_query.and_then(|path| origin.uri(path.as_str())) {
        assert_eq!(
            Origin::of_uri(&on).as_ref(),
            Some(origin),
            "it would go elsewhere"
        );
        assert_eq!((on.path(), on.query()), (uri.path(), uri.query()));
    }
    if is_for(origin, request) {
        let hosts = request.headers().get_all(HOST);
        assert!(hosts.iter().count() <= 1);
        if uri.query().is_none() {
            path(uri.path().as_bytes());
        }
        if let Some(url) = url_of(origin, request) {
            assert_eq!(
                url.path(),
                uri.path(),
                "the node would ask for another path"
            );
            assert_eq!(
                url.query(),
                uri.query(),
                "the node would ask another question"
            );
            let seen = Origin::of_url(&url).expect("a URL with a host");
            assert_eq!(
                (seen.scheme, seen.authority.port()),
                (origin.scheme, origin.authority.port())
            );
        }
    }
    credentials(request.headers());
    if let Some(range) = Wanted::of(request.headers()) {
        let _ = range.within(1000);
    }
    passed_on(request.headers());
}

/// What tells clients apart, and what the node may send in their name.
fn credentials(headers: &HeaderMap) {
    const PROOFS: [&str; 2] = ["authorization", "cookie"];
    let proofs: HeaderMap = headers
        .iter()
        .filter(|(name, _)| PROOFS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    assert!(Credential::of(headers, &[3; 32]) == Credential::of(&proofs, &[3; 32]));
    let is_bare = Credential::of(headers, &[3; 32]) == Credential::of(&HeaderMap::new(), &[3; 32]);
    assert_eq!(is_bare, proofs.is_empty());
    let sent = for_source(headers);
    assert!(sent.len() <= headers.len());
    if is_plain(headers) {
        assert!(!headers.contains_key("if-range") && !headers.contains_key("x-original-url"));
    }
}

/// What goes on to the upstream has nothing left that concerns the client's connection.
fn passed_on(headers: &HeaderMap) {
    let mut left = headers.clone();
    relay::strip(&mut left);
    for name in [CONNECTION, PROXY_AUTHORIZATION, TRANSFER_ENCODING, UPGRADE] {
        assert!(!left.contains_key(name));
    }
    let named = headers.get_all(CONNECTION).iter();
    let named = named.filter_map(|value| value.to_str().ok());
    for name in named.flat_map(|value| value.split(',')) {
        if let Ok(name) = name.trim().parse::<HeaderName>() {
            assert!(!left.contains_key(name));
        }
    }
    assert!(relay::protocol(&left).is_none());
    assert!(left.keys().all(|name| headers.contains_key(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpora_pass() {
        replay::replay(&[
            ("proxy_path", path),
            ("proxy_origin", origin),
            ("proxy_range", range),
            ("proxy_challenge", challenge),
            ("proxy_manifest", manifest),
            ("proxy_mirror", mirrored),
            ("proxy_settings", settings),
            ("proxy_request", request),
        ]);
    }
}
