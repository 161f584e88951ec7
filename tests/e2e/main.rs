//! End-to-end tests: real processes, real links, real web servers.
//!
//! Each test builds a [`lab`] of network namespaces, so they need root (`sudo`) and say aloud when they
//! are skipped. They run in small sizes; `DFNODE_FULL=1` runs the sizes that the README promises.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    dead_code,
    reason = "test code outside the node: real time passes, and skipping is said aloud"
)]

mod authorisation;
mod chaos;
mod cluster;
mod crowd;
mod deaths;
mod dice;
mod disk;
mod engines;
mod engines_themselves;
mod fault_source;
#[path = "../faults/mod.rs"]
mod faults;
mod files;
mod guarded;
mod http;
mod lab;
mod lab_itself;
mod liars;
mod membership;
mod origin;
mod outages;
mod passing;
mod power;
mod proxied;
mod proxy_curl;
mod pull_faults;
mod pulls;
mod quick_start;
mod registries;
mod secrets;
mod setup;
mod sizes;
mod soak;
mod source_faults;
mod strangers;
