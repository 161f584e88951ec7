//! Membership, failure detection and event spreading, as a machine without clock or socket.
