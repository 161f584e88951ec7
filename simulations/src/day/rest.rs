//! A look at all machines at a quiet moment.

use std::time::Duration;

use super::host::Life;
use super::{Cluster, DayReport, Rest};
use crate::signatures;

impl Rest {
    fn count(&mut self, life: &Life) {
        let (tracker, gossip) = (&life.tracker, &life.gossip);
        let (load, memory) = (tracker.footprint(), gossip.footprint());
        self.down += memory.down;
        self.uploads += tracker.uploads();
        self.downloads += tracker.downloads();
        self.reads += life.reads.len() + life.parked.len() + life.wishes.len();
        self.tasks += load.tasks;
        self.neighbours += tracker.tasks().map(|task| task.neighbours).sum::<usize>();
        self.tables += load.tables;
        self.registrants += load.registrants;
        self.leases += load.leases;
        self.announced += load.announced;
        self.accused += load.accused + tracker.isolated().len();
        self.slots += memory.slots;
        self.gone += memory.gone;
        self.waiting += load.waiting + memory.waiting;
        self.timers += usize::from(tracker.poll_timeout().is_some());
        self.links += life.links.len() + life.dialling.len();
    }
}

impl Cluster {
    pub(super) fn rest(&mut self, heap: fn() -> usize) -> Rest {
        // What the world itself keeps room for is no machine's.
        signatures::forget();
        self.agenda.shrink();
        let mut rest = Rest {
            living: self.living().count(),
            heap_bytes: heap(),
            ..Rest::default()
        };
        for life in self.hosts.iter().filter_map(|host| host.life.as_deref()) {
            rest.count(life);
            let is_wrong = |peer| self.hosts[self.index[peer]].life.is_none();
            let known = life.gossip.members().count() + 1;
            let wrong = life
                .gossip
                .members()
                .filter(|member| is_wrong(&member.peer));
            rest.wrong_members += known.abs_diff(rest.living) + wrong.count();
        }
        rest
    }

    pub(super) fn report(mut self, [start, evening, end]: [Rest; 3]) -> DayReport {
        self.note("end", 0, self.facts.events);
        let copies: Vec<f64> = self.copies().map(|(_, copies)| copies).collect();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand tasks")]
        let tasks = copies.len().max(1) as f64;
        let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
        let facts = self.facts;
        DayReport {
            start,
            evening,
            end,
            virtual_s: seconds(self.now),
            wishes: facts.wishes,
            got: facts.got,
            failed: facts.failed,
            cancelled: facts.cancelled,
            died: facts.died,
            slowest_s: seconds(facts.slowest_us),
            crashes: facts.crashes,
            farewells: facts.farewells,
            returns: facts.returns,
            newcomers: facts.newcomers,
            evictions: facts.evictions,
            copies: copies.iter().sum::<f64>() / tasks,
            most_copies: copies.iter().copied().fold(0.0, f64::max),
            longest_burst: facts.longest_burst,
            most_waiting: facts.most_waiting,
            most_slots: facts.most_slots,
            events: facts.events,
            violations: facts.violations,
            trace_hash: self.trace.finalize().to_hex()[..16].to_owned(),
        }
    }
}
