//! The body of a shared answer: from the node, and from the upstream itself where the node cannot go on.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfnode_node::get::{ByteStream, GetError, StreamError};
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_RANGE, HeaderValue, IF_MATCH, RANGE};
use hyper::{Request, Response, StatusCode};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::body::{Body, BodyError};
use crate::origin::Origin;
use crate::proxy::Shared;
use crate::redirect;
use crate::upstream::copy;

/// How long nothing at all may come from the node before the upstream is asked itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6);
/// How long an upstream may send nothing before it is asked once more.
const SILENCE: Duration = Duration::from_secs(30);
/// What the upstream gives instead of a node that stands still, before the node is tried again; doubled each time. A
/// whole cluster that stands still must not become as many copies.
const FIRST_HOLE_BYTES: u64 = 4 * 1024 * 1024;
/// Tries in a row without a byte.
const MAX_TRIES: u32 = 6;
/// The pause after the first; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of one answer, in their order.
pub(crate) struct Pour {
    source: Source,
    /// Until it can never go on.
    node: Option<Box<ByteStream>>,
    upstream: Option<Upstream>,
    at: u64,
    end: u64,
    /// How much the upstream gives the next time that the node stands still.
    hole: u64,
    tries: u32,
    /// Whether the upstream did not go on either since the last byte.
    is_last_try: bool,
}

/// What is read from the upstream instead.
#[derive(Default)]
struct Upstream {
    answer: Option<Body>,
    /// Bytes of it that come before those wanted.
    skip: u64,
    /// Behind the last byte wanted of it.
    until: u64,
}

/// Whom to ask if the node cannot go on.
struct Source {
    shared: Arc<Shared>,
    origin: Origin,
    /// The client's request, for asking in its name.
    request: Request<()>,
    /// What the upstream must still call it, where that identifies the bytes.
    etag: Option<HeaderValue>,
}

