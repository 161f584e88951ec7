//! Messages made up from a seed.

use std::net::SocketAddr;
use std::ops::Range;

use dfnode_gossip::PeerId;

use crate::context::Chance;
use crate::holds::Holds;
use crate::ids::{BlockDigest, BlockIndex, Digest, TaskId, VersionId};
use crate::layout::Layout;
use crate::message::{
    AskDigests, Batches, Border, Cancel, Decline, DeclineReason, Extent, Grant, Have, Hello,
    HomeProbe, HomeState, Lease, LeaseEnd, LeaseReport, Message, Outcome, PeerRef, Register,
    Registered, SignedBatch, TableCopy, Want,
};
use crate::meta::{Meta, SourceFailure, Validators};

/// Kinds of messages.
pub(super) const KINDS: usize = 18;

/// Chance, and what can be made of it.
pub(super) struct Draw(Chance);

impl Draw {
    pub(super) const fn new(seed: u64) -> Self {
        Self(Chance::new(seed))
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.below(end as u64)).expect("below a usize")
    }

    pub(super) const fn byte(&mut self) -> u8 {
        self.0.next().to_le_bytes()[0]
    }

    fn number(&mut self) -> u32 {
        u32::try_from(self.below(1000)).expect("below a thousand")
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn id(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.byte())
    }

    fn task(&mut self) -> TaskId {
        TaskId::from_bytes(self.id())
    }

    fn version(&mut self) -> VersionId {
        VersionId::from_bytes(self.id())
    }

    fn run(&mut self) -> Range<u32> {
        let start = self.number();
        start..start + 1 + self.number()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.coin() { Some(make(self)) } else { None }
    }

    fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn meta(&mut self) -> Meta {
        let layout = if self.coin() {
            Layout::of_length(u64::from(self.number()) << 20).expect("a sane length")
        } else {
            Layout::of_stream()
        };
        Meta {
            version: self.version(),
            layout,
            validators: Validators {
                etag: self.maybe(|draw| format!("\"{}\"", draw.number())),
                last_modified: self.maybe(|_| "Sat, 21 Nov 2026 10:00:00 GMT".to_owned()),
            },
            digest: self.maybe(|draw| Digest::Sha256(draw.id())),
            public: self.coin(),
            ranges: self.coin(),
            single: self.coin(),
        }
    }

    fn holds(&mut self) -> Holds {
        match self.below(4) {
            0 => Holds::Nothing,
            1 => Holds::All,
            2 => Holds::Runs(self.some(5, Self::run)),
            _ => Holds::Bits(self.some(20, Self::byte)),
        }
    }

    fn lease(&mut self) -> Lease {
        let extent = match self.below(3) {
            0 => Extent::Probe,
            1 => Extent::Validate { meta: self.meta() },
            _ => {
                let meta = self.meta();
                let run = 0..meta.layout.blocks().unwrap_or(16);
                Extent::Blocks { meta, run }
            }
        };
        Lease {
            id: self.0.next(),
            extent,
        }
    }

    fn addr(&mut self) -> SocketAddr {
        let port = u16::try_from(self.number()).expect("below a thousand");
        if self.coin() {
            SocketAddr::from(([10, 0, 0, self.byte()], port))
        } else {
            SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], port))
        }
    }

    fn peer(&mut self) -> PeerId {
        PeerId::from_bytes(self.id())
    }

    fn peer_ref(&mut self) -> PeerRef {
        PeerRef {
            peer: self.peer(),
            addr: self.maybe(Self::addr),
        }
    }

    fn failure(&mut self) -> SourceFailure {
        match self.below(6) {
            0 => SourceFailure::Refused { status: 403 },
            1 => SourceFailure::NotFound,
            2 => SourceFailure::Busy {
                status: 429,
                retry_after_ms: u64::from(self.number()),
            },
            3 => SourceFailure::Transient {
                what: "reset".to_owned(),
            },
            4 => SourceFailure::Final {
                what: "no".to_owned(),
            },
            _ => SourceFailure::Changed,
        }
    }

    fn outcome(&mut self) -> Outcome {
        match self.below(7) {
            0 => Outcome::Welcome {
                peers: self.some(8, Self::peer_ref),
                meta: self.maybe(Self::meta),
                lease: self.maybe(Self::lease),
                announce: self.coin(),
                readers: self.number(),
            },
            1 => Outcome::Redirect { home: self.peer() },
            2 => Outcome::NotYet,
            3 => Outcome::Failed {
                failure: self.failure(),
            },
            4 => Outcome::Report,
            5 => Outcome::LeaseGone {
                lease: self.0.next(),
            },
            _ => Outcome::Busy,
        }
    }

    fn batch(&mut self) -> SignedBatch {
        let mut digests = self.some(8, |draw| BlockDigest(draw.id()));
        digests.push(BlockDigest(self.id()));
        SignedBatch {
            version: self.version(),
            signer: self.peer(),
            first: BlockIndex(self.number()),
            digests,
            signature: (0..64).map(|_| self.byte()).collect(),
        }
    }

    fn cancel(&mut self) -> Cancel {
        Cancel {
            task: self.task(),
            version: self.version(),
            block: BlockIndex(self.number()),
        }
    }

    /// Any message.
    pub(super) fn message(&mut self) -> Message {
        let kind = self.below(KINDS);
        self.message_of(kind)
    }

    /// A message of one kind, in the order in which kinds came to be.
    pub(super) fn message_of(&mut self, kind: usize) -> Message {
        if kind < 6 || kind == 17 {
            self.home_message(kind)
        } else {
            self.link_message(kind)
        }
    }

    fn home_message(&mut self, kind: usize) -> Message {
        let task = self.task();
        match kind {
            0 => Message::Register(Register {
                task,
                request: self.0.next(),
                meta: self.maybe(Self::meta),
                holds: self.holds(),
                nearby: self.holds(),
                wants: self.coin(),
                can_read: self.coin(),
                leases: self.some(3, Self::lease),
                max_age_ms: u64::MAX,
                validated_ms: u64::from(self.number()),
                stalled: self.coin(),
                addr: self.maybe(Self::addr),
                parts: self.some(3, |draw| (draw.0.next(), draw.maybe(|draw| draw.0.next()))),
            }),
            1 => Message::Registered(Registered {
                task,
                request: self.0.next(),
                outcome: self.outcome(),
            }),
            2 => Message::LeaseReport(LeaseReport {
                task,
                lease: self.0.next(),
                read_to: self.number(),
                bytes: self.0.next(),
                meta: self.maybe(Self::meta),
                unspread: self.number(),
                end: self.maybe(|draw| match draw.below(3) {
                    0 => LeaseEnd::Done,
                    1 => LeaseEnd::Failed(draw.failure()),
                    _ => LeaseEnd::Returned,
                }),
            }),
            3 => Message::Leave(task),
            4 => Message::HomeProbe(HomeProbe {
                task,
                request: self.0.next(),
            }),
            17 => Message::Border(Border {
                task,
                inlets: self.some(4, Self::peer_ref),
                outside: self.some(12, Self::peer_ref),
            }),
            _ => Message::HomeState(HomeState {
                task,
                request: self.0.next(),
                table: self.maybe(|draw| TableCopy {
                    meta: draw.maybe(Self::meta),
                    unread: draw.holds(),
                    leases: draw.some(3, |draw| (draw.peer(), draw.lease(), draw.number())),
                    validated_ms: u64::from(draw.number()),
                }),
            }),
        }
    }

    fn link_message(&mut self, kind: usize) -> Message {
        let task = self.task();
        match kind {
            6 => {
                let meta = self.maybe(Self::meta);
                let holds = if meta.is_some() {
                    self.holds()
                } else {
                    Holds::Nothing
                };
                Message::Hello(Hello {
                    task,
                    meta,
                    holds,
                    wants: self.coin(),
                    age_ms: self.0.next(),
                })
            }
            7 => Message::Batches(Batches {
                task,
                batches: self.some(3, Self::batch),
            }),
            8 => Message::Have(Have {
                task,
                version: self.version(),
                runs: self.some(5, Self::run),
                length: self.maybe(|draw| draw.0.next()),
                wants: self.coin(),
            }),
            9 => Message::Offer(Grant {
                task,
                version: self.version(),
                grant: self.number(),
                suggest: self.some(4, |draw| BlockIndex(draw.number())),
            }),
            10 => Message::Want(Want {
                task,
                version: self.version(),
                grant: self.number(),
                block: BlockIndex(self.number()),
                digest: BlockDigest(self.id()).tag(),
            }),
            11 => Message::Decline(Decline {
                task,
                grant: self.number(),
                reason: if self.coin() {
                    DeclineReason::Nothing
                } else {
                    DeclineReason::Full
                },
            }),
            12 => Message::Room(task),
            13 => Message::Cancel(self.cancel()),
            14 => Message::Refuse(self.cancel()),
            15 => Message::Bye(task),
            _ => Message::AskDigests(AskDigests {
                task,
                version: self.version(),
                runs: self.some(5, Self::run),
            }),
        }
    }
}
