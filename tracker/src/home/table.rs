//! One task's table: its registrants, and this node's own office as a home.

use std::collections::BTreeSet;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::grants::SourceRules;
use super::leases::Leases;
use super::registrants::{Registrants, some_of};
use super::zones::Zones;
use crate::context::Context;
use crate::holds::Holds;
use crate::ids::TaskId;
use crate::message::{MAX_PEERS_NAMED, Message, Outcome, PeerRef, Register, Registered};
use crate::scope::Scope;

/// Registrants that a table knows at most; further ones are served but not named to others.
pub(super) const MAX_REGISTRANTS: usize = 16_384;
/// Registrants that are looked at to name some of them: all, if there are no more.
const LOOKED_AT: usize = 64;
/// Changes are copied to rank 2 after this long.
const COPY_DELAY: Duration = Duration::from_millis(50);
/// While registrants come, rank 2 is told this often even if nothing changes, so that it does not forget.
const COPY_PERIOD: Duration = Duration::from_mins(5);

/// What this node is to the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing yet.
    Idle,
    /// It keeps rank 1's copy.
    Backup,
    /// It asks the other ranks before it acts.
    Asking {
        until: Now,
        /// Whether it believes itself rank 1.
        as_first: bool,
    },
    /// Rank 1 is gone; registrants have until then to come back.
    Heir { until: Now },
    /// It grants.
    Granting,
    /// A better rank took over: for a moment nobody need ask it again whether it lives.
    HandedOver { to: PeerId, until: Now },
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) task: TaskId,
    pub(super) role: Role,
    /// Under which number other ranks are asked; a late answer counts too.
    pub(super) asked: u64,
    /// Who of them has not answered.
    pub(super) waiting: BTreeSet<PeerId>,
    /// When a better rank is asked next whether it answers again, while this node grants in its place.
    pub(super) look_up: Option<Now>,
    pub(super) registrants: Registrants,
    pub(super) zones: Zones,
    pub(super) leases: Leases,
    pub(super) last_used: Now,
    /// Set while blocks seem lost and registrants are asked what they hold.
    pub(super) census_until: Option<Now>,
    pub(super) census_ended: Option<Now>,
    pub(super) copy_at: Option<Now>,
    copied: Now,
    /// Until when nobody is looked for who could read.
    pub(super) futile_until: Option<Now>,
}

impl Table {
    pub(super) fn new(task: TaskId, now: Now) -> Self {
        Self {
            task,
            role: Role::Idle,
            asked: 0,
            waiting: BTreeSet::new(),
            look_up: None,
            registrants: Registrants::default(),
            zones: Zones::default(),
            leases: Leases::new(),
            last_used: now,
            census_until: None,
            census_ended: None,
            copy_at: None,
            copied: now,
            futile_until: None,
        }
    }

    /// What its sets of blocks take.
    pub(super) const fn bytes(&self) -> usize {
        self.registrants.bytes() + self.leases.bytes()
    }

    /// Whether nobody waits for anything here.
    pub(super) fn is_idle(&self) -> bool {
        self.leases.out.is_empty() && self.registrants.values().all(|known| !known.wants)
    }

    pub(super) fn changed(&mut self, now: Now) {
        if self.copy_at.is_none() {
            self.copy_at = Some(now + COPY_DELAY);
        }
    }

    pub(super) fn tell(&self, cx: &mut Context<'_>, to: PeerId, request: u64, outcome: Outcome) {
        cx.send(
            to,
            Message::Registered(Registered {
                task: self.task,
                request,
                outcome,
            }),
        );
    }

    /// A node wants or holds the task.
    pub(super) fn register(
        &mut self,
        cx: &mut Context<'_>,
        rules: SourceRules,
        from: PeerId,
        register: Register,
        holders: &[PeerId],
    ) {
        self.last_used = cx.now;
        if cx.now.saturating_since(self.copied) >= COPY_PERIOD {
            self.changed(cx.now);
        }
        if let Role::HandedOver { to, .. } = self.role {
            self.tell(cx, from, register.request, Outcome::Redirect { home: to });
            return;
        }
        let stalled = register.stalled;
        let request = register.request;
        self.enter(cx, from, register);
        if self.role != Role::Granting {
            self.tell(cx, from, request, Outcome::NotYet);
            return;
        }
        if self.leases.fails_now(cx.now)
            && self.registrants.get(&from).is_some_and(|known| known.wants)
            && let Some(failure) = self.leases.failure()
        {
            self.tell(cx, from, request, Outcome::Failed { failure });
            return;
        }
        let lease = self.next_lease(cx, rules, from);
        self.welcome(cx, from, request, lease, holders);
        self.tell_border(cx, from, holders);
        self.end_census_if_all_spoke(cx, rules);
        if stalled {
            self.look_after_zone(cx, rules, from);
            self.begin_census(cx, &from);
            let lacks = self
                .registrants
                .get(&from)
                .is_some_and(|known| !known.can_read && self.leases.has_unread_for(known));
            if holders.is_empty() && lacks {
                self.fail_if_hopeless(cx);
            }
        }
        self.grant_others(cx, rules);
    }

