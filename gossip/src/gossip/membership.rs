//! What follows from what SWIM finds out.

use rand::seq::IteratorRandom;

use super::Gossip;
use super::plan::Situation;
use crate::swim::News;
use crate::{Member, Now, Output, PeerId};

impl Gossip {
    /// Carries what the parts found out to where it belongs. Ends every call that changes anything.
    pub(super) fn settle(&mut self, now: Now) {
        while let Some(news) = self.swim.poll_news() {
            self.note(now, news);
        }
        self.tell_changes();
        self.flush_outbox(now);
    }

    fn note(&mut self, now: Now, news: News) {
        match news {
            News::Send { to, bytes } => {
                // Others may be wrong about where a member is.
                let to = self.roster.get(&to.peer).cloned().unwrap_or(to);
                self.outputs.push_back(Output::Datagram { to, bytes });
            }
            News::Up(member) => self.up(now, member),
            News::Changed(member) => {
                // One that was down is reported as up right after.
                if self.roster.get(&member.peer).is_some() {
                    self.up(now, member);
                }
            }
            News::Down(peer) => self.down(now, &peer),
            News::Rejoined(me) => {
                self.plan.rejoined(now);
                self.outputs.push_back(Output::Renewed(me));
            }
            News::Unsure => self.plan.ask(now),
            News::Renewed(me) => self.outputs.push_back(Output::Renewed(me)),
        }
    }

    fn up(&mut self, now: Now, member: Member) {
        self.slots.origin_up(&member.peer);
        self.plan.met_somebody(now);
        self.learnt += 1;
        let was_known = self.roster.put(member.clone());
        self.outputs.push_back(if was_known {
            Output::Changed(member)
        } else {
            Output::Up(member)
        });
    }

    fn down(&mut self, now: Now, peer: &PeerId) {
        if !self.roster.remove(peer) {
            return;
        }
        self.learnt += 1;
        self.slots.origin_down(now, peer);
        self.outputs.push_back(Output::Down(*peer));
        if self.roster.is_empty() {
            // Whoever comes next learns all by push/pull.
            self.spread.clear();
            self.outbox.clear();
            self.next_spread = None;
        }
    }

    pub(super) fn sync_if_due(&mut self, now: Now) {
        let situation = Situation {
            size: self.roster.len() + 1,
            period: self.config.sync_period,
        };
        if !self.plan.take_due(now, situation, &mut self.rng) {
            return;
        }
        let preferred = self
            .plan
            .take_partner()
            .filter(|peer| *peer != self.me().peer)
            .and_then(|peer| self.swim.find(&peer));
        if let Some(partner) = preferred.or_else(|| self.random_partner()) {
            self.outputs.push_back(Output::SyncWith(partner));
        }
    }

    /// Anybody alive; if there is nobody, one that we think is down: perhaps it is us who are cut
    /// off.
    fn random_partner(&mut self) -> Option<Member> {
        let alive = self.roster.iter().choose(&mut self.rng);
        alive
            .or_else(|| self.swim.down().choose(&mut self.rng))
            .cloned()
    }
}
