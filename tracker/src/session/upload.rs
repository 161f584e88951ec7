//! The giving side: offers, the blocks sent on them, and their ends.

use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::neighbour::{Neighbour, Upload};
use super::{MAX_NEIGHBOURS, Session};
use crate::context::Context;
use crate::ids::BlockIndex;
use crate::message::{Cancel, DeclineReason, Grant, Message, Want};
use crate::output::Output;

/// A neighbour from which nothing at all came for this long while it owes an answer or takes a block is silent.
const SILENCE: Duration = Duration::from_millis(500);
/// A neighbour that was not heard of for this long may be dead: others are offered to first, lest all slots wait for
/// the dead, who are always the most behind.
const DOUBT: Duration = Duration::from_millis(250);
/// After "full", an offer is tried again without a word after this long.
const FULL_PATIENCE: Duration = Duration::from_millis(250);
/// After "nothing", likewise.
const NOTHING_PATIENCE: Duration = Duration::from_millis(500);
/// Suggestions in an offer.
const SUGGESTED: usize = 4;

impl Session {
    /// Offers uploads while there are free slots and somebody to offer to.
    pub(crate) fn offer(&mut self, cx: &mut Context<'_>) {
        // Asked with every message: most of the time there is no free slot.
        if cx.slots.uploads.free(&self.task) == 0 || cx.view.leech() || self.have.is_empty() {
            return;
        }
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return;
        };
        let width = self.width();
        while cx.slots.uploads.free(&self.task) > 0 && cx.slots.uploads.of(&self.task) < width {
            let Some(peer) = self.most_behind(cx) else {
                return;
            };
            let suggest = self.suggestions(&peer);
            self.next_grant = self.next_grant.wrapping_add(1);
            let grant = self.next_grant;
            self.tell_suggested(cx, peer, version, &suggest);
            let Some(known) = self.peers.get_mut(&peer) else {
                return;
            };
            let suggested = suggest.first().copied();
            known.uploads.insert(
                grant,
                Upload::Offered {
                    since: cx.now,
                    suggested,
                },
            );
            // Each neighbour is nudged towards another block, or a crowd would fetch one block over and over.
            self.count_sent(suggested, true);
            cx.slots.uploads.take(self.task);
            cx.send(
                peer,
                Message::Offer(Grant {
                    task: self.task,
                    version,
                    grant,
                    suggest,
                }),
            );
        }
    }

    /// The neighbour to offer to: of those with the fewest uploads of ours, the one most behind.
    fn most_behind(&self, cx: &mut Context<'_>) -> Option<PeerId> {
        let across = self.uploads_across() > 0;
        let willing: Vec<(&PeerId, &Neighbour)> = self
            .peers
            .iter()
            .filter(|(_, peer)| {
                peer.is_partner()
                    && peer.wants
                    && peer.uploads.len() < cx.slots.uploads.max()
                    && (across || !peer.far)
                    && peer.accepts_offers(cx.now)
            })
            .collect();
        if willing.is_empty() {
            return None;
        }
        let fastest = self.fastest;
        let mut best: Option<(usize, f64, u64, PeerId)> = None;
        for (id, peer) in willing {
            let doubtful = cx.now.saturating_since(peer.last_heard) >= DOUBT;
            if doubtful && !peer.uploads.is_empty() {
                continue;
            }
            let key = (
                peer.uploads.len() + if doubtful { MAX_NEIGHBOURS } else { 0 },
                peer.lateness(fastest),
                cx.chance.next(),
                *id,
            );
            let better = best
                .as_ref()
                .is_none_or(|best| (key.0, key.1, key.2) < (best.0, best.1, best.2));
            if better && self.has_use_for(cx.now, peer) {
                best = Some(key);
            }
        }
        best.map(|(_, _, _, id)| id)
    }

    /// Whether we hold more that it lacks than what is on its way to it already.
    fn has_use_for(&self, now: Now, peer: &Neighbour) -> bool {
        if peer.far {
            return self.has_use_across(now, peer);
        }
        let out = peer.uploads.len();
        self.have
            .sieve([self.ledger.known()], [&peer.have])
            .take(out + 1)
            .count()
            > out
    }

    /// Notes how many partners there are, and the rate that a neighbour's progress is judged by: the best seen.
    pub(super) fn survey(&mut self, now: Now) {
        self.partners = self.partners.max(self.neighbours().count());
        let rate = |began: Now, blocks: u32| {
            f64::from(blocks)
                / now
                    .saturating_since(began)
                    .max(Duration::from_millis(200))
                    .as_secs_f64()
        };
        self.rate = rate(self.began, self.have.len());
        let wanting = self.peers.values().filter(|peer| peer.wants);
        self.fastest = wanting
            .map(|peer| rate(peer.began, peer.have.len()))
            .chain(self.wants.then_some(self.rate))
            .fold(1.0, f64::max);
    }

    /// Rare blocks that the neighbour lacks, those that we sent least first.
    fn suggestions(&self, peer: &PeerId) -> Vec<BlockIndex> {
        let Some(known) = self.peers.get(peer) else {
            return Vec::new();
        };
        let mut rare: Vec<(u32, u16, BlockIndex)> = self
            .have
            .sieve([self.ledger.known()], [&known.have, self.counts.common()])
            .filter(|block| !known.is_being_sent(*block))
            .map(|block| {
                (
                    self.sent.get(&block).copied().unwrap_or(0),
                    self.counts.of(block),
                    block,
                )
            })
            .take(256)
            .collect();
        rare.sort_unstable();
        rare.into_iter()
            .take(SUGGESTED)
            .map(|(_, _, block)| block)
            .collect()
    }

    pub(crate) fn handle_want(&mut self, cx: &mut Context<'_>, from: PeerId, want: &Want) {
        let current = self.meta.as_ref().map(|meta| meta.version) == Some(want.version);
        let means_ours = self
            .ledger
            .digest(want.block)
            .is_some_and(|digest| digest.tag() == want.digest);
        let holds = current && self.have.contains(want.block) && means_ours;
        let Some(known) = self.peers.get_mut(&from) else {
            return;
        };
        let offered = matches!(known.uploads.get(&want.grant), Some(Upload::Offered { .. }));
        if !offered || !holds {
            if offered {
                known.uploads.remove(&want.grant);
                cx.slots.uploads.give_back(&self.task, 1);
            }
            let refusal = Cancel {
                task: self.task,
                version: want.version,
                block: want.block,
            };
            cx.send(from, Message::Refuse(refusal));
            return;
        }
        known.declined = None;
        let before = known.uploads.insert(
            want.grant,
            Upload::Sending {
                block: want.block,
                since: cx.now,
            },
        );
        if let Some(Upload::Offered { suggested, since }) = before {
            self.note_answer(cx.now.saturating_since(since));
            self.count_sent(suggested, false);
        }
        self.count_sent(Some(want.block), true);
        cx.out.push_back(Output::SendBlock {
            to: from,
            task: self.task,
            version: want.version,
            block: want.block,
        });
    }

    pub(crate) fn handle_decline(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        grant: u32,
        reason: DeclineReason,
    ) {
        let Some(known) = self.peers.get_mut(&from) else {
            return;
        };
        let Some(Upload::Offered { suggested, .. }) = known.uploads.get(&grant) else {
            return;
        };
        let suggested = *suggested;
        known.uploads.remove(&grant);
        cx.slots.uploads.give_back(&self.task, 1);
        let patience = match reason {
            DeclineReason::Nothing => NOTHING_PATIENCE,
            DeclineReason::Full => FULL_PATIENCE,
        };
        known.declined = Some((reason, cx.now + patience));
        self.count_sent(suggested, false);
        self.offer(cx);
    }

    fn note_answer(&mut self, took: Duration) {
        self.answer = (self.answer * 7 + took) / 8;
    }

    fn count_sent(&mut self, block: Option<BlockIndex>, up: bool) {
        let Some(block) = block else { return };
        let sent = self.sent.entry(block).or_default();
        *sent = if up {
            sent.saturating_add(1)
        } else {
            sent.saturating_sub(1)
        };
    }

    pub(crate) fn handle_room(&mut self, cx: &mut Context<'_>, from: PeerId) {
        if let Some(known) = self.peers.get_mut(&from) {
            known.declined = None;
        }
        self.offer(cx);
    }

    /// The asker got the block elsewhere.
    pub(crate) fn handle_cancel(&mut self, cx: &mut Context<'_>, from: PeerId, block: BlockIndex) {
        if self.end_upload(cx, &from, block) {
            cx.out.push_back(Output::StopSend {
                to: from,
                task: self.task,
                block,
            });
            self.offer(cx);
        }
    }

    /// A block did not get there: whether its asker still wants it, it will say.
    pub(crate) fn handle_send_broken_off(
        &mut self,
        cx: &mut Context<'_>,
        to: &PeerId,
        block: BlockIndex,
    ) {
        if self.end_upload(cx, to, block) {
            self.offer(cx);
        }
    }

    /// A block left this node, or cannot.
    pub(crate) fn handle_sent(
        &mut self,
        cx: &mut Context<'_>,
        to: PeerId,
        block: BlockIndex,
        done: bool,
    ) {
        if !self.end_upload(cx, &to, block) {
            return;
        }
        if done {
            self.heard(cx.now, &to);
        } else if let Some(version) = self.meta.as_ref().map(|meta| meta.version) {
            cx.send(
                to,
                Message::Refuse(Cancel {
                    task: self.task,
                    version,
                    block,
                }),
            );
        }
        self.offer(cx);
    }

    fn end_upload(&mut self, cx: &mut Context<'_>, to: &PeerId, block: BlockIndex) -> bool {
        let Some(known) = self.peers.get_mut(to) else {
            return false;
        };
        let grant = known
            .uploads
            .iter()
            .find(|(_, upload)| matches!(upload, Upload::Sending { block: sent, .. } if *sent == block))
            .map(|(grant, _)| *grant);
        let Some(grant) = grant else { return false };
        known.uploads.remove(&grant);
        cx.slots.uploads.give_back(&self.task, 1);
        true
    }

    /// Frees what is held for a neighbour that wants nothing more.
    pub(super) fn end_uploads_to(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let before = known.uploads.len();
        known
            .uploads
            .retain(|_, upload| matches!(upload, Upload::Sending { .. }));
        cx.slots
            .uploads
            .give_back(&self.task, before - known.uploads.len());
    }

    pub(super) fn cancel_all_uploads(&mut self, cx: &mut Context<'_>) {
        for (id, peer) in &mut self.peers {
            cx.slots.uploads.give_back(&self.task, peer.uploads.len());
            for upload in std::mem::take(&mut peer.uploads).values() {
                if let Upload::Sending { block, .. } = upload {
                    cx.out.push_back(Output::StopSend {
                        to: *id,
                        task: self.task,
                        block: *block,
                    });
                }
            }
        }
    }

    /// Takes slots back from neighbours from which nothing comes any more: they died without a word.
    pub(super) fn end_silent_uploads(&mut self, cx: &mut Context<'_>) {
        for (id, peer) in &mut self.peers {
            let oldest = peer.uploads.values().map(|upload| match upload {
                Upload::Offered { since, .. } | Upload::Sending { since, .. } => *since,
            });
            let Some(oldest) = oldest.min() else { continue };
            let quiet_since = oldest.max(peer.last_heard);
            if cx.now.saturating_since(quiet_since) < SILENCE {
                continue;
            }
            peer.silent = true;
            self.short = true;
            cx.slots.uploads.give_back(&self.task, peer.uploads.len());
            for upload in std::mem::take(&mut peer.uploads).values() {
                if let Upload::Sending { block, .. } = upload {
                    cx.out.push_back(Output::StopSend {
                        to: *id,
                        task: self.task,
                        block: *block,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TaskId;

    #[test]
    fn a_task_makes_the_more_transfers_the_longer_its_offers_wait() {
        let mut session = Session::new(TaskId::from_bytes([7; 32]), Now::from_micros(0));
        let widths = [0, 3, 20].map(|millis| {
            for _ in 0..200 {
                session.note_answer(Duration::from_millis(millis));
            }
            session.width()
        });
        assert_eq!(
            widths,
            [4, 6, 23],
            "the mean comes near what is measured from below"
        );
    }

    #[test]
    fn who_loses_partners_makes_as_many_transfers_as_before() {
        let now = Now::from_micros(0);
        let mut session = Session::new(TaskId::from_bytes([7; 32]), now);
        session.partners = 30;
        session.survey(now);
        assert_eq!(session.width(), 20);
    }

    #[test]
    fn who_falls_behind_many_partners_makes_all_transfers_that_it_can() {
        let mut session = Session::new(TaskId::from_bytes([7; 32]), Now::from_micros(0));
        (session.partners, session.fastest, session.rate) = (8, 100.0, 80.0);
        let few = session.width();
        session.wants = true;
        assert_eq!((few, session.width()), (8, usize::MAX));
        session.rate = 95.0;
        assert_eq!(session.width(), few, "it is as fast as others");
        (session.partners, session.rate) = (7, 80.0);
        assert_eq!(session.width(), few, "a small crowd waits for each block");
    }
}