    /// Notes what a registrant says of itself.
    fn enter(&mut self, cx: &mut Context<'_>, from: PeerId, register: Register) {
        let version = register.meta.as_ref().map(|meta| meta.version);
        // A reader that is out will tell what the source has now; a holder knows what it had.
        if let (None, Some(meta), true) = (
            &self.leases.meta,
            &register.meta,
            (register.holds != Holds::Nothing && self.leases.readers() == 0)
                || !register.leases.is_empty(),
        ) {
            self.leases
                .adopt_meta(cx.now, meta.clone(), register.validated_ms);
        }
        let ours = self.leases.meta.as_ref();
        let unknown = ours.is_none();
        let same = ours.is_some() && version == ours.map(|meta| meta.version);
        let blocks = ours.and_then(|meta| meta.layout.blocks());
        let of_ours = |holds: &Holds| {
            let unpacked = same.then(|| holds.unpack(blocks)).flatten();
            unpacked.unwrap_or_default()
        };
        let [holds, nearby] = [&register.holds, &register.nearby].map(of_ours);
        if same || unknown {
            self.leases.note_ended(&from, &register.leases);
        }
        if same {
            self.leases.unread.subtract(&holds);
            self.leases.unread.subtract(&nearby);
        }
        if same || unknown {
            for lease in register.leases {
                self.leases.note_lease(cx.now, from, lease);
            }
        }
        if !self.registrants.contains(&from) && self.registrants.len() >= MAX_REGISTRANTS {
            return;
        }
        let known = self.registrants.enter(cx.now, from);
        known.heard = cx.now;
        known.told = cx.now;
        known.asked = None;
        known.addr = register.addr.or(known.addr);
        known.wants = register.wants;
        known.can_read = register.can_read && !self.leases.refused.contains(&from);
        known.max_age = Duration::from_millis(register.max_age_ms);
        let scope = Scope::of(register.parts);
        self.registrants.note(&from, [holds, nearby], scope);
        self.enter_zone(cx, from);
    }

    pub(super) fn welcome(
        &mut self,
        cx: &mut Context<'_>,
        to: PeerId,
        request: u64,
        lease: Option<crate::message::Lease>,
        holders: &[PeerId],
    ) {
        let peers = self.sample(cx, to, holders);
        self.answer(cx, to, request, lease, peers);
    }

    /// Shows a reader that its home lives and knows of it.
    pub(super) fn acknowledge(&self, cx: &mut Context<'_>, to: PeerId) {
        self.answer(cx, to, 0, None, Vec::new());
    }

    fn answer(
        &self,
        cx: &mut Context<'_>,
        to: PeerId,
        request: u64,
        lease: Option<crate::message::Lease>,
        peers: Vec<PeerRef>,
    ) {
        let known = self.registrants.get(&to);
        let announce = known.is_some_and(|known| known.announces);
        // What is unread will be read, be it after a pause that the source asked for.
        let will_be_read = known.is_some_and(|known| self.leases.has_unread_for(known));
        let readers = self.leases.readers().max(usize::from(will_be_read));
        let outcome = Outcome::Welcome {
            peers,
            meta: self.leases.current_meta(),
            lease,
            announce,
            readers: u32::try_from(readers).unwrap_or(u32::MAX),
        };
        self.tell(cx, to, request, outcome);
    }

