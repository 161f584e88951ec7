//! What the fuzz targets run; `docs/fuzzing.md` lists them. Not part of any build that is used.

use crate::cluster_key::ClusterKeys;
use crate::discovery::JoinTarget;
use crate::limits::{ByteRate, ByteSize};

pub use crate::control::fuzzing::control;
pub use crate::source::fuzzing::{body, head};
pub use crate::store::fuzzing::record;
pub use crate::transport::fuzzing::{admission, block, demux, replay, seal};

#[path = "../../fuzz/input.rs"]
pub mod input;
#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay_corpus;

/// Texts that users write: cluster keys, places to join, numbers of bytes. What is read is shown as it can be
/// read again.
pub fn texts(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(keys) = text.parse::<ClusterKeys>() {
        let tokens: Vec<String> = keys.accepted().map(ToString::to_string).collect();
        assert!((1..=2).contains(&tokens.len()) && !keys.is_open());
        assert_eq!(tokens.join("\n").parse(), Ok(keys));
    }
    if let Ok(target) = text.parse::<JoinTarget>() {
        assert_eq!(target.to_string().parse(), Ok(target));
    }
    if let Ok(size) = text.parse::<ByteSize>() {
        assert_eq!(size.to_string().parse(), Ok(size));
    }
    if let Ok(rate) = text.parse::<ByteRate>() {
        assert!(rate.get() > 0);
        assert_eq!(rate.to_string().parse(), Ok(rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpora_pass() {
        replay_corpus::replay(&[
            ("node_texts", texts),
            ("node_seal", seal),
            ("node_replay", replay),
            ("node_demux", demux),
            ("node_block", block),
            ("node_admission", admission),
            ("node_control", control),
            ("node_record", record),
            ("node_head", head),
            ("node_body", body),
        ]);
    }
}
