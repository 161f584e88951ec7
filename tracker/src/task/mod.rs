//! One task on this node: what local callers want of it, its session, its registration and its reads.

mod announce;
mod arbitration;
mod enrolment;
mod losses;
mod reads;
mod spreading;
mod versions;

use std::collections::BTreeMap;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use self::arbitration::Dispute;
use self::losses::Losses;
use self::spreading::Spreading;
use crate::context::Context;
use crate::ids::{BlockDigest, BlockIndex, TaskId, VersionId};
use crate::message::{LeaseEnd, Message};
use crate::output::{BlameReason, Origin, Output, TaskEvent, TaskFailure};
use crate::reads::{Purpose, Read, Unsigned};
use crate::registration::{Registration, Step};
use crate::scope::Part;
use crate::session::{Arrival, Session};

/// What the local callers of a task want, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Whether this node may read the source for it.
    pub can_read: bool,
    /// Whether the callers' requests carry credentials: then the source must have said yes to them.
    pub credentialed: bool,
    /// Where the callers name content by its digest: the version that their own authority gives.
    ///
    /// Such content never changes, and who may have it is decided caller by caller, not here. Blocks of another
    /// authority's version are taken, but never read in these callers' name: what their authority gives may be
    /// something else.
    pub named: Option<VersionId>,
    /// The version that the newest caller has just heard the source name itself: it need not be asked of it again.
    pub seen: Option<VersionId>,
    /// How old the last validation of a cached version may be.
    pub max_age: Duration,
    /// The part that is wanted; `None` for the whole. Of several callers' parts no other block is fetched.
    pub part: Option<Part>,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, told at another time"
)]
#[derive(Debug)]
pub(crate) struct Task {
    id: TaskId,
    pub(crate) session: Session,
    registration: Registration,
    wish: Option<Wish>,
    reads: BTreeMap<u64, Read>,
    /// Reads that are over and have not spread, by lease.
    spreading: BTreeMap<u64, Spreading>,
    /// Digests of reads that are over.
    to_sign: Vec<Unsigned>,
    /// The version that the source itself gave to this node's callers.
    proven: Option<VersionId>,
    validated: Option<Now>,
    /// Whether the home has answered since the newest caller came: what it says before is no answer to that one.
    heard: bool,
    /// Whether it named a version unasked before: it is asked whether that is current as soon as something of it is here.
    asks_anew: bool,
    /// Whether the version is known to be what the source has now, as the newest caller understands "now".
    current: bool,
    /// The version that the source is known not to have any more.
    outdated: Option<VersionId>,
    restarts: u32,
    announces: bool,
    told_quarter: Option<u8>,
    /// Whether the cluster was told anything of it by gossip.
    claims: bool,
    told_length: Option<VersionId>,
    pub(crate) complete_told: bool,
    told_alone: bool,
    dispute: Dispute,
    losses: Losses,
}

impl Task {
    pub(crate) fn new(id: TaskId, now: Now) -> Self {
        Self {
            id,
            session: Session::new(id, now),
            registration: Registration::new(id, now),
            wish: None,
            reads: BTreeMap::new(),
            spreading: BTreeMap::new(),
            to_sign: Vec::new(),
            proven: None,
            validated: None,
            heard: false,
            asks_anew: false,
            current: false,
            outdated: None,
            restarts: 0,
            announces: false,
            told_quarter: None,
            claims: false,
            told_length: None,
            complete_told: false,
            told_alone: false,
            dispute: Dispute::default(),
            losses: Losses::default(),
        }
    }

    pub(crate) const fn is_wanted(&self) -> bool {
        self.wish.is_some()
    }

    /// Whether this node still waits for blocks, or for the word that those it has are current.
    fn waits(&self) -> bool {
        self.wish.is_some() && !self.complete_told && !(self.current && self.session.has_its_part())
    }

    pub(crate) fn readers(&self) -> usize {
        self.reads.len()
    }

