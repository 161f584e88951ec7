//! How many bytes may flow, and how fast.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dfnode_gossip::Now;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// The least burst of a bucket: one read of a socket must not wait in many small steps.
const MIN_BURST_BYTES: u64 = 64 * 1024;
/// A bucket's burst as a share of a second.
const BURSTS_PER_SEC: u64 = 20;
/// The same for a rate that is too low for [`MIN_BURST_BYTES`]: a fiftieth of what goes in ten seconds.
const SLOW_BURSTS_PER_SEC: u64 = 5;
/// Bytes that go at once through a limit: more would make a low rate uneven.
pub(crate) const SLICE_BYTES: usize = 16 * 1024;
/// The scale in which a bucket counts: one byte is this much at one byte per second.
const MICROS_PER_SEC: u128 = 1_000_000;

/// A number of bytes as people write it: `50G`, `64KiB`, `1.5GB`.
///
/// `K`, `M`, `G` and `T` (or `KB`, …) are powers of 1000, `KiB`, `MiB`, `GiB` and `TiB` powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

/// A number of bytes per second, written as a [`ByteSize`] with or without `/s`. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteRate(NonZeroU64);

/// Why a text is no number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseBytesError {
    /// It does not begin with a number.
    #[error("`{0}` does not begin with a number; write for example 10M, 1.5G or 64KiB")]
    Number(String),
    /// What follows the number is no unit.
    #[error(
        "`{0}` is no unit of bytes; use K, M, G, T (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024)"
    )]
    Unit(String),
    /// The number does not fit.
    #[error("`{0}` is too large")]
    TooLarge(String),
    /// A rate of nothing would never end.
    #[error("a limit must be above zero; leave it out for no limit")]
    Zero,
}

impl ByteRate {
    /// `bytes` per second.
    pub const fn per_sec(bytes: NonZeroU64) -> Self {
        Self(bytes)
    }

    /// Bytes per second.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for ByteSize {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit =
            unit_bytes(unit.trim()).ok_or_else(|| ParseBytesError::Unit(unit.trim().to_owned()))?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || part.contains('.') || (number.contains('.') && part.is_empty()) {
            return Err(ParseBytesError::Number(text.to_owned()));
        }
        let too_large = || ParseBytesError::TooLarge(text.to_owned());
        let whole: u128 = whole.parse().map_err(|_| too_large())?;
        let scale = 10_u128
            .checked_pow(u32::try_from(part.len()).map_err(|_| too_large())?)
            .ok_or_else(too_large)?;
        let part: u128 = if part.is_empty() {
            0
        } else {
            part.parse().map_err(|_| too_large())?
        };
        let bytes = whole
            .checked_mul(unit)
            .zip(part.checked_mul(unit))
            .and_then(|(whole, part)| whole.checked_add(part / scale))
            .ok_or_else(too_large)?;
        u64::try_from(bytes).map(Self).map_err(|_| too_large())
    }
}

fn unit_bytes(unit: &str) -> Option<u128> {
    let lower = unit.to_ascii_lowercase();
    let (base, letter) = match lower.strip_suffix("ib").or_else(|| lower.strip_suffix('i')) {
        Some(letter) if !letter.is_empty() => (1024_u128, letter),
        Some(_) => return None,
        None => (1000, lower.strip_suffix('b').unwrap_or(&lower)),
    };
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    Some(base.pow(power))
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 8] = [
            (1 << 40, "TiB"),
            (1_000_000_000_000, "TB"),
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "KB"),
        ];
        let exact = UNITS
            .iter()
            .find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match exact {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for ByteRate {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let size: ByteSize = text.strip_suffix("/s").unwrap_or(text).parse()?;
        NonZeroU64::new(size.0)
            .map(Self)
            .ok_or(ParseBytesError::Zero)
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize(self.get()))
    }
}

impl TryFrom<String> for ByteSize {
    type Error = ParseBytesError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl TryFrom<String> for ByteRate {
    type Error = ParseBytesError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ByteRate> for String {
    fn from(rate: ByteRate) -> Self {
        rate.to_string()
    }
}

/// Lets bytes go at a rate, exact to the byte over any span of time.
///
/// Who takes is served in order: each take is told when its bytes may go, and later takes wait behind it,
/// so nobody starves. Between any two moments at most `burst + rate × time` bytes are let go.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: ByteRate,
    burst: u64,
    /// When everything taken so far is paid for, in microseconds × rate: a whole number, so nothing is lost.
    paid_at: u128,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: ByteRate) -> Self {
        let least = MIN_BURST_BYTES.min(rate.get() / SLOW_BURSTS_PER_SEC);
        let burst = (rate.get() / BURSTS_PER_SEC).max(least).max(1);
        Self {
            rate,
            burst,
            paid_at: 0,
        }
    }

