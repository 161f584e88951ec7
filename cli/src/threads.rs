//! The threads that a node runs on.

use std::io;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

/// More were not tried.
const MAX_WORKERS: usize = 8;

/// A runtime for a node: half of the host's processors, for the other half is there for what the host is for.
///
/// Waking a further thread costs time too: docs/benchmarks.md compares one and two on two processors.
///
/// # Errors
/// When the system gives no more threads.
pub(crate) fn of_node() -> io::Result<Runtime> {
    let processors = available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads((processors / 2).clamp(1, MAX_WORKERS))
        .enable_all()
        .build()
}
