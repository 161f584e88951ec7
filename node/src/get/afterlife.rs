//! What becomes of a download whose reader has left.

use std::time::Duration;

use dfnode_tracker::VersionId;
use tokio::runtime::Handle as Runtime;
use tokio::time::{Instant, timeout_at};

use super::{Download, GetEvent};

/// How long it goes on: to check the whole, or to fetch the rest for later readers.
const AFTERLIFE: Duration = Duration::from_mins(10);
/// The same of one that has not begun: many may wait for the same.
const LATE_AFTERLIFE: Duration = Duration::from_mins(1);

/// Lets a download go on in the background, as long as it is of this version and this length.
///
/// How it ends is between the node and its log.
pub(super) fn see_through(
    mut download: Download,
    has_begun: bool,
    version: Option<VersionId>,
    length: Option<u64>,
) {
    let Ok(runtime) = Runtime::try_current() else {
        return;
    };
    let left = Instant::now();
    let mut life = if has_begun { AFTERLIFE } else { LATE_AFTERLIFE };
    runtime.spawn(async move {
        while let Ok(Some(Ok(event))) = timeout_at(left + life, download.next()).await {
            if let GetEvent::Started(started) = event {
                let is_it = version.is_none_or(|version| version == started.version)
                    && (length.is_none() || length == started.length);
                if !is_it {
                    break;
                }
                life = AFTERLIFE;
            }
        }
    });
}
