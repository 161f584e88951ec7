//! What the node shows of itself.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use dfnode_gossip::{Now, PeerId};
use dfnode_tracker::TaskId;

use super::Driver;
use super::files::storable;
use crate::get::{BytesView, PeerView, Role, Status, TaskView};

/// What does not change while the node runs.
#[derive(Debug, Clone)]
pub(crate) struct AboutMe {
    pub(crate) role: Role,
    pub(crate) began: Now,
    pub(crate) listen: SocketAddr,
    pub(crate) status: Option<SocketAddr>,
    pub(crate) is_open: bool,
}

impl Driver {
    /// The node at a glance.
    pub(super) fn status(&self, now: Now) -> Status {
        let (parts, about) = (&self.parts, &self.parts.about);
        let store = parts.store.stats();
        let me = self.gossip.me();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            peer: parts.me.to_string(),
            role: about.role,
            pid: std::process::id(),
            uptime: now - about.began,
            listen: Some(about.listen),
            advertised: me.addrs.clone(),
            status: about.status,
            open: about.is_open,
            ready: self.joining.ready,
            zone: me.labels.zone.to_string(),
            leech: me.labels.leech,
            peers: count(
                self.gossip
                    .members()
                    .filter(|member| member.peer != parts.me)
                    .count(),
            ),
            links: count(self.links.len()),
            tasks: count(self.tasks.entries.len()),
            downloads: count(self.tasks.callers()),
            uploads: count(self.sends.len()),
            idle: parts.activity.idle_for(now),
            cache_bytes: store.used_bytes,
            cache_limit: store.cache_bytes,
            bytes: BytesView {
                from_peers: parts.stats.from_peers.get(),
                from_source: parts.stats.from_source.get(),
                from_cache: parts.stats.from_cache.get(),
                to_peers: parts.stats.to_peers.get(),
            },
        }
    }

    /// Every peer that is alive, connected or isolated.
    pub(super) fn peer_views(&self, now: Now) -> Vec<PeerView> {
        let alive = self.gossip.members().map(|member| member.peer);
        let isolated = self
            .peers
            .isolated()
            .filter(|(_, isolated)| now < isolated.until)
            .map(|(peer, _)| *peer);
        let peers: BTreeSet<PeerId> = alive
            .chain(self.links.peers())
            .chain(isolated)
            .filter(|peer| *peer != self.parts.me)
            .collect();
        peers.iter().map(|peer| self.peer_view(now, peer)).collect()
    }

    fn peer_view(&self, now: Now, peer: &PeerId) -> PeerView {
        let member = self.gossip.member(peer);
        let link = self.links.get(peer);
        let counts = self.peers.counts(peer);
        let reason = self.peers.isolation(now, peer);
        PeerView {
            peer: peer.to_string(),
            addrs: member
                .map(|member| member.addrs.clone())
                .unwrap_or_default(),
            zone: member
                .map(|member| member.labels.zone.to_string())
                .unwrap_or_default(),
            state: if member.is_some() { "alive" } else { "down" }.to_owned(),
            isolated: reason.is_some(),
            reason: reason.map(|reason| reason.as_str().to_owned()),
            link: link.is_some(),
            rtt: link.map(crate::transport::Link::rtt),
            bytes_up: counts.up,
            bytes_down: counts.down,
        }
    }

    /// Every task that this node holds or wants.
    pub(super) fn task_views(&self) -> Vec<TaskView> {
        self.tasks
            .entries
            .keys()
            .map(|task| self.task_view(*task))
            .collect()
    }

    fn task_view(&self, task: TaskId) -> TaskView {
        let entry = &self.tasks.entries[&task];
        let seen = self.tracker.task(&task);
        let done = self.parts.store.progress(task).map_or(0, |progress| {
            progress
                .borrow()
                .byte_runs()
                .iter()
                .map(|run| run.end - run.start)
                .sum()
        });
        TaskView {
            task,
            url: entry
                .url
                .as_ref()
                .map(|url| storable(url).to_string())
                .unwrap_or_default(),
            version: entry.meta.as_ref().map(|meta| meta.version),
            length: entry.meta.as_ref().and_then(|meta| meta.layout.length()),
            done,
            complete: entry.complete,
            readers: count(entry.callers.len()),
            peers: seen.map(|seen| count(seen.neighbours)).unwrap_or_default(),
            last_used_unix_ms: entry.last_used_unix_ms,
            owners: entry
                .private_owners()
                .map(|owners| owners.iter().copied().collect()),
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
