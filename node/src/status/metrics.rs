//! The node's numbers as Prometheus reads them.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::driver::Stats;
use crate::get::Status;
use crate::handle::Handle;

/// A number with its name and what it means.
type Row<T> = (&'static str, &'static str, T);

/// The numbers of this moment.
pub(super) fn render(status: &Status, handle: &Handle) -> String {
    let mut registry = Registry::with_prefix("dfnode");
    let further = handle.metrics.rows();
    for (name, help, value) in counters(&handle.stats).into_iter().chain(further) {
        registry.register(name, help, ConstCounter::new(value));
    }
    for (name, help, value) in gauges(status) {
        registry.register(name, help, ConstGauge::new(value));
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn counters(stats: &Stats) -> Vec<Row<u64>> {
    vec![
        (
            "received_peer_bytes",
            "Payload of blocks that peers sent and that were kept",
            stats.from_peers.get(),
        ),
        (
            "received_source_bytes",
            "Payload read from sources",
            stats.from_source.get(),
        ),
        (
            "served_cache_bytes",
            "Payload that local callers got and that was here before they asked",
            stats.from_cache.get(),
        ),
        (
            "sent_peer_bytes",
            "Payload sent to peers",
            stats.to_peers.get(),
        ),
        (
            "gossip_sent_bytes",
            "Gossip packets sent, before sealing",
            stats.gossip_sent.get(),
        ),
        (
            "gossip_received_bytes",
            "Gossip packets received, after opening",
            stats.gossip_received.get(),
        ),
        (
            "messages_sent",
            "Messages of the tracker sent",
            stats.messages_sent.get(),
        ),
        (
            "messages_received",
            "Messages of the tracker received",
            stats.messages_received.get(),
        ),
        (
            "violations",
            "Things that peers sent and that make no sense",
            stats.violations.get(),
        ),
        (
            "blocks_dropped",
            "Blocks that were dropped unverified or useless",
            stats.blocks_dropped.get(),
        ),
        (
            "source_reads",
            "Reads of sources that began",
            stats.source_reads.get(),
        ),
        (
            "downloads",
            "Downloads that local callers asked for",
            stats.downloads.get(),
        ),
    ]
}

fn gauges(status: &Status) -> Vec<Row<i64>> {
    vec![
        (
            "peers",
            "Members of the cluster that are alive, this node not among them",
            i64::from(status.peers),
        ),
        (
            "links",
            "Open connections to peers",
            i64::from(status.links),
        ),
        (
            "tasks",
            "Tasks that the node holds or waits for",
            i64::from(status.tasks),
        ),
        (
            "downloads_active",
            "Local callers that wait for a download",
            i64::from(status.downloads),
        ),
        (
            "uploads_active",
            "Blocks on their way to peers",
            i64::from(status.uploads),
        ),
        (
            "ready",
            "Whether the node has found its cluster, or has none to look for",
            i64::from(status.ready),
        ),
        (
            "cache_bytes",
            "Bytes that the cache takes",
            signed(status.cache_bytes),
        ),
        (
            "cache_limit_bytes",
            "Bytes that the cache may take",
            signed(status.cache_limit),
        ),
    ]
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
