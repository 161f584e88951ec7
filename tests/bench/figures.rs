//! What a benchmark found, as a table and as JSON.

use std::fmt::Write as _;

use dfnode_node::limits::ByteSize;
use serde_json::{Map, Value, json};

/// A title, some facts about the run, and rows of equal columns.
pub(crate) struct Report {
    title: String,
    facts: Vec<(String, Value)>,
    columns: Vec<&'static str>,
    rows: Vec<(String, Vec<Option<f64>>)>,
}

impl Report {
    /// An empty report whose rows will have `columns`.
    pub(crate) fn new(title: String, columns: &[&'static str]) -> Self {
        Self {
            title,
            facts: Vec::new(),
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds something that holds for all rows.
    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.push((name.to_owned(), value.into()));
    }

    /// Adds a row; a column that does not apply is `None`.
    pub(crate) fn row(&mut self, name: &str, values: Vec<Option<f64>>) {
        assert_eq!(values.len(), self.columns.len());
        self.rows.push((name.to_owned(), values));
    }

    /// One JSON object.
    pub(crate) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, values)| {
            let cells = self
                .columns
                .iter()
                .zip(values)
                .map(|(column, value)| ((*column).to_owned(), json!(value)));
            let mut row: Map<_, _> = cells.collect();
            row.insert("name".to_owned(), json!(name));
            Value::Object(row)
        });
        json!({
            "title": self.title,
            "facts": self.facts.iter().cloned().collect::<Map<_, _>>(),
            "rows": rows.collect::<Vec<_>>(),
        })
    }

    /// A table in Markdown.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for (name, value) in &self.facts {
            writeln!(text, "  {name}: {value}").unwrap();
        }
        writeln!(text, "\n| | {} |", self.columns.join(" | ")).unwrap();
        writeln!(text, "|---|{}", "---:|".repeat(self.columns.len())).unwrap();
        for (name, values) in &self.rows {
            let cells: Vec<_> = values
                .iter()
                .map(|value| value.map_or_else(|| "-".to_owned(), short))
                .collect();
            writeln!(text, "| {name} | {} |", cells.join(" | ")).unwrap();
        }
        text
    }
}

/// Three decimals for small numbers, none for big ones.
fn short(value: f64) -> String {
    if value.abs() < 100.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.0}")
    }
}

/// The middle value; of an even number, the lower of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

/// A count as a float, for ratios.
#[expect(clippy::cast_precision_loss, reason = "counts of bytes below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// A size as the length of something in memory.
pub(crate) fn length(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap()
}
