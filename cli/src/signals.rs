//! Being asked to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when somebody presses Ctrl-C or ends the process in a friendly way.
///
/// From the first call on these no longer end the process by themselves.
pub(crate) async fn asked_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
