//! The machine: a switchboard between its parts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

use crate::member::advertised;
use crate::outbox::Outbox;
use crate::roster::Roster;
use crate::slots::{Key, Slots};
use crate::spread::Spread;
use crate::swim::Swim;
use crate::wire::Datagram;
use crate::{
    Config, Event, EventKind, Member, Now, Output, PeerId, PublishError, SignRequestId, Subject,
    Violation,
};

mod clock;
mod events;
mod footprint;
mod membership;
mod plan;
mod sync;

use clock::Clock;
pub use footprint::Footprint;
use plan::Plan;

/// Outputs that there is always room for.
const USUAL_OUTPUTS: usize = 32;

/// Membership and events of one node.
///
/// Four kinds of methods: those that say what happened or what is wished (`handle_*`, `publish`,
/// `sync_*` and the like; all take the time), [`poll_output`](Self::poll_output) to be drained after
/// each of them, [`poll_timeout`](Self::poll_timeout) to be asked then, and getters.
///
/// A node joins by dialling a member and driving a push/pull with it: nothing is announced by
/// datagram.
pub struct Gossip {
    config: Config,
    swim: Swim,
    /// The members that are alive, without ourselves.
    roster: Roster,
    slots: Slots,
    spread: Spread,
    /// When news are passed on next.
    next_spread: Option<Now>,
    outbox: Outbox,
    /// Our slots that were written in this life.
    written: BTreeSet<Key>,
    /// Our slots from an earlier life, and when they are withdrawn unless they are written again.
    inherited: BTreeMap<Key, Now>,
    clock: Clock,
    plan: Plan,
    /// Counts what we learnt that had been true for a while.
    learnt: u64,
    rng: Xoshiro256PlusPlus,
    outputs: VecDeque<Output>,
    left: bool,
}

impl Gossip {
    /// A node on its own. `me` needs at least one address that others can use, or they will refuse
    /// its packets; the first [`MAX_ADDRS`](crate::MAX_ADDRS) such addresses are advertised. Equal seeds and inputs give equal runs.
    pub fn new(config: Config, mut me: Member, seed: u64, now: Now) -> Self {
        me.addrs = advertised(&me.addrs);
        let config = config.workable();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let clock = Clock::new(me.generation, now);
        Self {
            swim: Swim::new(config.clone(), me, rng.next_u64()),
            roster: Roster::new(),
            slots: Slots::new(config.keep_slots_of_down, config.keep_tombstones),
            spread: Spread::default(),
            next_spread: None,
            outbox: Outbox::new(&config, now),
            written: BTreeSet::new(),
            inherited: BTreeMap::new(),
            clock,
            plan: Plan::new(now),
            learnt: 0,
            rng,
            outputs: VecDeque::new(),
            left: false,
            config,
        }
    }

    /// Our own record as others shall see it.
    pub fn me(&self) -> &Member {
        self.swim.me()
    }

    /// The members that are alive, without ourselves, ordered by [`PeerId`].
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.roster.iter()
    }

    /// A member that is alive.
    pub fn member(&self, peer: &PeerId) -> Option<&Member> {
        self.roster.get(peer)
    }

    /// The events about `subject`, our own included.
    pub fn events<'a>(&'a self, subject: &Subject) -> impl Iterator<Item = &'a Event> + use<'a> {
        self.slots.events(subject)
    }

    /// Whether at least one push/pull was done.
    pub fn synced(&self) -> bool {
        self.plan.synced()
    }

    /// The next thing to do. Drain it after each call that takes the time.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // A burst has passed: its room is not kept for the next one.
            self.outputs.shrink_to(USUAL_OUTPUTS);
        }
        output
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. Being late does no harm but to
    /// timeliness.
    pub fn poll_timeout(&self) -> Option<Now> {
        if self.left {
            return None;
        }
        let inherited = self.inherited.values().copied();
        inherited
            .chain([self.plan.next()])
            .chain(self.swim.poll_timeout())
            .chain(self.slots.poll_timeout())
            .chain(self.outbox.poll_timeout())
            .chain(self.next_spread)
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.left {
            return;
        }
        self.swim.handle_timeout(now);
        self.slots.expire(now);
        self.withdraw_inherited(now);
        self.settle(now);
        self.spread_if_due(now);
        self.sync_if_due(now);
    }

    /// Takes a datagram from `from`, whose seal the caller has checked.
    ///
    /// # Errors
    ///
    /// If something about it is wrong. What was right in it is used all the same.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        from: PeerId,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        if self.left {
            return Ok(());
        }
        let handled = match Datagram::read(bytes)? {
            Datagram::Swim(packet) => {
                self.plan.in_contact_with(from);
                self.swim.handle_packet(now, from, packet)
            }
            Datagram::Events { sender, items } => {
                if sender != from || from == self.me().peer {
                    return Err(Violation::SenderMismatch);
                }
                self.take_items(now, items)
            }
        };
        self.settle(now);
        handled
    }

    /// Our addresses changed. The others learn the new ones without losing sight of us.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the face that others code against"
    )]
    pub fn set_addrs(&mut self, now: Now, addrs: Vec<SocketAddr>) {
        let addrs = advertised(&addrs);
        if self.left || addrs == self.me().addrs {
            return;
        }
        let me = Member {
            addrs,
            ..self.me().renewed()
        };
        self.swim.change_me(now, me.clone());
        self.outputs.push_back(Output::Renewed(me));
        self.settle(now);
    }

    /// Writes one of our slots. Saying again what stands there already does nothing.
    ///
    /// It goes out after a moment in which a newer write may replace it, and as the node's rate
    /// allows. A kind that must be signed goes out as [`Output::Sign`] first, and is in force once
    /// the signature is there.
    ///
    /// # Errors
    ///
    /// If a bound was hit; nothing changed then.
    pub fn publish(
        &mut self,
        now: Now,
        subject: Subject,
        kind: EventKind,
        body: Bytes,
    ) -> Result<(), PublishError> {
        let key = self.admit_own(subject, kind, &body)?;
        let is_said = |event: &Event| event.body == body && self.written.contains(&key);
        if self.slots.event(&key).is_some_and(is_said) {
            return Ok(());
        }
        self.rewrite(now, &key, Some(body))?;
        self.written.insert(key);
        self.inherited.remove(&key);
        self.settle(now);
        Ok(())
    }

    /// Takes the signature that an [`Output::Sign`] asked for. One that does not verify, or that
    /// nobody waits for, is dropped.
    pub fn handle_signature(&mut self, now: Now, request: SignRequestId, signature: [u8; 64]) {
        let Some(write) = self.outbox.take_unsigned(request) else {
            return;
        };
        let item = write.finish_signed(&signature);
        if item.is_genuine() && !self.left {
            self.commit(now, item);
            self.settle(now);
        }
    }

    /// Empties one of our slots.
    pub fn withdraw(&mut self, now: Now, subject: Subject, kind: EventKind) {
        if self.left {
            return;
        }
        let key = Key {
            subject,
            origin: self.me().peer,
            kind: kind.into(),
        };
        self.written.remove(&key);
        self.inherited.remove(&key);
        self.outbox.forget_unsigned(&key);
        self.empty_own(now, &key);
        self.settle(now);
    }

    /// Tells the others that we go. Send what [`poll_output`](Self::poll_output) gives; after that
    /// the machine is silent.
    pub fn leave(&mut self, now: Now) {
        if self.left {
            return;
        }
        self.swim.leave(now);
        self.settle(now);
        self.left = true;
    }
}

impl fmt::Debug for Gossip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gossip")
            .field("me", self.me())
            .field("members", &self.roster.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