    /// Peers for a registrant: those named least so far, so that the swarm becomes a near-regular random graph.
    ///
    /// A registrant that lacks blocks is named holders of them first.
    fn sample(&mut self, cx: &mut Context<'_>, to: PeerId, holders: &[PeerId]) -> Vec<PeerRef> {
        let lacking_holds = self
            .registrants
            .get(&to)
            .map(|known| known.holds().clone())
            .unwrap_or_default();
        let isolated = cx.isolated;
        // Who waits in vain is named holders in other zones: what it lacks may lie with nobody who brings it across.
        let waits = self
            .registrants
            .get(&to)
            .is_some_and(|known| known.stalls(cx.now));
        let looked_at = match self.zones.around(&to) {
            Some(zone) if !waits => some_of(zone, cx.chance, LOOKED_AT),
            Some(_) | None => self.registrants.some(cx.chance, LOOKED_AT),
        };
        let mut ranked: Vec<(bool, u32, u64, PeerId)> = looked_at
            .into_iter()
            .filter(|peer| *peer != to && !isolated.contains_key(peer))
            .filter_map(|peer| self.registrants.get(&peer).map(|known| (peer, known)))
            .filter(|(_, known)| known.asked.is_none())
            .map(|(peer, known)| {
                (
                    cx.view.is_leech(&peer) || !known.holds().has_beyond(&lacking_holds),
                    known.named,
                    cx.chance.next(),
                    peer,
                )
            })
            .collect();
        ranked.sort_unstable();
        // Half of the places go to holders of what is lacking, so that a late crowd still spreads among itself.
        let giving = ranked
            .iter()
            .take_while(|(useless, ..)| !useless)
            .take(MAX_PEERS_NAMED / 2)
            .count();
        let mut chosen: Vec<PeerId> = ranked[..giving].iter().map(|(.., peer)| *peer).collect();
        let mut rest = ranked.split_off(giving);
        rest.sort_unstable_by_key(|(_, named, chance, peer)| (*named, *chance, *peer));
        chosen.extend(rest.into_iter().map(|(.., peer)| peer));
        chosen.truncate(MAX_PEERS_NAMED);
        for holder in holders {
            let near =
                waits || !self.zones.are_several() || self.zones.are_together(cx, holder, &to);
            if near && chosen.len() < MAX_PEERS_NAMED && *holder != to && !chosen.contains(holder) {
                chosen.push(*holder);
            }
        }
        for peer in &chosen {
            if let Some(known) = self.registrants.get_mut(peer) {
                known.named += 1;
            }
        }
        chosen.into_iter().map(|peer| self.name(cx, peer)).collect()
    }

    /// Whom and where, as far as this home knows.
    pub(super) fn name(&self, cx: &Context<'_>, peer: PeerId) -> PeerRef {
        let mut named = cx.view.peer_ref(peer);
        named.addr = named
            .addr
            .or_else(|| self.registrants.get(&peer).and_then(|known| known.addr));
        named
    }

    pub(super) fn drop_registrant(
        &mut self,
        cx: &mut Context<'_>,
        rules: SourceRules,
        peer: &PeerId,
    ) {
        let known = self.registrants.remove(peer);
        self.leave_zone(cx, peer);
        let reading = self.leases.revoke_of(peer);
        if reading {
            self.keep_spread();
        }
        if known || reading {
            self.changed(cx.now);
            self.grant_others(cx, rules);
        }
    }

    /// What the leases of somebody lost returned may have spread since its last report: what others hold is not read
    /// again. What others know to be near may be what was lost.
    pub(super) fn keep_spread(&mut self) {
        let held = self.registrants.held_for_sure();
        self.leases.unread.subtract(&held);
    }

    /// What registrants and their neighbours hold is not read again.
    pub(super) fn keep_held(&mut self) {
        let held = self.registrants.held();
        self.leases.unread.subtract(&held);
    }

    pub(super) fn poll_timeout(&self) -> Option<Now> {
        let office = match &self.role {
            Role::Asking { until, .. } | Role::Heir { until } => Some(*until),
            Role::Granting => [self.leases.poll_timeout(), self.look_up]
                .into_iter()
                .flatten()
                .min(),
            Role::Idle | Role::Backup | Role::HandedOver { .. } => None,
        };
        [office, self.census_until, self.copy_at]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>, rules: SourceRules) {
        self.serve_office(cx, rules);
        if self.census_until.is_some_and(|at| cx.now >= at) {
            self.end_census(cx, rules);
        }
        if self.copy_at.is_some_and(|at| cx.now >= at) {
            self.copy_at = None;
            self.copied = cx.now;
            self.copy_to_second(cx);
        }
    }
}
