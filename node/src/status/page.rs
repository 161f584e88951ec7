//! The page itself: it asks the node for its numbers and draws them.

/// One file, nothing from elsewhere.
pub(super) const PAGE: &str = include_str!("page.html");
