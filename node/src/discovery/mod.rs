//! Where other members may be: told, remembered, or found on the network.
//!
//! Addresses are only proposed here. The node dials them, says what became of it, and the rest of the cluster is
//! learnt from whoever answers.

mod candidates;
mod file;
mod join;
mod mdns;
pub mod remembered;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::candidates::Candidates;
pub use self::candidates::{Candidate, FoundBy, Tried};
use self::file::JoinFile;
pub use self::join::{JoinTarget, ParseTargetError};
use crate::ambient::{self, Clock};

/// How often names are looked up again while the node is alone, and the join file is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often names are looked up in company.
const LOOK_AGAIN_IN_COMPANY: Duration = Duration::from_mins(5);

/// Where to look.
#[derive(Default)]
pub struct DiscoveryConfig {
    /// `--join`.
    pub join: Vec<JoinTarget>,
    /// `--join-file`.
    pub join_file: Option<PathBuf>,
    /// Members of the last run, see [`remembered::load`].
    pub remembered: Vec<SocketAddr>,
    /// How to announce this node by mDNS and find others; `None` with `--no-mdns`.
    pub mdns: Option<MdnsConfig>,
}

/// What mDNS announces.
pub struct MdnsConfig {
    /// The node's libp2p name.
    pub me: libp2p::PeerId,
    /// Gives its addresses, asked again and again.
    pub advertised: Box<dyn Fn() -> Vec<SocketAddr> + Send + Sync>,
}

/// Proposes addresses to dial.
#[derive(Debug)]
pub struct Discovery {
    candidates: Candidates,
    alone: bool,
    targets: BTreeSet<JoinTarget>,
    file: Option<JoinFile>,
    file_targets: BTreeSet<JoinTarget>,
    lookups: JoinSet<Vec<(SocketAddr, FoundBy)>>,
    looked_up: Option<Instant>,
    ticks: tokio::time::Interval,
    mdns: Option<mpsc::Receiver<SocketAddr>>,
}

impl Discovery {
    /// Starts to look. Needs a tokio runtime.
    pub fn start(config: DiscoveryConfig) -> Self {
        let DiscoveryConfig {
            join,
            join_file,
            remembered,
            mdns,
        } = config;
        let mut candidates = Candidates::new(ambient::seed());
        let now = Clock::now();
        for addr in remembered {
            candidates.found(now, addr, FoundBy::Remembered);
        }
        let mut ticks = interval(LOOK_AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            candidates,
            alone: true,
            targets: join.into_iter().collect(),
            file: join_file.map(JoinFile::new),
            file_targets: BTreeSet::new(),
            lookups: JoinSet::new(),
            looked_up: None,
            ticks,
            mdns: mdns.map(|mdns| mdns::start(mdns.me, mdns.advertised)),
        }
    }

    /// The next address that is worth a dial. Say what became of it with [`Discovery::tried`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Candidate {
        loop {
            if let Some(candidate) = self.candidates.next(Clock::now()) {
                return candidate;
            }
            let due = self.candidates.poll_timeout();
            tokio::select! {
                () = sleep_until(due.map_or_else(Instant::now, Clock::instant)), if due.is_some() => {}
                _ = self.ticks.tick() => self.look(),
                Some(found) = self.lookups.join_next() => {
                    for (addr, found_by) in found.unwrap_or_default() {
                        self.candidates.found(Clock::now(), addr, found_by);
                    }
                }
                found = from_mdns(&mut self.mdns) => {
                    self.candidates.found(Clock::now(), found, FoundBy::Mdns);
                }
            }
        }
    }

    /// Says what became of a candidate. A member's address need not be dialled: it is [`Tried::Member`].
    pub fn tried(&mut self, candidate: Candidate, tried: Tried) {
        self.candidates.tried(Clock::now(), candidate.addr, tried);
    }

    /// Says whether this node knows no other member. At the start it does not.
    pub fn set_alone(&mut self, alone: bool) {
        if alone && !self.alone {
            self.looked_up = None;
        }
        self.alone = alone;
        self.candidates.set_alone(Clock::now(), alone);
    }

    /// Whether there is anywhere to look beside mDNS.
    pub fn has_targets(&self) -> bool {
        !self.targets.is_empty() || self.file.is_some()
    }

    fn look(&mut self) {
        if let Some(changed) = self.file.as_mut().and_then(JoinFile::read_if_changed) {
            self.file_targets = changed;
            self.looked_up = None;
        }
        let pause = if self.alone {
            LOOK_AGAIN
        } else {
            LOOK_AGAIN_IN_COMPANY
        };
        let is_due = self
            .looked_up
            .is_none_or(|last| last.elapsed() + LOOK_AGAIN / 2 >= pause);
        if !is_due || !self.lookups.is_empty() {
            return;
        }
        self.looked_up = Some(Instant::now());
        let joined = self.targets.iter().map(|target| (target, FoundBy::Join));
        let listed = self
            .file_targets
            .iter()
            .map(|target| (target, FoundBy::JoinFile));
        for (target, found_by) in joined.chain(listed) {
            self.lookups.spawn(look_up(target.clone(), found_by));
        }
    }
}

async fn look_up(target: JoinTarget, found_by: FoundBy) -> Vec<(SocketAddr, FoundBy)> {
    match target.resolve().await {
        Ok(addrs) => addrs.into_iter().map(|addr| (addr, found_by)).collect(),
        Err(error) => {
            tracing::debug!(%target, %error, "the name was not found");
            Vec::new()
        }
    }
}

async fn from_mdns(mdns: &mut Option<mpsc::Receiver<SocketAddr>>) -> SocketAddr {
    if let Some(receiver) = mdns
        && let Some(addr) = receiver.recv().await
    {
        return addr;
    }
    std::future::pending().await
}

impl fmt::Debug for MdnsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MdnsConfig")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DiscoveryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoveryConfig")
            .field("join", &self.join)
            .field("join_file", &self.join_file)
            .field("remembered", &self.remembered.len())
            .field("mdns", &self.mdns)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn remembered_members_come_before_names_and_names_before_nothing() {
        let remembered: SocketAddr = "10.0.0.9:65000".parse().unwrap();
        let mut discovery = Discovery::start(DiscoveryConfig {
            join: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2:7".parse().unwrap()],
            remembered: vec![remembered],
            ..DiscoveryConfig::default()
        });
        let mut order = Vec::new();
        for _ in 0..3 {
            let candidate = discovery.next().await;
            order.push(candidate.addr.to_string());
            discovery.tried(candidate, Tried::Member);
        }
        assert_eq!(order, ["10.0.0.9:65000", "10.0.0.1:65000", "10.0.0.2:7"]);
        discovery.set_alone(false);
        let more = tokio::time::timeout(Duration::from_hours(1), discovery.next()).await;
        assert!(more.is_err());
        discovery.set_alone(true);
        assert_eq!(discovery.next().await.addr, remembered);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_appears_late_is_heeded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers");
        let mut discovery = Discovery::start(DiscoveryConfig {
            join_file: Some(path.clone()),
            ..DiscoveryConfig::default()
        });
        let early = tokio::time::timeout(Duration::from_mins(1), discovery.next()).await;
        assert!(early.is_err());
        std::fs::write(&path, "10.0.0.1\n").unwrap();
        let candidate = discovery.next().await;
        assert_eq!(candidate.found_by, FoundBy::JoinFile);
    }
}
