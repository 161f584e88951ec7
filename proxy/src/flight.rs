//! One at a time for each key: whoever comes while another is at it waits, and finds the answer there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Who is at what. There are never more keys than requests under way.
#[derive(Debug)]
pub(crate) struct Flights<K: Ord>(Mutex<BTreeMap<K, Arc<Turn<()>>>>);

/// A turn. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Flight<'a, K: Ord> {
    flights: &'a Flights<K>,
    key: K,
    turn: Option<OwnedMutexGuard<()>>,
}

impl<K: Ord> Default for Flights<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone> Flights<K> {
    /// Waits for the turn at `key`.
    pub(crate) async fn enter(&self, key: K) -> Flight<'_, K> {
        let turn = Arc::clone(self.lock().entry(key.clone()).or_default());
        let mut flight = Flight {
            flights: self,
            key,
            turn: None,
        };
        flight.turn = Some(turn.lock_owned().await);
        flight
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Arc<Turn<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().len()
    }
}

impl<K: Ord> Drop for Flight<'_, K> {
    fn drop(&mut self) {
        let mut flights = self
            .flights
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(self.turn.take());
        // Nobody but the map knows of it: nobody waits.
        if flights
            .get(&self.key)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left() {
        let flights = Arc::new(Flights::<u8>::default());
        let inside = Arc::new(AtomicU32::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (flights, inside) = (Arc::clone(&flights), Arc::clone(&inside));
            tasks.spawn(async move {
                let _flight = flights.enter(7).await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing() {
        let flights = Flights::<u8>::default();
        let first = flights.enter(7).await;
        let second = tokio::time::timeout(std::time::Duration::from_millis(5), flights.enter(7));
        assert!(second.await.is_err());
        drop(first);
        assert_eq!(flights.len(), 0);
    }
}
