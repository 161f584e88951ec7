//! A node's side of its task's home: finding it, keeping to it, and doing without.

use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use crate::context::Context;
use crate::ids::TaskId;
use crate::message::Outcome;

/// How long a home has to answer, try by try, before the next rank is asked.
const PATIENCE: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(100),
    Duration::from_millis(200),
];
/// In place of tries: the home has no room, so that further ones are in vain.
const NO_ROOM: u32 = u32::MAX;
/// A registrant to which nothing comes for this long asks its home again.
const STALL: Duration = Duration::from_millis(500);
/// A home that says "not yet" is asked again after this long.
const NOT_YET_PAUSE: Duration = Duration::from_millis(200);
/// Holders register again this often, and whoever else has nothing to ask, so that no home forgets the task.
const HOLDER_PERIOD: Duration = Duration::from_mins(5);
/// Without an answer from any home for this long, a node is alone.
const ALONE_AFTER: Duration = Duration::from_secs(1);
/// How often a node that is alone draws lots for acting itself.
const ALONE_PERIOD: Duration = Duration::from_secs(1);
/// A node that acts for itself asks the task's first rank this often whether it answers again: until then it reads what
/// others read, too.
const LOOK_UP_PERIOD: Duration = Duration::from_secs(1);
/// Redirects followed in a row; views that disagree for longer are waited out.
const MAX_REDIRECTS: u32 = 3;

/// What the owner must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send a register message with this request number.
    Ask {
        /// To whom.
        home: PeerId,
        /// The number.
        request: u64,
    },
    /// No home answers and the lot fell on this node: act as a home for itself.
    ActAlone,
}

/// The state of one task's registration.
#[derive(Debug)]
pub(crate) struct Registration {
    task: TaskId,
    home: Option<PeerId>,
    /// Ranks that did not answer, in this round.
    unanswered: Vec<PeerId>,
    request: u64,
    asked: Option<u32>,
    next: Now,
    /// When a home last answered.
    answered: Now,
    /// Since when nobody has answered what was asked.
    unheard: Option<Now>,
    redirects: u32,
    /// Whether a home led elsewhere since one last answered: what it says now is no sign that anybody will.
    led: bool,
    acting: bool,
    /// When the first rank is asked next, while this node acts for itself.
    look_up: Now,
    /// What it was asked under.
    look_up_request: u64,
    /// Whether the ranks were asked again after this node alone could not read the source.
    reconsidered: bool,
}

impl Registration {
    pub(crate) const fn new(task: TaskId, now: Now) -> Self {
        Self {
            task,
            home: None,
            unanswered: Vec::new(),
            request: 0,
            asked: None,
            next: now,
            answered: now,
            unheard: None,
            redirects: 0,
            led: false,
            acting: false,
            look_up: now,
            look_up_request: 0,
            reconsidered: false,
        }
    }

    /// Whether this node does without the ranks.
    pub(crate) const fn acts_alone(&self) -> bool {
        self.acting
    }

    /// The home that answered last.
    pub(crate) const fn home(&self) -> Option<PeerId> {
        self.home
    }

    pub(crate) fn poll_timeout(&self) -> Now {
        if self.acting {
            self.next.min(self.look_up)
        } else {
            self.next
        }
    }

    /// Ask now, whatever the deadline: something changed that the home must know.
    pub(crate) const fn hurry(&mut self, now: Now) {
        self.next = now;
        self.asked = None;
        self.request = 0;
    }

    /// A new local caller: earlier failures to reach homes count no more.
    pub(crate) fn renew(&mut self, now: Now) {
        self.unheard = None;
        self.led = false;
        self.unanswered.clear();
        self.hurry(now);
    }

    /// A node that acts for itself alone cannot read the source: the ranks may answer by now, and name holders.
    /// `false` if they were asked for this reason before.
    pub(crate) fn reconsider(&mut self, now: Now) -> bool {
        let reconsiders = self.acting && !self.reconsidered;
        if reconsiders {
            self.acting = false;
            self.home = None;
            self.reconsidered = true;
            self.renew(now);
        }
        reconsiders
    }

