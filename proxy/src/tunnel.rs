//! Bytes passed on untouched, in both directions.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tracing::debug;

/// Joins a client's connection, once it is free, with `there`. The end of one direction is passed on and does not end
/// the other. There is no limit to how long neither side says anything.
pub(crate) async fn join<T: AsyncRead + AsyncWrite + Unpin>(client: OnUpgrade, mut there: T) {
    let here = match client.await {
        Ok(here) => here,
        Err(error) => return debug!(%error, "a client left before its tunnel was open"),
    };
    if let Err(error) = copy_bidirectional(&mut TokioIo::new(here), &mut there).await {
        debug!(%error, "a tunnel broke");
    }
}
