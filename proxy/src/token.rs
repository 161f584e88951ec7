//! Requests for tokens: those that are alike at the same time share one answer, which is never kept.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use dfnode_node::ambient;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONNECTION, HeaderMap, HeaderName, TE, USER_AGENT, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response};
use tokio::sync::watch;
use tokio::time::timeout;
use url::Url;

use crate::body::{self, Body, BodyError};
use crate::hosts::{Hosts, Verdict};
use crate::origin::{Authority, Origin, Scheme};
use crate::proxy::Shared;
use crate::relay;

/// Places remembered that give tokens.
const MAX_REALMS: usize = 256;
/// The longest form that is compared; a longer one goes its own way.
const MAX_FORM_BYTES: usize = 16 * 1024;
/// The longest answer that is shared; a longer one goes to whoever asked first.
const MAX_TOKEN_BYTES: usize = 256 * 1024;
/// The longest place that is remembered.
const MAX_PATH_BYTES: usize = 512;
/// Headers that make no difference to a token.
const INDIFFERENT: &[HeaderName] = &[CONNECTION, TE, USER_AGENT];

/// A token as it is shared.
#[derive(Debug, Clone)]
struct Token {
    head: Arc<hyper::http::response::Parts>,
    body: Bytes,
}

type Awaited = watch::Receiver<Option<Token>>;

/// Where tokens come from, and which are on their way.
#[derive(Debug)]
pub(crate) struct Tokens {
    key: [u8; 32],
    realms: Mutex<BTreeSet<(Origin, String)>>,
    on_their_way: Mutex<BTreeMap<[u8; 32], Awaited>>,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self {
            key: ambient::random_bytes(),
            realms: Mutex::default(),
            on_their_way: Mutex::default(),
        }
    }

    /// Whether tokens are given there.
    pub(crate) fn is_realm(&self, origin: &Origin, path: &str) -> bool {
        let place = (origin.clone(), path.to_owned());
        lock(&self.realms).contains(&place)
    }

    /// Learns from the answer of a registry where its tokens come from.
    ///
    /// Connections to there are opened as well, if it is a host of the same domain, or the registry is one that
    /// somebody named: a registry that nobody knows shall not decide whose connections are opened.
    pub(crate) fn learn(&self, hosts: &Hosts, from: &Origin, headers: &HeaderMap) {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        for realm in values.filter_map(|value| realm_of(value.to_str().ok()?)) {
            let Some(origin) = Origin::of_url(&realm) else {
                continue;
            };
            let is_trusted =
                hosts.is_listed(&from.authority) || are_kin(&from.authority, &origin.authority);
            if !is_trusted || realm.path().len() > MAX_PATH_BYTES {
                continue;
            }
            if origin.scheme == Scheme::Https
                && hosts.verdict(&origin.authority) != Some(Verdict::Registry)
            {
                hosts.judge(origin.authority.clone(), Verdict::Registry);
            }
            let mut realms = lock(&self.realms);
            if realms.len() >= MAX_REALMS {
                realms.pop_first();
            }
            realms.insert((origin, realm.path().to_owned()));
        }
    }

    /// The name of a request: whatever could make its answer another one.
    fn name(&self, origin: &Origin, request: &Request<Bytes>) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(origin.to_string().as_bytes());
        field(request.method().as_str().as_bytes());
        let path = request.uri().path_and_query();
        field(
            path.map(hyper::http::uri::PathAndQuery::as_str)
                .unwrap_or_default()
                .as_bytes(),
        );
        field(request.body());
        let mut headers: Vec<(&str, &[u8])> = request
            .headers()
            .iter()
            .filter(|(name, _)| !INDIFFERENT.contains(name))
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        headers.sort_unstable();
        for (name, value) in headers {
            field(name.as_bytes());
            field(value);
        }
        *hasher.finalize().as_bytes()
    }

    /// The answer on its way to an equal request; else this one is to bring it, for those who come meanwhile.
    fn join(&self, name: [u8; 32]) -> Result<Awaited, Bringer<'_>> {
        let mut on_their_way = lock(&self.on_their_way);
        if let Some(awaited) = on_their_way.get(&name) {
            return Ok(awaited.clone());
        }
        let (sender, awaited) = watch::channel(None);
        on_their_way.insert(name, awaited);
        Err(Bringer {
            tokens: self,
            name,
            sender,
        })
    }
}

