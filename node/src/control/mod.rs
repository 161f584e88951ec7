//! The door of a node for programs on its host: a socket in the node's folder.
//!
//! Anybody on the host may connect; the kernel says who it is, and each request is judged by that. A
//! request is one frame and so is an answer, but a download is answered by a frame for each event, the
//! first of which carries the cache's file itself: the caller copies from it and writes the output with
//! its own rights, and no payload crosses the socket.
//!
//! One request at a time on a connection; a caller that hangs up ends its request.

mod channel;
mod client;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod listener;
mod server;
mod wire;

#[cfg(test)]
mod tests;

use std::future::Future;

pub use channel::FrameError;
pub use client::{Client, ClientError, RemoteDownload, RemoteError};
pub use listener::{ControlListener, ListenError};
pub use server::serve;

use crate::get::{
    Caller, Download, GetError, GetRequest, PeerView, RemoveError, RemoveOutcome, RemoveRequest,
    Status, TaskView,
};

/// The name of the socket in a node's folder.
pub const SOCKET_NAME: &str = "dfnode.sock";

/// What a node does for programs on its host.
///
/// Who may ask for what is judged before these are called, but for the content of a download, which
/// depends on the caller.
pub trait Service: Clone + Send + Sync + 'static {
    /// Begins a download, or joins the one under way.
    fn get(
        &self,
        caller: Caller,
        request: GetRequest,
    ) -> impl Future<Output = Result<Download, GetError>> + Send;

    /// The node at a glance.
    fn status(&self) -> impl Future<Output = Status> + Send;

    /// Every peer it knows.
    fn peers(&self) -> impl Future<Output = Vec<PeerView>> + Send;

    /// Every task it stores anything of. The caller sees those that [`TaskView::owners`] lets it see.
    fn tasks(&self) -> impl Future<Output = Vec<TaskView>> + Send;

    /// Forgets a task.
    fn remove(
        &self,
        caller: Caller,
        request: RemoveRequest,
    ) -> impl Future<Output = Result<RemoveOutcome, RemoveError>> + Send;

    /// Begins to stop the node; returns before it has stopped.
    fn shutdown(&self) -> impl Future<Output = ()> + Send;
}
