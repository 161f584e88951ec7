//! The colours of a share, from nobody to everybody.

use plotters::style::RGBColor;

/// Pale to dark, as even to the eye as few colours can be; also without colours, the darker is the more.
const STOPS: [RGBColor; 6] = [
    RGBColor(247, 247, 243),
    RGBColor(199, 233, 180),
    RGBColor(101, 194, 189),
    RGBColor(38, 139, 188),
    RGBColor(34, 84, 162),
    RGBColor(8, 29, 88),
];
/// Different shades. Neighbours in one shade are one rectangle, which keeps a picture small.
const SHADES: f64 = 50.0;

/// The shade of a share of 1.
pub(super) fn of(share: f64) -> RGBColor {
    let share = (share.clamp(0.0, 1.0) * SHADES).round() / SHADES;
    let mut place = share * 5.0;
    for pair in STOPS.windows(2) {
        if let [from, to] = pair
            && place <= 1.0
        {
            return between(*from, *to, place);
        }
        place -= 1.0;
    }
    let [.., last] = STOPS;
    last
}

fn between(from: RGBColor, to: RGBColor, place: f64) -> RGBColor {
    let mix = |from: u8, to: u8| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between two bytes"
        )]
        let mixed = (f64::from(from) + (f64::from(to) - f64::from(from)) * place).round() as u8;
        mixed
    };
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

#[cfg(test)]
mod tests {
    use super::{STOPS, of};

    #[test]
    fn nobody_is_the_palest_shade_and_everybody_the_darkest() {
        assert_eq!(of(0.0), STOPS[0]);
        assert_eq!(of(1.0), STOPS[5]);
        assert_eq!(of(7.0), STOPS[5], "more than everybody is everybody");
    }
}
