//! Links that share fairly: each transfer gets the smaller of its sender's and its receiver's share.

use std::collections::{BTreeMap, BTreeSet};

/// One host's place in the network; the source is one too.
pub(crate) type Host = usize;
/// Names a transfer; never used twice.
pub(crate) type FlowId = u64;

#[derive(Debug)]
struct Port {
    bytes_per_sec: f64,
    flows: BTreeSet<FlowId>,
}

#[derive(Debug)]
pub(crate) struct Flow {
    from: Host,
    to: Host,
    left: f64,
    rate: f64,
    updated: u64,
    /// Which of the announced ends of this flow is still true.
    pub(crate) edition: u32,
}

/// Every host's two directions, and what runs over them.
#[derive(Debug, Default)]
pub(crate) struct Links {
    up: Vec<Port>,
    down: Vec<Port>,
    flows: BTreeMap<FlowId, Flow>,
    next: FlowId,
}

impl Links {
    pub(crate) fn add_host(&mut self, up_bytes_per_sec: f64, down_bytes_per_sec: f64) -> Host {
        self.up.push(Port {
            bytes_per_sec: up_bytes_per_sec,
            flows: BTreeSet::new(),
        });
        self.down.push(Port {
            bytes_per_sec: down_bytes_per_sec,
            flows: BTreeSet::new(),
        });
        self.up.len() - 1
    }

    pub(crate) fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(&id)
    }

    /// Starts a transfer. `changed` receives the new end of every flow whose rate changed: (flow, edition, µs).
    pub(crate) fn start(
        &mut self,
        now: u64,
        from: Host,
        to: Host,
        bytes: u64,
        changed: &mut Vec<(FlowId, u32, u64)>,
    ) -> FlowId {
        self.next += 1;
        let id = self.next;
        #[expect(clippy::cast_precision_loss, reason = "a block is a few MiB")]
        let left = bytes as f64;
        self.flows.insert(
            id,
            Flow {
                from,
                to,
                left,
                rate: 0.0,
                updated: now,
                edition: 0,
            },
        );
        self.up[from].flows.insert(id);
        self.down[to].flows.insert(id);
        self.share(now, from, to, changed);
        id
    }

    /// Ends a transfer, done or not.
    pub(crate) fn end(&mut self, now: u64, id: FlowId, changed: &mut Vec<(FlowId, u32, u64)>) {
        let Some(flow) = self.flows.remove(&id) else {
            return;
        };
        self.up[flow.from].flows.remove(&id);
        self.down[flow.to].flows.remove(&id);
        self.share(now, flow.from, flow.to, changed);
    }

    fn share(&mut self, now: u64, from: Host, to: Host, changed: &mut Vec<(FlowId, u32, u64)>) {
        let touched: BTreeSet<FlowId> = self.up[from]
            .flows
            .union(&self.down[to].flows)
            .copied()
            .collect();
        for id in touched {
            let Some(flow) = self.flows.get_mut(&id) else {
                continue;
            };
            #[expect(
                clippy::cast_precision_loss,
                reason = "micros of minutes, and a handful of flows"
            )]
            let (passed, up_flows, down_flows) = (
                (now - flow.updated) as f64 / 1e6,
                self.up[flow.from].flows.len() as f64,
                self.down[flow.to].flows.len() as f64,
            );
            flow.left = (flow.left - flow.rate * passed).max(0.0);
            flow.updated = now;
            let rate = (self.up[flow.from].bytes_per_sec / up_flows)
                .min(self.down[flow.to].bytes_per_sec / down_flows);
            if (rate - flow.rate).abs() < f64::EPSILON * rate {
                continue;
            }
            flow.rate = rate;
            flow.edition += 1;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive time of minutes"
            )]
            let lasts = (flow.left / rate * 1e6).ceil() as u64;
            changed.push((id, flow.edition, now + lasts));
        }
    }
}
