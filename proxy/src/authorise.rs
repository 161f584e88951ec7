//! Asks a registry whether this client may have this blob.

use std::time::Duration;

use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, RANGE};
use hyper::{Request, Response, StatusCode};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::answer;
use crate::body::Body;
use crate::origin::Origin;
use crate::proxy::Shared;
use crate::relay;
use crate::upstream::{UpstreamError, copy};
use crate::yes::{BLOB_AGE, Key};

/// The longest body of a yes that is read so that its connection can be used again.
const MAX_DRAINED_BYTES: u64 = 4096;
/// How long that may take: the client waits meanwhile.
const DRAIN_PATIENCE: Duration = Duration::from_millis(500);

/// Pauses before a registry that fails is asked again: engines give a pull up at the first 5xx on a blob.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];

/// What the registry said.
pub(crate) enum Verdict {
    /// This client may have it.
    Yes,
    /// It may not, or not now: this is the answer for it.
    No(Box<Response<Body>>),
    /// The question cannot be asked in this way: only the request itself can.
    Unclear,
}

/// Asks, unless the answer is known. Of several who ask alike, one does.
pub(crate) async fn ask(
    shared: &Shared,
    origin: &Origin,
    request: &Request<()>,
    key: Key,
) -> Verdict {
    if shared.yeses.is_fresh(key) {
        return Verdict::Yes;
    }
    let _flight = shared.asking.enter(key).await;
    if shared.yeses.is_fresh(key) {
        return Verdict::Yes;
    }
    shared.stats.authorisations.add(1);
    let is_known = || shared.yeses.is_known(key);
    let mut answered = question(shared, origin, request).await;
    for pause in PAUSES {
        let fails = answered
            .as_ref()
            .is_ok_and(|answer| answer.status().is_server_error());
        if !fails || is_known() {
            break;
        }
        sleep(pause).await;
        answered = question(shared, origin, request).await;
    }
    match answered {
        Ok(answer) => match answer.status() {
            StatusCode::OK
            | StatusCode::PARTIAL_CONTENT
            | StatusCode::FOUND
            | StatusCode::TEMPORARY_REDIRECT => {
                shared.yeses.add(key, BLOB_AGE);
                drain(answer).await;
                Verdict::Yes
            }
            StatusCode::RANGE_NOT_SATISFIABLE => Verdict::Unclear,
            status if status.is_server_error() && is_known() => Verdict::Yes,
            _ => {
                shared.yeses.remove(key);
                shared.stats.refusals.add(1);
                let mut answer = answer;
                relay::strip(answer.headers_mut());
                Verdict::No(Box::new(answer))
            }
        },
        Err(error) if is_known() => {
            debug!(host = %origin.authority, %error, "the registry is down; an earlier yes counts on");
            Verdict::Yes
        }
        Err(error) => {
            shared.stats.failures.add(1);
            Verdict::No(Box::new(answer::unreachable(&error.to_string())))
        }
    }
}

/// Asks for one byte of the very thing: a question by HEAD some registries answer otherwise, and a refusal shall come
/// with its body.
async fn question(
    shared: &Shared,
    origin: &Origin,
    request: &Request<()>,
) -> Result<Response<Body>, UpstreamError> {
    let mut question = copy(request);
    question
        .headers_mut()
        .insert(RANGE, HeaderValue::from_static("bytes=0-0"));
    question.headers_mut().remove(HOST);
    relay::send(shared, origin, question, None).await
}

async fn drain(answer: Response<Body>) {
    use http_body_util::BodyExt as _;
    let length = answer.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length <= MAX_DRAINED_BYTES) {
        // Only the connection is at stake.
        let _ = timeout(DRAIN_PATIENCE, answer.into_body().collect()).await;
    }
}
