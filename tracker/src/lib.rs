//! Tasks, pieces, blocks, the Tracker, homes and leases, and the swarm session: pure.
