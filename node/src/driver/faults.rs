//! Ways to misbehave on purpose, so that tests can show what others do about it. Only in debug builds.

use bytes::Bytes;

/// Names the fault to commit: `flip-relay` or `sign-wrong`.
#[cfg(debug_assertions)]
const FAULT_VARIABLE: &str = "DFNODE_TEST_FAULT";

/// What this node does wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Blocks uploaded to peers have one byte flipped.
    FlipRelay,
    /// Blocks read from the source are altered before they are hashed, signed and served.
    SignWrong,
}

/// Commits the fault, or nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults(Fault);

impl Faults {
    /// The fault that the configuration asks for, else the environment. A release build commits none.
    #[cfg(debug_assertions)]
    pub(crate) fn new(wanted: Fault) -> Self {
        let named = std::env::var(FAULT_VARIABLE).unwrap_or_default();
        Self(match (wanted, named.as_str()) {
            (Fault::None, "flip-relay") => Fault::FlipRelay,
            (Fault::None, "sign-wrong") => Fault::SignWrong,
            (wanted, _) => wanted,
        })
    }

    /// A release build commits none.
    #[cfg(not(debug_assertions))]
    pub(crate) const fn new(_wanted: Fault) -> Self {
        Self(Fault::None)
    }

    /// What goes out instead of a block.
    pub(super) fn on_upload(self, block: Bytes) -> Bytes {
        if self.0 == Fault::FlipRelay {
            flipped(&block)
        } else {
            block
        }
    }

    /// What is hashed instead of what the source sent.
    pub(super) fn on_source(self, block: Bytes) -> Bytes {
        if self.0 == Fault::SignWrong {
            flipped(&block)
        } else {
            block
        }
    }
}

fn flipped(block: &[u8]) -> Bytes {
    let mut bytes = block.to_vec();
    if let Some(first) = bytes.first_mut() {
        *first ^= 1;
    }
    bytes.into()
}
