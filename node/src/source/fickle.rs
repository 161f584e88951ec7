//! Resources whose parts did not fit together: they are read in one answer.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use url::Url;

/// Resources remembered.
const MAX_RESOURCES: usize = 1024;

/// A bounded memory of such resources. It holds hashes: a URL may be a secret.
#[derive(Debug, Default)]
pub(super) struct Fickle(Mutex<BTreeSet<[u8; 32]>>);

impl Fickle {
    pub(super) fn contains(&self, url: &Url) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&name(url))
    }

    pub(super) fn insert(&self, url: &Url) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while names.len() >= MAX_RESOURCES {
            // Any will do: at worst it is found fickle once more.
            names.pop_first();
        }
        names.insert(name(url));
    }
}

fn name(url: &Url) -> [u8; 32] {
    *blake3::hash(url.as_str().as_bytes()).as_bytes()
}
