//! How foca's packets become bytes and back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut};

use super::identity::{Identity, to_record};
use super::register::Register;
use crate::wire::{Dst, Header, Message, Record};
use crate::{Labels, Member, Violation};

pub(super) struct Codec {
    register: Arc<Mutex<Register>>,
}

/// Why foca's packet was not written or not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error("the packet is full")]
    Full,
    #[error(transparent)]
    Violation(#[from] Violation),
}

impl Codec {
    pub(super) fn new(register: Arc<Mutex<Register>>) -> Self {
        Self { register }
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity that `dst` means: ours if it names this life of ours, one of our address if it
    /// names another, a stranger otherwise.
    fn receiver(&self, dst: &Dst) -> Identity {
        let register = self.register();
        let me = register.me();
        if !dst.names(&me.peer) {
            return nobody(dst.stand_in());
        }
        if *dst == Dst::of(me.member()) {
            me.clone()
        } else {
            nobody(me.peer)
        }
    }
}

/// An identity that is never a member's own: members have addresses.
fn nobody(peer: crate::PeerId) -> Identity {
    Identity::new(Member {
        peer,
        addrs: Vec::new(),
        generation: 0,
        labels: Labels::default(),
    })
}

impl foca::Codec<Identity> for Codec {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &foca::Header<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        let header = Header {
            src: header.src.member().clone(),
            src_incarnation: header.src_incarnation,
            dst: Dst::of(header.dst.member()),
            message: to_wire(&header.message),
        };
        put(buf, &header.to_bytes())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<foca::Header<Identity>, CodecError> {
        let (header, used) = Header::from_front(buf.chunk())?;
        buf.advance(used);
        Ok(foca::Header {
            src: Identity::new(header.src),
            src_incarnation: header.src_incarnation,
            dst: self.receiver(&header.dst),
            message: from_wire(header.message),
        })
    }

    fn encode_member(
        &mut self,
        member: &foca::Member<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        let record = self.register().word(to_record(member));
        put(buf, &record.to_bytes())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<foca::Member<Identity>, CodecError> {
        let (record, used) = Record::from_front(buf.chunk())?;
        buf.advance(used);
        let mut register = self.register();
        // foca wants a member for each that the packet announced; that we live is no news to it.
        let no_news = register.me().clone();
        Ok(register
            .vet(record)
            .unwrap_or_else(|| foca::Member::alive(no_news)))
    }
}

fn put(mut buf: impl BufMut, bytes: &[u8]) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(CodecError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

fn to_wire(message: &foca::Message<Identity>) -> Message {
    match message {
        foca::Message::Ping(number) => Message::Ping(*number),
        foca::Message::Ack(number) => Message::Ack(*number),
        foca::Message::PingReq {
            target,
            probe_number,
        } => Message::PingReq(target.member().clone(), *probe_number),
        foca::Message::IndirectPing {
            origin,
            probe_number,
        } => Message::IndirectPing(origin.member().clone(), *probe_number),
        foca::Message::IndirectAck {
            target,
            probe_number,
        } => Message::IndirectAck(target.member().clone(), *probe_number),
        foca::Message::ForwardedAck {
            origin,
            probe_number,
        } => Message::ForwardedAck(origin.member().clone(), *probe_number),
        foca::Message::Announce => Message::Announce,
        foca::Message::Feed => Message::Feed,
        foca::Message::Gossip => Message::Gossip,
        foca::Message::Broadcast => Message::Broadcast,
        foca::Message::TurnUndead => Message::TurnUndead,
    }
}

fn from_wire(message: Message) -> foca::Message<Identity> {
    match message {
        Message::Ping(number) => foca::Message::Ping(number),
        Message::Ack(number) => foca::Message::Ack(number),
        Message::PingReq(target, probe_number) => foca::Message::PingReq {
            target: Identity::new(target),
            probe_number,
        },
        Message::IndirectPing(origin, probe_number) => foca::Message::IndirectPing {
            origin: Identity::new(origin),
            probe_number,
        },
        Message::IndirectAck(target, probe_number) => foca::Message::IndirectAck {
            target: Identity::new(target),
            probe_number,
        },
        Message::ForwardedAck(origin, probe_number) => foca::Message::ForwardedAck {
            origin: Identity::new(origin),
            probe_number,
        },
        Message::Announce => foca::Message::Announce,
        Message::Feed => foca::Message::Feed,
        Message::Gossip => foca::Message::Gossip,
        Message::Broadcast => foca::Message::Broadcast,
        Message::TurnUndead => foca::Message::TurnUndead,
    }
}
