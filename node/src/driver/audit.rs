//! Bytes of the cache are compared with their digests before a caller sees them.
//!
//! The store knows which of them are in doubt: those that an earlier process wrote, those of a file that somebody
//! touched. What is damaged is dropped there, fetched again by the tracker, and never shown.

use std::collections::VecDeque;
use std::ops::Range;

use dfnode_tracker::{BlockIndex, TaskId};
use tokio::task::JoinHandle;

use super::{Parts, Report};
use crate::get::GetError;
use crate::store::ReadError;

/// Bytes compared before more of them is shown.
const SLICE_BYTES: u64 = 64 * 1024 * 1024;

/// What one caller is not shown yet because it is not compared yet.
pub(super) struct Audit {
    parts: Parts,
    task: TaskId,
    /// What lay in the file when the caller came, less what was compared; lowest first.
    unseen: VecDeque<Range<u64>>,
    running: Option<Running>,
    /// Whether all that the caller gets was compared after the last of it came.
    closed: bool,
}

struct Running {
    slice: Range<u64>,
    /// The last look at everything: the caller knows it already.
    is_closing: bool,
    work: JoinHandle<Result<Vec<BlockIndex>, ReadError>>,
}

/// What a slice turned out to be.
pub(super) struct Audited {
    /// Blocks that are dropped.
    pub(super) damaged: Vec<BlockIndex>,
    /// Whether the caller was shown them.
    pub(super) were_seen: bool,
}

impl Audit {
    /// Of `had`, what lies in the file when the caller comes.
    pub(super) fn new(parts: Parts, task: TaskId, had: &[Range<u64>]) -> Self {
        Self {
            parts,
            task,
            unseen: had.iter().cloned().collect(),
            running: None,
            closed: false,
        }
    }

    /// The file is another one: what lay in the older is of no interest.
    pub(super) fn restart(&mut self) {
        self.unseen.clear();
        self.running = None;
        self.closed = false;
    }

    /// What must not be shown yet, lowest first.
    pub(super) fn unseen(&self) -> Vec<Range<u64>> {
        let running = self.running.iter().filter(|running| !running.is_closing);
        let running = running.map(|running| running.slice.clone());
        running.chain(self.unseen.iter().cloned()).collect()
    }

    /// What lies in the file now.
    pub(super) fn still_there(&self) -> Vec<Range<u64>> {
        let progress = self.parts.store.progress(self.task);
        progress.map_or_else(Vec::new, |progress| progress.borrow().byte_runs())
    }

    /// Whether `wanted`, all of which is there, is as it was verified. If that is not known yet, a last look begins;
    /// it costs next to nothing unless somebody touched the file meanwhile.
    pub(super) fn close(&mut self, wanted: &Range<u64>) -> bool {
        if self.running.is_none() && !self.closed {
            self.begin(wanted.clone(), true);
        }
        self.closed
    }

    fn begin(&mut self, slice: Range<u64>, is_closing: bool) {
        let (parts, task, range) = (self.parts.clone(), self.task, slice.clone());
        let work = tokio::spawn(async move {
            let damaged = parts.store.audit(task, range).await?;
            for block in &damaged {
                let block = *block;
                parts.report(Report::Damaged { task, block }).await;
            }
            Ok(damaged)
        });
        self.running = Some(Running {
            slice,
            is_closing,
            work,
        });
    }

    /// Compares the next slice. Never returns when there is nothing to do.
    ///
    /// # Cancel safety
    /// The slice goes on, and the next call takes it up.
    pub(super) async fn next(&mut self) -> Result<Audited, GetError> {
        if self.running.is_none() {
            let Some(mut range) = self.unseen.pop_front() else {
                return std::future::pending().await;
            };
            let end = range.end.min(range.start + SLICE_BYTES);
            let slice = range.start..end;
            range.start = end;
            if !range.is_empty() {
                self.unseen.push_front(range);
            }
            self.begin(slice, false);
        }
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let (outcome, were_seen) = ((&mut running.work).await, running.is_closing);
        self.running = None;
        let damaged = match outcome {
            Ok(Ok(damaged)) => damaged,
            // A task that is gone shows nothing, and the caller hears of it from the task itself.
            Ok(Err(ReadError::Absent)) => Vec::new(),
            Ok(Err(error)) => {
                let what = error.to_string();
                return Err(GetError::Internal { what });
            }
            Err(error) => {
                let what = error.to_string();
                return Err(GetError::Internal { what });
            }
        };
        self.closed = were_seen && damaged.is_empty();
        Ok(Audited { damaged, were_seen })
    }
}
