//! The proxy with nodes, registries and clients in one process, on loopback.
#![expect(clippy::unwrap_used, reason = "test code")]

mod access;
mod faults;
mod mirrors;
mod passing;
mod pulls;
mod registry;
mod world;