    /// Bytes that may go at once after a pause.
    pub const fn burst_bytes(&self) -> u64 {
        self.burst
    }

    /// Takes `bytes`, and says when they may go: `now` or later.
    pub fn take(&mut self, now: Now, bytes: u64) -> Now {
        let rate = u128::from(self.rate.get());
        let start = self.paid_at.max(u128::from(now.as_micros()) * rate);
        self.paid_at = start.saturating_add(u128::from(bytes) * MICROS_PER_SEC);
        let go_at = self
            .paid_at
            .saturating_sub(u128::from(self.burst) * MICROS_PER_SEC)
            .div_ceil(rate);
        now.max(Now::from_micros(u64::try_from(go_at).unwrap_or(u64::MAX)))
    }
}

/// A [`TokenBucket`] that several tasks share, or no limit at all.
#[derive(Debug, Clone, Default)]
pub struct Limiter(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    bucket: Mutex<TokenBucket>,
    origin: Instant,
}

impl Limiter {
    /// Lets everything go at once. The default.
    pub const fn unlimited() -> Self {
        Self(None)
    }

    /// Lets bytes go at `rate`. Uses the runtime's clock, so a test may pause it.
    pub fn new(rate: ByteRate) -> Self {
        Self(Some(Arc::new(Shared {
            bucket: Mutex::new(TokenBucket::new(rate)),
            origin: Instant::now(),
        })))
    }

    /// A limiter for an optional rate.
    pub fn of(rate: Option<ByteRate>) -> Self {
        rate.map_or_else(Self::unlimited, Self::new)
    }

    /// Whether this lets everything go at once.
    pub const fn is_unlimited(&self) -> bool {
        self.0.is_none()
    }

