//! SWIM, as foca does it, behind the contract of a pure machine.
//!
//! foca's timers are relative and its callbacks immediate; here they become absolute deadlines and
//! a queue. Events do not travel in foca's packets: its custom broadcasts starve behind membership
//! updates, have no cap, and wait behind the slowest item (see `docs/protocol-gossip.md`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foca::{
    AccumulatingRuntime, Foca, Incarnation, NoCustomBroadcast, OwnedNotification, State, Timer,
    TimerToken,
};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

use crate::wire::{Header, Record, Standing, swim_datagram};
use crate::{Config, Member, Now, PeerId, Violation};

mod codec;
mod doubt;
mod identity;
mod pace;
mod register;
mod timers;
mod worries;

use codec::Codec;
use identity::Identity;
pub(crate) use pace::transmissions;
use pace::{Awareness, foca_config};
use register::Register;
use timers::Timers;
use worries::Worries;

/// How often our own record may be renewed because another life of ours was seen.
const CATCH_UP_PERIOD: Duration = Duration::from_secs(1);
/// A timer this late means that the whole process slept: what it learnt before is worth little.
const OVERSLEPT: Duration = Duration::from_secs(2);
/// News that there is always room for. Joining brings some for each member at once, and that room is not kept.
const USUAL_NEWS: usize = 32;
/// How often the register of known peers may be counted anew once it is full.
const RECOUNT_PERIOD: Duration = Duration::from_mins(1);

/// What SWIM wants done, or found out.
#[derive(Debug)]
pub(crate) enum News {
    Send {
        to: Member,
        bytes: Bytes,
    },
    Up(Member),
    Changed(Member),
    Down(PeerId),
    /// We were taken for dead and came back as somebody newer.
    Rejoined(Member),
    /// A verdict on somebody is overdue: ask around.
    Unsure,
    /// We lost everybody, so we must have been cut off; whoever finds us finds somebody newer.
    Renewed(Member),
}

type SwimFoca = Foca<Identity, Codec, Xoshiro256PlusPlus, NoCustomBroadcast>;

/// One node's share of SWIM.
pub(crate) struct Swim {
    foca: SwimFoca,
    runtime: AccumulatingRuntime<Identity>,
    register: Arc<Mutex<Register>>,
    timers: Timers,
    worries: Worries,
    awareness: Awareness,
    config: Config,
    /// The cluster's size that foca's configuration is for.
    paced_for: usize,
    news: VecDeque<News>,
    /// Marks foca's timers of this life.
    token: Option<TimerToken>,
    /// Everybody that we knew when we lost sight of all.
    lost: BTreeMap<PeerId, Member>,
    is_cut_off: bool,
    seeds: Xoshiro256PlusPlus,
    caught_up: Option<Now>,
    recounted: Option<Now>,
    left: bool,
}

impl Swim {
    pub(crate) fn new(config: Config, me: Member, seed: u64) -> Self {
        let me = Identity::new(me);
        let register = Arc::new(Mutex::new(Register::new(me.clone())));
        let mut seeds = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self {
            foca: new_foca(&config, me, &mut seeds, &register),
            runtime: AccumulatingRuntime::new(),
            register,
            timers: Timers::default(),
            worries: Worries::default(),
            awareness: Awareness::default(),
            config,
            paced_for: 1,
            news: VecDeque::new(),
            token: None,
            lost: BTreeMap::new(),
            is_cut_off: false,
            seeds,
            caught_up: None,
            recounted: None,
            left: false,
        }
    }

    pub(crate) fn me(&self) -> &Member {
        self.foca.identity()
    }

