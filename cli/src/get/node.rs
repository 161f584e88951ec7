//! The node that does a download: the one that runs on this host, else one in this process.

use std::time::Duration;

use anyhow::anyhow;
use dfnode_node::control::{ClientError, RemoteDownload, RemoteError};
use dfnode_node::get::{Caller, Download, GetError, GetEvent, GetRequest};
use tokio::time::sleep;

use super::embedded::{Embedded, EmbeddedError};
use crate::args::EmbeddedArgs;
use crate::exit::{Exit, Failure};
use crate::place::find;

/// Between two looks for a node that is about to begin or to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often to look: for ten seconds.
const LOOKS: u32 = 200;

/// Finds a node, or is one.
#[derive(Debug)]
pub(super) struct NodeFinder {
    args: EmbeddedArgs,
    embedded: Option<Embedded>,
}

/// A download that some node does.
#[derive(Debug)]
pub(super) enum Doing {
    /// The node of this host.
    Daemon(RemoteDownload),
    /// The node in this process.
    Embedded(Download),
}

/// Why a download ended without success.
#[derive(Debug)]
pub(super) enum Ended {
    /// It failed.
    Failed(GetError),
    /// The node went away; another one goes on.
    Lost(ClientError),
}

impl NodeFinder {
    /// Looks where `args` say.
    pub(super) const fn new(args: EmbeddedArgs) -> Self {
        Self {
            args,
            embedded: None,
        }
    }

    /// Has a node begin with `request`.
    ///
    /// # Errors
    ///
    /// If none runs here and none can be started.
    pub(super) async fn begin(&mut self, request: &GetRequest) -> Result<Doing, Failure> {
        let mut last = None;
        for _ in 0..LOOKS {
            if let Some(download) = self.begin_embedded(request).await? {
                return Ok(Doing::Embedded(download));
            }
            match find(self.args.data.as_deref()).await {
                Ok((place, client)) => match client.get(request.clone()).await {
                    Ok(download) => return Ok(Doing::Daemon(download)),
                    Err(ClientError::TooLong) => {
                        return Err(Failure::usage("the request is too long"));
                    }
                    Err(error) => last = Some((place, error)),
                },
                Err(missed) => {
                    last = missed.into_iter().next();
                    match Embedded::start(&self.args).await {
                        Ok(embedded) => {
                            self.embedded = Some(embedded);
                            continue;
                        }
                        // Another process has the folder: its socket appears in a moment.
                        Err(EmbeddedError::Busy) => {}
                        Err(EmbeddedError::Failed(failure)) => return Err(failure),
                    }
                }
            }
            sleep(LOOK_AGAIN).await;
        }
        let (place, error) =
            last.ok_or_else(|| Failure::usage("there is nowhere to look for a node"))?;
        let what = format!(
            "another process uses {} and does not answer",
            place.folder().display()
        );
        Err(Failure::new(Exit::Other, anyhow!(error).context(what)))
    }

    /// The node in this process, if there is one.
    pub(super) fn into_embedded(self) -> Option<Embedded> {
        self.embedded
    }

    async fn begin_embedded(&mut self, request: &GetRequest) -> Result<Option<Download>, Failure> {
        let Some(embedded) = &self.embedded else {
            return Ok(None);
        };
        let caller = Caller {
            uid: rustix::process::getuid().as_raw(),
        };
        match embedded.handle().get(caller, request.clone()).await {
            Ok(download) => Ok(Some(download)),
            // It gives way to a daemon, which goes on from what it has.
            Err(GetError::Cancelled) => {
                if let Some(embedded) = self.embedded.take() {
                    embedded.stop().await;
                }
                Ok(None)
            }
            Err(error) => Err(Failure::from(error)),
        }
    }
}

impl Doing {
    /// Waits for the next event. Not to be asked again after an error.
    pub(super) async fn next(&mut self) -> Result<GetEvent, Ended> {
        match self {
            Self::Daemon(download) => match download.next().await {
                Some(Ok(event)) => Ok(event),
                Some(Err(RemoteError::Get(error))) => Err(Ended::of(error)),
                Some(Err(RemoteError::Lost(error))) => Err(Ended::Lost(error)),
                None => Err(Ended::Lost(ClientError::Gone)),
            },
            Self::Embedded(download) => match download.next().await {
                Some(Ok(event)) => Ok(event),
                Some(Err(error)) => Err(Ended::of(error)),
                None => Err(Ended::Lost(ClientError::Gone)),
            },
        }
    }
}

impl Ended {
    fn of(error: GetError) -> Self {
        if error == GetError::Cancelled {
            Self::Lost(ClientError::Gone)
        } else {
            Self::Failed(error)
        }
    }
}
