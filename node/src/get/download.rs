//! The way a download's news take from the node to the caller.
//!
//! Nothing here waits for a slow caller and nothing is lost on one: progress that was not fetched in time
//! is merged with the progress that follows, and a restart erases what it makes void.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{GetError, GetEvent, GetProgress};

/// A download under way: dropping it leaves the download, and what was verified stays in the cache.
#[derive(Debug)]
pub struct Download {
    shared: Arc<Shared>,
}

/// The node's end of a [`Download`]: dropping it ends the download with [`GetError::Cancelled`],
/// unless it ended before.
#[derive(Debug)]
pub struct DownloadSender {
    shared: Arc<Shared>,
}

/// The caller has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller has left the download")]
pub struct Gone;

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Notify,
    left: CancellationToken,
}

/// At most a restart, a start, one merged progress and an end.
#[derive(Debug, Default)]
struct Queue {
    news: VecDeque<Result<GetEvent, GetError>>,
    ended: bool,
}

impl Download {
    /// Both ends of a new download.
    pub fn channel() -> (DownloadSender, Self) {
        let shared = Arc::new(Shared::default());
        (
            DownloadSender {
                shared: Arc::clone(&shared),
            },
            Self { shared },
        )
    }

    /// Waits for the next event; `None` after `Done` or an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<GetEvent, GetError>> {
        loop {
            let ready = self.shared.ready.notified();
            {
                let mut queue = self.shared.lock();
                if let Some(news) = queue.news.pop_front() {
                    return Some(news);
                }
                if queue.ended {
                    return None;
                }
            }
            ready.await;
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.shared.left.cancel();
    }
}

impl DownloadSender {
    /// Tells the caller; never waits.
    ///
    /// # Errors
    ///
    /// [`Gone`] if the caller has left: the download is to be ended.
    pub fn send(&self, event: GetEvent) -> Result<(), Gone> {
        if self.is_gone() {
            return Err(Gone);
        }
        self.shared.push(event);
        Ok(())
    }

    /// Ends the download with an error.
    pub fn fail(&self, error: GetError) {
        self.shared.end(Err(error));
    }

    /// Whether the caller has left.
    pub fn is_gone(&self) -> bool {
        self.shared.left.is_cancelled()
    }

    /// Waits until the caller has left.
    pub async fn gone(&self) {
        self.shared.left.cancelled().await;
    }
}

impl Drop for DownloadSender {
    fn drop(&mut self) {
        self.shared.end(Err(GetError::Cancelled));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A queue is whole between any two statements that touch it, whoever panicked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: GetEvent) {
        match event {
            GetEvent::Done(summary) => return self.end(Ok(GetEvent::Done(summary))),
            GetEvent::Progress(progress) => self.lock().push_progress(progress),
            GetEvent::Restarted => {
                let mut queue = self.lock();
                queue.news.clear();
                queue.push(Ok(GetEvent::Restarted));
            }
            GetEvent::Started(started) => self.lock().push(Ok(GetEvent::Started(started))),
        }
        self.ready.notify_one();
    }

    fn end(&self, news: Result<GetEvent, GetError>) {
        let mut queue = self.lock();
        queue.push(news);
        queue.ended = true;
        drop(queue);
        self.ready.notify_one();
    }
}

impl Queue {
    fn push(&mut self, news: Result<GetEvent, GetError>) {
        if !self.ended {
            self.news.push_back(news);
        }
    }

    fn push_progress(&mut self, mut progress: GetProgress) {
        if let Some(Ok(GetEvent::Progress(waiting))) = self.news.back_mut() {
            let mut runs = std::mem::take(&mut waiting.runs);
            runs.append(&mut progress.runs);
            progress.runs = merge_runs(runs);
            *waiting = progress;
        } else {
            self.push(Ok(GetEvent::Progress(progress)));
        }
    }
}

/// Sorts and joins what touches, so that a caller who sleeps costs no memory.
pub(super) fn merge_runs(mut runs: Vec<Range<u64>>) -> Vec<Range<u64>> {
    runs.sort_unstable_by_key(|run| run.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(runs.len());
    for run in runs {
        match merged.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => merged.push(run),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: u64, run: Range<u64>) -> GetEvent {
        GetEvent::Progress(GetProgress {
            done_bytes: done,
            runs: vec![run],
            ..GetProgress::default()
        })
    }

    #[tokio::test]
    async fn progress_that_nobody_fetched_is_merged() {
        let (sender, mut download) = Download::channel();
        sender.send(progress(10, 0..10)).unwrap();
        sender.send(progress(15, 30..35)).unwrap();
        sender.send(progress(35, 10..30)).unwrap();
        let Some(Ok(GetEvent::Progress(merged))) = download.next().await else {
            panic!("progress")
        };
        assert_eq!((merged.done_bytes, merged.runs.len()), (35, 1));
        assert_eq!(merged.runs[0], 0..35);
    }

    #[tokio::test]
    async fn a_restart_erases_what_was_not_fetched() {
        let (sender, mut download) = Download::channel();
        sender.send(progress(10, 0..10)).unwrap();
        sender.send(GetEvent::Restarted).unwrap();
        sender
            .send(GetEvent::Done(super::super::GetSummary::default()))
            .unwrap();
        assert!(matches!(
            download.next().await,
            Some(Ok(GetEvent::Restarted))
        ));
        assert!(matches!(download.next().await, Some(Ok(GetEvent::Done(_)))));
        drop(sender);
        assert!(download.next().await.is_none());
    }

    #[tokio::test]
    async fn a_node_that_drops_its_end_cancels() {
        let (sender, mut download) = Download::channel();
        drop(sender);
        assert!(matches!(
            download.next().await,
            Some(Err(GetError::Cancelled))
        ));
        assert!(download.next().await.is_none());
    }

    #[tokio::test]
    async fn the_node_learns_that_the_caller_left() {
        let (sender, download) = Download::channel();
        drop(download);
        sender.gone().await;
        assert_eq!(sender.send(GetEvent::Restarted), Err(Gone));
    }
}
