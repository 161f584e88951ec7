//! A node, its peers and its tasks, for people and for programs.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use dfnode_node::get::{PeerView, Role, Status, TaskView};
use indicatif::{BinaryBytes, HumanDuration};
use serde_json::{Value, json};

use super::table::table;
use crate::place::Place;

/// How much of a peer's name is shown: enough to tell peers apart.
const SHORT_NAME: usize = 16;

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

/// A node for programs.
pub(super) fn status(status: &Status, place: &Place) -> Value {
    json!({
        "version": status.version,
        "peer": status.peer,
        "role": status.role,
        "pid": status.pid,
        "data": place.folder(),
        "uptime_seconds": status.uptime.as_secs_f64(),
        "listen": status.listen,
        "advertised": status.advertised,
        "status": status.status,
        "open": status.open,
        "ready": status.ready,
        "zone": status.zone,
        "leech": status.leech,
        "members": u64::from(status.peers) + 1,
        "peers": status.peers,
        "links": status.links,
        "tasks": status.tasks,
        "downloads": status.downloads,
        "uploads": status.uploads,
        "idle_seconds": status.idle.map(|idle| idle.as_secs_f64()),
        "cache_bytes": status.cache_bytes,
        "cache_limit": status.cache_limit,
        "from_peers": status.bytes.from_peers,
        "from_source": status.bytes.from_source,
        "from_cache": status.bytes.from_cache,
        "to_peers": status.bytes.to_peers,
    })
}

/// A node for people.
pub(super) fn status_text(status: &Status, place: &Place) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    let role = match status.role {
        Role::Daemon => "",
        Role::Embedded => ", for a download only",
    };
    let up = HumanDuration(status.uptime);
    line("node", status.peer.clone());
    line(
        "process",
        format!(
            "dfnode {}, pid {}, up {up}{role}",
            status.version, status.pid
        ),
    );
    line("folder", place.folder().display().to_string());
    line(
        "listens",
        status
            .listen
            .map_or_else(|| "not at all".to_owned(), |address| address.to_string()),
    );
    line("told", addresses(&status.advertised));
    if let Some(page) = status.status {
        line("page", format!("http://{page}/"));
    }
    let lock = if status.open {
        "open to anybody on this network"
    } else {
        "closed by a key"
    };
    line(
        "cluster",
        format!("{} peers, {} connected; {lock}", status.peers, status.links),
    );
    if !status.zone.is_empty() {
        line("zone", status.zone.clone());
    }
    line(
        "tasks",
        format!(
            "{}, {} downloads, {} uploads",
            status.tasks, status.downloads, status.uploads
        ),
    );
    line(
        "cache",
        format!(
            "{} of {}",
            size(status.cache_bytes),
            size(status.cache_limit)
        ),
    );
    let bytes = &status.bytes;
    let received = [bytes.from_peers, bytes.from_source, bytes.from_cache].map(size);
    let [peers, source, cache] = received;
    line(
        "moved",
        format!(
            "{peers} from peers, {source} from sources, {cache} from the cache, {} to peers",
            size(bytes.to_peers)
        ),
    );
    for (says, what) in [
        (!status.ready, "still looking for the cluster"),
        (status.leech, "never uploads"),
    ] {
        if says {
            line("note", what.to_owned());
        }
    }
    text
}

/// A peer for programs.
pub(super) fn peer(peer: &PeerView) -> Value {
    json!({
        "peer": peer.peer,
        "addrs": peer.addrs,
        "zone": peer.zone,
        "state": peer.state,
        "isolated": peer.isolated,
        "reason": peer.reason,
        "link": peer.link,
        "rtt_ms": peer.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
        "bytes_up": peer.bytes_up,
        "bytes_down": peer.bytes_down,
    })
}

/// Peers for people.
pub(super) fn peers_text(peers: &[PeerView]) -> String {
    let rows: Vec<_> = peers
        .iter()
        .map(|peer| {
            let name: String = peer.peer.chars().take(SHORT_NAME).collect();
            let state = if peer.isolated {
                "isolated"
            } else {
                &peer.state
            };
            let rtt = peer.rtt.map_or_else(|| "-".to_owned(), millis);
            let reason = peer.reason.clone().unwrap_or_default();
            let address = peer
                .addrs
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            let (up, down) = (size(peer.bytes_up), size(peer.bytes_down));
            [
                name,
                address,
                peer.zone.clone(),
                state.to_owned(),
                rtt,
                down,
                up,
                reason,
            ]
        })
        .collect();
    table(
        [
            "PEER", "ADDRESS", "ZONE", "STATE", "RTT", "FROM IT", "TO IT", "WHY",
        ],
        &rows,
    )
}

/// A task for programs.
pub(super) fn task(task: &TaskView) -> Value {
    json!({
        "task": task.task.to_string(),
        "url": task.url,
        "version": task.version.map(|version| version.to_string()),
        "length": task.length,
        "done": task.done,
        "complete": task.complete,
        "readers": task.readers,
        "peers": task.peers,
        "last_used_unix_ms": task.last_used_unix_ms,
        "owners": task.owners,
    })
}

/// Tasks for people.
pub(super) fn tasks_text(tasks: &[TaskView]) -> String {
    let rows: Vec<_> = tasks
        .iter()
        .map(|task| {
            let length = task.length.map_or_else(|| "?".to_owned(), size);
            let state = match (task.complete, task.readers) {
                (true, _) => "complete".to_owned(),
                (false, 0) => format!("{} here", size(task.done)),
                (false, _) => format!("{} so far", size(task.done)),
            };
            [
                task.task.short(),
                length,
                state,
                task.readers.to_string(),
                task.peers.to_string(),
                task.url.clone(),
            ]
        })
        .collect();
    table(["TASK", "SIZE", "STATE", "READERS", "PEERS", "URL"], &rows)
}

fn addresses(addresses: &[SocketAddr]) -> String {
    let words: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    words.join(" ")
}

fn millis(rtt: Duration) -> String {
    format!("{:.1} ms", rtt.as_secs_f64() * 1e3)
}
