//! What the store remembers of a task besides its bytes.

use std::collections::BTreeSet;

use dfnode_tracker::Digest;
use serde::{Deserialize, Serialize};

/// Authorities that are remembered for a task.
const MAX_AUTHORITIES: usize = 64;

/// Where a task came from and who vouched for it. Kept in the index, so it outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The URL that it was first asked by, if it may be kept.
    pub url: Option<String>,
    /// The digest that the whole was checked against or is to be.
    pub digest: Option<Digest>,
    /// Whether the source gave it to a request that carried credentials.
    pub credentialed: bool,
    /// Each `scheme://host:port` that it was read from or proved under.
    pub authorities: BTreeSet<String>,
    /// When the source last confirmed the version, in milliseconds since 1970.
    pub validated_at_ms: u64,
}

impl About {
    /// Adds what `newer` knows; what is known already stays.
    pub(super) fn merge(&mut self, newer: Self) {
        self.url = self.url.take().or(newer.url);
        self.digest = self.digest.take().or(newer.digest);
        self.authorities.extend(newer.authorities);
        self.bound();
        self.validated_at_ms = self.validated_at_ms.max(newer.validated_at_ms);
    }

    /// Forgets the authorities that are too many. Who is forgotten proves itself again.
    pub(super) fn bound(&mut self) {
        while self.authorities.len() > MAX_AUTHORITIES {
            self.authorities.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authorities_of_a_task_are_bounded() {
        let mut about = About::default();
        for number in 0..500 {
            about.merge(About {
                authorities: BTreeSet::from([format!("https://registry-{number}:443")]),
                ..About::default()
            });
        }
        assert_eq!(about.authorities.len(), MAX_AUTHORITIES);
    }
}
