//! What happens when; of what happens at the same time, what was planned first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

#[derive(Debug)]
struct Due<T> {
    time: u64,
    sequence: u64,
    what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.time, self.sequence) == (other.time, other.sequence)
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    /// The heap gives the greatest first: that is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.time, other.sequence).cmp(&(self.time, self.sequence))
    }
}

/// The plans of a world, by virtual µs.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    sequence: u64,
    queue: BinaryHeap<Due<T>>,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            sequence: 0,
            queue: BinaryHeap::new(),
        }
    }
}

impl<T> Agenda<T> {
    pub(crate) fn put(&mut self, time: u64, what: T) {
        self.sequence += 1;
        self.queue.push(Due {
            time,
            sequence: self.sequence,
            what,
        });
    }

    /// Gives back the room that a busier time took.
    pub(crate) fn shrink(&mut self) {
        self.queue.shrink_to_fit();
    }

    pub(crate) fn take(&mut self) -> Option<(u64, T)> {
        self.queue.pop().map(|due| (due.time, due.what))
    }
}
