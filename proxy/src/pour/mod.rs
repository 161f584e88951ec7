//! The body of a shared answer: from the node, and from the upstream itself where the node cannot go on.

mod sameness;
mod upstream;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfnode_node::get::{ByteStream, GetError, GetRequest, StreamError};
use dfnode_node::store::{PlaceWatch, WORTH_BYTES};
use dfnode_tracker::{TaskId, VersionId};
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use tokio::select;
use tokio::time::Instant;
use tracing::{info, warn};

pub(crate) use self::sameness::Sameness;
use self::upstream::{HasChanged, Upstream};
use crate::blob::begin;
use crate::body::{Body, BodyError};
use crate::origin::Origin;
use crate::proxy::Shared;

/// How long an upstream may send nothing before it is asked once more.
const SILENCE: Duration = Duration::from_secs(30);
/// What the upstream gives instead of a node that stands still, before the node is tried again; doubled each time. A
/// whole cluster that stands still must not become as many copies.
const FIRST_HOLE_BYTES: u64 = 4 * 1024 * 1024;
/// How often in a row a node may stand still that nobody can go on for.
const MAX_WAITS: u32 = 6;
/// When a node that gave up because of the source is asked again; doubled each time. What the upstream gives alone costs it
/// another copy.
const FIRST_REST: Duration = Duration::from_secs(2);
const MAX_REST: Duration = Duration::from_mins(1);

/// Bytes of one answer, in their order.
pub(crate) struct Pour {
    source: Source,
    /// Until it cannot go on.
    node: Option<Box<ByteStream>>,
    /// The node that was asked again, until it is seen to go on.
    trial: Option<Box<ByteStream>>,
    /// How many bytes the node gave.
    of_node: u64,
    upstream: Option<Upstream>,
    at: u64,
    end: u64,
    /// How much the upstream gives the next time that the node stands still.
    hole: u64,
    /// Whether the upstream did not go on either since the last byte.
    is_last_try: bool,
    /// Whether the upstream was found to have something else by now.
    has_changed: bool,
    /// How often the node stood still since the last byte while that was known.
    waits: u32,
    again: Again,
}

/// When a node that gave up is asked again.
enum Again {
    Never,
    /// Once there is place for the file on this host.
    Place(PlaceWatch),
    /// It may fare better with the source by then, or find peers.
    Later {
        at: Instant,
        rest: Duration,
    },
}

/// Whom to ask if the node cannot go on.
pub(crate) struct Source {
    pub(crate) shared: Arc<Shared>,
    pub(crate) origin: Origin,
    /// The client's request, for asking in its name.
    pub(crate) request: Request<()>,
    /// What the node is asked for.
    pub(crate) get: GetRequest,
    /// What it was found to have, or is to have: it goes on with nothing else.
    pub(crate) version: Option<VersionId>,
    /// Of the whole.
    pub(crate) length: u64,
    pub(crate) sameness: Sameness,
}

impl Pour {
    pub(crate) fn new(source: Source, mut node: Box<ByteStream>, range: Range<u64>) -> Self {
        node.expect(source.version, source.length);
        Self {
            source,
            node: Some(node),
            upstream: None,
            at: range.start,
            end: range.end,
            hole: FIRST_HOLE_BYTES,
            is_last_try: false,
            has_changed: false,
            waits: 0,
            trial: None,
            of_node: 0,
            again: Again::Never,
        }
    }

