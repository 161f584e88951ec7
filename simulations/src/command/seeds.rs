//! Ranges of seeds as people write them.

use std::ops::Range;

/// Reads `1..20`, both included.
pub(super) fn parse(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("`{text}` is no range of seeds, such as 1..20");
    let (first, last) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.trim_start_matches('=').parse().map_err(|_| wrong());
    let (first, last): (u64, u64) = (number(first)?, number(last)?);
    let end = last.checked_add(1).ok_or_else(wrong)?;
    if first >= end {
        return Err(wrong());
    }
    Ok(first..end)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn both_ends_are_seeds() {
        assert_eq!(parse("1..3"), Ok(1..4));
        assert_eq!(parse("7..7"), Ok(7..8));
        assert!(parse("3..1").is_err());
        assert!(parse("3").is_err());
    }
}
