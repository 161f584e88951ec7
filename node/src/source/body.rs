//! Hands a body over as it comes, and notices when it stops coming.

use bytes::Bytes;
use dfnode_tracker::SourceFailure;
use reqwest::Response;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::SourceEvent;
use super::failure::{final_, of_error, transient};
use super::patience::{Meter, Patience};
use crate::ambient::Clock;
use crate::limits::Limiter;

/// What of a body is handed over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Bytes at its start that nobody asked for.
    pub(super) skip: u64,
    /// Bytes to hand over after those; `None` for all that comes.
    pub(super) take: Option<u64>,
    /// Bytes that the whole body has, if the head told.
    pub(super) body_bytes: Option<u64>,
}

/// Why a body was not handed over to its end.
pub(super) enum Cut {
    Failed(SourceFailure),
    /// Nobody receives any more.
    Unwanted,
}

impl From<SourceFailure> for Cut {
    fn from(failure: SourceFailure) -> Self {
        Self::Failed(failure)
    }
}

/// Where a body goes, and at which pace.
pub(super) struct Sink {
    pub(super) events: mpsc::Sender<SourceEvent>,
    pub(super) limits: Vec<Limiter>,
    pub(super) patience: Patience,
}

impl Sink {
    pub(super) async fn tell(&self, event: SourceEvent) -> Result<(), Cut> {
        self.events.send(event).await.map_err(|_| Cut::Unwanted)
    }

    /// Hands over what `window` shows of a body; returns how many bytes that was.
    pub(super) async fn pump(
        &self,
        mut body: Response,
        window: Window,
        host: &str,
    ) -> Result<u64, Cut> {
        let mut meter = Meter::new(self.patience);
        let (mut skip, mut read, mut given) = (window.skip, 0_u64, 0_u64);
        while window.take != Some(given) {
            let Some(mut bytes) = self.chunk(&mut body, &mut meter, host).await? else {
                break;
            };
            read += bytes.len() as u64;
            if window.body_bytes.is_some_and(|whole| read > whole) {
                return Err(final_(format!("{host} sent more bytes than it announced")).into());
            }
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            drop(bytes.split_to(skipped));
            skip -= skipped as u64;
            let wanted = window.take.map_or(u64::MAX, |take| take - given);
            bytes.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
            if bytes.is_empty() {
                continue;
            }
            given += bytes.len() as u64;
            self.hand_over(bytes).await?;
        }
        let expected = window.take.or_else(|| {
            window
                .body_bytes
                .map(|whole| whole.saturating_sub(window.skip))
        });
        match expected {
            Some(expected) if given < expected => {
                Err(transient(format!("{host} ended after {given} of {expected} bytes")).into())
            }
            Some(_) | None => Ok(given),
        }
    }

    async fn hand_over(&self, bytes: Bytes) -> Result<(), Cut> {
        for limit in &self.limits {
            limit.take(bytes.len() as u64).await;
        }
        self.tell(SourceEvent::Bytes(bytes)).await
    }

    async fn chunk(
        &self,
        body: &mut Response,
        meter: &mut Meter,
        host: &str,
    ) -> Result<Option<Bytes>, SourceFailure> {
        let asked = Clock::now();
        let Ok(chunk) = timeout(self.patience.silence, body.chunk()).await else {
            let seconds = self.patience.silence.as_secs_f32();
            return Err(transient(format!("{host} sent nothing for {seconds} s")));
        };
        let chunk = chunk.map_err(|error| of_error(error, host))?;
        let count = chunk.as_ref().map_or(0, Bytes::len);
        if count > 0 {
            meter.add(Clock::now() - asked, count, host)?;
        }
        Ok(chunk)
    }
}
