//! What happens when; of what happens at the same time, what was planned first.
//!
//! A calendar: near plans wait in the drawers of a ring, unsorted, and only those of the open drawer are put in order. Ten
//! thousand hosts have a million plans at a time, of which one heap would turn over twenty for each that is taken.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A drawer holds what happens within 64 µs, …
const DRAWER_BITS: u32 = 6;
/// … and there are drawers for the next second.
const DRAWERS: u64 = 1 << 14;

#[derive(Debug)]
struct Due<T> {
    time: u64,
    sequence: u64,
    what: T,
}

impl<T> Due<T> {
    const fn drawer(&self) -> u64 {
        self.time >> DRAWER_BITS
    }
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
    /// The number of the drawer that is open.
    open: u64,
    /// What it held, and what was planned for then since.
    now: BinaryHeap<Due<T>>,
    drawers: Vec<Vec<Due<T>>>,
    /// How many plans lie in drawers.
    near: usize,
    /// What comes after the last drawer.
    far: BinaryHeap<Due<T>>,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            sequence: 0,
            open: 0,
            now: BinaryHeap::new(),
            drawers: (0..DRAWERS).map(|_| Vec::new()).collect(),
            near: 0,
            far: BinaryHeap::new(),
        }
    }
}

impl<T> Agenda<T> {
    pub(crate) fn put(&mut self, time: u64, what: T) {
        self.sequence += 1;
        self.lay(Due {
            time,
            sequence: self.sequence,
            what,
        });
    }

    fn lay(&mut self, due: Due<T>) {
        let drawer = due.drawer();
        if drawer <= self.open {
            self.now.push(due);
        } else if drawer < self.open + DRAWERS {
            self.drawer(drawer).push(due);
            self.near += 1;
        } else {
            self.far.push(due);
        }
    }

    fn drawer(&mut self, number: u64) -> &mut Vec<Due<T>> {
        let at = (number % DRAWERS) as usize;
        &mut self.drawers[at]
    }

    /// Gives back the room that a busier time took.
    pub(crate) fn shrink(&mut self) {
        self.now.shrink_to_fit();
        self.far.shrink_to_fit();
        for drawer in &mut self.drawers {
            drawer.shrink_to_fit();
        }
    }

    pub(crate) fn take(&mut self) -> Option<(u64, T)> {
        while self.now.is_empty() {
            if self.near == 0 {
                self.open = self.far.peek()?.drawer();
            } else {
                self.open += 1;
            }
            let open = self.open;
            let mut due = std::mem::take(self.drawer(open));
            self.near -= due.len();
            self.now.extend(due.drain(..));
            *self.drawer(open) = due;
            let is_near = |due: &Due<T>| due.drawer() < open + DRAWERS;
            while self.far.peek().is_some_and(is_near)
                && let Some(due) = self.far.pop()
            {
                self.lay(due);
            }
        }
        self.now.pop().map(|due| (due.time, due.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    /// Takes plans in their order whatever their distance: at once, within a drawer, in other drawers, and far beyond.
    #[test]
    fn plans_come_by_time_and_then_in_the_order_of_planning() {
        let (mut agenda, mut chance) = (Agenda::default(), Chance::new(1));
        let mut planned: Vec<(u64, u64)> = Vec::new();
        let (mut now, mut number) = (0, 0);
        let mut taken = Vec::new();
        for round in 0..20_000 {
            if round < 12_000 {
                for _ in 0..chance.draw() % 4 {
                    let reach = [1, 40, 5_000, 900_000, 40_000_000][(chance.draw() % 5) as usize];
                    let time = now + chance.draw() % reach;
                    agenda.put(time, number);
                    planned.push((time, number));
                    number += 1;
                }
            }
            if let Some((time, what)) = agenda.take() {
                assert!(time >= now, "time goes on");
                now = time;
                taken.push((time, what));
            }
        }
        while let Some(due) = agenda.take() {
            taken.push(due);
        }
        planned.sort_unstable();
        assert_eq!(taken.len(), planned.len());
        assert!(taken == planned, "the order is that of time and planning");
    }
}
