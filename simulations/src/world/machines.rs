//! What the machines of a node want done.

use std::time::Duration;

use dfnode_gossip::Gossip;
use dfnode_tracker::{Output, TaskEvent, Tracker as _, Wish};
use ed25519_dalek::Signer as _;

use super::{Cargo, Happening, World};

impl World {
    pub(super) fn drain(&mut self, index: usize) {
        if !self.nodes[index].alive {
            return;
        }
        loop {
            if let Some(output) = self.nodes[index].tracker.poll_output() {
                self.perform(index, output);
            } else if let Some(output) = self.nodes[index]
                .gossip
                .as_mut()
                .and_then(Gossip::poll_output)
            {
                self.perform_gossip(index, output);
            } else {
                break;
            }
        }
        if let Some(deadline) = self.nodes[index].deadline() {
            let due = deadline.as_micros().max(self.now);
            if self.nodes[index].timer.is_none_or(|at| at > due) {
                self.nodes[index].timer = Some(due);
                self.at(due, Happening::Timer { node: index });
            }
        }
    }

    fn perform(&mut self, index: usize, output: Output) {
        let now = self.clock();
        match output {
            Output::Send { to, message } => self.send(index, to, &message),
            Output::Connect { peer } => self.connect(index, peer.peer),
            Output::ReadSource { lease, .. } => self.read_source(index, lease),
            Output::StopSource { lease, .. } => {
                if let Some(flow) = self.nodes[index]
                    .reads
                    .remove(&lease)
                    .and_then(|read| read.flow)
                {
                    self.stop_flow(flow);
                }
            }
            Output::SendBlock { to, block, .. } => {
                let Some(taker) = self.index.get(&to).copied() else {
                    return;
                };
                if self.nodes[taker].alive {
                    let cargo = Cargo::Block {
                        from: index,
                        to: taker,
                        block,
                    };
                    let flow = self.start_flow(index, taker, self.block_bytes(block), cargo);
                    self.nodes[index].sending.insert((to, block), flow);
                }
            }
            Output::StopSend { to, block, .. } => {
                if let Some(flow) = self.nodes[index].sending.remove(&(to, block)) {
                    self.stop_flow(flow);
                }
            }
            Output::StopReceive { .. } | Output::KeepBatch { .. } => {}
            Output::Keep { block, origin, .. } => {
                let genuine = self.nodes[index]
                    .parked
                    .remove(&(block, origin))
                    .unwrap_or(false);
                if !genuine {
                    self.wrong_blocks += 1;
                    self.nodes[index].wrong.insert(block);
                }
            }
            Output::Drop { block, origin, .. } => {
                self.nodes[index].parked.remove(&(block, origin));
            }
            Output::Sign { request, bytes } => {
                let signature = self.nodes[index].key.sign(&bytes).to_bytes();
                self.nodes[index]
                    .tracker
                    .handle_signature(now, request, signature);
            }
            Output::Publish {
                subject,
                kind,
                body,
            } => {
                if let Some(gossip) = self.nodes[index].gossip.as_mut() {
                    let _ = gossip.publish(now, subject, kind, body);
                }
            }
            Output::Task { event, .. } => {
                if event == TaskEvent::Complete {
                    self.note("done", index, 0);
                    self.nodes[index].finished.get_or_insert(now.as_micros());
                }
            }
            Output::Blame { .. } => self.isolations += 1,
        }
    }

    pub(super) fn starts(&mut self, node: usize) {
        let (now, task) = (self.clock(), self.task);
        if self.alive(node).is_none() {
            return;
        }
        self.note("start", node, 0);
        self.nodes[node].started = Some(self.now);
        let wish = Wish {
            can_read: true,
            credentialed: false,
            max_age: Duration::from_mins(1),
        };
        self.nodes[node].tracker.register(now, task, wish);
        self.drain(node);
    }

    pub(super) fn timer(&mut self, index: usize) {
        let now = self.clock();
        let Some(node) = self.alive(index) else {
            return;
        };
        if node.timer != Some(now.as_micros()) {
            // An earlier deadline came up in the meantime and has been served.
            return;
        }
        node.timer = None;
        if node.tracker.poll_timeout().is_some_and(|at| at <= now) {
            node.tracker.handle_timeout(now);
        }
        if let Some(gossip) = node.gossip.as_mut()
            && gossip.poll_timeout().is_some_and(|at| at <= now)
        {
            gossip.handle_timeout(now);
        }
        self.drain(index);
    }
}
