//! Who is really down, when nodes disagree.
//!
//! To foca down is final, and whoever was wrongly declared down must come back as somebody newer.
//! That is sound where gossip decides, within a second and with the accused listening. Where views
//! that grew apart meet again it would bring down everybody at once, so here an accusation from a
//! push/pull makes a suspect, an answer to it revives, and who lost sight of all starts over.

use std::collections::{BTreeMap, BTreeSet};

use foca::{Incarnation, State, Timer};

use super::identity::Identity;
use super::timers::Timers;
use super::worries::Worries;
use super::{News, Swim, new_foca, pace};
use crate::wire::{Record, Standing};
use crate::{Now, PeerId};

impl Swim {
    /// Takes over what another node knows. With `tell`, what is new is passed on by gossip.
    ///
    /// What others call down and we have never met is left out: else the dead would be remembered
    /// for as long as two nodes forget them at different times. What others call down and we see
    /// alive becomes a suspect: perhaps the other one was cut off. If it lives it will say so.
    pub(crate) fn apply(&mut self, now: Now, records: Vec<Record>, tell: bool) {
        if self.left {
            return;
        }
        self.recount_if_full(now);
        let mut usable = Vec::with_capacity(records.len());
        let mut contested = BTreeMap::new();
        for record in records {
            let vetted = {
                let mut register = self.register();
                let known = register.knows(&record.member.peer);
                let usable = known || record.standing != Standing::Down;
                usable.then(|| register.vet(record)).flatten()
            };
            match vetted {
                Some(dead)
                    if dead.state() == State::Down && dead.incarnation() < Incarnation::MAX =>
                {
                    contested.insert(dead.id().peer, dead);
                }
                other => usable.extend(other),
            }
        }
        let suspects = self.turn_into_suspects(&mut contested);
        usable.extend(contested.into_values());
        // Only a broken codec could fail here, and ours cannot.
        let _infallible = self
            .foca
            .apply_many(usable.into_iter(), tell, &mut self.runtime);
        let accused: BTreeSet<PeerId> = suspects.iter().map(|suspect| suspect.id().peer).collect();
        let _infallible = self
            .foca
            .apply_many(suspects.into_iter(), true, &mut self.runtime);
        self.drain(now);
        self.await_answers(now, &accused);
        self.after(now);
    }

    /// Takes from `dead` those that we see alive, as suspects unless we believe it.
    fn turn_into_suspects(
        &self,
        dead: &mut BTreeMap<PeerId, foca::Member<Identity>>,
    ) -> Vec<foca::Member<Identity>> {
        if dead.is_empty() {
            return Vec::new();
        }
        let contested = self
            .records()
            .filter(|record| record.state() != State::Down);
        contested
            .filter_map(|record| {
                let claim = dead.remove(&record.id().peer)?;
                let state = if self.believes(&claim, record) {
                    State::Down
                } else {
                    State::Suspect
                };
                Some(foca::Member::new(
                    claim.id().clone(),
                    claim.incarnation(),
                    state,
                ))
            })
            .collect()
    }

    /// Whether a claim that somebody is down is believed although we see it alive: it is about a
    /// newer life, or what we were waiting for.
    fn believes(&self, claim: &foca::Member<Identity>, ours: &foca::Member<Identity>) -> bool {
        let awaited = || {
            ours.state() == State::Suspect
                && claim.incarnation() >= ours.incarnation()
                && self.worries.is_overdue(ours.id(), ours.incarnation())
        };
        claim.id() != ours.id() || awaited()
    }

    /// Remembers whom others suspect.
    pub(super) fn worry(&mut self, now: Now) {
        let suspicions = self.register().take_suspicions();
        if suspicions.is_empty() {
            return;
        }
        let patience = pace::suspicion(&self.config, self.size());
        for (id, incarnation) in suspicions {
            self.worries.heard(now, id, incarnation, patience);
        }
    }

    /// Looks after suspicions that should have ended.
    pub(super) fn ask_about_worries(&mut self, now: Now) {
        while let Some(worry) = self.worries.pop_due(now) {
            if self.is_suspect(&worry.id, worry.incarnation) {
                self.news.push_back(News::Unsure);
                self.worries.asked(now, worry);
            }
        }
    }

    /// foca leaves it to the one who raised a suspicion to end it; here that is us.
    fn await_answers(&mut self, now: Now, accused: &BTreeSet<PeerId>) {
        let Some(token) = self.token else { return };
        if accused.is_empty() {
            return;
        }
        let patience = pace::suspicion(&self.config, self.size());
        let waiting: Vec<_> = self
            .records()
            .filter(|record| {
                record.state() == State::Suspect && accused.contains(&record.id().peer)
            })
            .map(|record| Timer::ChangeSuspectToDown {
                member_id: record.id().clone(),
                incarnation: record.incarnation(),
                token,
            })
            .collect();
        for timer in waiting {
            self.timers
                .add(now + self.awareness.stretch(&timer, patience), timer);
        }
    }

    /// Takes back that somebody is down who has answered since. foca would not: to it, down is
    /// final.
    pub(super) fn revive(&mut self, now: Now) {
        let proofs = self.register().take_proofs();
        for proof in proofs {
            let _infallible = self
                .foca
                .handle_timer(Timer::RemoveDown(proof.id().clone()), &mut self.runtime);
            let _infallible = self
                .foca
                .apply_many(std::iter::once(proof), true, &mut self.runtime);
        }
        self.drain(now);
    }

    /// Forgets whom we declared down once nobody is left. More likely than that all others died is
    /// that we were cut off, and then our judgement, handed out at reunion, would bring down the
    /// whole cluster.
    pub(super) fn start_over_if_cut_off(&mut self) {
        if !std::mem::take(&mut self.is_cut_off) || self.foca.num_members() > 0 || self.left {
            return;
        }
        let known = self
            .records()
            .map(|record| (record.id().peer, record.id().member().clone()));
        self.lost = known.collect();
        let me = self.me().renewed();
        let id = Identity::new(me.clone());
        self.register().forget_all();
        self.register().set_me(id.clone());
        self.foca = new_foca(&self.config, id, &mut self.seeds, &self.register);
        self.timers = Timers::default();
        self.worries = Worries::default();
        self.token = None;
        self.paced_for = 1;
        self.news.push_back(News::Renewed(me));
    }
}
