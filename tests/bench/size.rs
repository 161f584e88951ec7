//! Sizes as people write them.

/// Reads `4096`, `64KiB`, `100MB`, `1GiB`.
pub(crate) fn parse(text: &str) -> Result<usize, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: usize = number
        .parse()
        .map_err(|_| format!("`{text}` is not a size"))?;
    let unit = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            return Err(format!(
                "`{unit}` is not a unit of size (B, kB, MB, GB, KiB, MiB, GiB)"
            ));
        }
    };
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("`{text}` is too big"))
}