/// Who fetches a token that others wait for. They are told nothing if it is dropped, and then fetch their own.
struct Bringer<'a> {
    tokens: &'a Tokens,
    name: [u8; 32],
    sender: watch::Sender<Option<Token>>,
}

impl Drop for Bringer<'_> {
    fn drop(&mut self) {
        lock(&self.tokens.on_their_way).remove(&self.name);
    }
}

/// Answers a request for a token.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    origin: &Origin,
    request: Request<Body>,
) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::POST {
        return relay::relay(shared, origin, request).await;
    }
    let (head, form) = request.into_parts();
    let form = match gather(form, MAX_FORM_BYTES).await {
        Gathered::All(form) => form,
        Gathered::More(form) => {
            return relay::relay(shared, origin, Request::from_parts(head, form)).await;
        }
    };
    let request = Request::from_parts(head, form);
    let mut bringer = match shared.tokens.join(shared.tokens.name(origin, &request)) {
        Err(bringer) => Some(bringer),
        Ok(mut awaited) => {
            let token = awaited.wait_for(Option::is_some).await;
            let token = token.ok().and_then(|token| token.clone());
            if let Some(token) = token {
                shared.stats.tokens_shared.add(1);
                let mut answer = Response::new(body::full(token.body));
                *answer.status_mut() = token.head.status;
                *answer.headers_mut() = token.head.headers.clone();
                return answer;
            }
            None
        }
    };
    let mut fetching = pin!(fetch(shared, origin, request));
    let (head, token) = match timeout(shared.patience.question, &mut fetching).await {
        Ok(fetched) => fetched,
        Err(_elapsed) => {
            // Whoever waits for the same asks for itself.
            bringer = None;
            fetching.await
        }
    };
    match (bringer, token) {
        (Some(bringer), Gathered::All(body)) => {
            let token = Token {
                head: Arc::new(head.clone()),
                body: body.clone(),
            };
            bringer.sender.send_replace(Some(token));
            Response::from_parts(head, body::full(body))
        }
        (None, Gathered::All(body)) => Response::from_parts(head, body::full(body)),
        (_, Gathered::More(body)) => Response::from_parts(head, body),
    }
}

/// The upstream's own answer, read as far as it can be shared.
async fn fetch(
    shared: &Shared,
    origin: &Origin,
    request: Request<Bytes>,
) -> (hyper::http::response::Parts, Gathered) {
    let answer = relay::relay(shared, origin, request.map(body::full)).await;
    let (head, token) = answer.into_parts();
    (head, gather(token, MAX_TOKEN_BYTES).await)
}

enum Gathered {
    All(Bytes),
    /// It is too long, or broke: what came, and what follows.
    More(Body),
}

async fn gather(mut body: Body, limit: usize) -> Gathered {
    let mut seen = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let broken = match frame {
            Ok(frame) => {
                if let Ok(bytes) = frame.into_data() {
                    seen.extend_from_slice(&bytes);
                }
                None
            }
            Err(error) => Some(Err::<Frame<Bytes>, BodyError>(error)),
        };
        if broken.is_some() || seen.len() > limit {
            let front = stream::iter([Ok(Frame::data(seen.freeze()))]);
            let rest = stream::iter(broken).chain(http_body_util::BodyStream::new(body));
            return Gathered::More(StreamBody::new(front.chain(rest)).boxed_unsync());
        }
    }
    Gathered::All(seen.freeze())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place that a challenge names.