    pub(crate) fn poll_news(&mut self) -> Option<News> {
        let news = self.news.pop_front();
        if news.is_none() {
            self.news.shrink_to(USUAL_NEWS);
        }
        news
    }

    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        self.timers
            .next()
            .into_iter()
            .chain(self.worries.next())
            .min()
    }

    /// Takes a packet from `from`, whom the caller has authenticated.
    pub(crate) fn handle_packet(
        &mut self,
        now: Now,
        from: PeerId,
        packet: &[u8],
    ) -> Result<(), Violation> {
        if self.left {
            return Ok(());
        }
        let (header, _) = Header::from_front(packet)?;
        if header.src.peer != from || from == self.me().peer {
            return Err(Violation::SenderMismatch);
        }
        self.recount_if_full(now);
        if !self.register().admit(&from) {
            return Err(Violation::TooManyMembers);
        }
        self.register().vet(Record {
            member: header.src,
            incarnation: header.src_incarnation,
            standing: Standing::Alive,
        });
        self.revive(now);
        let handled = self.foca.handle_data(packet, &mut self.runtime);
        self.after(now);
        handled.map_err(|error| violation_of(&error))
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        while let Some((due, timer)) = self.timers.pop_due(now) {
            self.handle_timer(now, now - due, timer);
        }
        self.ask_about_worries(now);
        self.after(now);
    }

    fn handle_timer(&mut self, now: Now, late: Duration, timer: Timer<Identity>) {
        self.awareness.timer_was_late(now, late);
        let forgotten = match &timer {
            Timer::ChangeSuspectToDown {
                member_id,
                incarnation,
                ..
            } => {
                if !self.is_suspect(member_id, *incarnation) {
                    // The suspect has cleared itself; foca would tell it that it is dead all the same.
                    return;
                }
                if late > OVERSLEPT {
                    let patience = pace::suspicion(&self.config, self.size());
                    self.timers.add(now + patience, timer);
                    return;
                }
                None
            }
            Timer::RemoveDown(id) => Some(id.peer),
            Timer::ProbeRandomMember(_)
            | Timer::SendIndirectProbe { .. }
            | Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_) => None,
        };
        // An incomplete probe is the only error possible here. foca has started the next one already.
        let _incomplete = self.foca.handle_timer(timer, &mut self.runtime);
        if let Some(peer) = forgotten
            && !self.records().any(|record| record.id().peer == peer)
        {
            self.register().forget(&peer);
        }
        self.drain(now);
    }

    /// All that we know of others, the dead included.
    pub(crate) fn known(&self) -> impl Iterator<Item = Record> {
        self.records().map(identity::to_record)
    }

    /// A member by its key, dead or alive.
    pub(crate) fn find(&self, peer: &PeerId) -> Option<Member> {
        self.records()
            .find(|record| record.id().peer == *peer)
            .map(|record| record.id().member())
            .or_else(|| self.lost.get(peer))
            .cloned()
    }

    /// The members that we lost sight of. A former life of our own is none of them.
    pub(crate) fn down(&self) -> impl Iterator<Item = &Member> {
        let me = self.me().peer;
        self.records()
            .filter(|record| record.state() == State::Down)
            .map(|record| record.id().member())
            .chain(self.lost.values())
            .filter(move |member| member.peer != me)
    }

    /// Makes `me` our own record; it must be newer than the present one.
    pub(crate) fn change_me(&mut self, now: Now, me: Member) {
        if self.left {
            return;
        }
        let me = Identity::new(me);
        self.register().set_me(me.clone());
        // Fails only for an equal identity, and a newer one is never equal.
        let _infallible = self.foca.change_identity(me, &mut self.runtime);
        self.after(now);
    }

    /// Tells the others that we go, and falls silent.
    pub(crate) fn leave(&mut self, now: Now) {
        self.register().leave();
        let _infallible = self.foca.leave_cluster(&mut self.runtime);
        // A second round: nothing else will repeat these words.
        let _infallible = self.foca.gossip(&mut self.runtime);
        self.drain(now);
        self.timers = Timers::default();
        self.worries = Worries::default();
        self.left = true;
    }

    fn after(&mut self, now: Now) {
        self.drain(now);
        self.revive(now);
        self.worry(now);
        self.catch_up(now);
        self.start_over_if_cut_off();
        // A new identity is not connected until foca looks around.
        let _infallible = self
            .foca
            .apply_many(std::iter::empty(), false, &mut self.runtime);
        self.drain(now);
        self.adapt();
    }

    fn drain(&mut self, now: Now) {
        if self.register().take_suspected() {
            self.awareness.was_suspected(now);
        }
        let burst = self.runtime.backlog();
        while let Some((after, timer)) = self.runtime.to_schedule() {
            if let Timer::ProbeRandomMember(token) = timer {
                self.token = Some(token);
            }
            let after = self.awareness.stretch(&timer, after);
            self.timers.add(now + after, timer);
        }
        while let Some(notification) = self.runtime.to_notify() {
            self.note(notification);
        }
        while let Some((to, packet)) = self.runtime.to_send() {
            // Whoever asks us to probe a third party names its addresses; strangers we leave alone.
            let known = self.register().knows(&to.peer);
            if known && to.peer != self.me().peer {
                self.news.push_back(News::Send {
                    to: to.member().clone(),
                    bytes: swim_datagram(&packet).into(),
                });
            }
        }
        if burst > USUAL_NEWS {
            self.runtime = AccumulatingRuntime::new();
        }
    }

    fn note(&mut self, notification: OwnedNotification<Identity>) {
        match notification {
            OwnedNotification::MemberUp(id) => {
                self.lost.remove(&id.peer);
                self.register().came_up(&id.peer);
                self.news.push_back(News::Up(id.member().clone()));
            }
            OwnedNotification::MemberDown(id) => {
                let incarnation = self.incarnation(&id);
                self.news.push_back(News::Down(id.peer));
                self.register().went_down(id, incarnation);
            }
            OwnedNotification::Rename(_, id) => {
                self.register().came_up(&id.peer);
                self.news.push_back(News::Changed(id.member().clone()));
            }
            OwnedNotification::Rejoin(id) => {
                self.register().set_me(id.clone());
                self.news.push_back(News::Rejoined(id.member().clone()));
            }
            OwnedNotification::Idle => self.is_cut_off = true,
            OwnedNotification::Active => self.is_cut_off = false,
            OwnedNotification::Defunct => {}
        }
    }

    /// The cluster remembers a newer life of ours, say from before our disk was lost or our clock
    /// stepped back. It would ignore us forever, so we step ahead of it.
    fn catch_up(&mut self, now: Now) {
        let Some(newest) = self.register().newer_life() else {
            return;
        };
        if self
            .caught_up
            .is_some_and(|last| now - last < CATCH_UP_PERIOD)
        {
            return;
        }
        self.caught_up = Some(now);
        let me = Member {
            generation: newest,
            ..self.me().clone()
        }
        .renewed();
        if me.generation <= newest {
            return;
        }
        self.register().set_me(Identity::new(me.clone()));
        let _infallible = self
            .foca
            .change_identity(Identity::new(me.clone()), &mut self.runtime);
        self.drain(now);
        self.news.push_back(News::Rejoined(me));
    }

    /// Follows the cluster's size.
    fn adapt(&mut self) {
        let size = self.size();
        if self.paced_for != size {
            self.paced_for = size;
            // Only what may change at run time differs.
            let _infallible = self.foca.set_config(foca_config(&self.config, size));
        }
    }

    fn recount_if_full(&mut self, now: Now) {
        let due = self
            .recounted
            .is_none_or(|last| now - last >= RECOUNT_PERIOD);
        if due && self.register().is_full() {
            self.recounted = Some(now);
            let known = self.records().map(|record| record.id().peer).collect();
            self.register().recount(known);
        }
    }

    fn is_suspect(&self, id: &Identity, incarnation: u16) -> bool {
        self.records().any(|record| {
            record.id() == id
                && record.state() == State::Suspect
                && record.incarnation() == incarnation
        })
    }

    fn incarnation(&self, id: &Identity) -> Incarnation {
        let record = self.records().find(|record| record.id() == id);
        record.map_or(0, foca::Member::incarnation)
    }

    fn records(&self) -> impl Iterator<Item = &foca::Member<Identity>> {
        self.foca.iter_membership_state()
    }

    fn size(&self) -> usize {
        self.foca.num_members() + 1
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_foca(
    config: &Config,
    me: Identity,
    seeds: &mut Xoshiro256PlusPlus,
    register: &Arc<Mutex<Register>>,
) -> SwimFoca {
    let rng = Xoshiro256PlusPlus::seed_from_u64(seeds.next_u64());
    Foca::new(
        me,
        foca_config(config, 1),
        rng,
        Codec::new(Arc::clone(register)),
    )
}

fn violation_of(error: &foca::Error) -> Violation {
    match error {
        foca::Error::DataFromOurselves => Violation::SenderMismatch,
        foca::Error::DataTooBig
        | foca::Error::NotUndead
        | foca::Error::SameIdentity
        | foca::Error::NotConnected
        | foca::Error::IncompleteProbeCycle
        | foca::Error::IndirectForOurselves
        | foca::Error::MalformedPacket
        | foca::Error::Encode(_)
        | foca::Error::Decode(_)
        | foca::Error::CustomBroadcast(_)
        | foca::Error::InvalidConfig => Violation::Malformed("packet"),
    }
}
