//! A download as bytes in their order, while the rest of it is still on its way.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfnode_tracker::{TaskId, VersionId};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::afterlife;
use super::download::merge_runs;
use super::given::{CHUNK_BYTES, Given, read};
use super::{Download, GetError, GetEvent, GetProgress, Started};

/// Why a stream ended before its last byte. But for [`Self::Untrue`], what was given was right when it was given.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The download failed.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The source has another version now: what was given cannot be continued.
    #[error("the content changed while it was read")]
    Changed,
    /// What was given is not what the node holds by now, or could not be compared with it: a block was found false
    /// after it was shown. It must not be continued, from wherever.
    #[error("a part of what was read already was found false")]
    Untrue,
    /// No byte came for as long as the reader had patience. The download itself may go on.
    #[error("nothing came for {0:?}")]
    Stalled(Duration),
    /// The node's own file cannot be read.
    #[error("cannot read the node's file: {0}")]
    Read(#[from] io::Error),
}

/// The bytes of a download, in order and verified, each as soon as it is there.
///
/// Dropping it leaves the download, unless all was given: then the node still checks the whole.
#[derive(Debug)]
pub struct ByteStream {
    download: Option<Download>,
    file: Option<Arc<File>>,
    task: Option<TaskId>,
    version: Option<VersionId>,
    length: Option<u64>,
    expected_length: Option<u64>,
    /// The first byte asked for.
    first: u64,
    /// The next byte to give.
    at: u64,
    /// Behind the last byte asked for; `None`: to the end.
    stop: Option<u64>,
    /// Bytes from `at` to before this one can be read.
    readable: u64,
    /// All that can be read.
    runs: Vec<Range<u64>>,
    given: Given,
    /// The node took back what it had shown: what was given is to be compared with what it shows now.
    in_doubt: bool,
    seen: GetProgress,
    patience: Duration,
    lingers: bool,
    is_done: bool,
}

impl ByteStream {
    /// The bytes of `range` of `download`, which must have been asked for just these.
    ///
    /// `patience`: how long nothing at all may come.
    pub fn new(download: Download, range: Option<(u64, Option<u64>)>, patience: Duration) -> Self {
        let (first, last) = range.unwrap_or((0, None));
        Self {
            download: Some(download),
            file: None,
            task: None,
            version: None,
            length: None,
            expected_length: None,
            first,
            at: first,
            stop: last.map(|last| last.saturating_add(1)),
            readable: first,
            runs: Vec::new(),
            given: Given::default(),
            in_doubt: false,
            seen: GetProgress::default(),
            patience,
            lingers: false,
            is_done: false,
        }
    }

    /// Whether the download goes on when the reader leaves early.
    pub const fn set_lingers(&mut self, lingers: bool) {
        self.lingers = lingers;
    }

