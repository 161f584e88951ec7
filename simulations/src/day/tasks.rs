//! The tasks of a day: how large, when, wanted by how many.

use std::time::Duration;

use dfnode_tracker::{BlockIndex, Layout, Part, TaskId};

use super::{Cluster, Happening};
use crate::world::micros;

/// The smallest and the largest file.
const FILE_BYTES: (u64, u64) = (4_000, 32_000_000);
/// The fewest and the most nodes that want a task at a time.
const CROWD: (u64, u64) = (2, 36);
/// Those who want a task come within this time.
const SPREAD_US: (u64, u64) = (1_000, 20_000_000);
/// This share of the tasks is wanted again …
const AGAIN: f64 = 0.25;
/// … so much later, …
const AGAIN_AFTER: Duration = Duration::from_mins(30);
/// … and at most so much later still.
const AGAIN_WITHIN: Duration = Duration::from_mins(330);

/// A task of the day.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) id: TaskId,
    pub(super) bytes: u64,
    pub(super) layout: Layout,
    /// How many want it at a time.
    pub(super) crowd: u64,
    /// Times that a crowd came.
    pub(super) rounds: u32,
    /// Body bytes that left the source.
    pub(super) read_bytes: u64,
}

impl Planned {
    fn new(seed: u64, number: u64, bytes: u64, crowd: u64) -> Self {
        let name = format!("day {seed}, task {number}");
        Self {
            id: TaskId::from_bytes(*blake3::hash(name.as_bytes()).as_bytes()),
            bytes,
            layout: Layout::of_length(bytes).expect("a file that can be cut"),
            crowd,
            rounds: 0,
            read_bytes: 0,
        }
    }

    pub(super) fn block_bytes(&self, block: BlockIndex) -> u64 {
        let range = self.layout.range_of(block);
        range.end - range.start
    }

    /// The blocks that a part touches; all of them for the whole.
    pub(super) fn blocks_of(&self, part: Option<Part>) -> std::ops::Range<u32> {
        let blocks = self.layout.blocks().unwrap_or(0);
        let Some((first, last)) = part else {
            return 0..blocks;
        };
        let at = |byte: u64| self.layout.block_at(byte).map_or(blocks, |block| block.0);
        at(first)..last.map_or(blocks, |last| at(last) + 1).min(blocks)
    }
}

/// What is counted on the way.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) events: u64,
    pub(super) wishes: u64,
    pub(super) got: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) died: u64,
    pub(super) slowest_us: u64,
    pub(super) crashes: u64,
    pub(super) farewells: u64,
    pub(super) returns: u64,
    pub(super) newcomers: u64,
    pub(super) evictions: u64,
    pub(super) longest_burst: usize,
    pub(super) most_waiting: usize,
    pub(super) most_slots: usize,
    pub(super) violations: Vec<String>,
}

impl Cluster {
    /// Puts so many tasks on the agenda, to start in this time.
    pub(super) fn plan_tasks(&mut self, begin: Duration, length: Duration, count: u64) {
        let (begin, length) = (micros(begin), micros(length));
        for _ in 0..count {
            let number = self.tasks.len() as u64;
            let bytes = self.chance.between(FILE_BYTES.0, FILE_BYTES.1);
            let most = CROWD.1.min(self.day.nodes as u64);
            let crowd = self.chance.between(CROWD.0, most);
            let planned = Planned::new(self.day.seed, number, bytes, crowd);
            let task = self.tasks.len();
            self.by_id.insert(planned.id, task);
            self.tasks.push(planned);
            let first = begin + self.chance.below(length);
            self.at(first, Happening::Round { task });
            let again = self.chance.share() < AGAIN;
            let pause = micros(AGAIN_AFTER) + self.chance.below(micros(AGAIN_WITHIN));
            if again && first + pause < begin + length {
                self.at(first + pause, Happening::Round { task });
            }
        }
    }

    /// A crowd comes for a task.
    pub(super) fn round(&mut self, task: usize) {
        self.tasks[task].rounds += 1;
        let within = self.chance.between(SPREAD_US.0, SPREAD_US.1);
        for _ in 0..self.tasks[task].crowd {
            let wait = Duration::from_micros(self.chance.below(within));
            self.later(wait, Happening::Wants { task });
        }
    }
}
