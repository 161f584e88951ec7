//! What can be tuned.

use std::time::Duration;

/// How the machine behaves. The numbers of SWIM that depend on the cluster's size (transmissions,
/// patience with a suspect, pace of the push/pulls) are derived from it while it grows. Values that
/// nothing could work with are replaced by the nearest that work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often a random member is probed. Default: 1.5 s. Equal on all nodes, or they detect deaths
    /// at different times.
    pub probe_period: Duration,
    /// How long to wait for a probe's answer before others are asked to probe. Default: 500 ms.
    /// At most half of `probe_period`: the others need the rest of it.
    pub probe_rtt: Duration,
    /// How often news are passed on while there are any. Default: 200 ms.
    pub gossip_period: Duration,
    /// How often the node asks for a push/pull, in clusters of up to 32 nodes; above, it grows with
    /// the logarithm of their number. Default: 60 s.
    pub sync_period: Duration,
    /// How often a member that is down is tried again, so that partitions heal. Default: 30 s.
    pub reconnect_period: Duration,
    /// How long the slots of a member that is down are kept. Default: 5 min.
    pub keep_slots_of_down: Duration,
    /// How long members that are down are remembered. Default: 24 h.
    pub remember_down: Duration,
    /// How long withdrawn slots and removals are remembered. Default: 24 h.
    pub keep_tombstones: Duration,
    /// Events that this node may publish per second, beyond `publish_burst`. Default: 5.
    pub publish_per_second: u32,
    /// Events that this node may publish at once. Default: 20.
    pub publish_burst: u32,
    /// How long a write of an own slot waits for a newer one to replace it. Default: 200 ms.
    pub coalesce: Duration,
}

/// Shorter periods than this would keep a node busy with itself.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

impl Config {
    /// The same without values that nothing could work with: no period is shorter than 10 ms, and a
    /// probe's first half ends before its second.
    pub(crate) fn workable(self) -> Self {
        let probe_period = self.probe_period.max(SHORTEST_PERIOD);
        Self {
            probe_period,
            probe_rtt: self.probe_rtt.clamp(probe_period / 10, probe_period / 2),
            gossip_period: self.gossip_period.max(SHORTEST_PERIOD),
            sync_period: self.sync_period.max(SHORTEST_PERIOD),
            reconnect_period: self.reconnect_period.max(SHORTEST_PERIOD),
            ..self
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(1500),
            probe_rtt: Duration::from_millis(500),
            gossip_period: Duration::from_millis(200),
            sync_period: Duration::from_mins(1),
            reconnect_period: Duration::from_secs(30),
            keep_slots_of_down: Duration::from_mins(5),
            remember_down: Duration::from_hours(24),
            keep_tombstones: Duration::from_hours(24),
            publish_per_second: 5,
            publish_burst: 20,
            coalesce: Duration::from_millis(200),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_works_as_it_is() {
        assert_eq!(Config::default().workable(), Config::default());
    }

    #[test]
    fn nothing_runs_without_a_pause() {
        let zero = Duration::ZERO;
        let config = Config {
            probe_period: zero,
            probe_rtt: Duration::MAX,
            gossip_period: zero,
            sync_period: zero,
            reconnect_period: zero,
            ..Config::default()
        };
        let config = config.workable();
        assert_eq!(config.probe_period, SHORTEST_PERIOD);
        assert_eq!(config.probe_rtt, SHORTEST_PERIOD / 2);
        assert_eq!(config.reconnect_period, SHORTEST_PERIOD);
    }
}
