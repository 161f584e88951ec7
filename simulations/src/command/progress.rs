//! A line on stderr for those who wait for a long run.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Where a line replaces the one before it.
const ON_A_TERMINAL: Pace = Pace {
    first: Duration::from_secs(1),
    every: Duration::from_secs(1),
};
/// Where each line stays: short runs say nothing.
const IN_A_LOG: Pace = Pace {
    first: Duration::from_secs(5),
    every: Duration::from_secs(10),
};

struct Pace {
    first: Duration,
    every: Duration,
}

/// Tells how far one run is.
pub(super) struct Line {
    run: String,
    terminal: bool,
    began: Instant,
    /// The next line is due so long after the beginning.
    due: Duration,
    shown: bool,
}

#[expect(
    clippy::disallowed_methods,
    reason = "people wait in real time; the world is told nothing of it"
)]
fn now() -> Instant {
    Instant::now()
}

impl Line {
    /// `run` says which run it is, where there are several.
    pub(super) fn of(run: String) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let pace = if terminal { ON_A_TERMINAL } else { IN_A_LOG };
        Self {
            run,
            terminal,
            began: now(),
            due: pace.first,
            shown: false,
        }
    }

    pub(super) fn show(&mut self, progress: &impl Display) {
        let elapsed = now().duration_since(self.began);
        if elapsed < self.due {
            return;
        }
        let pace = if self.terminal {
            ON_A_TERMINAL
        } else {
            IN_A_LOG
        };
        self.due = elapsed + pace.every;
        self.shown = true;
        let line = format!("{}{progress}, after {} s", self.run, elapsed.as_secs());
        if self.terminal {
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
    }
}

impl Drop for Line {
    /// Leaves the terminal as it was.
    fn drop(&mut self) {
        if self.terminal && self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
