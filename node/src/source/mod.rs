//! Reading a source over HTTP and HTTPS: one request at a time, for a lease of the tracker.
//!
//! A read is a task of its own that hands over a [`SourceHead`], then the bytes, then how it ended, through
//! a bounded channel: a slow receiver slows the source down. Dropping a [`SourceRead`] ends it.
//!
//! A request's credentials go to the origin that they were given for and nowhere else, and no credential,
//! user info or query is ever part of an error or a log line.

mod body;
mod client;
mod failure;
mod fickle;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod head;
mod headers;
mod patience;
mod read;
mod redact;
mod roots;
mod sample;
mod send;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dfnode_tracker::{Extent, SourceFailure, SourceHead};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use url::Url;

pub use self::client::SourceSetupError;
pub use self::head::named_version;
pub use self::headers::{is_credentialed, leave_origin};
pub use self::patience::Patience;
pub use self::redact::Redacted;
pub use self::roots::{OWN_AUTHORITY, TrustError, trusting};

use self::client::Clients;
use crate::get::ContentName;
use crate::limits::Limiter;

/// Events that may wait for the receiver: with the largest reads of a socket some 10 MB.
const MAX_WAITING_EVENTS: usize = 32;

/// How sources are read.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Further roots of trust, PEM. The system's own are always trusted.
    pub cacert: Vec<Vec<u8>>,
    /// A proxy that leads to the sources. Proxy variables of the environment are not looked at: they may
    /// well name this node.
    pub proxy: Option<Url>,
    /// Hosts that are read without that proxy: names, or `.example` for all below that name.
    pub direct: Vec<String>,
    /// When to give a source up.
    pub patience: Patience,
    /// What to call ourselves if the caller does not.
    pub user_agent: String,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            cacert: Vec::new(),
            proxy: None,
            direct: Vec::new(),
            patience: Patience::default(),
            user_agent: concat!("dfnode/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// What to read.
#[derive(Debug, Clone)]
pub struct SourceRequest {
    /// Where.
    pub url: Url,
    /// The caller's own headers.
    pub headers: Vec<(String, String)>,
    /// Which part.
    pub extent: Extent,
    /// Further roots of trust of this caller, PEM.
    pub cacert: Option<Vec<u8>>,
    /// The content's name, if it has one: then nothing that the source calls a version counts.
    pub content: Option<ContentName>,
    /// Each limits how fast bytes are read.
    pub limits: Vec<Limiter>,
}

/// What a read hands over, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// The source answered. Bytes follow, unless the extent only asked whether the version is current:
    /// then this is another version.
    Head(HeadAt),
    /// The next bytes.
    Bytes(Bytes),
    /// The version that was asked about is current.
    Unchanged,
    /// Nothing follows. The number of bytes handed over, if all went well.
    End(Result<u64, SourceFailure>),
}

/// The head of an answer, and where its bytes begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadAt {
    /// What the source told.
    pub head: SourceHead,
    /// The place in the resource of the first byte that follows.
    pub offset: u64,
}

/// Reads sources. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Source {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clients: Clients,
    patience: Patience,
}

impl Source {
    /// A reader of sources.
    ///
    /// # Errors
    /// If a certificate or the proxy of `config` cannot be used.
    pub fn new(config: SourceConfig) -> Result<Self, SourceSetupError> {
        let patience = config.patience;
        Ok(Self {
            shared: Arc::new(Shared {
                clients: Clients::new(config)?,
                patience,
            }),
        })
    }

    /// Begins to read. Must be called within a tokio runtime.
    pub fn read(&self, request: SourceRequest) -> SourceRead {
        let (sender, events) = mpsc::channel(MAX_WAITING_EVENTS);
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            read::run(&shared.clients, shared.patience, request, sender).await;
        });
        SourceRead {
            events,
            task: task.abort_handle(),
        }
    }

    /// Reads a few bytes of what `request` gives, whatever its extent.
    ///
    /// # Errors
    /// If the source fails, or does not send exactly these bytes.
    pub async fn sample(
        &self,
        request: &SourceRequest,
        range: Range<u64>,
    ) -> Result<Bytes, SourceFailure> {
        sample::run(&self.shared.clients, self.shared.patience, request, range).await
    }
}

/// A read under way. Dropping it ends the read and, if need be, its connection.
#[derive(Debug)]
pub struct SourceRead {
    events: mpsc::Receiver<SourceEvent>,
    task: AbortHandle,
}

impl SourceRead {
    /// The next event; `None` after the end.
    ///
    /// # Cancel safety
    /// No event is lost.
    pub async fn next(&mut self) -> Option<SourceEvent> {
        self.events.recv().await
    }
}

impl Drop for SourceRead {
    fn drop(&mut self) {
        self.task.abort();
    }
}
