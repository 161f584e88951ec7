//! Local callers: what they want, how they wait, and how they leave.

use std::time::Duration;

use dfnode_tracker::{Part, TaskEvent, TaskId, Tracker as _, Wish};

use super::host::Wishing;
use super::{Cluster, Happening};

/// This share of the wishes is for a part …
const PARTS: f64 = 0.15;
/// … and this share is given up …
const CANCELS: f64 = 0.1;
/// … after so long, µs.
const PATIENCE_US: (u64, u64) = (1_000, 5_000_000);
/// Who waits longer than this waits in vain.
const TOO_LONG: Duration = Duration::from_mins(2);

impl Cluster {
    /// Somebody wants a task, or a part of it.
    pub(super) fn wants(&mut self, task: usize) {
        let (now, clock) = (self.now, self.clock());
        let Some(host) = self.somebody(|life| life.ready) else {
            return;
        };
        let (part, id, number) = (self.part_of(task), self.tasks[task].id, self.number());
        let cancels = self.chance.share() < CANCELS;
        let patience = Duration::from_micros(self.chance.between(PATIENCE_US.0, PATIENCE_US.1));
        let Some(life) = self.alive(host) else { return };
        if life.wishes.contains_key(&id) {
            return;
        }
        life.wishes.insert(
            id,
            Wishing {
                number,
                part,
                since: now,
                current: false,
            },
        );
        let wish = Wish {
            can_read: true,
            credentialed: false,
            named: None,
            seen: None,
            max_age: Duration::from_mins(1),
            part,
        };
        life.tracker.register(clock, id, wish);
        self.facts.wishes += 1;
        self.note("wish", host, number);
        let wish = number;
        self.later(
            TOO_LONG,
            Happening::Overdue {
                host,
                task: id,
                wish,
            },
        );
        if cancels {
            self.later(
                patience,
                Happening::Cancels {
                    host,
                    task: id,
                    wish,
                },
            );
        }
        self.drain(host);
    }

    fn part_of(&mut self, task: usize) -> Option<Part> {
        let bytes = self.tasks[task].bytes;
        let wanted = self.chance.share() < PARTS;
        let first = self.chance.below(bytes);
        let last = first + self.chance.below(bytes - first);
        wanted.then_some((first, Some(last)))
    }

    /// News of a task for whoever waits for it.
    pub(super) fn task_news(&mut self, host: usize, task: TaskId, event: TaskEvent) {
        match event {
            TaskEvent::Meta(meta) => {
                let now = self.now;
                self.hosts[host].store.reserve(now, task, meta);
            }
            TaskEvent::Current => {
                let wishing = self.alive(host).and_then(|life| life.wishes.get_mut(&task));
                if let Some(wishing) = wishing {
                    wishing.current = true;
                }
                self.look_at_part(host, task);
            }
            TaskEvent::Restarted => {
                self.violation(&format!("host {host} begins anew: no source changed"));
            }
            TaskEvent::Complete => self.completes(host, task),
            TaskEvent::Alone | TaskEvent::NotAlone => {}
            TaskEvent::Failed(failure) => {
                self.facts.failed += 1;
                self.violation(&format!("host {host} fails: {failure}"));
                self.leaves_task(host, task);
            }
        }
    }

    /// The machine says that it has everything: it must be so.
    fn completes(&mut self, host: usize, task: TaskId) {
        if !self.holds(host, task, None) {
            self.violation(&format!("host {host} says it is complete and is not"));
        }
        self.gets(host, task);
    }

    /// Whoever wants a part has it once its blocks are here and current.
    pub(super) fn look_at_part(&mut self, host: usize, task: TaskId) {
        let wishing = self.alive(host).and_then(|life| life.wishes.get(&task));
        let Some((part, true)) = wishing.map(|wishing| (wishing.part, wishing.current)) else {
            return;
        };
        if part.is_some() && self.holds(host, task, part) {
            self.gets(host, task);
        }
    }

    fn holds(&self, host: usize, task: TaskId, part: Option<Part>) -> bool {
        let mut blocks = self.tasks[self.by_id[&task]].blocks_of(part);
        let stored = self.hosts[host].store.get(&task);
        stored.is_some_and(|stored| {
            blocks.all(|block| stored.have.contains(dfnode_tracker::BlockIndex(block)))
        })
    }

    fn gets(&mut self, host: usize, task: TaskId) {
        let now = self.now;
        let since = self
            .alive(host)
            .and_then(|life| life.wishes.get(&task))
            .map(|wishing| wishing.since);
        if let Some(since) = since {
            self.facts.got += 1;
            self.facts.slowest_us = self.facts.slowest_us.max(now - since);
            self.note("got", host, now - since);
            self.leaves_task(host, task);
        }
    }

    /// The caller leaves; whoever calls this drains the machines.
    fn leaves_task(&mut self, host: usize, task: TaskId) {
        let (now, clock) = (self.now, self.clock());
        let Some(life) = self.alive(host) else { return };
        if life.wishes.remove(&task).is_some() {
            life.tracker.service_down(clock, &task);
            self.hosts[host].store.touch(now, &task);
        }
    }

    fn still_wants(&mut self, host: usize, task: &TaskId, wish: u64) -> bool {
        self.alive(host)
            .and_then(|life| life.wishes.get(task))
            .is_some_and(|wishing| wishing.number == wish)
    }

    /// A caller loses patience.
    pub(super) fn cancels(&mut self, host: usize, task: TaskId, wish: u64) {
        if self.still_wants(host, &task, wish) {
            self.facts.cancelled += 1;
            self.note("cancel", host, wish);
            self.leaves_task(host, task);
            self.drain(host);
        }
    }

    /// By now a wish must have come true, or somebody must have said why it did not.
    pub(super) fn overdue(&mut self, host: usize, task: TaskId, wish: u64) {
        if self.still_wants(host, &task, wish) {
            self.violation(&format!("host {host} waits in vain for {}", task.short()));
            self.leaves_task(host, task);
            self.drain(host);
        }
    }
}