pub(crate) fn realm_of(challenge: &str) -> Option<Url> {
    let (scheme, rest) = challenge.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (_, rest) = rest.split_once("realm=\"")?;
    let (realm, _) = rest.split_once('"')?;
    Url::parse(realm).ok()
}

/// Whether two hosts are of one domain.
pub(crate) fn are_kin(one: &Authority, two: &Authority) -> bool {
    let (one, two) = (one.host(), two.host());
    if one == two {
        return true;
    }
    let domain = |host: &str| -> Option<String> {
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let labels: Vec<&str> = host.rsplitn(3, '.').collect();
        (!is_address && labels.len() == 3).then(|| format!("{}.{}", labels[1], labels[0]))
    };
    // Of names as short as `a.b`, one may be the domain of the other.
    let is_below = |host: &str, domain: &str| {
        domain.contains('.')
            && host
                .strip_suffix(domain)
                .is_some_and(|front| front.ends_with('.'))
    };
    domain(one).is_some_and(|shared| domain(two) == Some(shared))
        || is_below(one, two)
        || is_below(two, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kin(one: &str, two: &str) -> bool {
        let host = |text| Authority::parse(text, Some(443)).unwrap();
        are_kin(&host(one), &host(two))
    }

    #[test]
    fn a_realm_is_read_from_a_challenge() {
        let realm = |text| realm_of(text).map(|url| url.to_string());
        assert_eq!(
            realm("Bearer realm=\"https://auth.example/token\",service=\"r\"").as_deref(),
            Some("https://auth.example/token")
        );
        for text in [
            "Basic realm=\"https://a/\"",
            "Bearer",
            "Bearer realm=x",
            "Bearer realm=\"\"",
        ] {
            assert_eq!(realm(text), None, "{text}");
        }
    }

    #[test]
    fn hosts_of_one_domain_are_kin() {
        assert!(kin("registry.gitlab.example", "auth.gitlab.example"));
        assert!(kin("registry.gitlab.example", "gitlab.example"));
        assert!(kin("ghcr.io", "ghcr.io"));
        assert!(!kin("registry.evil.example", "www.bank.example"));
        assert!(!kin("10.0.0.1", "11.0.0.1"));
        assert!(!kin("evil.test", "bank.test"));
    }

    #[test]
    fn only_a_known_registry_or_kin_names_a_realm() {
        let tokens = Tokens::new();
        let hosts = Hosts::new(&["listed.example".parse().unwrap()]);
        let challenge = |realm: &str| {
            let mut headers = HeaderMap::new();
            let value = format!("Bearer realm=\"{realm}\",service=\"r\"");
            headers.insert(WWW_AUTHENTICATE, value.parse().unwrap());
            headers
        };
        let origin = |text: &str| Origin::of_url(&Url::parse(text).unwrap()).unwrap();
        let realm = origin("https://auth.other.example");
        let bank = challenge("https://auth.other.example/token");
        tokens.learn(&hosts, &origin("https://evil.test"), &bank);
        assert!(!tokens.is_realm(&realm, "/token"));
        assert_eq!(hosts.verdict(&realm.authority), None);
        tokens.learn(&hosts, &origin("https://listed.example"), &bank);
        assert!(tokens.is_realm(&realm, "/token") && !tokens.is_realm(&realm, "/other"));
        assert_eq!(hosts.verdict(&realm.authority), Some(Verdict::Registry));
    }

    #[tokio::test]
    async fn what_is_too_long_is_passed_on_whole() {
        let long = body::full(vec![7; 100]);
        let Gathered::More(more) = gather(long, 10).await else {
            panic!("too long")
        };
        assert_eq!(more.collect().await.unwrap().to_bytes().len(), 100);
        assert!(matches!(gather(body::full("abc"), 10).await, Gathered::All(all) if all == "abc"));
    }
}
