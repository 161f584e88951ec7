//! Requests passed on as they are, and their answers: streamed both ways, nothing kept, nothing changed.

use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::answer;
use crate::body::{self, Body};
use crate::origin::Origin;
use crate::proxy::Shared;
use crate::tunnel;
use crate::upstream::UpstreamError;

/// Headers that concern one connection only.
const HOP_BY_HOP: &[HeaderName] = &[
    CONNECTION,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// Of those, the ones that have no constant.
const HOP_BY_HOP_NAMES: &[&str] = &["keep-alive", "proxy-connection"];

/// Passes a request on to `origin`, and its answer back.
pub(crate) async fn relay(
    shared: &Shared,
    origin: &Origin,
    mut request: Request<Body>,
) -> Response<Body> {
    let upgrade = protocol(request.headers());
    let client = match &upgrade {
        None => None,
        Some(_) => match shared.place() {
            Some(place) => Some((hyper::upgrade::on(&mut request), place)),
            None => return answer::no_room(),
        },
    };
    match send(shared, origin, request, upgrade).await {
        Ok(answer) => finish(shared, answer, client),
        Err(error) => {
            shared.stats.failures.add(1);
            answer::unreachable(&error.to_string())
        }
    }
}

/// Sends a request on; the answer is as it came, but for what concerned the connection.
pub(crate) async fn send(
    shared: &Shared,
    origin: &Origin,
    request: Request<Body>,
    upgrade: Option<HeaderValue>,
) -> Result<Response<Body>, UpstreamError> {
    let (mut parts, request_body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = origin.uri(path);
    parts.uri = uri.ok_or_else(|| UpstreamError::Broken("the path makes no sense".to_owned()))?;
    parts.version = Version::HTTP_11;
    strip(&mut parts.headers);
    if let Some(protocol) = upgrade {
        parts.headers.insert(UPGRADE, protocol);
        parts
            .headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    parts.extensions = hyper::http::Extensions::new();
    let answer = shared
        .upstream
        .send(Request::from_parts(parts, request_body))
        .await?;
    shared.tokens.learn(&shared.hosts, origin, answer.headers());
    Ok(answer.map(body::incoming))
}

/// Asks `origin` in the name of a client while others wait for the answer too: it must come in time.
pub(crate) async fn ask(
    shared: &Shared,
    origin: &Origin,
    question: Request<Body>,
) -> Result<Response<Body>, UpstreamError> {
    let asked = timeout(
        shared.patience.question,
        send(shared, origin, question, None),
    );
    asked
        .await
        .unwrap_or_else(|_| Err(UpstreamError::Silent(origin.authority.to_string())))
}

/// What the client is given; `client` is its connection and the place that a tunnel on it takes, if it wants one. The
/// connection's own place ends with the request.
fn finish(
    shared: &Shared,
    mut answer: Response<Body>,
    client: Option<(OnUpgrade, OwnedSemaphorePermit)>,
) -> Response<Body> {
    let protocol = answer.headers().get(UPGRADE).cloned();
    strip(answer.headers_mut());
    if let (StatusCode::SWITCHING_PROTOCOLS, Some((client, place))) = (answer.status(), client) {
        let there = hyper::upgrade::on(&mut answer);
        shared.spawn(async move {
            if let Ok(there) = there.await {
                tunnel::join(client, TokioIo::new(there)).await;
            }
            drop(place);
        });
        let headers = answer.headers_mut();
        headers.extend(protocol.map(|protocol| (UPGRADE, protocol)));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    // The client's side has its own version of HTTP.
    *answer.version_mut() = Version::HTTP_11;
    answer
}

/// Removes what concerns one connection only.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP_NAMES {
        headers.remove(*name);
    }
}

/// What the client wants to talk instead, if anything.
pub(crate) fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| asks).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_goes_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Bearer x"),
            ("content-length", "3"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length"]);
    }
}
