//! Hands a body over as it comes, and notices when it stops coming.

use bytes::{Buf as _, Bytes, BytesMut};
use dfnode_tracker::SourceFailure;
use reqwest::Response;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::SourceEvent;
use super::failure::{final_, of_error, transient};
use super::patience::{Meter, Patience};
use crate::ambient::Clock;
use crate::limits::{Limiter, SLICE_BYTES};

/// What of a body is handed over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Bytes at its start that nobody wants.
    pub(super) skip: u64,
    /// Bytes to hand over after those; `None` for all that comes.
    pub(super) take: Option<u64>,
    /// Bytes that the whole body has, if the head told.
    pub(super) body_bytes: Option<u64>,
}

/// The last bytes of a body, for the body that overlaps with it.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: BytesMut,
    keep: usize,
}

impl Tail {
    /// Of at most `keep` bytes.
    pub(super) fn of(keep: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            keep,
        }
    }

    pub(super) fn see(&mut self, bytes: &[u8]) {
        let fresh = &bytes[bytes.len().saturating_sub(self.keep)..];
        let surplus = (self.bytes.len() + fresh.len()).saturating_sub(self.keep);
        self.bytes.advance(surplus);
        self.bytes.extend_from_slice(fresh);
    }

    /// Whether `bytes` come next after `at` bytes that were compared before.
    pub(super) fn continues(&self, at: u64, bytes: &[u8]) -> bool {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let end = start.saturating_add(bytes.len());
        self.bytes.get(start..end) == Some(bytes)
    }
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
        body: Response,
        window: Window,
        host: &str,
    ) -> Result<u64, Cut> {
        self.pump_between(body, window, host, None, &mut Tail::of(0))
            .await
    }

    /// As [`pump`](Self::pump), where the bytes that are skipped must be those that `before` ended with. Keeps the
    /// last bytes in `after`.
    pub(super) async fn pump_between(
        &self,
        mut body: Response,
        window: Window,
        host: &str,
        before: Option<&Tail>,
        after: &mut Tail,
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
            let known = bytes.split_to(skipped);
            if before.is_some_and(|before| !before.continues(window.skip - skip, &known)) {
                return Err(SourceFailure::Changed.into());
            }
            skip -= skipped as u64;
            let wanted = window.take.map_or(u64::MAX, |take| take - given);
            bytes.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
            if bytes.is_empty() {
                continue;
            }
            given += bytes.len() as u64;
            after.see(&bytes);
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

    async fn hand_over(&self, mut bytes: Bytes) -> Result<(), Cut> {
        let is_limited = self.limits.iter().any(|limit| !limit.is_unlimited());
        let slice = if is_limited { SLICE_BYTES } else { bytes.len() };
        while !bytes.is_empty() {
            let slice = bytes.split_to(slice.min(bytes.len()));
            for limit in &self.limits {
                limit.take(slice.len() as u64).await;
            }
            self.tell(SourceEvent::Bytes(slice)).await?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tail_is_the_end_of_what_was_seen(body in proptest::collection::vec(any::<u8>(), 0..60), keep in 0_usize..20, chunk in 1_usize..30) {
            let mut tail = Tail::of(keep);
            body.chunks(chunk).for_each(|bytes| tail.see(bytes));
            let end = &body[body.len().saturating_sub(keep)..];
            prop_assert_eq!(&tail.bytes[..], end);
            let (first, rest) = end.split_at(end.len() / 2);
            prop_assert!(tail.continues(0, first) && tail.continues(first.len() as u64, rest));
            prop_assert!(!tail.continues(1, end) || end.is_empty());
        }
    }
}
