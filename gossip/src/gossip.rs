//! The machine: a switchboard between its parts.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use crate::{
    Config, Event, EventKind, Member, Now, Output, PeerId, PublishError, SignRequestId, Subject,
    Violation,
};

/// Membership and events of one node.
#[derive(Debug)]
pub struct Gossip {
    me: Member,
    members: BTreeMap<PeerId, Member>,
    slots: BTreeMap<Subject, Vec<Event>>,
    outputs: VecDeque<Output>,
}

#[expect(
    unused_variables,
    reason = "the signatures come first, the bodies next"
)]
#[expect(
    clippy::unused_self,
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "as above"
)]
#[expect(clippy::missing_errors_doc, missing_docs, reason = "as above")]
impl Gossip {
    pub fn new(config: Config, me: Member, seed: u64, now: Now) -> Self {
        Self {
            me,
            members: BTreeMap::new(),
            slots: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }
    pub const fn me(&self) -> &Member {
        &self.me
    }
    pub fn set_addrs(&mut self, now: Now, addrs: Vec<SocketAddr>) {}
    pub fn handle_datagram(
        &mut self,
        now: Now,
        from: PeerId,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        Ok(())
    }
    pub fn handle_timeout(&mut self, now: Now) {}
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
    pub fn poll_timeout(&self) -> Option<Now> {
        None
    }
    pub fn publish(
        &mut self,
        now: Now,
        subject: Subject,
        kind: EventKind,
        body: Bytes,
    ) -> Result<(), PublishError> {
        Ok(())
    }
    pub fn handle_signature(&mut self, now: Now, request: SignRequestId, signature: [u8; 64]) {}
    pub fn withdraw(&mut self, now: Now, subject: Subject, kind: EventKind) {}
    pub fn sync_open(&mut self, now: Now) -> Vec<u8> {
        Vec::new()
    }
    pub fn sync_answer(
        &mut self,
        now: Now,
        from: PeerId,
        open: &[u8],
    ) -> Result<Vec<u8>, Violation> {
        Ok(Vec::new())
    }
    pub fn sync_finish(
        &mut self,
        now: Now,
        from: PeerId,
        answer: &[u8],
    ) -> Result<Vec<u8>, Violation> {
        Ok(Vec::new())
    }
    pub fn sync_close(&mut self, now: Now, from: PeerId, last: &[u8]) -> Result<(), Violation> {
        Ok(())
    }
    pub fn synced(&self) -> bool {
        false
    }
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }
    pub fn member(&self, peer: &PeerId) -> Option<&Member> {
        self.members.get(peer)
    }
    pub fn events(&self, subject: &Subject) -> impl Iterator<Item = &Event> {
        self.slots.get(subject).into_iter().flatten()
    }
    pub fn leave(&mut self, now: Now) {}
}