    /// The upstream begins, since the node is late. `None` if it does not: then it shall say so itself.
    pub(crate) async fn behind_upstream(
        source: Source,
        node: Box<ByteStream>,
        error: &StreamError,
        range: Range<u64>,
    ) -> Option<Self> {
        let mut pour = Self::new(source, node, range);
        if pour.at >= pour.end {
            return None;
        }
        pour.leave_node(error).ok()?;
        let upstream = pour.upstream.as_mut()?;
        upstream.ask(&pour.source, pour.at).await.ok()?;
        // What gives no parts gives all by itself.
        upstream.gives_parts().then_some(pour)
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
                self.next_of_upstream().await?
            } else {
                let Some(node) = &mut self.node else {
                    return Err("neither the node nor the upstream goes on".into());
                };
                let came = node.next().await;
                self.hear(came)?
            };
            let Some(bytes) = bytes else { continue };
            self.at += bytes.len() as u64;
            self.is_last_try = false;
            self.waits = 0;
            if let Some(node) = self.node.as_mut().filter(|_| self.at >= self.end) {
                // What the upstream gave at the end the node still fetches, and checks the whole. Whoever sends this
                // on knows the length and may not ask for an end.
                node.skip_to(self.end);
            }
            return Ok(Some(bytes));
        }
        Ok(None)
    }

    /// What came from the node: bytes, or `None` if they are to be had in another way.
    fn hear(
        &mut self,
        came: Result<Option<Bytes>, StreamError>,
    ) -> Result<Option<Bytes>, BodyError> {
        match came {
            Ok(Some(bytes)) => {
                self.source.shared.stats.blob_bytes.add(bytes.len() as u64);
                self.of_node += bytes.len() as u64;
                Ok(Some(bytes))
            }
            Ok(None) => Err("the node's file is shorter than it was".into()),
            Err(error) => self.leave_node(&error).map(|()| None),
        }
    }

    /// The node cannot go on: the upstream shall, from the same byte. A node that only stands still is tried again later.
    fn leave_node(&mut self, error: &StreamError) -> Result<(), BodyError> {
        let at = self.at;
        // Another version than the upstream's, of which the node gave nothing, is no reason that this shall not go on.
        let is_unused = self.of_node == 0 && matches!(error, StreamError::Changed);
        if self.source.sameness.is_rotten(error) && !is_unused {
            warn!(host = %self.source.origin.authority, at, %error, "an answer is cut off: what was given cannot be continued");
            return Err(error.to_string().into());
        }
        let node = self.node.as_ref();
        // One that has not even begun after the first hole is like one that failed: each further hole is a question more,
        // which the upstream may answer otherwise by then.
        let never_begins = node.is_some_and(|node| node.task().is_none());
        let stands_still = matches!(error, StreamError::Stalled(_))
            && !(never_begins && self.hole > FIRST_HOLE_BYTES);
        if self.has_changed {
            self.waits += 1;
            if stands_still && self.waits < MAX_WAITS {
                return Ok(());
            }
            warn!(host = %self.source.origin.authority, at, %error, "an answer is cut off: the upstream has another version");
            return Err("only the node has this version, and it does not go on".into());
        }
        info!(host = %self.source.origin.authority, at, %error, "the upstream itself goes on with an answer");
        self.source.shared.stats.fallbacks.add(1);
        let mut until = self.end;
        if stands_still {
            until = until.min(at.saturating_add(self.hole));
            self.hole = self.hole.saturating_mul(2);
        } else {
            let task = self.node.take().and_then(|node| node.task());
            self.again = self.when_again(error, task);
        }
        self.upstream = Some(Upstream::new(until, self.end));
        Ok(())
    }

    fn when_again(&mut self, error: &StreamError, task: Option<TaskId>) -> Again {
        let before = std::mem::replace(&mut self.again, Again::Never);
        match (error, before) {
            (StreamError::Get(GetError::NoSpace), Again::Place(mut place)) => {
                place.lost(self.of_node);
                Again::Place(place)
            }
            (StreamError::Get(GetError::NoSpace), _) => {
                Again::Place(self.source.shared.node.watch_place(task))
            }
            (
                StreamError::Get(GetError::SourceFailed { .. } | GetError::NoSource)
                | StreamError::Stalled(_),
                before,
            ) => {
                let rest = match before {
                    Again::Later { rest, .. } => MAX_REST.min(rest * 2),
                    Again::Never | Again::Place(_) => FIRST_REST,
                };
                let at = Instant::now() + rest;
                Again::Later { at, rest }
            }
            _ => Again::Never,
        }
    }

    /// Asks a node that gave up for the rest, once it may fare better, and returns to it once it does. Until then the
    /// upstream goes on.
    async fn try_node_again(&mut self) -> Result<(), BodyError> {
        if let Some(trial) = &mut self.trial {
            trial.skip_to(self.at);
            match trial.goes_on().await {
                Ok(false) => {}
                Ok(true) => {
                    if let Some(node) = self.trial.take() {
                        self.go_back_to(node);
                    }
                }
                Err(error) => {
                    let task = self.trial.take().and_then(|trial| trial.task());
                    // What else it has by now was not given to anybody; what does not hash to its name may have been.
                    let has_other = matches!(error, StreamError::Changed);
                    if self.source.sameness.is_rotten(&error) && !has_other {
                        return Err(error.to_string().into());
                    }
                    self.again = self.when_again(&error, task);
                }
            }
            return Ok(());
        }
        let left = self.end - self.at;
        if self.node.is_some() || left < WORTH_BYTES {
            return Ok(());
        }
        let source = &self.source;
        let is_due = match &mut self.again {
            Again::Never => false,
            Again::Place(place) => place.is_there(source.length, left).await,
            Again::Later { at, .. } => Instant::now() >= *at,
        };
        if !is_due {
            return Ok(());
        }
        let rest = Some((self.at, Some(self.end - 1)));
        match begin(&source.shared, source.get.clone(), rest).await {
            Ok(mut node) => {
                node.expect(source.version, source.length);
                if matches!(self.again, Again::Place(_)) {
                    // It lacked nothing else, and would read beside the upstream what that gives.
                    if node.started().await.is_ok() {
                        self.go_back_to(Box::new(node));
                    }
                } else {
                    self.trial = Some(Box::new(node));
                }
            }
            Err(_) => self.again = Again::Never,
        }
        Ok(())
    }

    /// A node that was asked again goes on with the answer.
    fn go_back_to(&mut self, node: Box<ByteStream>) {
        info!(host = %self.source.origin.authority, at = self.at, "the node goes on with an answer");
        self.node = Some(node);
        self.upstream = None;
    }

    fn return_to_node(&mut self) {
        self.upstream = None;
        if let Some(node) = &mut self.node {
            node.skip_to(self.at);
        }
    }

    /// The next bytes while the upstream goes on; `None` if it is to be asked again. A node that stood still may come
    /// first: an upstream may be slower than it to say anything.
    async fn next_of_upstream(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.try_node_again().await?;
        let Some(upstream) = &mut self.upstream else {
            return Ok(None);
        };
        if self.at >= upstream.until() {
            self.return_to_node();
            return Ok(None);
        }
        if upstream.is_given_up() {
            self.node = self.node.take().or_else(|| self.trial.take());
            if self.node.is_none() || std::mem::replace(&mut self.is_last_try, true) {
                return Err("the upstream does not go on either".into());
            }
            self.return_to_node();
            return Ok(None);
        }
        let patience = if upstream.gives_all() {
            SILENCE
        } else {
            self.source.shared.patience.node
        };
        let came = match &mut self.node {
            Some(node) if !upstream.flows() => {
                node.skip_to(self.at);
                select! {
                    biased;
                    came = upstream.next(&self.source, self.at, SILENCE) => came,
                    came = patiently(node) => {
                        self.return_to_node();
                        return self.hear(came);
                    }
                }
            }
            // Once it is silent, the node may come first again.
            Some(_) => upstream.next(&self.source, self.at, patience).await,
            // The node that is asked again may come first by then.
            None => {
                let silence = match &self.again {
                    _ if self.trial.is_some() => patience,
                    Again::Later { at, .. } if self.end - self.at >= WORTH_BYTES => patience
                        .max(at.saturating_duration_since(Instant::now()))
                        .min(SILENCE),
                    Again::Later { .. } | Again::Place(_) | Again::Never => SILENCE,
                };
                upstream.next(&self.source, self.at, silence).await
            }
        };
        came.or_else(|HasChanged| self.stay_with_node().map(|()| None))
    }

    /// The upstream has something else: only the node can go on.
    fn stay_with_node(&mut self) -> Result<(), BodyError> {
        info!(host = %self.source.origin.authority, at = self.at, "the upstream has another version, or does not say");
        self.node = self.node.take().or_else(|| self.trial.take());
        if self.node.is_none() {
            return Err("the upstream has another version by now".into());
        }
        self.has_changed = true;
        self.return_to_node();
        Ok(())
    }
}

/// The node's next bytes, however long they take.
async fn patiently(node: &mut ByteStream) -> Result<Option<Bytes>, StreamError> {
    loop {
        match node.next().await {
            Err(StreamError::Stalled(_)) => {}
            came => return came,
        }
    }
}
