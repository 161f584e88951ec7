//! Columns that stand below each other.

use std::fmt::Write as _;

/// Between two columns.
const GAP: usize = 2;

/// Rows below a heading, each column as wide as its widest word. The last one is not padded.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let heading = heading.map(str::to_owned);
    let lines = || std::iter::once(&heading).chain(rows);
    let mut text = String::new();
    for line in lines() {
        for (column, word) in line.iter().enumerate() {
            if column + 1 == N {
                text.push_str(word);
            } else {
                let width = lines()
                    .map(|line| line[column].chars().count())
                    .max()
                    .unwrap_or_default();
                let _ = write!(text, "{word:<width$}{:GAP$}", "");
            }
        }
        while text.ends_with(' ') {
            text.pop();
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_word() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["longer".to_owned(), String::new()],
        ];
        assert_eq!(
            table(["NAME", "N"], &rows),
            "NAME    N\na       1\nlonger\n"
        );
    }
}
