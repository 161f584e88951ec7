//! How big the tests run.

use std::env;

/// Whether the sizes and times of the README are asked for (`DFNODE_FULL=1`), on a machine that does
/// nothing else. Without, tests run small and judge results, not times.
pub(crate) fn full() -> bool {
    env::var("DFNODE_FULL").as_deref() == Ok("1")
}
