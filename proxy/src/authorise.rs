//! Asks a registry whether this client may have this blob.

use std::time::Duration;

use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue, RANGE};
use hyper::{Request, Response, StatusCode};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::answer;
use crate::body::Body;
use crate::origin::Origin;
use crate::proxy::Shared;
use crate::redirect::{self, Led};
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
            .is_ok_and(|led| led.answer.status().is_server_error());
        if !fails || is_known() {
            break;
        }
        sleep(pause).await;
        answered = question(shared, origin, request).await;
    }
    match answered {
        Ok(Led { answer, is_led }) => match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                // A page that asks who one is comes with a 200 too.
                let Some(length) = length_of(&answer) else {
                    return Verdict::Unclear;
                };
                shared.yeses.add(key, BLOB_AGE, Some(length));
                drain(answer).await;
                Verdict::Yes
            }
            StatusCode::RANGE_NOT_SATISFIABLE
            | StatusCode::FOUND
            | StatusCode::TEMPORARY_REDIRECT => Verdict::Unclear,
            status if status.is_server_error() && is_known() => Verdict::Yes,
            // Where the registry has sent us is for the client to see.
            status if is_led && status.is_server_error() => Verdict::Unclear,
            _ => {
                shared.yeses.remove(key);
                if is_led {
                    return Verdict::Unclear;
                }
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
        // Who answers so late may answer the request itself: without us the client would wait for it, too.
        Err(UpstreamError::Silent(_)) => Verdict::Unclear,
        Err(error) => {
            shared.stats.failures.add(1);
            Verdict::No(Box::new(answer::unreachable(&error.to_string())))
        }
    }
}

/// How long the content is that a yes is for, asked once more if a yes did not tell: that of a manifest does not.
pub(crate) async fn length(
    shared: &Shared,
    origin: &Origin,
    request: &Request<()>,
    key: Key,
) -> Option<u64> {
    if let Some(length) = shared.yeses.fresh_length(key) {
        return Some(length);
    }
    shared.stats.authorisations.add(1);
    let answer = question(shared, origin, request).await.ok()?.answer;
    let status = answer.status();
    let is_yes = matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    if !is_yes && !status.is_server_error() {
        shared.yeses.remove(key);
    }
    let length = length_of(&answer).filter(|_| is_yes)?;
    shared.yeses.add(key, BLOB_AGE, Some(length));
    drain(answer).await;
    Some(length)
}

/// Asks for one byte of the very thing: a question by HEAD some registries answer otherwise, and a refusal shall come
/// with its body. Where the registry sends for it is asked too: a redirect may lead to the blob or to a login page.
async fn question(
    shared: &Shared,
    origin: &Origin,
    request: &Request<()>,
) -> Result<Led, UpstreamError> {
    let mut question = copy(request);
    question
        .headers_mut()
        .insert(RANGE, HeaderValue::from_static("bytes=0-0"));
    redirect::send(shared, origin, question).await
}

/// The length of the whole that an answer to the question is about, if it tells one.
pub(crate) fn length_of(answer: &Response<Body>) -> Option<u64> {
    let header = |name: &HeaderName| answer.headers().get(name)?.to_str().ok();
    let length = match answer.status() {
        StatusCode::PARTIAL_CONTENT => header(&CONTENT_RANGE)?.strip_prefix("bytes 0-0/")?,
        _ => header(&CONTENT_LENGTH)?,
    };
    length.trim().parse().ok()
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
