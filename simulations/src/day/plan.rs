//! What is to happen on a day, and what came of it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// A cluster's day: tasks start, nodes come and go, caches forget; then all is quiet.
#[derive(Debug, Clone)]
pub struct Day {
    /// Nodes, about, at any time.
    pub nodes: usize,
    /// How long tasks start and nodes come and go.
    pub length: Duration,
    /// Different tasks.
    pub tasks: u64,
    /// Chance's seed.
    pub seed: u64,
    /// How long a node stays, on average.
    pub stay: Duration,
    /// How long a cache keeps what nobody uses.
    pub cache_ttl: Duration,
    /// Bytes that a cache holds; beyond, what was not used for longest goes.
    pub cache_bytes: u64,
    /// How long gossip remembers the dead and what was withdrawn. A node's default is 24 h.
    pub remember: Duration,
}

impl Default for Day {
    fn default() -> Self {
        Self {
            nodes: 300,
            length: Duration::from_hours(24),
            tasks: 1000,
            seed: 1,
            stay: Duration::from_hours(6),
            cache_ttl: Duration::from_hours(2),
            cache_bytes: 200_000_000,
            remember: Duration::from_hours(24),
        }
    }
}

/// What the machines of all living nodes have on their hands at a quiet moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rest {
    /// Nodes that live.
    pub living: usize,
    /// Members that nodes know too many or too few of.
    pub wrong_members: usize,
    /// Members that are remembered to be down.
    pub down: usize,
    /// Upload slots taken.
    pub uploads: usize,
    /// Download slots taken.
    pub downloads: usize,
    /// Reads of sources under way.
    pub reads: usize,
    /// Tasks that trackers know: sessions and registrations.
    pub tasks: usize,
    /// Neighbours of sessions.
    pub neighbours: usize,
    /// Tables that nodes keep as homes.
    pub tables: usize,
    /// Registrants in tables.
    pub registrants: usize,
    /// Leases in tables.
    pub leases: usize,
    /// Tasks of which gossip's holders are remembered.
    pub announced: usize,
    /// Peers accused or isolated.
    pub accused: usize,
    /// Slots of gossip's event index, tombstones included.
    pub slots: usize,
    /// Origins that are gone and not forgotten.
    pub gone: usize,
    /// Outputs, news and writes that wait.
    pub waiting: usize,
    /// Trackers that wait for a deadline.
    pub timers: usize,
    /// Links between nodes, as each end counts them.
    pub links: usize,
    /// Bytes of the heap, all nodes together and the world with them.
    pub heap_bytes: usize,
}

/// What came of a day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DayReport {
    /// Before the day, the cluster at rest.
    pub start: Rest,
    /// When the last task had started and the last node had come.
    pub evening: Rest,
    /// After the quiet.
    pub end: Rest,
    /// Virtual seconds, the quiet included.
    pub virtual_s: f64,
    /// Wishes for a task or a part of it.
    pub wishes: u64,
    /// Of these, got.
    pub got: u64,
    /// Told why not.
    pub failed: u64,
    /// Given up by the caller.
    pub cancelled: u64,
    /// Lost with their node.
    pub died: u64,
    /// The longest that a wish took, seconds.
    pub slowest_s: f64,
    /// Nodes that crashed.
    pub crashes: u64,
    /// Nodes that said farewell.
    pub farewells: u64,
    /// Nodes that came back.
    pub returns: u64,
    /// Nodes that nobody had known.
    pub newcomers: u64,
    /// Tasks that caches forgot.
    pub evictions: u64,
    /// Copies that left the sources for each round of wishes, on average.
    pub copies: f64,
    /// The most for one task.
    pub most_copies: f64,
    /// The most outputs that one input set off.
    pub longest_burst: usize,
    /// The most that waited in one gossip machine.
    pub most_waiting: usize,
    /// The most slots in one gossip machine.
    pub most_slots: usize,
    /// Things that happened.
    pub events: u64,
    /// What no correct machine may do, in words.
    pub violations: Vec<String>,
    /// Equal for equal runs.
    pub trace_hash: String,
}

/// How far a day is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DayProgress {
    /// Virtual time.
    pub passed: Duration,
    /// Virtual time in all.
    pub of: Duration,
    /// Wishes that came true.
    pub got: u64,
    /// Nodes that live.
    pub living: usize,
}

impl fmt::Display for DayProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |time: Duration| time.as_secs_f64() / 3600.0;
        write!(
            f,
            "{:.2} of {:.2} virtual hours, {} wishes came true, {} nodes live",
            hours(self.passed),
            hours(self.of),
            self.got,
            self.living
        )
    }
}
