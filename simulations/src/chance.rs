//! Chance from a seed: equal seeds, equal worlds.

/// `SplitMix64`: uniform, fast, and good enough to draw lots with.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0 when `end` is 0.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        let number = self.draw();
        if end == 0 { 0 } else { number % end }
    }

    /// A share of 1, evenly.
    pub(crate) const fn share(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
        let share = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        share
    }

    /// A number between two others, small ones as likely as great ones: each doubling has the same share.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size drawn by lot, far below 2^53"
        )]
        let drawn = (least as f64 * (most as f64 / least as f64).powf(self.share())) as u64;
        drawn.clamp(least, most)
    }
}
