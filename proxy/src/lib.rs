//! The place of the HTTP(S) proxy that container engines pull through, image names unchanged.
//!
//! Nothing is built yet: no listener opens, no certificate authority is made. What it will be stands on
//! [`dfnode_node`]'s handle, as the command line does: it asks for content by digest, after the registry said yes to
//! the client that asks, and streams verified blocks while the swarm runs.
