//! Numbers as people read them in a picture.

use crate::scenario::Scenario;

/// `1,000`.
pub(super) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number without zeros at its end, in the unit whose name it gets.
fn in_units(number: u64, units: [(u64, &str); 3]) -> String {
    let [.., smallest] = units;
    let (unit, name) = units
        .into_iter()
        .find(|(unit, _)| number >= *unit)
        .unwrap_or(smallest);
    #[expect(clippy::cast_precision_loss, reason = "sizes and rates far below 2^53")]
    let number = number as f64 / unit as f64;
    format!("{} {name}", (number * 100.0).round() / 100.0)
}

pub(super) fn bytes(number: u64) -> String {
    in_units(
        number,
        [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")],
    )
}

fn rate(bits_per_sec: u64) -> String {
    in_units(
        bits_per_sec,
        [
            (1_000_000_000, "Gbit/s"),
            (1_000_000, "Mbit/s"),
            (1_000, "kbit/s"),
        ],
    )
}

/// What a picture is of, but for the number of hosts.
pub(super) fn setting(scenario: &Scenario) -> String {
    format!(
        "{} to hosts of {} from a source of {}",
        bytes(scenario.file_bytes),
        rate(scenario.host_bits_per_sec),
        rate(scenario.source_bits_per_sec),
    )
}

#[cfg(test)]
mod tests {
    use super::{bytes, count, rate};

    #[test]
    fn numbers_are_grouped_and_get_a_unit() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(200_000_000), "200 MB");
        assert_eq!(bytes(12), "0.01 kB");
        assert_eq!(rate(2_500_000_000), "2.5 Gbit/s");
    }
}
