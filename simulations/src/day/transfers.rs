//! Blocks between nodes.

use dfnode_gossip::PeerId;
use dfnode_tracker::{BlockIndex, Origin, PieceReport, TaskId, Tracker as _, VersionId};

use super::source::{digest, lasts};
use super::{Cluster, Happening, LATENCY, Transfer};

impl Cluster {
    pub(super) fn send_block(
        &mut self,
        from: usize,
        to: PeerId,
        task: TaskId,
        version: VersionId,
        block: BlockIndex,
    ) {
        let now = self.now;
        let holds = |stored: &super::store::Stored| {
            stored.have.contains(block) && stored.meta.version == version
        };
        if !self.hosts[from].store.get(&task).is_some_and(holds) {
            self.violation(&format!("host {from} sends a block without having it"));
        }
        self.hosts[from].store.touch(now, &task);
        let Some(to) = self.index.get(&to).copied() else {
            return;
        };
        if self.hosts[to].life.is_none() {
            return;
        }
        let (transfer, number) = ((from, to, task, block), self.number());
        self.transfers.insert(transfer, number);
        let bytes = self.tasks[self.by_id[&task]].block_bytes(block);
        let arrives = Happening::Arrives {
            transfer,
            number,
            version,
        };
        self.later(LATENCY + lasts(bytes), arrives);
    }

    pub(super) fn arrives(&mut self, transfer: Transfer, number: u64, version: VersionId) {
        if self.transfers.get(&transfer) != Some(&number) {
            return;
        }
        self.transfers.remove(&transfer);
        let (from, to, task, block) = transfer;
        let (now, clock) = (self.now, self.clock());
        let (giver, taker) = (self.hosts[from].peer, self.hosts[to].peer);
        let digest = digest(&task, block);
        self.note("block", to, u64::from(block.0));
        if let Some(life) = self.alive(to) {
            if let Some(word) = life.links.get_mut(&giver) {
                *word = now;
            }
            life.parked
                .insert((task, block, Origin::Peer(giver)), digest);
            let report = PieceReport {
                from: giver,
                task,
                version,
                block,
                digest,
            };
            life.tracker.report_piece(clock, report);
        }
        self.drain(to);
        if let Some(life) = self.alive(from) {
            life.tracker
                .handle_block_sent(clock, taker, &task, block, true);
        }
        self.drain(from);
    }

    /// A machine takes a block for good: it must have come, be the source's, and be new.
    pub(super) fn keep(&mut self, host: usize, task: TaskId, block: BlockIndex, origin: Origin) {
        let now = self.now;
        let parked = self
            .alive(host)
            .and_then(|life| life.parked.remove(&(task, block, origin)));
        if parked != Some(digest(&task, block)) {
            self.violation(&format!("host {host} keeps a block that never came"));
        }
        let signed = self
            .alive(host)
            .and_then(|life| life.tracker.digest(&task, block));
        let unverified = matches!(origin, Origin::Peer(_)) && signed != parked;
        if unverified {
            self.violation(&format!("host {host} keeps a block that nobody signed"));
        }
        if !self.hosts[host].store.keep(now, &task, block) {
            self.violation(&format!(
                "host {host} keeps a block twice or without a place"
            ));
        }
        self.look_at_part(host, task);
    }
}
