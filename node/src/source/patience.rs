//! When to give a source up.

use std::time::Duration;

use dfnode_tracker::SourceFailure;

/// How long a source may keep us waiting. What our own receivers and limits take does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection. Default: 5 s.
    pub connect: Duration,
    /// From the request to the head of its answer. Default: 30 s.
    pub answer: Duration,
    /// For the next byte of a body. Default: 10 s.
    pub silence: Duration,
    /// The time over which the rate is judged. Default: 10 s.
    pub window: Duration,
    /// The least rate in a window. Default: 64 KB/s.
    pub floor_bytes_per_sec: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(10),
            window: Duration::from_secs(10),
            floor_bytes_per_sec: 64_000,
        }
    }
}

/// Judges the rate of a body by the time that was spent waiting for it.
#[derive(Debug)]
pub(super) struct Meter {
    patience: Patience,
    waited: Duration,
    bytes: u64,
}

impl Meter {
    pub(super) const fn new(patience: Patience) -> Self {
        Self {
            patience,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// `bytes` came after waiting so long.
    pub(super) fn add(
        &mut self,
        waited: Duration,
        bytes: usize,
        host: &str,
    ) -> Result<(), SourceFailure> {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < self.patience.window {
            return Ok(());
        }
        let floor = u128::from(self.patience.floor_bytes_per_sec) * self.waited.as_millis() / 1000;
        let is_slow = u128::from(self.bytes) < floor;
        let seconds = self.waited.as_secs_f32();
        let bytes = std::mem::take(&mut self.bytes);
        self.waited = Duration::ZERO;
        if is_slow {
            let what = format!("{host} is too slow: {bytes} bytes in {seconds:.1} s");
            return Err(SourceFailure::Transient { what });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_window_below_the_floor_is_too_slow() {
        let second = Duration::from_secs(1);
        let mut meter = Meter::new(Patience::default());
        for _ in 0..100 {
            meter.add(second, 64_000, "h").expect("at the floor");
        }
        let judged: Vec<bool> = (0..10)
            .map(|_| meter.add(second, 63_000, "h").is_ok())
            .collect();
        assert_eq!(
            judged,
            [true, true, true, true, true, true, true, true, true, false]
        );
        meter.add(second, 0, "h").expect("a new window");
    }
}
