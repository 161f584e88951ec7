//! Following where an upstream sends, without what proves the client to another one.

use dfnode_node::source::leave_origin;
use hyper::header::{HOST, LOCATION};
use hyper::{Request, Response};
use tracing::debug;
use url::Url;

use crate::body::Body;
use crate::origin::{Origin, Scheme};
use crate::proxy::Shared;
use crate::relay;
use crate::upstream::{UpstreamError, copy};

/// Hops that an upstream may send us on.
const MAX_REDIRECTS: usize = 5;

/// What was answered in the end.
pub(crate) struct Led {
    /// The answer; a redirect if that cannot be followed.
    pub(crate) answer: Response<Body>,
    /// Whether another place gave it than the one that was asked.
    pub(crate) is_led: bool,
}

/// Sends a request without a body, and again to wherever it is sent. Each answer must come in time.
pub(crate) async fn send(
    shared: &Shared,
    origin: &Origin,
    mut request: Request<Body>,
) -> Result<Led, UpstreamError> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let mut url = origin.url(path);
    let mut origin = origin.clone();
    request.headers_mut().remove(HOST);
    let mut answer = relay::ask(shared, &origin, copy(&request)).await?;
    for hop in 0..MAX_REDIRECTS {
        let is_led = hop > 0;
        let next = url.as_ref().and_then(|url| target(url, &answer));
        let Some((next, target)) = next else {
            return Ok(Led { answer, is_led });
        };
        if target != origin {
            leave_origin(request.headers_mut());
        }
        let uri = target.uri(&path_of(&next));
        let is_downgrade = (origin.scheme, target.scheme) == (Scheme::Https, Scheme::Http);
        let Some(uri) = uri.filter(|_| !is_downgrade) else {
            return Ok(Led { answer, is_led });
        };
        *request.uri_mut() = uri;
        (url, origin) = (Some(next), target);
        match relay::ask(shared, &origin, copy(&request)).await {
            Ok(next) => answer = next,
            Err(error) => {
                debug!(host = %origin.authority, %error, "where an upstream sends cannot be asked");
                return Ok(Led { answer, is_led });
            }
        }
    }
    Ok(Led {
        answer,
        is_led: true,
    })
}

/// Where an answer sends whoever asked for `url`.
fn target(url: &Url, answer: &Response<Body>) -> Option<(Url, Origin)> {
    if !answer.status().is_redirection() {
        return None;
    }
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    let next = url.join(location).ok()?;
    let origin = Origin::of_url(&next)?;
    Some((next, origin))
}

fn path_of(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}
