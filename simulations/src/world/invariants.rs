//! What holds in every world, whatever goes wrong in it.

use dfnode_tracker::{BlockIndex, Origin, VersionId};

use super::World;
use crate::node::{End, SimNode};

/// Violations that a report keeps; the first ones tell the most.
const MAX_VIOLATIONS: usize = 20;

impl World {
    /// Notes what no correct machine may do.
    pub(super) fn violation(&mut self, what: &str) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(format!("{} µs: {what}", self.now));
        }
    }

    /// A machine takes a block for good: it must be the source's, of the version named, and new.
    pub(super) fn keep(
        &mut self,
        node: usize,
        version: VersionId,
        block: BlockIndex,
        origin: Origin,
    ) {
        let Some(bytes) = self.nodes[node].parked.remove(&(block, origin)) else {
            return self.violation(&format!("node {node} keeps block {block} that never came"));
        };
        if !bytes.genuine || self.revision_of(&version) != Some(bytes.revision) {
            self.wrong_blocks += 1;
            self.violation(&format!("node {node} keeps wrong bytes for block {block}"));
        }
        if self.nodes[node].kept.insert(block, bytes).is_none() {
            self.spread_to(block);
        }
    }

    /// A machine says that it has everything: it must be so, and all of one content.
    pub(super) fn completes(&mut self, node: usize) {
        let known = &self.nodes[node];
        let blocks = self.layout.blocks().unwrap_or(0);
        let one_content = known
            .kept
            .values()
            .zip(known.kept.values().skip(1))
            .all(|(one, next)| one.revision == next.revision);
        if known.kept.len() != blocks as usize {
            self.violation(&format!("node {node} says it is complete and is not"));
        } else if !one_content {
            self.violation(&format!("node {node} mixed two versions"));
        }
    }

    /// When all is over: nobody waits, and nothing is held for transfers that ended.
    pub(super) fn check_the_end(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            if !node.alive {
                continue;
            }
            let (uploads, downloads) = (node.tracker.uploads(), node.tracker.downloads());
            let waits = node.end.is_none() && !node.liar;
            let parked = node.parked.len();
            if waits {
                self.violation(&format!("node {index} waits for ever"));
            } else if !self.nodes.iter().any(SimNode::is_waited_for) {
                if uploads + downloads > 0 {
                    self.violation(&format!(
                        "node {index} holds {uploads} uploads and {downloads} downloads for nothing"
                    ));
                }
                if parked > 0 {
                    self.violation(&format!("node {index} forgot {parked} parked blocks"));
                }
            }
        }
    }

    /// Ends a node's wish, once.
    pub(super) fn ends(&mut self, node: usize, end: End) {
        self.note(
            match end {
                End::Complete { .. } => "done",
                End::Failed { .. } => "fail",
            },
            node,
            0,
        );
        self.nodes[node].end.get_or_insert(end);
        self.may_be_over = true;
    }
}