    fn tell(&self, cx: &mut Context<'_>, event: TaskEvent) {
        cx.out.push_back(Output::Task {
            task: self.id,
            event,
        });
    }

    /// Says so if this node does without homes by now, or no more.
    pub(crate) fn tell_alone(&mut self, cx: &mut Context<'_>) {
        let alone = self.acts_alone();
        if std::mem::replace(&mut self.told_alone, alone) != alone {
            let event = if alone {
                TaskEvent::Alone
            } else {
                TaskEvent::NotAlone
            };
            self.tell(cx, event);
        }
    }

    pub(crate) fn register(&mut self, cx: &mut Context<'_>, wish: Wish) {
        let waited = self.waits();
        self.session.want_part(wish.part, self.wish.is_none());
        if !waited {
            self.session.last_gain = cx.now;
            self.wait_for_help();
        }
        let merged = self.wish.map_or(wish, |old| Wish {
            part: wish.part,
            can_read: old.can_read || wish.can_read,
            credentialed: old.credentialed && wish.credentialed,
            named: old
                .named
                .filter(|named| Some(*named) == self.version())
                .or(wish.named),
            seen: wish.seen,
            max_age: old.max_age.min(wish.max_age),
        });
        self.wish = Some(merged);
        self.restarts = 0;
        if wish.seen.is_some() && wish.seen == self.version() {
            self.validated = Some(cx.now);
        }
        let fresh = self
            .validated
            .is_some_and(|at| cx.now.saturating_since(at) <= wish.max_age)
            || wish.named.is_some();
        self.heard = false;
        self.asks_anew = false;
        self.current = false;
        if fresh {
            self.be_current(cx);
        }
        self.complete_told = false;
        if self.session.is_complete() && fresh && self.may_take() {
            self.finish(cx);
            return;
        }
        if self.session.is_complete() && self.session.meta.as_ref().is_some_and(|meta| meta.single)
        {
            // What has no validator is not kept for later callers.
            self.session.restart(cx);
            self.dispute = Dispute::default();
            self.tell(cx, TaskEvent::Restarted);
        }
        self.session.want(cx);
        self.registration.renew(cx.now);
        self.ask_if_due(cx, 0);
    }

    /// The last local caller left.
    pub(crate) fn service_down(&mut self, cx: &mut Context<'_>) {
        self.wish = None;
        self.session.unwant(cx);
        let disputes = |read: &Read| read.purpose == Purpose::Arbitration;
        if self.reads.values().any(disputes) {
            self.dispute = Dispute::default();
        }
        let reads: Vec<u64> = self.reads.keys().copied().collect();
        for lease in reads {
            self.end_read(cx, lease, Some(LeaseEnd::Returned));
            cx.out.push_back(Output::StopSource {
                task: self.id,
                lease,
            });
        }
        if self.session.have.is_empty() {
            if let Some(home) = self.registration.home() {
                cx.send(home, Message::Leave(self.id));
            }
        } else {
            self.registration.hurry(cx.now);
        }
    }

    fn fail(&mut self, cx: &mut Context<'_>, failure: TaskFailure) {
        if self.wish.is_some() {
            self.tell(cx, TaskEvent::Failed(failure));
            self.service_down(cx);
        }
    }

    /// A block that was here is damaged: whoever waits for the task waits for it again, and the home, which goes by
    /// what it was told, is told otherwise; so are neighbours, who would never offer what they believe to be here.
    pub(crate) fn lose_block(&mut self, cx: &mut Context<'_>, block: BlockIndex) {
        self.complete_told = false;
        self.dispute = Dispute::default();
        if self.wish.is_some() {
            self.session.want(cx);
        }
        if self.session.lose_block(block) {
            self.session.greet_again(cx);
        }
        self.registration.hurry(cx.now);
    }

