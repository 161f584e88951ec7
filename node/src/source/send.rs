//! Sends a request and follows where it is sent, without taking along what is for the first origin alone.

use std::collections::BTreeSet;
use std::time::Duration;

use dfnode_tracker::SourceFailure;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::failure::{final_, of_error, transient};
use super::headers::{is_for_one_origin, leave_origin};
use super::patience::Patience;
use super::redact::host_of;

/// Hops that a source may send us on.
const MAX_REDIRECTS: usize = 10;
/// The largest body of a redirect that is read so that its connection can be used again.
const MAX_DRAINED_BYTES: u64 = 16 * 1024;
/// How long that may take.
const DRAIN_PATIENCE: Duration = Duration::from_millis(500);

/// A request that may be sent.
pub(super) struct Outgoing<'a> {
    pub(super) client: &'a Client,
    pub(super) patience: Patience,
    pub(super) url: &'a Url,
    pub(super) headers: &'a HeaderMap,
    pub(super) credentialed: bool,
}

/// An answer that is no redirect, and who gave it.
pub(super) struct Answered {
    pub(super) response: Response,
    pub(super) host: String,
}

/// Sends a GET with `extra` headers, following redirects.
pub(super) async fn send(
    outgoing: &Outgoing<'_>,
    extra: &HeaderMap,
) -> Result<Answered, SourceFailure> {
    let mut url = outgoing.url.clone();
    let mut headers = outgoing.headers.clone();
    let is_own = is_for_one_origin(&url, &headers);
    headers.extend(extra.clone());
    let mut seen = BTreeSet::new();
    for _ in 0..=MAX_REDIRECTS {
        check_scheme(&url)?;
        let host = host_of(&url);
        if !seen.insert(url.clone()) {
            return Err(final_(format!("{host} redirects in a circle")));
        }
        let sent = outgoing
            .client
            .get(url.clone())
            .headers(headers.clone())
            .send();
        let response = match timeout(outgoing.patience.answer, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(of_error(error, &host)),
            Err(_) => {
                let seconds = outgoing.patience.answer.as_secs_f32();
                return Err(transient(format!(
                    "{host} did not answer within {seconds} s"
                )));
            }
        };
        let Some(next) = target(&url, &response) else {
            return Ok(Answered { response, host });
        };
        let next =
            next.map_err(|()| final_(format!("{host} redirects to something that is no URL")))?;
        drain(response).await;
        if is_own && url.scheme() == "https" && next.scheme() == "http" {
            return Err(final_(format!(
                "{host} redirects from https to http what has headers for it alone; it is not followed"
            )));
        }
        if next.origin() != url.origin() {
            leave_origin(&mut headers);
        }
        url = next;
    }
    Err(final_(format!(
        "{} redirects more than {MAX_REDIRECTS} times",
        host_of(outgoing.url)
    )))
}

fn check_scheme(url: &Url) -> Result<(), SourceFailure> {
    let is_known = matches!(url.scheme(), "http" | "https") && url.has_host();
    if is_known {
        return Ok(());
    }
    Err(final_(format!(
        "cannot read {}: URLs; only http and https",
        url.scheme()
    )))
}

fn target(from: &Url, response: &Response) -> Option<Result<Url, ()>> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !is_redirect {
        return None;
    }
    let location = response
        .headers()
        .get(header::LOCATION)
        .map(HeaderValue::to_str);
    let next = match location {
        Some(Ok(location)) => from.join(location).map_err(|_| ()),
        Some(Err(_)) | None => Err(()),
    };
    Some(next.map(|mut next| {
        next.set_fragment(None);
        next
    }))
}

/// Reads what is left of an answer that nobody wants, if it is little.
pub(super) async fn drain(response: Response) {
    if response
        .content_length()
        .is_some_and(|length| length <= MAX_DRAINED_BYTES)
    {
        // Only the connection is at stake.
        let _ = timeout(DRAIN_PATIENCE, response.bytes()).await;
    }
}
