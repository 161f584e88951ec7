//! How foca sees a member.

use std::ops::Deref;
use std::sync::Arc;

use foca::State;

use crate::wire::{Record, Standing};
use crate::{Member, PeerId};

/// A member as foca's identity.
///
/// foca copies identities freely, so it copies a pointer; and it searches all members for a key at
/// every turn, so the key stands in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    key: PeerId,
    member: Arc<Member>,
}

impl Identity {
    pub(crate) fn new(member: Member) -> Self {
        Self {
            key: member.peer,
            member: Arc::new(member),
        }
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }
}

impl Deref for Identity {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.member
    }
}

impl foca::Identity for Identity {
    type Addr = PeerId;

    fn renew(&self) -> Option<Self> {
        Some(Self::new(self.member.renewed()))
    }

    fn addr(&self) -> PeerId {
        self.key
    }

    /// The higher generation wins. Two records of one generation should not exist; if they do, all
    /// nodes must still agree, so the whole record decides.
    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        let generations = self.generation.cmp(&adversary.generation);
        generations
            .then_with(|| self.member.cmp(&adversary.member))
            .is_gt()
    }
}

pub(crate) fn to_record(member: &foca::Member<Identity>) -> Record {
    Record {
        member: member.id().member().clone(),
        incarnation: member.incarnation(),
        standing: match member.state() {
            State::Alive => Standing::Alive,
            State::Suspect => Standing::Suspect,
            State::Down => Standing::Down,
        },
    }
}

pub(crate) fn from_record(record: Record) -> foca::Member<Identity> {
    let state = match record.standing {
        Standing::Alive => State::Alive,
        Standing::Suspect => State::Suspect,
        Standing::Down => State::Down,
    };
    foca::Member::new(Identity::new(record.member), record.incarnation, state)
}
