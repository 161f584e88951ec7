//! The proxy as a registry mirror: clients ask for paths, and say in `ns`, or not at all, whose they are.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Request, Response, StatusCode, Uri};

use crate::answer;
use crate::body::Body;
use crate::exchange;
use crate::origin::{Authority, Origin, Scheme};
use crate::proxy::Shared;

/// What docker.io is called where its images are.
const HUB_NAMES: &[&str] = &["docker.io", "index.docker.io", "registry.hub.docker.com"];
const HUB: &str = "registry-1.docker.io";

/// Answers a request that names no host but this one.
pub(crate) async fn serve(shared: &Arc<Shared>, mut request: Request<Body>) -> Response<Body> {
    if !names_this_host(shared, request.headers().get(HOST)) {
        return answer::error(
            StatusCode::MISDIRECTED_REQUEST,
            "this is the proxy of this host alone",
        );
    }
    if is_of_a_web_page(request.headers()) {
        return answer::error(
            StatusCode::FORBIDDEN,
            "a web page may not use the mirror of this host",
        );
    }
    let uri = request.uri();
    if uri.path() != "/v2" && !uri.path().starts_with("/v2/") {
        return answer::error(
            StatusCode::NOT_FOUND,
            "this is a proxy; its status page is elsewhere (dfnode status)",
        );
    }
    let (namespace, query) = split(uri.query().unwrap_or_default());
    let origin = match namespace {
        None => Some(shared.mirror.clone()),
        Some(namespace) => upstream_of(&namespace),
    };
    let Some(origin) = origin else {
        return answer::error(StatusCode::NOT_FOUND, "ns names no registry");
    };
    let path = if query.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{query}", uri.path())
    };
    let Ok(path) = path.parse::<Uri>() else {
        return answer::error(StatusCode::BAD_REQUEST, "the path makes no sense");
    };
    *request.uri_mut() = path;
    request.headers_mut().remove(HOST);
    let answer = exchange::serve(shared, &origin, request).await;
    if answer.status() == StatusCode::BAD_GATEWAY {
        // Clients turn to the registry itself sooner.
        let (mut head, body) = answer.into_parts();
        head.status = StatusCode::SERVICE_UNAVAILABLE;
        return Response::from_parts(head, body);
    }
    answer
}

/// The registry that a query names, and the query without that.
pub(crate) fn split(query: &str) -> (Option<String>, String) {
    let mut namespace = None;
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.strip_prefix("ns=") {
            Some(value) => namespace = Some(value.replace("%3A", ":").replace("%3a", ":")),
            None => rest.push(pair),
        }
    }
    (namespace, rest.join("&"))
}

pub(crate) fn upstream_of(namespace: &str) -> Option<Origin> {
    let namespace = if HUB_NAMES.contains(&namespace) {
        HUB
    } else {
        namespace
    };
    let authority = Authority::parse(namespace, Some(443))?;
    let is_local = authority.host() == "localhost"
        || authority
            .host()
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    // As the clients themselves have it: registries on the same host speak plain HTTP.
    let scheme = if is_local {
        Scheme::Http
    } else {
        Scheme::Https
    };
    Some(Origin { scheme, authority })
}

/// Whether a request was meant for this host, and not sent here by a web page under a name of its own.
fn names_this_host(shared: &Shared, host: Option<&HeaderValue>) -> bool {
    if !shared.listen.ip().is_loopback() {
        return true;
    }
    let Some(authority) = host
        .and_then(|host| host.to_str().ok())
        .and_then(|host| Authority::parse(host, Some(80)))
    else {
        return false;
    };
    authority.host() == "localhost"
        || authority
            .host()
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// Whether a browser sends this in the name of a page: no engine says where its requests come from.
fn is_of_a_web_page(headers: &HeaderMap) -> bool {
    let of_the_user = |site: &HeaderValue| site == "none" || site == "same-origin";
    let mut sites = headers.get_all("sec-fetch-site").iter();
    headers.contains_key(ORIGIN) || sites.any(|site| !of_the_user(site))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_taken_out_of_the_query() {
        let of = |query| split(query);
        assert_eq!(
            of("ns=r.example%3A5000"),
            (Some("r.example:5000".to_owned()), String::new())
        );
        assert_eq!(
            of("a=1&ns=r&b=2"),
            (Some("r".to_owned()), "a=1&b=2".to_owned())
        );
        assert_eq!(of(""), (None, String::new()));
    }

    #[test]
    fn a_namespace_is_a_registry() {
        let of = |text| upstream_of(text).map(|origin| origin.to_string());
        assert_eq!(
            of("docker.io").as_deref(),
            Some("https://registry-1.docker.io:443")
        );
        assert_eq!(
            of("r.example:5000").as_deref(),
            Some("https://r.example:5000")
        );
        assert_eq!(
            of("localhost:5000").as_deref(),
            Some("http://localhost:5000")
        );
        assert_eq!(of("a/b"), None);
    }
}
