//! The threads that a node runs on.

use std::io;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

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

/// The threads of a node within a program that has others: dropped, they are left to themselves, as they must be where
/// nothing may wait.
#[derive(Debug)]
pub(crate) struct Threads {
    handle: Handle,
    /// Until it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    /// See [`of_node`].
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(crate) fn of_node() -> io::Result<Self> {
        let runtime = of_node()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Runs `work` on them.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn threads_may_be_left_where_nothing_may_wait() {
        drop(Threads::of_node().unwrap());
    }
}