    /// Returns when `bytes` may go.
    ///
    /// # Cancel safety
    ///
    /// The bytes count as gone even when the future is dropped before it is ready.
    pub async fn take(&self, bytes: u64) {
        let wait = self.claim(bytes);
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// Takes `bytes` and says how long to wait before they go.
    pub fn claim(&self, bytes: u64) -> Duration {
        let Some(shared) = &self.0 else {
            return Duration::ZERO;
        };
        let micros = u64::try_from(shared.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let now = Now::from_micros(micros);
        shared
            .bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(now, bytes)
            - now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(text: &str) -> Result<u64, ParseBytesError> {
        text.parse::<ByteSize>().map(|size| size.0)
    }

    fn rate(bytes: u64) -> ByteRate {
        ByteRate::per_sec(NonZeroU64::new(bytes).expect("not zero"))
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(size("10M"), Ok(10_000_000));
        assert_eq!(size("40MB"), Ok(40_000_000));
        assert_eq!(size("1.5G"), Ok(1_500_000_000));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size(" 2 GiB "), Ok(2 << 30));
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("0.1KiB"), Ok(102));
        assert_eq!("8M/s".parse::<ByteRate>(), Ok(rate(8_000_000)));
    }

    #[test]
    fn what_is_no_size_says_why() {
        assert!(matches!(size(""), Err(ParseBytesError::Number(_))));
        assert!(matches!(size("fast"), Err(ParseBytesError::Unit(_))));
        assert!(matches!(size("1.2.3"), Err(ParseBytesError::Number(_))));
        assert!(matches!(size("10Mbit"), Err(ParseBytesError::Unit(unit)) if unit == "Mbit"));
        assert!(matches!(
            size("99999999999T"),
            Err(ParseBytesError::TooLarge(_))
        ));
        assert!(matches!(
            size("1.0000000000000000000000000000000000000001K"),
            Err(ParseBytesError::TooLarge(_))
        ));
        assert_eq!("0".parse::<ByteRate>(), Err(ParseBytesError::Zero));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limiter_lets_bytes_go_at_its_rate() {
        let limiter = Limiter::new(rate(1_000_000));
        let start = Instant::now();
        for _ in 0..40 {
            limiter.take(50_000).await;
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!((1.9..=2.0).contains(&seconds), "{seconds}");
        Limiter::unlimited().take(u64::MAX).await;
    }

    /// Several takers that always want more: what each of them got, and when.
    fn busy(bytes_per_sec: u64, chunks: &[u64], seconds: u64) -> Vec<(u64, usize, u64)> {
        let mut bucket = TokenBucket::new(rate(bytes_per_sec));
        let mut ready: Vec<(u64, usize)> = (0..chunks.len()).map(|taker| (0, taker)).collect();
        let mut gone = Vec::new();
        loop {
            ready.sort_unstable();
            let (now, taker) = ready[0];
            if now > seconds * 1_000_000 {
                return gone;
            }
            let at = bucket.take(Now::from_micros(now), chunks[taker]);
            gone.push((at.as_micros(), taker, chunks[taker]));
            ready[0].0 = at.as_micros();
        }
    }

    #[test]
    fn a_rate_is_kept_within_five_percent_over_any_ten_seconds() {
        for bytes_per_sec in [64_000, 1_000_000, 12_500_000, 125_000_000, 1_000_000_000] {
            for chunks in [
                vec![1400],
                vec![SLICE_BYTES as u64],
                vec![SLICE_BYTES as u64; 3],
            ] {
                let gone = busy(bytes_per_sec, &chunks, 25);
                for start in (0..15_000_000).step_by(700_000) {
                    let window = start..start + 10_000_000;
                    let within = gone.iter().filter(|(at, ..)| window.contains(at));
                    let bytes: u64 = within.map(|(.., bytes)| bytes).sum();
                    let off = bytes.abs_diff(bytes_per_sec * 10);
                    assert!(
                        off * 20 <= bytes_per_sec * 10,
                        "{bytes} bytes in ten seconds at {bytes_per_sec}/s from {start} on"
                    );
                }
            }
        }
    }

    #[test]
    fn takers_of_one_limit_get_equal_shares() {
        let slice = SLICE_BYTES as u64;
        let gone = busy(1_000_000, &[slice; 4], 20);
        let share = |taker| -> u64 {
            let own = gone.iter().filter(|(_, one, _)| *one == taker);
            own.map(|(.., bytes)| bytes).sum()
        };
        let shares: Vec<u64> = (0..4).map(share).collect();
        let spread = shares.iter().max().unwrap() - shares.iter().min().unwrap();
        // Who comes first takes the burst that has gathered; from then on they take turns.
        assert!(spread <= slice + MIN_BURST_BYTES, "{shares:?}");
    }

    proptest! {
        #[test]
        fn a_size_reads_back_what_it_writes(bytes: u64) {
            prop_assert_eq!(size(&ByteSize(bytes).to_string()), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<ByteRate>();
        }

        #[test]
        fn never_more_than_the_burst_and_the_rate_goes(
            per_sec in 1_u64..2_000_000_000,
            takes in proptest::collection::vec((0_u64..3_000_000, 0_u64..5_000_000), 1..60),
        ) {
            let mut bucket = TokenBucket::new(rate(per_sec));
            let (mut now, mut gone): (u64, Vec<(u64, u64)>) = (7, Vec::new());
            for (pause, bytes) in takes {
                now += pause;
                let go = bucket.take(Now::from_micros(now), bytes).as_micros();
                prop_assert!(go >= now);
                prop_assert!(gone.last().is_none_or(|(last, _)| *last <= go), "served in order");
                gone.push((go, bytes));
            }
            for first in 0..gone.len() {
                let mut sum = 0_u128;
                for (at, bytes) in &gone[first..] {
                    sum += u128::from(*bytes) * MICROS_PER_SEC;
                    let span = u128::from(at - gone[first].0 + 1);
                    // What goes at the first moment may have been waiting for it: one take beyond the burst.
                    let slack = u128::from(bucket.burst_bytes() + gone[first].1) * MICROS_PER_SEC;
                    prop_assert!(sum <= slack + span * u128::from(per_sec));
                }
            }
        }

        #[test]
        fn a_busy_bucket_wastes_nothing(per_sec in 1_000_u64..1_000_000_000, chunk in 1_u64..1_000_000) {
            let mut bucket = TokenBucket::new(rate(per_sec));
            let takes = 50;
            let last = (0..takes).map(|_| bucket.take(Now::from_micros(0), chunk)).last().expect("some");
            let due = (u128::from(chunk) * takes).saturating_sub(u128::from(bucket.burst_bytes())) * MICROS_PER_SEC;
            prop_assert_eq!(u128::from(last.as_micros()), due.div_ceil(u128::from(per_sec)));
        }
    }
}
