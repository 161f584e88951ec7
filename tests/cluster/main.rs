//! Several nodes in one process, on loopback, with a source that counts what is asked of it.

#![expect(clippy::unwrap_used, reason = "test code")]
#![expect(
    clippy::cast_precision_loss,
    reason = "what is compared is far below the 52 bits of a mantissa"
)]

mod access;
mod cluster;
mod crowd;
mod failures;
mod forgers;
mod liars;
mod origin;
mod restart;
mod sizes;
mod status;