    /// Waits until the version is known and may be read; returns the length of the whole, if it has one.
    ///
    /// # Errors
    /// If it never will be. Nothing was given yet.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn started(&mut self) -> Result<Option<u64>, StreamError> {
        let deadline = Instant::now() + self.patience;
        while self.file.is_none() {
            self.wait(deadline).await?;
        }
        Ok(self.length)
    }

    /// What the bytes are of, once it is known.
    pub const fn task(&self) -> Option<TaskId> {
        self.task
    }

    /// The version that the bytes are of, once it is known.
    pub const fn version(&self) -> Option<VersionId> {
        self.version
    }

    /// Takes only bytes of this version, of a whole of this length: what comes before them was had from elsewhere.
    pub const fn expect(&mut self, version: Option<VersionId>, length: u64) {
        self.version = version;
        self.expected_length = Some(length);
    }

    /// Where the next byte lies in the whole.
    pub const fn position(&self) -> u64 {
        self.at
    }

    /// Goes on at `at`: its reader has what lies before from elsewhere.
    pub fn skip_to(&mut self, at: u64) {
        self.at = self.at.max(at);
        self.readable = self.readable.max(self.at);
        self.look();
    }

    /// Finds out how far it can be read from here.
    fn look(&mut self) {
        let here = self.runs.iter().find(|run| run.contains(&self.at));
        self.readable = self.readable.max(here.map_or(self.at, |run| run.end));
    }

    /// Takes in what the download told meanwhile. Whether it goes on: it has what comes next, or fetches.
    ///
    /// # Errors
    /// If no more will come.
    pub async fn goes_on(&mut self) -> Result<bool, StreamError> {
        while !self.is_done {
            match self.wait(Instant::now()).await {
                Ok(()) => {}
                Err(StreamError::Stalled(_)) => break,
                Err(error) => return Err(error),
            }
        }
        let fetches = self.seen.from_peers + self.seen.from_source > 0;
        Ok(self.file.is_some() && (self.readable > self.at || fetches))
    }

    /// How many bytes came from where, so far.
    pub const fn progress(&self) -> &GetProgress {
        &self.seen
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// If no more will come. See [`StreamError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        let mut deadline = Instant::now() + self.patience;
        loop {
            if self.in_doubt && self.can_compare() {
                self.compare().await?;
            }
            if !self.in_doubt {
                let end = self.end();
                if end.is_some_and(|end| self.at >= end) {
                    return Ok(None);
                }
                let readable = end.map_or(self.readable, |end| self.readable.min(end));
                if let Some(file) = self.file.as_ref().filter(|_| readable > self.at) {
                    let file = Arc::clone(file);
                    let (at, wanted) = (self.at, (readable - self.at).min(CHUNK_BYTES));
                    let bytes = spawn_blocking(move || read(&file, at, wanted)).await;
                    let bytes = bytes.map_err(io::Error::other)??;
                    self.given.add(at, &bytes);
                    self.at += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
            }
            if self.is_done {
                return if self.in_doubt {
                    Err(StreamError::Untrue)
                } else {
                    Ok(None)
                };
            }
            let before = self.seen.done_bytes;
            let waited = self.wait(deadline).await;
            waited.map_err(|error| {
                if self.in_doubt && !matches!(error, StreamError::Changed) {
                    StreamError::Untrue
                } else {
                    error
                }
            })?;
            if self.seen.done_bytes > before {
                // It is being fetched, though in another order.
                deadline = Instant::now() + self.patience;
            }
        }
    }

    /// Whether all that was given can be read again.
    fn can_compare(&self) -> bool {
        self.file.is_some() && self.given.lies_within(&self.runs)
    }

    /// Goes on only if what was given is what the node shows now.
    async fn compare(&mut self) -> Result<(), StreamError> {
        let file = self.file.clone().ok_or(StreamError::Untrue)?;
        if !self.given.is_what_lies_in(file).await {
            return Err(StreamError::Untrue);
        }
        self.in_doubt = false;
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        let length = self.length.or(self.expected_length)?;
        Some(self.stop.map_or(length, |stop| stop.min(length)))
    }

    async fn wait(&mut self, deadline: Instant) -> Result<(), StreamError> {
        let Some(download) = &mut self.download else {
            return Err(GetError::Cancelled.into());
        };
        let news = timeout_at(deadline, download.next()).await;
        let news = news.map_err(|_| StreamError::Stalled(self.patience))?;
        match news.unwrap_or(Err(GetError::Cancelled))? {
            GetEvent::Started(Started {
                task,
                version,
                length,
                file,
                ..
            }) => {
                let is_expected = self.expected_length.is_none() || self.expected_length == length;
                if *self.version.get_or_insert(version) != version || !is_expected {
                    return Err(StreamError::Changed);
                }
                self.task = Some(task);
                self.length = length;
                self.file = Some(file.0);
            }
            GetEvent::Progress(mut progress) => {
                self.readable = self.readable.max(progress.contiguous);
                self.runs.append(&mut progress.runs);
                self.runs
                    .push(self.first..progress.contiguous.max(self.first));
                self.runs = merge_runs(std::mem::take(&mut self.runs));
                self.look();
                self.seen = progress;
            }
            GetEvent::Restarted => {
                self.file = None;
                self.readable = self.at;
                self.runs.clear();
                self.in_doubt = !self.given.is_empty();
                self.seen.done_bytes = 0;
            }
            GetEvent::Done(summary) => {
                self.is_done = true;
                self.seen.from_peers = summary.from_peers;
                self.seen.from_source = summary.from_source;
                self.seen.from_cache = summary.from_cache;
            }
        }
        Ok(())
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        let was_all = self.end().is_some_and(|end| self.at >= end);
        if self.is_done || !(was_all || self.lingers) {
            return;
        }
        if let Some(download) = self.download.take() {
            let begun = self.file.is_some();
            afterlife::see_through(download, begun, self.version, self.expected_length);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use dfnode_tracker::TaskId;

    use super::*;
    use crate::get::{CacheFile, DownloadSender, GetSummary};

    fn started(bytes: &[u8], version: u8) -> GetEvent {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        GetEvent::Started(Started {
            id: "1".to_owned(),
            task: TaskId::from_bytes([1; 32]),
            version: VersionId::from_bytes([version; 32]),
            length: Some(bytes.len() as u64),
            file: CacheFile(Arc::new(file)),
        })
    }

    fn progress(contiguous: u64) -> GetEvent {
        GetEvent::Progress(GetProgress {
            done_bytes: contiguous,
            contiguous,
            ..GetProgress::default()
        })
    }

    fn stream(range: Option<(u64, Option<u64>)>) -> (DownloadSender, ByteStream) {
        let (sender, download) = Download::channel();
        (
            sender,
            ByteStream::new(download, range, Duration::from_secs(5)),
        )
    }

    #[tokio::test]
    async fn bytes_come_in_order_and_only_once_they_are_there() {
        let (sender, mut stream) = stream(None);
        sender.send(started(b"0123456789", 1)).unwrap();
        assert_eq!(stream.started().await.unwrap(), Some(10));
        sender.send(progress(4)).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "0123");
        sender.send(GetEvent::Restarted).unwrap();
        sender.send(started(b"0123456789", 1)).unwrap();
        sender.send(progress(10)).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "456789");
        assert_eq!(stream.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_range_ends_where_it_was_asked_to() {
        let (sender, mut stream) = stream(Some((3, Some(5))));
        sender.send(started(b"0123456789", 1)).unwrap();
        sender.send(progress(10)).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "345");
        assert_eq!(stream.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_late_download_goes_on_whose_bytes_came_from_elsewhere() {
        for told in [10, 11] {
            let (sender, mut stream) = stream(None);
            stream.expect(Some(VersionId::from_bytes([1; 32])), told);
            stream.skip_to(10);
            drop(stream);
            tokio::task::yield_now().await;
            let goes_on = sender.send(started(b"0123456789", 1)).is_ok();
            assert_eq!(goes_on, told == 10, "all {told} were given");
        }
    }

    #[tokio::test]
    async fn another_length_of_the_same_version_is_refused() {
        let (sender, mut stream) = stream(None);
        stream.expect(Some(VersionId::from_bytes([1; 32])), 11);
        sender.send(started(b"0123456789", 1)).unwrap();
        let refused = stream.started().await;
        assert!(matches!(refused, Err(StreamError::Changed)), "{refused:?}");
    }

    #[tokio::test]
    async fn bytes_of_two_versions_are_not_mixed() {
        let (sender, mut stream) = stream(None);
        sender.send(started(b"0123456789", 1)).unwrap();
        sender.send(progress(4)).unwrap();
        assert!(stream.next().await.unwrap().is_some());
        sender.send(GetEvent::Restarted).unwrap();
        sender.send(started(b"abcdefghij", 2)).unwrap();
        assert!(matches!(stream.next().await, Err(StreamError::Changed)));
    }

    #[tokio::test]
    async fn nothing_follows_bytes_that_were_found_false() {
        let (sender, mut stream) = stream(None);
        sender.send(started(b"01x3456789", 1)).unwrap();
        sender.send(progress(4)).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "01x3");
        sender.send(GetEvent::Restarted).unwrap();
        sender.send(started(b"0123456789", 1)).unwrap();
        sender.send(progress(10)).unwrap();
        assert!(matches!(stream.next().await, Err(StreamError::Untrue)));
    }

    #[tokio::test]
    async fn a_download_that_fails_before_doubtful_bytes_could_be_compared_leaves_them_untrue() {
        let (sender, mut stream) = stream(None);
        sender.send(started(b"0123456789", 1)).unwrap();
        sender.send(progress(4)).unwrap();
        assert!(stream.next().await.unwrap().is_some());
        sender.send(GetEvent::Restarted).unwrap();
        sender.send(started(b"0123456789", 1)).unwrap();
        sender.send(progress(3)).unwrap();
        sender.fail(GetError::NoSource);
        assert!(matches!(stream.next().await, Err(StreamError::Untrue)));
    }

    #[tokio::test]
    async fn what_was_had_from_elsewhere_is_not_compared() {
        let (sender, mut stream) = stream(None);
        sender.send(started(b"0123456789", 1)).unwrap();
        sender.send(progress(2)).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "01");
        stream.skip_to(5);
        sender.send(progress(7)).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "56");
        sender.send(GetEvent::Restarted).unwrap();
        sender.send(started(b"01abc56789", 1)).unwrap();
        sender.send(progress(10)).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "789");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_has_a_hole_from_elsewhere_goes_on_behind_it() {
        let (sender, mut stream) = stream(None);
        sender.send(started(b"0123456789", 1)).unwrap();
        let parts = GetProgress {
            done_bytes: 7,
            contiguous: 2,
            runs: vec![0..2, 5..10],
            ..GetProgress::default()
        };
        sender.send(GetEvent::Progress(parts)).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "01");
        assert!(matches!(stream.next().await, Err(StreamError::Stalled(_))));
        stream.skip_to(4);
        assert!(matches!(stream.next().await, Err(StreamError::Stalled(_))));
        stream.skip_to(5);
        assert_eq!(stream.next().await.unwrap().unwrap(), "56789");
        assert_eq!(stream.next().await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_learns_that_nothing_comes() {
        let (_sender, mut stream) = stream(None);
        assert!(matches!(
            stream.started().await,
            Err(StreamError::Stalled(_))
        ));
    }

    #[tokio::test]
    async fn a_reader_that_has_everything_lets_the_whole_be_checked() {
        let (sender, mut stream) = stream(None);
        sender.send(started(b"01", 1)).unwrap();
        sender.send(progress(2)).unwrap();
        stream.next().await.unwrap();
        drop(stream);
        tokio::task::yield_now().await;
        assert!(!sender.is_gone());
        sender.send(GetEvent::Done(GetSummary::default())).unwrap();
        sender.gone().await;
    }
}
