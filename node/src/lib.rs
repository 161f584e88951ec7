//! Sockets, disk, clock and keys around the pure machines.

pub mod ambient;
pub mod cluster_key;
pub mod config;
pub mod control;
pub mod discovery;
pub mod disk;
mod driver;
pub mod folder;
mod further_metrics;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod get;
mod handle;
pub mod identity;
pub mod limits;
mod node;
mod private_file;
pub mod source;
mod status;
pub mod store;
pub mod transport;
pub mod whole_digest;

pub use config::Config;
pub use driver::Fault;
pub use further_metrics::MetricRow;
pub use handle::Handle;
pub use node::{Node, StartError};