    /// Tells callers that every block is here, once.
    ///
    /// A cached version counts only once the home or the source showed that it is current: a late signature, or
    /// the home's answer to an older question, must not end the wait of a caller who asked just now.
    fn finish(&mut self, cx: &mut Context<'_>) {
        if !self.session.is_complete()
            || !self.current
            || !self.may_take()
            || self
                .reads
                .values()
                .any(|read| read.purpose == Purpose::Arbitration)
        {
            return;
        }
        if !self.complete_told {
            self.complete_told = true;
            self.session.wants = false;
            self.tell(cx, TaskEvent::Complete);
            self.registration.hurry(cx.now);
            self.announce(cx);
        }
    }

    pub(crate) fn handle_block(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        version: VersionId,
        block: BlockIndex,
        digest: BlockDigest,
    ) -> Arrival {
        let arrival = self.session.handle_block(cx, from, version, block, digest);
        let origin = Origin::Peer(from);
        match arrival {
            Arrival::Good => {
                cx.out.push_back(Output::Keep {
                    task: self.id,
                    version,
                    block,
                    origin,
                });
                self.wait_for_help();
                if std::mem::take(&mut self.asks_anew)
                    && !self.heard
                    && !self.current
                    && !self.registration.is_asking()
                {
                    self.registration.hurry(cx.now);
                }
                self.tell_progress(cx);
                self.finish_if_done(cx);
            }
            Arrival::Useless => cx.out.push_back(Output::Drop {
                task: self.id,
                block,
                origin,
            }),
            Arrival::Altered => {
                cx.out.push_back(Output::Drop {
                    task: self.id,
                    block,
                    origin,
                });
                cx.blame(from, BlameReason::AlteredBytes);
            }
        }
        arrival
    }

    fn finish_if_done(&mut self, cx: &mut Context<'_>) {
        if self.wish.is_some()
            && self.session.is_complete()
            && self
                .reads
                .values()
                .all(|read| read.purpose != Purpose::Clearance)
        {
            self.finish(cx);
        }
    }

    /// Whether there is nothing here that a later caller or a peer could use.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.session.have.is_empty() && !self.session.is_complete()
    }

    /// The node holds nothing of the task any more.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>) {
        self.service_down(cx);
        if let Some(home) = self.registration.home()
            && !self.session.have.is_empty()
        {
            cx.send(home, Message::Leave(self.id));
        }
        self.take_back(cx);
        // Who is silent hears it too: it would take the next caller's hello for one that it has answered.
        for peer in self.session.greeted() {
            cx.send(peer, Message::Bye(self.id));
        }
        self.session.lose_all(cx);
        cx.slots.forget(&self.id);
    }

    /// A peer is isolated. What it signed holds on, unless it signed what is false: who alters what it relays
    /// need not have lied about what it read, and reading all of that again would cost the source.
    pub(crate) fn isolate(&mut self, cx: &mut Context<'_>, peer: &PeerId, reason: BlameReason) {
        if reason == BlameReason::FalseDigest {
            let have = &self.session.have;
            self.session
                .ledger
                .distrust(peer, |block| have.contains(block));
        }
        self.session.lose(cx, peer);
    }

    fn has_business(&self) -> bool {
        self.wish.is_some() || !self.session.have.is_empty()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        let registration = self
            .has_business()
            .then(|| self.registration.poll_timeout());
        let reads = self.reads.values().map(Read::poll_timeout).min();
        // What waits to be signed waits for nothing else.
        let to_sign = (!self.to_sign.is_empty()).then(|| Now::from_micros(0));
        let spreading = self.spreading_timeout();
        [
            registration,
            reads,
            spreading,
            to_sign,
            self.session.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Deadlines. Returns digests to be signed, and whether this node shall act as a home for itself.
    pub(crate) fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        interested: usize,
    ) -> (Vec<Unsigned>, bool) {
        self.session.handle_timeout(cx);
        let due = self
            .reads
            .values_mut()
            .filter_map(|read| read.due_unsigned(cx.now));
        let unsigned = self.to_sign.drain(..).chain(due).collect();
        self.tick_reads(cx);
        self.look_for_losses(cx);
        let alone = self.has_business() && self.ask_if_due(cx, interested) == Some(Step::ActAlone);
        (unsigned, alone)
    }
}
