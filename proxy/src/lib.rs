//! The HTTP(S) proxy that container engines pull through, image names unchanged.
//!
//! It stands on [`dfnode_node`]'s handle, as the command line does. Whatever a client asks goes to the upstream as
//! it is, streamed both ways; only the GET of a blob is different. For it the upstream is asked first whether this
//! very client may have it, with the client's own headers, and then the bytes come from the node: verified, in
//! order, while the swarm runs, and from the upstream itself where the swarm fails, within the same answer.
//!
//! - [`Proxy`] listens; `entry` tells apart what comes in: CONNECT, a URL, or a mirror's path;
//! - `connect` decides whether a TLS connection is opened (`hosts`, `probe`, `leaf`) or let through (`tunnel`);
//! - `exchange` is the switchboard for one request: `blob`, `file`, `token`, `manifest` or just `relay`;
//! - `upstream` and `dial` are the way out.

mod answer;
mod authorise;
mod blob;
mod body;
mod ca;
mod config;
mod connect;
mod credential;
mod dial;
mod entry;
mod exchange;
mod file;
mod flight;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod hosts;
mod leaf;
mod manifest;
mod mirror;
mod origin;
mod path;
mod pour;
mod probe;
mod proxy;
mod range;
mod redirect;
mod relay;
mod stats;
mod token;
mod tunnel;
mod upstream;
mod yes;

pub use ca::{Ca, CaError, is_own_certificate};
pub use config::{Config, HostPattern, PROXY_PORT, ParseHostError, ParseRuleError, Patience, Rule};
pub use proxy::{Proxy, StartError};
