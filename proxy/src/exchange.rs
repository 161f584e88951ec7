//! The switchboard for one request, whatever way it came.

use std::sync::Arc;

use hyper::header::HOST;
use hyper::{Method, Request, Response};

use crate::body::Body;
use crate::origin::Origin;
use crate::path::{self, Named};
use crate::proxy::Shared;
use crate::{blob, file, manifest, relay, token};

/// Answers a request that is for `origin`.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    origin: &Origin,
    request: Request<Body>,
) -> Response<Body> {
    shared.stats.requests.add(1);
    let is_get = request.method() == Method::GET;
    let is_theirs = is_for(origin, &request);
    let named = match request.uri().query() {
        None if is_get && is_theirs => path::read(request.uri().path()),
        _ => None,
    };
    match named {
        Some(Named::Blob { repository, digest }) => {
            blob::serve(shared, origin, request, &repository, digest).await
        }
        Some(Named::Manifest { repository }) => {
            manifest::serve(shared, origin, request, repository).await
        }
        None if is_theirs && shared.tokens.is_realm(origin, request.uri().path()) => {
            token::serve(shared, origin, request).await
        }
        None if is_get && is_theirs && file::is_shared(shared, origin, &request) => {
            file::serve(shared, origin, request).await
        }
        None => relay::relay(shared, origin, request).await,
    }
}

/// Whether the request names no other host than the one it goes to: servers that know several hosts would answer
/// for the other, and what that one allows means nothing here.
pub(crate) fn is_for(origin: &Origin, request: &Request<Body>) -> bool {
    let named = request
        .uri()
        .authority()
        .map(hyper::http::uri::Authority::as_str);
    let header = request.headers().get(HOST).map(|host| host.to_str());
    let is_same = |text: &str| origin.is_named(text.rsplit('@').next().unwrap_or_default());
    let header_fits = header.is_none_or(|host| host.is_ok_and(is_same));
    named.is_none_or(is_same) && header_fits && request.headers().get_all(HOST).iter().count() <= 1
}