    /// The members changed, or who of them is isolated: if the task's first home did, go there.
    pub(crate) fn view_changed(&mut self, cx: &mut Context<'_>) {
        let soon = cx.now + Duration::from_micros(cx.chance.below(50_000));
        let Some(home) = self.home else {
            // Whom no rank answered waits for long, and who is back may be one of them.
            self.next = self.next.min(soon);
            return;
        };
        let gone = !cx.view.contains(&home) || cx.is_isolated(&home);
        let first = cx.homes(&self.task).first().copied();
        if gone || (first.is_some() && first != Some(home) && !self.acting) {
            self.home = None;
            self.asked = None;
            self.request = 0;
            self.unanswered.clear();
            // Spread, so that a thousand holders do not all come in one millisecond.
            self.next = self.next.min(soon);
        }
    }

    /// The deadline passed. `gained` is when the last block came, `None` for one that only holds.
    pub(crate) fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        gained: Option<Now>,
        peers: usize,
    ) -> Option<Step> {
        if let Some(rank) = self.looks_up(cx) {
            return Some(Step::Ask {
                home: rank,
                request: self.look_up_request,
            });
        }
        if cx.now < self.next {
            return None;
        }
        if self.asked.is_none()
            && self.request != 0
            && self.home.is_some()
            && let Some(gained) = gained
        {
            // Blocks come: there is nothing to ask, but a home forgets tasks of which nobody speaks.
            let due = (gained + STALL).min(self.answered + HOLDER_PERIOD);
            if cx.now < due {
                self.next = due;
                return None;
            }
        }
        if let Some(tries) = self.asked {
            if tries as usize >= PATIENCE.len() {
                return self.give_up_rank(cx, gained.is_some(), peers);
            }
        } else {
            self.request = cx.chance.next() | 1;
        }
        let home = self.target(cx)?;
        let tries = self.asked.unwrap_or(0);
        self.asked = Some(tries + 1);
        self.unheard.get_or_insert(cx.now);
        self.next = cx.now + PATIENCE[(tries as usize).min(PATIENCE.len() - 1)];
        Some(Step::Ask {
            home,
            request: self.request,
        })
    }

    /// The rank to ask, beside acting alone, whether it answers again: whoever answers is the home from then on.
    fn looks_up(&mut self, cx: &mut Context<'_>) -> Option<PeerId> {
        if !self.acting || cx.now < self.look_up {
            return None;
        }
        self.look_up = cx.now + LOOK_UP_PERIOD;
        let first = cx.homes(&self.task).first().copied()?;
        if first == cx.view.me() {
            self.acting = false;
            return None;
        }
        if self.look_up_request == 0 {
            self.look_up_request = cx.chance.next() | 1;
        }
        Some(first)
    }

    fn target(&mut self, cx: &mut Context<'_>) -> Option<PeerId> {
        if self.acting {
            self.home = Some(cx.view.me());
        }
        if let Some(home) = self.home {
            return Some(home);
        }
        let ranks = cx.homes(&self.task);
        let home = ranks
            .iter()
            .find(|rank| !self.unanswered.contains(rank))
            .or_else(|| ranks.first())
            .copied();
        self.home = home;
        home
    }

    fn give_up_rank(&mut self, cx: &mut Context<'_>, wants: bool, peers: usize) -> Option<Step> {
        self.asked = None;
        if let Some(silent) = self.home.take() {
            self.unanswered.push(silent);
            if silent == cx.view.me() {
                // This node itself has no room for a table: back to the ranks.
                self.acting = false;
                self.next = cx.now;
                return None;
            }
        }
        let ranks = cx.homes(&self.task);
        let exhausted = ranks.iter().all(|rank| self.unanswered.contains(rank));
        if exhausted {
            self.unanswered.clear();
        }
        let silent_for = self
            .unheard
            .map_or(Duration::ZERO, |since| cx.now.saturating_since(since));
        if wants && silent_for >= ALONE_AFTER {
            self.next = cx.now + ALONE_PERIOD;
            // Of those who are alone for the same task, about three act in the first second, and twice as many in each
            // further one: how many they are nobody knows, but all may be.
            let all = peers.max(cx.view.others()) as u64;
            let doublings = silent_for.as_secs().saturating_sub(1).min(32);
            if cx.chance.below(all + 1) < 3 << doublings {
                self.acting = true;
                // One for all: an answer that took longer than a period counts as well.
                self.look_up_request = 0;
                self.look_up = cx.now + LOOK_UP_PERIOD;
                self.next = cx.now;
                return Some(Step::ActAlone);
            }
            return None;
        }
        self.next = if exhausted && !wants {
            cx.now + HOLDER_PERIOD
        } else {
            cx.now
        };
        None
    }

    /// Whether an answer belongs to what was asked, or is the home's own word.
    pub(crate) fn accepts(
        &mut self,
        now: Now,
        from: PeerId,
        request: u64,
        outcome: &Outcome,
    ) -> bool {
        if request == 0 {
            return self.home == Some(from);
        }
        if self.acting && request == self.look_up_request {
            match outcome {
                Outcome::Welcome { .. } => {}
                Outcome::NotYet => {
                    self.look_up = now + NOT_YET_PAUSE;
                    return false;
                }
                // A rank that leads elsewhere or has no room is none to return to.
                Outcome::Redirect { .. }
                | Outcome::Busy
                | Outcome::Failed { .. }
                | Outcome::Report
                | Outcome::LeaseGone { .. } => return false,
            }
        } else if request != self.request {
            return false;
        }
        self.acting &= self.home == Some(from);
        self.home = Some(from);
        true
    }

    /// Whether a question waits for its answer.
    pub(crate) const fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// A home answered for itself. A redirect is no such answer: it may lead, again and again, to one who is
    /// dead or isolated here.
    pub(crate) const fn heard(&mut self) {
        self.unheard = None;
    }

    /// The home wants to know what is read and held here. One that has no room for it is not told again.
    pub(crate) fn report_wanted(&mut self, now: Now) {
        if self.asked != Some(NO_ROOM) {
            self.heard();
            self.hurry(now);
        }
    }

    pub(crate) fn welcomed(&mut self, now: Now, wants: bool) {
        self.led = false;
        // Another home answers: the next time alone is another matter.
        self.reconsidered &= self.acting;
        self.answered = now;
        self.asked = None;
        self.unheard = None;
        self.redirects = 0;
        self.unanswered.clear();
        self.next = now + if wants { STALL } else { HOLDER_PERIOD };
    }

    pub(crate) fn not_yet(&mut self, now: Now) {
        self.asked = None;
        self.request = 0;
        if !self.led {
            self.unheard = None;
        }
        self.next = now + NOT_YET_PAUSE;
    }

    /// The home has no room: like one that does not answer, it is passed over. Who only holds comes again much later.
    pub(crate) fn full(&mut self, now: Now, wants: bool) {
        self.asked = Some(NO_ROOM);
        self.next = now + if wants { NOT_YET_PAUSE } else { HOLDER_PERIOD };
    }

    pub(crate) fn redirected(&mut self, now: Now, to: PeerId) {
        self.asked = None;
        self.request = 0;
        self.redirects += 1;
        self.led = true;
        if self.redirects > MAX_REDIRECTS {
            self.redirects = 0;
            self.home = None;
            self.next = now + NOT_YET_PAUSE;
        } else {
            self.home = Some(to);
            self.acting = false;
            self.next = now;
        }
    }

    /// The home was told something that it answers at once; if it does not within this time, it is asked.
    pub(crate) fn expect_answer(&mut self, by: Now) {
        if self.asked.is_none() {
            self.request = 0;
            self.next = self.next.min(by);
        }
    }

    /// A reader's reports get no answer: the home is dead.
    pub(crate) fn home_is_silent(&mut self, now: Now) {
        if let Some(silent) = self.home.take() {
            self.unanswered.push(silent);
        }
        self.hurry(now);
    }
}
