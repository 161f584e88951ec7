//! What registries allowed to whom, remembered for a while.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dfnode_node::ambient;
use dfnode_tracker::Digest;
use tokio::time::Instant;

use crate::credential::Credential;
use crate::origin::Origin;

/// How long a registry's yes to one client and blob counts.
pub(crate) const BLOB_AGE: Duration = Duration::from_mins(1);
/// How long it counts for what a manifest listed, and while the registry cannot be asked.
pub(crate) const LONG_AGE: Duration = Duration::from_mins(10);
/// Answers remembered. Beyond, older ones make room: they are asked for again.
const MAX_YESES: usize = 64 * 1024;

/// Who wants which blob of which repository of which registry. A hash: no credential is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key([u8; 32]);

/// The memory.
#[derive(Debug)]
pub(crate) struct Yeses {
    key: [u8; 32],
    until: Mutex<BTreeMap<Key, Yes>>,
}

#[derive(Debug, Clone, Copy)]
struct Yes {
    fresh_until: Instant,
    forget_at: Instant,
    length: Option<u64>,
}

impl Yeses {
    pub(crate) fn new() -> Self {
        Self {
            key: ambient::random_bytes(),
            until: Mutex::default(),
        }
    }

    /// What credentials are hashed with.
    pub(crate) const fn hash_key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The name of a question.
    pub(crate) fn key(
        &self,
        credential: Credential,
        origin: &Origin,
        repository: &str,
        digest: &Digest,
    ) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(credential.as_bytes());
        for field in [origin.to_string().as_str(), repository] {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        hasher.update(digest.to_string().as_bytes());
        Key(*hasher.finalize().as_bytes())
    }

    /// The registry said yes just now; it counts for `age`, and for content of this length if one was told.
    pub(crate) fn add(&self, key: Key, age: Duration, length: Option<u64>) {
        let now = Instant::now();
        let mut until = self.lock();
        if until.len() >= MAX_YESES {
            until.retain(|_, yes| yes.fresh_until > now);
        }
        while until.len() >= MAX_YESES {
            // Keys are hashes: this is a random one.
            until.pop_first();
        }
        let older = until.get(&key).copied();
        let fresh_until = (now + age).max(older.map_or(now, |yes| yes.fresh_until));
        let length = length.or_else(|| older?.length);
        until.insert(
            key,
            Yes {
                fresh_until,
                forget_at: now + LONG_AGE,
                length,
            },
        );
    }

    /// Forgets a yes: the registry said no meanwhile.
    pub(crate) fn remove(&self, key: Key) {
        self.lock().remove(&key);
    }

    /// Whether a yes counts without asking again.
    pub(crate) fn is_fresh(&self, key: Key) -> bool {
        let now = Instant::now();
        self.lock()
            .get(&key)
            .is_some_and(|yes| yes.fresh_until > now)
    }

    /// Whether one counts while the registry cannot be asked.
    pub(crate) fn is_known(&self, key: Key) -> bool {
        let now = Instant::now();
        self.lock().get(&key).is_some_and(|yes| yes.forget_at > now)
    }

    /// How long the content is that a yes is for which counts without asking again, if that was told.
    pub(crate) fn fresh_length(&self, key: Key) -> Option<u64> {
        let now = Instant::now();
        let until = self.lock();
        let yes = until.get(&key).filter(|yes| yes.fresh_until > now)?;
        yes.length
    }

    /// Whether a yes is one for content of this length.
    pub(crate) fn fits(&self, key: Key, length: u64) -> bool {
        let told = self.lock().get(&key).and_then(|yes| yes.length);
        told.is_none_or(|told| told == length)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Yes>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn key(yeses: &Yeses, origin: &str, repository: &str, authorization: &str) -> Key {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", authorization.parse().unwrap());
        let credential = Credential::of(&headers, yeses.hash_key());
        let origin = Origin::of_uri(&origin.parse().unwrap()).unwrap();
        yeses.key(credential, &origin, repository, &Digest::Sha256([1; 32]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_yes_is_for_one_client_one_registry_and_one_repository() {
        let yeses = Yeses::new();
        let alice = key(&yeses, "https://r.example/", "a", "alice");
        yeses.add(alice, BLOB_AGE, None);
        assert!(yeses.is_fresh(alice));
        for (origin, repository, who) in [
            ("https://r.example/", "a", "bob"),
            ("https://r.example/", "b", "alice"),
            ("https://evil.example/", "a", "alice"),
            ("https://r.example:5000/", "a", "alice"),
            ("http://r.example:443/", "a", "alice"),
        ] {
            assert!(!yeses.is_fresh(key(&yeses, origin, repository, who)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_yes_grows_old() {
        let yeses = Yeses::new();
        let key = key(&yeses, "https://r.example/", "a", "alice");
        yeses.add(key, BLOB_AGE, Some(5));
        assert!(yeses.fits(key, 5) && !yeses.fits(key, 6));
        tokio::time::advance(BLOB_AGE + Duration::from_secs(1)).await;
        assert!(!yeses.is_fresh(key) && yeses.is_known(key));
        tokio::time::advance(LONG_AGE).await;
        assert!(!yeses.is_known(key));
        yeses.add(key, LONG_AGE, None);
        yeses.remove(key);
        assert!(!yeses.is_known(key));
    }
}
