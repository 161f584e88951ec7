//! What the machines of a node want done.

use std::time::Duration;

use dfnode_gossip::{Gossip, PeerId};
use dfnode_tracker::{BlameReason, Output, TaskEvent, Tracker as _, Wish};
use ed25519_dalek::Signer as _;

use super::{Happening, World};
use crate::node::End;

impl World {
    pub(super) fn drain(&mut self, index: usize) {
        if !self.nodes[index].alive {
            return;
        }
        let mut burst = 0;
        loop {
            if let Some(output) = self.nodes[index].tracker.poll_output() {
                burst += 1;
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
        self.longest_burst = self.longest_burst.max(burst);
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
            Output::Send { to, message } => self.send(index, to, message),
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
            Output::SendBlock {
                to, version, block, ..
            } => self.send_block(index, to, version, block),
            Output::StopSend { to, block, .. } => {
                if let Some(flow) = self.nodes[index].sending.remove(&(to, block)) {
                    self.stop_flow(flow);
                }
            }
            Output::StopReceive { .. } | Output::KeepBatch { .. } => {}
            Output::Keep {
                version,
                block,
                origin,
                ..
            } => self.keep(index, version, block, origin),
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
            Output::Withdraw { subject, kind } => {
                if let Some(gossip) = self.nodes[index].gossip.as_mut() {
                    gossip.withdraw(now, subject, kind);
                }
            }
            Output::Task { event, .. } => self.task_news(index, event),
            Output::Blame { peer, reason } => self.blamed(index, &peer, reason),
        }
    }

    fn task_news(&mut self, index: usize, event: TaskEvent) {
        match event {
            TaskEvent::Meta(_) | TaskEvent::Current | TaskEvent::Alone | TaskEvent::NotAlone => {}
            TaskEvent::Restarted => {
                self.note("anew", index, 0);
                self.nodes[index].kept.clear();
                self.nodes[index].parked.clear();
            }
            TaskEvent::Complete => {
                self.completes(index);
                self.ends(index, End::Complete { at: self.now });
            }
            TaskEvent::Failed(failure) => {
                let why = failure.to_string();
                self.ends(index, End::Failed { at: self.now, why });
            }
        }
    }

    fn blamed(&mut self, by: usize, peer: &PeerId, reason: BlameReason) {
        self.isolations += 1;
        let Some(blamed) = self.index.get(peer).copied() else {
            return;
        };
        self.note("blame", by, blamed as u64);
        self.nodes[blamed].isolated = true;
        if !self.nodes[blamed].liar {
            let why = reason.as_str();
            self.violation(&format!("node {by} blames honest node {blamed}: {why}"));
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
            named: None,
            seen: None,
            max_age: Duration::from_mins(1),
            part: None,
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
            self.show_flows(index);
            self.nodes[index].tracker.handle_timeout(now);
        }
        if let Some(gossip) = self.nodes[index].gossip.as_mut()
            && gossip.poll_timeout().is_some_and(|at| at <= now)
        {
            gossip.handle_timeout(now);
        }
        self.drain(index);
    }
}
