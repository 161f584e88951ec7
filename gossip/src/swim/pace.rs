//! How fast SWIM runs: by the cluster's size, and by how well we are ourselves.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{PeriodicParams, Timer};

use super::identity::Identity;
use crate::wire::MAX_SWIM_BYTES;
use crate::{Config, Now};

/// How many members news go to, and how many are asked to probe for us.
const FANOUT: NonZeroUsize = NonZeroUsize::new(3).expect("three");
/// How many of the dead are tried at a time.
const RECONNECTS: NonZeroUsize = NonZeroUsize::new(2).expect("two");
/// Transmissions of each piece of news by each node, per decimal digit of the cluster's size.
const TRANSMISSIONS_PER_DIGIT: usize = 4;
/// A suspect's time to clear itself, per decimal digit of the cluster's size and probe period.
const PATIENCE: f64 = 8.0 / 3.0;

/// How often each node passes a piece of news on in a cluster of `size`:
/// 4·⌈log10(size + 1)⌉.
pub(crate) fn transmissions(size: usize) -> u8 {
    let mut digits = 1;
    let mut reach: usize = 10;
    while reach < size.saturating_add(1) {
        digits += 1;
        reach = reach.saturating_mul(10);
    }
    u8::try_from(TRANSMISSIONS_PER_DIGIT * digits).unwrap_or(u8::MAX)
}

/// How long a suspect may take to clear itself in a cluster of `size`.
///
/// Counted in tenths of a second, so that not every member that joins changes it.
pub(super) fn suspicion(config: &Config, size: usize) -> Duration {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    let digits = f64::from(size).log10().max(1.0);
    let tenths = (config.probe_period.as_secs_f64() * PATIENCE * digits * 10.0).ceil();
    Duration::from_secs_f64(tenths / 10.0)
}

/// foca's configuration in a cluster of `size`.
pub(super) fn foca_config(config: &Config, size: usize) -> foca::Config {
    foca::Config {
        probe_period: config.probe_period,
        probe_rtt: config.probe_rtt,
        num_indirect_probes: FANOUT,
        max_transmissions: NonZeroU8::new(transmissions(size)).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: suspicion(config, size),
        remove_down_after: Some(config.remember_down),
        max_packet_size: NonZeroUsize::new(MAX_SWIM_BYTES).unwrap_or(NonZeroUsize::MIN),
        notify_down_members: true,
        // The push/pulls do its work, reliably and for less.
        periodic_announce: None,
        periodic_announce_to_down_members: Some(PeriodicParams {
            frequency: config.reconnect_period,
            num_members: RECONNECTS,
        }),
        periodic_gossip: Some(PeriodicParams {
            frequency: config.gossip_period,
            num_members: FANOUT,
        }),
    }
}

/// How well this node itself is doing.
///
/// A node whose timers fire late, or whom others suspect, should doubt itself before it doubts
/// others: it probes and judges more slowly until it is well again (Lifeguard's local health
/// awareness).
#[derive(Debug, Default)]
pub(super) struct Awareness {
    /// Zero is healthy.
    score: u32,
    changed: Now,
}

impl Awareness {
    /// The highest score; all waits are at most this much plus one times as long.
    const MAX_SCORE: u32 = 2;
    /// A timer this late counts against us.
    const LATE: Duration = Duration::from_secs(1);
    /// Time without incident that takes one from the score, and time after one incident during
    /// which others do not add to it: they have the same cause.
    const RECOVERY: Duration = Duration::from_secs(10);

    pub(super) fn timer_was_late(&mut self, now: Now, late: Duration) {
        self.recover(now);
        if late > Self::LATE {
            self.worsen(now);
        }
    }

    pub(super) fn was_suspected(&mut self, now: Now) {
        self.recover(now);
        self.worsen(now);
    }

    /// How long to wait in place of `after`.
    pub(super) fn stretch(&self, timer: &Timer<Identity>, after: Duration) -> Duration {
        match timer {
            Timer::ProbeRandomMember(_)
            | Timer::SendIndirectProbe { .. }
            | Timer::ChangeSuspectToDown { .. } => after * (self.score + 1),
            Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_)
            | Timer::RemoveDown(_) => after,
        }
    }

    fn worsen(&mut self, now: Now) {
        let same_cause = self.score > 0 && now - self.changed < Self::RECOVERY / 4;
        if !same_cause {
            self.score = (self.score + 1).min(Self::MAX_SCORE);
        }
        self.changed = now;
    }

    fn recover(&mut self, now: Now) {
        if self.score > 0 && now - self.changed >= Self::RECOVERY {
            self.score -= 1;
            self.changed = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_passed_on_four_times_per_digit_of_the_size() {
        let expected = [
            (1, 4),
            (9, 4),
            (10, 8),
            (20, 8),
            (99, 8),
            (100, 12),
            (1000, 16),
            (10_000, 20),
        ];
        for (size, times) in expected {
            assert_eq!(transmissions(size), times, "at size {size}");
        }
        assert!(transmissions(usize::MAX) >= 76);
    }

    #[test]
    fn patience_grows_with_the_logarithm_of_the_size() {
        let config = Config::default();
        assert_eq!(suspicion(&config, 1), Duration::from_secs(4));
        assert_eq!(suspicion(&config, 10), Duration::from_secs(4));
        assert_eq!(suspicion(&config, 100), Duration::from_secs(8));
        assert_eq!(suspicion(&config, 10_000), Duration::from_secs(16));
    }

    #[test]
    fn a_node_that_is_unwell_waits_longer_and_recovers() {
        let mut awareness = Awareness::default();
        let second = Duration::from_secs(1);
        let wait = |awareness: &Awareness| awareness.stretch(&Timer::ProbeRandomMember(0), second);
        let at = |seconds: u64| Now::from_micros(seconds * 1_000_000);
        assert_eq!(wait(&awareness), second);
        awareness.timer_was_late(at(1), 2 * second);
        awareness.timer_was_late(at(2), 2 * second);
        assert_eq!(wait(&awareness), 2 * second, "one cause counts once");
        awareness.was_suspected(at(9));
        awareness.was_suspected(at(15));
        assert_eq!(wait(&awareness), 3 * second, "the score is bounded");
        awareness.timer_was_late(at(25), Duration::ZERO);
        awareness.timer_was_late(at(35), Duration::ZERO);
        assert_eq!(wait(&awareness), second);
        assert_eq!(
            awareness.stretch(&Timer::RemoveDown(nobody()), second),
            second
        );
    }

    fn nobody() -> Identity {
        Identity::new(crate::Member {
            peer: crate::PeerId::from_bytes([0; 32]),
            addrs: Vec::new(),
            generation: 0,
            labels: crate::Labels::default(),
        })
    }
}
