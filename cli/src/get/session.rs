//! One download from the first question to the last byte, over as many nodes as it takes.

use std::io;
use std::time::Duration;

use anyhow::anyhow;
use dfnode_gossip::Now;
use dfnode_node::ambient::Clock;
use dfnode_node::control::{ClientError, FrameError};
use dfnode_node::disk::is_full;
use dfnode_node::get::{GetError, GetEvent, GetProgress, GetRequest, GetSummary};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::node::{Doing, Ended, NodeFinder};
use super::output::{Output, OutputError};
use super::progress::Progress;
use super::report::Report;
use crate::exit::{Exit, Failure};

/// Nodes that may be lost in a row without a byte in between.
const MAX_LOST: u32 = 8;

/// Before another node is asked.
const PAUSE: Duration = Duration::from_millis(100);

/// How much longer than its time a download may take until it is ended from here.
const GRACE: Duration = Duration::from_secs(5);

/// A download, and all that is shown of it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) request: GetRequest,
    pub(super) finder: NodeFinder,
    pub(super) output: Option<Output>,
    pub(super) report: Report,
    pub(super) progress: Progress,
    pub(super) stop: CancellationToken,
    pub(super) started: Now,
}

/// How an attempt ended without success.
enum Attempt {
    Lost(ClientError),
    Failed(Failure),
}

impl Session {
    /// Downloads, going on with another node when one is lost.
    pub(super) async fn run(&mut self) -> Result<Exit, Failure> {
        let Some(limit) = self.request.timeout else {
            return self.attempts().await;
        };
        let ended = timeout(limit + GRACE, self.attempts()).await;
        ended.unwrap_or_else(|_| {
            // A write that is under way ends, and what is half written is removed.
            self.stop.cancel();
            Err(Failure::from(GetError::Timeout))
        })
    }

    async fn attempts(&mut self) -> Result<Exit, Failure> {
        let mut lost = 0;
        loop {
            let request = self.remaining_request()?;
            let doing = self.unless_stopped_begin(&request).await?;
            match self.follow(doing, &mut lost).await {
                Ok(()) => return Ok(Exit::Ok),
                Err(Attempt::Failed(failure)) => return Err(failure),
                Err(Attempt::Lost(error)) => {
                    lost += 1;
                    if lost > MAX_LOST || is_hopeless(&error) {
                        return Err(Failure::new(Exit::Other, error));
                    }
                    self.progress
                        .note(&format!("{error}: going on with another node"));
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// The request with what is left of its time.
    fn remaining_request(&self) -> Result<GetRequest, Failure> {
        let mut request = self.request.clone();
        if let Some(limit) = request.timeout {
            let passed = Clock::now().saturating_since(self.started);
            let left = limit.checked_sub(passed).filter(|left| !left.is_zero());
            request.timeout = Some(left.ok_or(GetError::Timeout)?);
        }
        Ok(request)
    }

    async fn unless_stopped_begin(&mut self, request: &GetRequest) -> Result<Doing, Failure> {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(interrupted()),
            doing = self.finder.begin(request) => doing,
        }
    }

    async fn follow(&mut self, mut doing: Doing, lost: &mut u32) -> Result<(), Attempt> {
        loop {
            let event = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Attempt::Failed(interrupted())),
                event = doing.next() => event,
            };
            match event {
                Ok(GetEvent::Done(summary)) => return self.done(summary).await,
                Ok(GetEvent::Progress(progress)) => {
                    *lost = 0;
                    self.advance(progress).await?;
                }
                Ok(GetEvent::Started(started)) => {
                    tracing::debug!(id = started.id, task = %started.task, "download begun");
                    self.write(0, move |output| output.start(&started)).await?;
                }
                Ok(GetEvent::Restarted) => {
                    self.progress
                        .note("what came so far does not count any more: starting over");
                    self.write(0, |output| {
                        output.restart();
                        Ok(())
                    })
                    .await?;
                }
                Err(Ended::Failed(error)) => return Err(Attempt::Failed(Failure::from(error))),
                Err(Ended::Lost(error)) => return Err(Attempt::Lost(error)),
            }
        }
    }

    async fn advance(&mut self, progress: GetProgress) -> Result<(), Attempt> {
        self.report.progress(&progress);
        self.progress.show(&progress, Clock::now());
        let bytes = progress
            .runs
            .iter()
            .map(|run| run.end.saturating_sub(run.start))
            .sum();
        self.write(bytes, move |output| output.advance(&progress))
            .await
    }

    async fn done(&mut self, summary: GetSummary) -> Result<(), Attempt> {
        // It ends with a wait for the disk.
        self.write(u64::MAX, move |output| {
            output.finish(&summary).map(|()| summary)
        })
        .await
        .map(|summary| self.report.summary(&summary))
    }

    /// Writes; aside, if it may take long, so that Ctrl-C is heard.
    async fn write<T: Send + 'static>(
        &mut self,
        bytes: u64,
        write: impl FnOnce(&mut Output) -> Result<T, OutputError> + Send + 'static,
    ) -> Result<T, Attempt> {
        // Only a write that never came back leaves none, and nothing is written after that.
        let Some(mut output) = self.output.take() else {
            return Err(Attempt::Failed(interrupted()));
        };
        let (output, outcome) = if output.is_slow(bytes) {
            let aside = spawn_blocking(move || {
                let outcome = write(&mut output);
                (output, outcome)
            });
            aside
                .await
                .map_err(|error| Attempt::Failed(Failure::from(error)))?
        } else {
            let outcome = write(&mut output);
            (output, outcome)
        };
        self.output = Some(output);
        outcome.map_err(|error| Attempt::Failed(unwritable(error)))
    }
}

/// Whether no other node would take the request either.
const fn is_hopeless(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Frame(FrameError::Version { .. })
            | ClientError::Refused(_)
            | ClientError::TooLong
    )
}

/// What Ctrl-C ends a download with.
pub(super) fn interrupted() -> Failure {
    let what = "interrupted; what was verified is kept, and the same command resumes";
    Failure::new(Exit::Interrupted, anyhow!(what))
}

/// What an output that cannot be written ends a download with.
pub(super) fn unwritable(error: OutputError) -> Failure {
    let exit = match &error {
        OutputError::Changed => Exit::SourceFailed,
        OutputError::Write { source, .. } => exit_of(source.kind()),
    };
    Failure::new(exit, error)
}

fn exit_of(kind: io::ErrorKind) -> Exit {
    if is_full(kind) {
        Exit::NoSpace
    } else if kind == io::ErrorKind::Interrupted {
        Exit::Interrupted
    } else {
        Exit::Other
    }
}
