//! The bodies of the gossip events about tasks.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::VersionId;
use crate::meta::Meta;
use crate::wire::{decode_body, encode_body};

/// How much of a version an announcer holds: body of `DownloadStart`, `Progress` and `Recover`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The version.
    pub version: VersionId,
    /// Full quarters held, 0 to 4.
    pub quarters: u8,
}

impl Progress {
    /// All of it.
    pub const COMPLETE: u8 = 4;

    /// The body of the event.
    pub fn encode(&self) -> Bytes {
        encode_body(self).into()
    }

    /// Reads the body of an event; `None` if it is none.
    pub fn decode(body: &[u8]) -> Option<Self> {
        decode_body(body)
            .ok()
            .filter(|progress: &Self| progress.quarters <= Self::COMPLETE)
    }
}

/// The body of a `Length` event: what the source said of the version.
pub(crate) fn encode_length(meta: &Meta) -> Bytes {
    encode_body(meta).into()
}

/// Reads the body of a `Length` event.
pub fn decode_length(body: &[u8]) -> Option<Meta> {
    decode_body(body).ok().filter(Meta::is_sound)
}
