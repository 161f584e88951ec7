//! Asks a host, once, whether it is a registry.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderValue, USER_AGENT, WWW_AUTHENTICATE};
use hyper::{Method, Request};
use tokio::time::timeout;

use crate::body;
use crate::hosts::Verdict;
use crate::origin::Origin;
use crate::upstream::Upstream;

/// How long the answer may take: a client waits behind it.
const PATIENCE: Duration = Duration::from_secs(3);
/// What every registry says.
const MARK: &str = "docker-distribution-api-version";

/// Asks `origin` for what every registry has.
pub(crate) async fn ask(upstream: &Upstream, origin: &Origin) -> Verdict {
    let Some(uri) = origin.uri("/v2/") else {
        return Verdict::Other;
    };
    let mut request = Request::new(body::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri;
    request.headers_mut().insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("dfnode/", env!("CARGO_PKG_VERSION"))),
    );
    match timeout(PATIENCE, upstream.send(request)).await {
        Ok(Ok(answer)) if is_registry(answer.headers()) => Verdict::Registry,
        Ok(Ok(_)) => Verdict::Other,
        Ok(Err(_)) | Err(_) => Verdict::Unclear,
    }
}

pub(crate) fn is_registry(headers: &HeaderMap) -> bool {
    headers.contains_key(MARK)
        || headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| {
                let value = value.trim().to_ascii_lowercase();
                value.starts_with("bearer ") && value.contains("service=")
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_known_by_its_words() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            is_registry(&headers)
        };
        assert!(with(MARK, "registry/2.0"));
        assert!(with(
            "www-authenticate",
            "Bearer realm=\"https://a/t\",service=\"r\""
        ));
        assert!(!with("www-authenticate", "Bearer realm=\"x\""));
        assert!(!with("www-authenticate", "Basic realm=\"service=\""));
        assert!(!with("server", "nginx"));
    }
}
