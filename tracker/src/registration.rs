//! A node's side of its task's home: finding it, keeping to it, and doing without.

use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use crate::context::Context;
use crate::ids::TaskId;

/// How long a home has to answer, try by try, before the next rank is asked.
const PATIENCE: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(100),
    Duration::from_millis(200),
];
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
    alone: bool,
    acting: bool,
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
            alone: false,
            acting: false,
            reconsidered: false,
        }
    }

    /// The home that answered last.
    pub(crate) const fn home(&self) -> Option<PeerId> {
        self.home
    }

    pub(crate) const fn poll_timeout(&self) -> Now {
        self.next
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
        self.alone = false;
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
        let Some(home) = self.home else { return };
        let gone = !cx.view.contains(&home) || cx.is_isolated(&home);
        let first = cx.homes(&self.task).first().copied();
        if gone || (first.is_some() && first != Some(home) && !self.acting) {
            self.home = None;
            self.asked = None;
            self.request = 0;
            self.unanswered.clear();
            // Spread, so that a thousand holders do not all come in one millisecond.
            self.next = self
                .next
                .min(cx.now + Duration::from_micros(cx.chance.below(50_000)));
        }
    }

    /// The deadline passed. `gained` is when the last block came, `None` for one that only holds.
    pub(crate) fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        gained: Option<Now>,
        peers: usize,
    ) -> Option<Step> {
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
        if let Some(silent) = self.home.take() {
            self.unanswered.push(silent);
        }
        self.asked = None;
        let ranks = cx.homes(&self.task);
        let exhausted = ranks.iter().all(|rank| self.unanswered.contains(rank));
        if exhausted {
            self.unanswered.clear();
        }
        let silent = self
            .unheard
            .is_some_and(|since| cx.now.saturating_since(since) >= ALONE_AFTER);
        if wants && silent {
            self.alone = true;
            self.next = cx.now + ALONE_PERIOD;
            // Of those who are alone for the same task, about three act each second.
            if cx.chance.below(peers as u64 + 1) < 3 {
                self.acting = true;
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
    pub(crate) fn accepts(&mut self, from: PeerId, request: u64) -> bool {
        if request == 0 {
            return self.home == Some(from);
        }
        if request != self.request {
            return false;
        }
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

    pub(crate) fn welcomed(&mut self, now: Now, wants: bool) {
        // Another home answers: the next time alone is another matter.
        self.reconsidered &= self.acting;
        self.answered = now;
        self.asked = None;
        self.unheard = None;
        self.redirects = 0;
        self.alone = false;
        self.unanswered.clear();
        self.next = now + if wants { STALL } else { HOLDER_PERIOD };
    }

    pub(crate) fn not_yet(&mut self, now: Now) {
        self.asked = None;
        self.request = 0;
        self.unheard = None;
        self.next = now + NOT_YET_PAUSE;
    }

    pub(crate) fn redirected(&mut self, now: Now, to: PeerId) {
        self.asked = None;
        self.request = 0;
        self.redirects += 1;
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
