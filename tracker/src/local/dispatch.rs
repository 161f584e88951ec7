//! Which part of the machine each message is for.

use dfnode_gossip::{Now, PeerId};

use super::context;
use super::{LocalTracker, Violation};
use crate::message::{Message, Outcome};

impl LocalTracker {
    /// A peer's message.
    ///
    /// # Errors
    /// A [`Violation`] is the peer's fault: nothing of the message was used. The owner scores it or drops the link.
    pub fn handle_message(
        &mut self,
        now: Now,
        from: PeerId,
        message: Message,
    ) -> Result<(), Violation> {
        if self.isolated.contains_key(&from) {
            return Ok(());
        }
        let result = self.dispatch(now, from, message);
        self.settle(now);
        result
    }

    pub(super) fn dispatch(
        &mut self,
        now: Now,
        from: PeerId,
        message: Message,
    ) -> Result<(), Violation> {
        match message {
            Message::Register(register) => {
                let holders: Vec<PeerId> = self.holders.of(&register.task, &self.view).collect();
                let mut cx = context!(self, now);
                self.homes
                    .handle_register(&mut cx, from, register, &holders);
            }
            Message::LeaseReport(report) => {
                let mut cx = context!(self, now);
                self.homes.handle_report(&mut cx, from, report);
            }
            Message::Leave(task) => {
                let mut cx = context!(self, now);
                self.homes.handle_leave(&mut cx, from, &task);
            }
            Message::HomeProbe(probe) => {
                let mut cx = context!(self, now);
                self.homes.handle_probe(&mut cx, from, &probe);
            }
            Message::HomeState(state) => {
                let mut cx = context!(self, now);
                self.homes.handle_state(&mut cx, from, state);
            }
            Message::Registered(registered) => {
                let mut cx = context!(self, now);
                let outcome = &registered.outcome;
                let counts_on_us = matches!(outcome, Outcome::Welcome { .. } | Outcome::Report);
                if let Some(task) = self.tasks.get_mut(&registered.task) {
                    let (id, acted) = (registered.task, task.acts_alone());
                    task.handle_registered(&mut cx, from, registered);
                    task.tell_alone(&mut cx);
                    if acted && !task.acts_alone() {
                        self.homes.stop_acting_alone(&mut cx, &id);
                    }
                } else if counts_on_us {
                    // A farewell was lost, or overtaken: no lease may wait for this node.
                    cx.send(from, Message::Leave(registered.task));
                }
            }
            Message::Border(border) => {
                let mut cx = context!(self, now);
                if let Some(task) = self.tasks.get_mut(&border.task) {
                    task.handle_border(&mut cx, from, &border);
                }
            }
            Message::Hello(_)
            | Message::Batches(_)
            | Message::Have(_)
            | Message::Offer(_)
            | Message::Want(_)
            | Message::Decline(_)
            | Message::Room(_)
            | Message::Cancel(_)
            | Message::Refuse(_)
            | Message::Bye(_)
            | Message::AskDigests(_) => return self.dispatch_session(now, from, message),
        }
        Ok(())
    }

    fn dispatch_session(
        &mut self,
        now: Now,
        from: PeerId,
        message: Message,
    ) -> Result<(), Violation> {
        let id = message.task();
        let mut cx = context!(self, now);
        let Some(task) = self.tasks.get_mut(&id) else {
            if matches!(message, Message::Hello(_) | Message::Offer(_)) {
                cx.send(from, Message::Bye(id));
            }
            return Ok(());
        };
        let session = &mut task.session;
        session.heard(now, &from);
        match message {
            Message::Hello(hello) => {
                if !session.handle_hello(&mut cx, from, &hello) {
                    cx.send(from, Message::Bye(id));
                }
            }
            Message::Batches(batches) => {
                session
                    .handle_batches(&mut cx, from, batches.batches)
                    .map_err(|_| Violation::BadBatch)?;
            }
            Message::AskDigests(ask) => {
                if !session.handle_ask_digests(&mut cx, from, &ask) {
                    return Err(Violation::NoSuchBlock);
                }
            }
            Message::Have(have) => {
                if !session.handle_have(&mut cx, from, &have) {
                    return Err(Violation::NoSuchBlock);
                }
                task.length_may_be_known(&mut cx);
            }
            Message::Offer(offer) => session.handle_offer(&mut cx, from, &offer),
            Message::Want(want) => session.handle_want(&mut cx, from, &want),
            Message::Decline(decline) => {
                session.handle_decline(&mut cx, from, decline.grant, decline.reason);
            }
            Message::Room(_) => session.handle_room(&mut cx, from),
            Message::Cancel(cancel) => session.handle_cancel(&mut cx, from, cancel.block),
            Message::Refuse(refuse) => session.handle_lost(&mut cx, from, refuse.block, true),
            Message::Bye(_) => session.lose(&mut cx, &from),
            Message::Register(_)
            | Message::Registered(_)
            | Message::LeaseReport(_)
            | Message::Leave(_)
            | Message::HomeProbe(_)
            | Message::HomeState(_)
            | Message::Border(_) => {}
        }
        Ok(())
    }
}
