//! How far a download is, on stderr: a bar on a terminal, else a line now and then.

use std::io::{self, IsTerminal};
use std::time::Duration;

use dfnode_gossip::Now;
use dfnode_node::get::GetProgress;
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::say;

/// Between two lines where there is no terminal.
const LINE_PERIOD: Duration = Duration::from_secs(10);

/// Draws of the bar in a second, at most.
const DRAWS_PER_SEC: u8 = 10;

/// What the bar shows.
const BAR: &str =
    "{wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta} {msg}";

/// What it shows while nobody knows the length.
const SPINNER: &str = "{spinner} {binary_bytes} {binary_bytes_per_sec} {msg}";

/// Shows progress, one way or another.
#[derive(Debug)]
pub(super) enum Progress {
    /// Not at all.
    Quiet,
    /// On a terminal.
    Bar(ProgressBar),
    /// As lines.
    Lines(Lines),
}

/// When the next line is due, and what it says about the rate.
#[derive(Debug)]
pub(super) struct Lines {
    last: Now,
    bytes_before: u64,
}

impl Progress {
    /// The way that suits stderr.
    pub(super) fn new(quiet: bool, now: Now) -> Self {
        if quiet {
            Self::Quiet
        } else if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(
                None,
                ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SEC),
            );
            Self::Bar(bar.with_style(style(SPINNER)))
        } else {
            Self::Lines(Lines {
                last: now,
                bytes_before: 0,
            })
        }
    }

    /// Shows `progress`.
    pub(super) fn show(&mut self, progress: &GetProgress, now: Now) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => draw(bar, progress),
            Self::Lines(lines) => lines.show(progress, now),
        }
    }

    /// Says something to the user, above the bar if there is one.
    pub(super) fn note(&self, what: &str) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => bar.suspend(|| say::note(what)),
            Self::Lines(_) => say::note(what),
        }
    }

    /// Clears the bar away; `line` is the last word.
    pub(super) fn end(&self, line: Option<&str>) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
        match (self, line) {
            (Self::Bar(_) | Self::Lines(_), Some(line)) => say::note(line),
            (Self::Quiet, _) | (_, None) => {}
        }
    }
}

fn draw(bar: &ProgressBar, progress: &GetProgress) {
    if bar.length() != progress.length
        && let Some(length) = progress.length
    {
        bar.set_length(length);
        bar.set_style(style(BAR));
    }
    bar.set_message(split(progress));
    bar.set_position(progress.done_bytes);
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; a wrong one would show in the test below.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Lines {
    fn show(&mut self, progress: &GetProgress, now: Now) {
        let passed = now.saturating_since(self.last);
        if passed < LINE_PERIOD {
            return;
        }
        let bytes = progress.done_bytes.saturating_sub(self.bytes_before);
        let rate = BinaryBytes(bytes / passed.as_secs());
        let whole = progress
            .length
            .map(|length| format!(" of {}", BinaryBytes(length)))
            .unwrap_or_default();
        say::note(format!(
            "{}{whole}, {rate}/s, {}",
            BinaryBytes(progress.done_bytes),
            split(progress)
        ));
        self.bytes_before = progress.done_bytes;
        self.last = now;
    }
}

/// Where the bytes came from, in hundredths.
fn split(progress: &GetProgress) -> String {
    let whole = progress.done_bytes.max(1);
    let share = |bytes: u64| bytes.saturating_mul(100) / whole;
    format!(
        "peers {}% source {}% cache {}% ({} peers)",
        share(progress.from_peers),
        share(progress.from_source),
        share(progress.from_cache),
        progress.peers
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_sound() {
        for template in [BAR, SPINNER] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn the_split_is_of_what_is_there() {
        let progress = GetProgress {
            done_bytes: 200,
            from_peers: 100,
            from_source: 50,
            from_cache: 50,
            peers: 3,
            ..GetProgress::default()
        };
        assert_eq!(split(&progress), "peers 50% source 25% cache 25% (3 peers)");
        assert_eq!(
            split(&GetProgress::default()),
            "peers 0% source 0% cache 0% (0 peers)"
        );
    }
}
