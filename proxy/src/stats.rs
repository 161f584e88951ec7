//! What the proxy counted since it started.

use std::sync::atomic::{AtomicU64, Ordering};

use dfnode_node::MetricRow;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters that every connection adds to.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) connections: Counter,
    pub(crate) refused: Counter,
    pub(crate) tunnels: Counter,
    pub(crate) opened: Counter,
    pub(crate) rejected: Counter,
    pub(crate) requests: Counter,
    pub(crate) failures: Counter,
    pub(crate) blobs: Counter,
    pub(crate) blob_bytes: Counter,
    pub(crate) fallbacks: Counter,
    pub(crate) fallback_bytes: Counter,
    pub(crate) authorisations: Counter,
    pub(crate) refusals: Counter,
    pub(crate) tokens_shared: Counter,
}

impl Stats {
    /// The numbers of this moment, for the node's page.
    pub(crate) fn rows(&self) -> Vec<MetricRow> {
        vec![
            (
                "proxy_connections",
                "Connections that clients made to the proxy",
                self.connections.get(),
            ),
            (
                "proxy_connections_refused",
                "Of those, the ones for which there was no room",
                self.refused.get(),
            ),
            (
                "proxy_tunnels",
                "TLS connections let through untouched",
                self.tunnels.get(),
            ),
            (
                "proxy_intercepted",
                "TLS connections opened to share what they carry",
                self.opened.get(),
            ),
            (
                "proxy_leaf_rejected",
                "Clients that did not trust the proxy's certificate",
                self.rejected.get(),
            ),
            (
                "proxy_requests",
                "Requests that the proxy saw",
                self.requests.get(),
            ),
            (
                "proxy_upstream_failures",
                "Requests that no upstream answered",
                self.failures.get(),
            ),
            (
                "proxy_shared",
                "Answers that came from the node",
                self.blobs.get(),
            ),
            (
                "proxy_shared_bytes",
                "Bytes of those answers that came from the node",
                self.blob_bytes.get(),
            ),
            (
                "proxy_fallbacks",
                "Answers that the upstream had to give, in whole or from some byte on",
                self.fallbacks.get(),
            ),
            (
                "proxy_fallback_bytes",
                "Bytes that came from an upstream within such answers",
                self.fallback_bytes.get(),
            ),
            (
                "proxy_authorisations",
                "Questions to registries whether a client may have a blob",
                self.authorisations.get(),
            ),
            (
                "proxy_refusals",
                "Of those, the ones answered with no",
                self.refusals.get(),
            ),
            (
                "proxy_tokens_shared",
                "Token requests that waited for the answer to an identical one",
                self.tokens_shared.get(),
            ),
        ]
    }
}