impl Pour {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        origin: &Origin,
        request: Request<()>,
        node: ByteStream,
        range: Range<u64>,
        etag: Option<HeaderValue>,
    ) -> Self {
        Self {
            source: Source {
                shared: Arc::clone(shared),
                origin: origin.clone(),
                request,
                etag,
            },
            node: Some(Box::new(node)),
            upstream: None,
            at: range.start,
            end: range.end,
            hole: FIRST_HOLE_BYTES,
            tries: 0,
            is_last_try: false,
        }
    }

    pub(crate) fn into_body(self) -> Body {
        let frames = stream::try_unfold(self, |mut pour| async move {
            Ok::<_, BodyError>(pour.next().await?.map(|bytes| (Frame::data(bytes), pour)))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        while self.at < self.end {
            let bytes = if self.upstream.is_some() {
                match self.next_of_upstream().await? {
                    Some(bytes) => bytes,
                    None => continue,
                }
            } else {
                let Some(node) = &mut self.node else {
                    return Err("neither the node nor the upstream goes on".into());
                };
                match node.next().await {
                    Ok(Some(bytes)) => {
                        self.source.shared.stats.blob_bytes.add(bytes.len() as u64);
                        bytes
                    }
                    Ok(None) => return Err("the node's file is shorter than it was".into()),
                    Err(error) => {
                        self.leave_node(&error)?;
                        continue;
                    }
                }
            };
            self.at += bytes.len() as u64;
            self.is_last_try = false;
            return Ok(Some(bytes));
        }
        if let Some(node) = &mut self.node {
            // What the upstream gave at the end the node still fetches, and checks the whole.
            node.skip_to(self.end);
        }
        Ok(None)
    }

    /// The node cannot go on: the upstream shall, from the same byte. A node that only stands still is tried again later.
    fn leave_node(&mut self, error: &StreamError) -> Result<(), BodyError> {
        let is_rotten = matches!(
            error,
            StreamError::Get(GetError::DigestMismatch { .. }) | StreamError::Changed
        );
        let at = self.at;
        if is_rotten {
            warn!(host = %self.source.origin.authority, at, %error, "an answer is cut off: what was given cannot be continued");
            return Err(error.to_string().into());
        }
        info!(host = %self.source.origin.authority, at, %error, "the upstream itself goes on with an answer");
        self.source.shared.stats.fallbacks.add(1);
        let mut until = self.end;
        if matches!(error, StreamError::Stalled(_)) {
            until = until.min(at.saturating_add(self.hole));
            self.hole = self.hole.saturating_mul(2);
        } else {
            self.node = None;
        }
        self.upstream = Some(Upstream {
            until,
            ..Upstream::default()
        });
        Ok(())
    }

    fn return_to_node(&mut self) {
        self.upstream = None;
        self.tries = 0;
        if let Some(node) = &mut self.node {
            node.skip_to(self.at);
        }
    }

    /// The next bytes of the upstream; `None` if it is to be asked again.
    async fn next_of_upstream(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(upstream) = &mut self.upstream else {
            return Ok(None);
        };
        if self.at >= upstream.until {
            self.return_to_node();
            return Ok(None);
        }
        let until = upstream.until;
        let Some(body) = &mut upstream.answer else {
            if self.tries >= MAX_TRIES {
                if self.node.is_none() || std::mem::replace(&mut self.is_last_try, true) {
                    return Err("the upstream does not go on either".into());
                }
                self.return_to_node();
                return Ok(None);
            }
            if self.tries > 0 {
                sleep(FIRST_PAUSE * (1 << self.tries)).await;
            }
            self.tries += 1;
            let asked = timeout(SILENCE, self.source.ask(self.at, until)).await;
            if let Ok(Some((body, skip))) = asked {
                if skip > 0 {
                    // It gives no parts: each further hole would cost all that comes before.
                    upstream.until = self.end;
                }
                upstream.answer = Some(body);
                upstream.skip = skip;
            }
            return Ok(None);
        };
        let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await else {
            upstream.answer = None;
            return Ok(None);
        };
        let Ok(mut bytes) = frame.into_data() else {
            return Ok(None);
        };
        let skipped = usize::try_from(upstream.skip)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        drop(bytes.split_to(skipped));
        upstream.skip -= skipped as u64;
        bytes.truncate(usize::try_from(until - self.at).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            return Ok(None);
        }
        self.tries = 0;
        self.source
            .shared
            .stats
            .fallback_bytes
            .add(bytes.len() as u64);
        Ok(Some(bytes))
    }
}

impl Source {
    /// Asks the upstream for the rest; the body, and how much of it is to be skipped.
    async fn ask(&self, at: u64, end: u64) -> Option<(Body, u64)> {
        let range = format!("bytes={at}-{}", end - 1);
        let mut request = copy(&self.request);
        let headers = request.headers_mut();
        headers.insert(RANGE, HeaderValue::try_from(range).ok()?);
        if let Some(etag) = self.etag.clone().filter(|_| self.is_file()) {
            headers.insert(IF_MATCH, etag);
        }
        let led = redirect::send(&self.shared, &self.origin, request).await;
        understand(led.ok()?.answer, at)
    }

    /// Whether the bytes have no name but what the upstream calls them.
    fn is_file(&self) -> bool {
        crate::path::read(self.request.uri().path()).is_none()
    }
}

/// The bytes from `at` on in an answer, and how many come before them.
fn understand(answer: Response<Body>, at: u64) -> Option<(Body, u64)> {
    match answer.status() {
        StatusCode::OK => Some((answer.into_body(), at)),
        StatusCode::PARTIAL_CONTENT => {
            let range = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
            let first = range.strip_prefix("bytes ")?.split('-').next()?;
            let starts_here = first.trim().parse::<u64>().ok()? == at;
            starts_here.then(|| (answer.into_body(), 0))
        }
        _ => None,
    }
}
