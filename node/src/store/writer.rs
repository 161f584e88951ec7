//! Blocks on their way from memory into files, by threads that may block.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use dfnode_tracker::BlockIndex;
use tokio::sync::watch;

use super::entry::{Entry, Stamp, Written};
use super::inner::Inner;
use super::progress::WriteFailure;
use crate::ambient::Clock;
use crate::disk::is_full;

/// A block of a task to write.
pub(super) struct Job {
    pub(super) entry: Arc<Entry>,
    pub(super) block: BlockIndex,
}

/// What is to be written, in order. Its length is bounded by who watches [`WriteQueue::waiting`].
pub(super) struct WriteQueue {
    state: Mutex<State>,
    wake: Condvar,
    /// Every job with a lower ticket is done.
    low_water: watch::Sender<u64>,
    /// Bytes in memory that are in no file yet.
    waiting: watch::Sender<u64>,
}

struct State {
    jobs: VecDeque<(u64, Job)>,
    in_flight: BTreeSet<u64>,
    /// Generations of the tasks that are being written: the kernel lets one write to a file at a time, and a second
    /// thread would only burn time in its queue.
    busy: BTreeSet<u64>,
    next: u64,
    stop: bool,
}

impl State {
    /// The first job of a file that nobody writes to.
    fn take(&mut self) -> Option<(u64, Job)> {
        let is_free = |(_, job): &(u64, Job)| !self.busy.contains(&job.entry.generation);
        let place = self.jobs.iter().position(is_free)?;
        let (ticket, job) = self.jobs.remove(place)?;
        self.in_flight.insert(ticket);
        self.busy.insert(job.entry.generation);
        Some((ticket, job))
    }
}

impl WriteQueue {
    pub(super) fn new() -> Self {
        let state = State {
            jobs: VecDeque::new(),
            in_flight: BTreeSet::new(),
            busy: BTreeSet::new(),
            next: 0,
            stop: false,
        };
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            low_water: watch::Sender::new(0),
            waiting: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut state = self.lock();
        for job in jobs {
            let ticket = state.next;
            state.next += 1;
            state.jobs.push_back((ticket, job));
            self.wake.notify_one();
        }
    }

    /// The ticket that the next job gets: once the low water is there, everything pushed so far is done.
    pub(super) fn next_ticket(&self) -> u64 {
        self.lock().next
    }

    pub(super) fn low_water(&self) -> watch::Receiver<u64> {
        self.low_water.subscribe()
    }

    pub(super) fn waiting(&self) -> watch::Receiver<u64> {
        self.waiting.subscribe()
    }

    pub(super) fn count_waiting(&self, added: u64, freed: u64) {
        self.waiting
            .send_modify(|bytes| *bytes = (*bytes + added).saturating_sub(freed));
    }

    /// Writers end once everything is written.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_all();
    }

    fn take(&self) -> Option<(u64, Job)> {
        let mut state = self.lock();
        loop {
            if let Some(taken) = state.take() {
                return Some(taken);
            }
            if state.stop && state.jobs.is_empty() {
                return None;
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, ticket: u64, generation: u64) {
        let mut state = self.lock();
        state.in_flight.remove(&ticket);
        state.busy.remove(&generation);
        // What else waits for this file, this thread takes next; only the end has to be told.
        if state.stop {
            self.wake.notify_all();
        }
        let queued = state.jobs.front().map_or(state.next, |(ticket, _)| *ticket);
        let low = state
            .in_flight
            .first()
            .map_or(queued, |first| queued.min(*first));
        self.low_water
            .send_if_modified(|water| std::mem::replace(water, low) != low);
    }
}

/// Writes until the queue is stopped and empty. One of several threads.
pub(super) fn run(inner: &Inner) {
    while let Some((ticket, job)) = inner.queue.take() {
        write(inner, &job);
        inner.queue.done(ticket, job.entry.generation);
    }
}

fn write(inner: &Inner, job: &Job) {
    // Our own writes would hide that somebody else touched the file. What is wrong with it shows below.
    let _ = job.entry.look(Clock::now());
    while let Some((bytes, offset)) = job.entry.begin_write(job.block) {
        let outcome = job.entry.file().and_then(|file| {
            file.write_all_at(&bytes, offset)?;
            Stamp::of(&file)
        });
        let stamp = outcome.as_ref().ok().copied();
        let written = job
            .entry
            .end_write_if(job.block, &bytes, stamp.is_some(), stamp);
        let outcome = outcome.map(drop);
        match (outcome, written) {
            (Ok(()), Written::Done(count)) => {
                inner.written(&job.entry, count);
                return;
            }
            (Err(error), Written::Again) if is_full(error.kind()) && inner.evict_one() => {}
            (Ok(()), Written::Again) => {}
            (_, Written::Dropped) => return,
            (Err(error), Written::Done(_) | Written::Again) => {
                let failure = if is_full(error.kind()) {
                    WriteFailure::NoSpace
                } else {
                    WriteFailure::Io(error.to_string())
                };
                inner.fail(&job.entry, failure);
                return;
            }
        }
    }
}
