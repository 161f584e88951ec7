//! Looks at who holds what, from moment to moment.
//!
//! A look is no event: it happens between two of them and changes nothing, so that a run that is looked at and one
//! that is not are the same run.

use std::time::Duration;

use super::{World, micros};
use crate::report::Moment;
use crate::scenario::Scenario;

/// Looks within the shortest possible time; a good run takes little longer.
const LOOKS_A_BOUND: f64 = 200.0;
/// Moments that are kept. A run that takes longer is looked at half as often, and again.
const MOST: usize = 400;

/// The moments so far, and the next one.
#[derive(Debug)]
pub(super) struct Watch {
    /// µs from the first start to the next look, and from one to the following.
    next: u64,
    every: u64,
    over: bool,
    moments: Vec<Moment>,
}

impl Watch {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let every = Duration::from_secs_f64(scenario.bound_secs() / LOOKS_A_BOUND);
        Self {
            next: 0,
            every: micros(every).max(1),
            over: false,
            moments: Vec::new(),
        }
    }

    pub(super) fn into_moments(self) -> Vec<Moment> {
        self.moments
    }

    /// Keeps every second moment, and looks half as often from now on.
    fn thin_out(&mut self) {
        let mut keep = false;
        self.moments.retain(|_| {
            keep = !keep;
            keep
        });
        self.every *= 2;
    }
}

impl World {
    /// Looks at all moments that are due before something happens at `time`.
    pub(super) fn look_until(&mut self, time: u64) {
        while let Some(watch) = &self.watch
            && !watch.over
            && self.first_start + watch.next <= time
        {
            let moment = self.moment(watch.next);
            if let Some(watch) = &mut self.watch {
                watch.moments.push(moment);
                watch.next += watch.every;
                if watch.moments.len() >= MOST {
                    watch.thin_out();
                }
            }
        }
    }

    /// Looks once more, when all is over, and then never again.
    pub(super) fn look_last(&mut self) {
        if self.watch.as_ref().is_none_or(|watch| watch.over) {
            return;
        }
        let moment = self.moment(self.now.saturating_sub(self.first_start));
        if let Some(watch) = &mut self.watch {
            watch.moments.push(moment);
            watch.over = true;
        }
    }

    fn moment(&self, at: u64) -> Moment {
        let mut moment = Moment {
            seconds: Duration::from_micros(at).as_secs_f64(),
            live: 0,
            holders: vec![0; self.layout.blocks().unwrap_or(0) as usize],
        };
        for node in self.nodes.iter().filter(|node| node.alive) {
            moment.live += 1;
            for block in node.kept.keys() {
                if let Some(holders) = moment.holders.get_mut(block.0 as usize) {
                    *holders += 1;
                }
            }
        }
        moment
    }
}
