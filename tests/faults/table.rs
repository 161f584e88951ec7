//! What came of each fault, as a table.

use std::fmt::Write as _;
use std::time::Duration;

use super::Fault;
use super::scene::Outcome;

pub(super) struct Row {
    name: &'static str,
    what: &'static str,
    finished: String,
    bytes: &'static str,
    copies: f64,
    last: Duration,
    late: Duration,
    isolated: String,
    /// What was promised and did not come.
    broken: Vec<String>,
}

impl Row {
    /// Compares what came with what was promised; `usual` is the time without a fault.
    pub(super) fn judge(
        fault: &Fault,
        outcome: Result<Outcome, String>,
        usual: Option<Duration>,
    ) -> Self {
        let mut row = Self {
            name: fault.name,
            what: fault.what,
            finished: String::new(),
            bytes: "",
            copies: 0.0,
            last: Duration::ZERO,
            late: Duration::ZERO,
            isolated: "-".to_owned(),
            broken: Vec::new(),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(said) => {
                row.broken.push(said);
                return row;
            }
        };
        let asked: Vec<_> = outcome.fared.iter().flatten().collect();
        let as_told = asked.iter().filter(|fared| fared.code == Some(fault.code));
        let wrong = |is_right: bool, is_absent: bool| {
            if fault.code == 0 {
                !is_right
            } else {
                !is_absent
            }
        };
        for fared in &asked {
            if fared.code != Some(fault.code) {
                row.broken.push(format!(
                    "{} ended with {:?}: {}",
                    fared.host, fared.code, fared.said
                ));
            } else if wrong(fared.is_right, fared.is_absent) {
                row.broken.push(format!("{} has wrong bytes", fared.host));
            }
        }
        let ended = if fault.code == 0 {
            "done".to_owned()
        } else {
            format!("told so, code {}", fault.code)
        };
        row.finished = format!("{} of {} {ended}", as_told.count(), asked.len());
        let is_wrong = asked
            .iter()
            .any(|fared| !fared.is_absent && !fared.is_right);
        row.bytes = if is_wrong { "WRONG" } else { "right" };
        row.last = asked
            .iter()
            .map(|fared| fared.took)
            .max()
            .unwrap_or_default();
        row.late = row.last.saturating_sub(usual.unwrap_or(row.last));
        row.copies = outcome.copies;
        if row.copies > fault.copies {
            row.broken
                .push(format!("{:.2} copies, not {:.2}", row.copies, fault.copies));
        }
        if row.late > fault.late {
            row.broken
                .push(format!("{:.1} s late", row.late.as_secs_f64()));
        }
        if fault.isolates {
            row.isolated = format!("peer-b, by {}", outcome.judges);
            if outcome.judges == 0 {
                row.broken.push("nobody isolates the liar".to_owned());
            }
        }
        if outcome.panics > 0 {
            row.broken
                .push(format!("{} nodes panicked", outcome.panics));
        }
        row
    }

    fn verdict(&self) -> &'static str {
        if self.broken.is_empty() {
            "holds"
        } else {
            "BROKEN"
        }
    }

    pub(super) fn in_a_line(&self) -> String {
        format!(
            "{}: {}, {}, {:.3} copies, {:.1} s ({:.1} s late), isolated: {} - {} {}",
            self.name,
            self.finished,
            self.bytes,
            self.copies,
            self.last.as_secs_f64(),
            self.late.as_secs_f64(),
            self.isolated,
            self.verdict(),
            self.broken.join("; ")
        )
    }
}

#[derive(Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    pub(super) fn push(&mut self, row: Row) {
        self.0.push(row);
    }

    /// How long it takes without a fault.
    pub(super) fn usual(&self) -> Option<Duration> {
        self.0.first().map(|row| row.last)
    }

    /// What does not hold.
    pub(super) fn red(&self) -> Vec<String> {
        let red = self.0.iter().filter(|row| !row.broken.is_empty());
        red.map(Row::in_a_line).collect()
    }

    /// In Markdown.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::from(
            "| fault | what happens | finishes | bytes | copies | last host, s | time lost, s | isolated | |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.0 {
            let written = writeln!(
                text,
                "| `{}` | {} | {} | {} | {:.2} | {:.1} | {:.1} | {} | {} |",
                row.name,
                row.what,
                row.finished,
                row.bytes,
                row.copies,
                row.last.as_secs_f64(),
                row.late.as_secs_f64(),
                row.isolated,
                row.verdict()
            );
            written.unwrap();
        }
        text
    }
}
