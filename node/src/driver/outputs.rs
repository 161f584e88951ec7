//! Performs what the machines want, in the order in which they want it.

use dfnode_gossip::{EventKind, Now, Output as GossipOutput};
use dfnode_tracker::{MemberChange, Output, TaskEvent};
use tracing::{debug, info, trace, warn};

use super::Driver;
use super::sends::SendKey;
use crate::transport::PacketKind;

impl Driver {
    /// Drains both machines: what one says may make the other speak.
    pub(super) fn drain(&mut self, now: Now) {
        loop {
            if let Some(output) = self.gossip.poll_output() {
                self.perform_gossip(now, output);
            } else if let Some(output) = self.tracker.poll_output() {
                self.perform(now, output);
            } else {
                return;
            }
        }
    }

    fn perform_gossip(&mut self, now: Now, output: GossipOutput) {
        match output {
            GossipOutput::Datagram { to, bytes } => {
                self.parts.stats.gossip_sent.add(bytes.len() as u64);
                self.send_packet(PacketKind::Gossip, &to.peer, Some(&to.addrs), &bytes);
            }
            GossipOutput::Up(member) | GossipOutput::Changed(member) => {
                debug!(peer = %member.peer.short(), addrs = ?member.addrs, "member");
                self.follow(now, &member);
                self.tracker.handle_member(now, &MemberChange::Up(member));
            }
            GossipOutput::Down(peer) => {
                debug!(peer = %peer.short(), "member down");
                self.tracker.handle_member(now, &MemberChange::Down(peer));
            }
            GossipOutput::Event(event) => {
                trace!(origin = %event.origin.short(), kind = ?event.kind, "event");
                if event.kind == EventKind::FileRemove {
                    self.handle_file_remove(now, event.subject);
                }
                self.tracker.handle_event(now, &event);
            }
            GossipOutput::Removed {
                origin,
                subject,
                kind,
            } => {
                trace!(origin = %origin.short(), %subject, ?kind, "event removed");
                self.tracker.handle_removed(&origin, &subject, kind);
            }
            GossipOutput::SyncWith(member) => self.glance_at(&member),
            GossipOutput::Sign { request, bytes } => {
                let signature = self.parts.identity.sign(&bytes);
                self.gossip.handle_signature(now, request, signature);
            }
            GossipOutput::Renewed(member) => self.store_generation(member.generation),
        }
    }

    fn perform(&mut self, now: Now, output: Output) {
        match output {
            Output::Send { to, message } => self.send_message(now, to, &message),
            Output::Connect { peer } => self.connect(now, &peer),
            Output::ReadSource { task, lease } => self.read_source(now, task, lease),
            Output::StopSource { task, lease } => self.stop_source(task, lease),
            Output::SendBlock {
                to,
                task,
                version,
                block,
            } => self.send_block(now, SendKey { to, task, block }, version),
            Output::StopSend { to, task, block } => self.stop_send(SendKey { to, task, block }),
            Output::StopReceive { from, task, block } => {
                self.parts.transport.stop_receive(&from, &task, block);
            }
            Output::Keep {
                task,
                version,
                block,
                origin,
            } => self.keep(now, task, version, (block, origin)),
            Output::Drop {
                task,
                block,
                origin,
            } => {
                if self.parked.take(task, origin, block).is_some() {
                    self.parts.stats.blocks_dropped.add(1);
                }
            }
            Output::KeepBatch { task, batch } => self.keep_batch(task, batch),
            Output::Sign { request, bytes } => {
                let signature = self.parts.identity.sign(&bytes);
                self.tracker.handle_signature(now, request, signature);
            }
            Output::Publish {
                subject,
                kind,
                body,
            } => {
                if let Err(error) = self.gossip.publish(now, subject, kind, body) {
                    warn!(%subject, ?kind, %error, "an event was not published");
                }
            }
            Output::Withdraw { subject, kind } => self.gossip.withdraw(now, subject, kind),
            Output::Task { task, event } => match event {
                TaskEvent::Meta(meta) => self.handle_meta(now, task, meta),
                TaskEvent::Restarted => self.handle_restarted(task),
                TaskEvent::Current => self.handle_current(task),
                TaskEvent::Complete => self.handle_complete(task),
                TaskEvent::Failed(failure) => self.handle_failed(now, task, failure),
                TaskEvent::Alone => {
                    info!(task = %task.short(), "no home answers: this node reads for itself");
                }
                TaskEvent::NotAlone => {
                    info!(task = %task.short(), "this node reads for itself no more");
                }
            },
            Output::Blame { peer, reason } => self.isolate(now, peer, reason),
        }
    }
}
