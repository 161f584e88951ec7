//! Whose TLS connections are opened.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::HostPattern;
use crate::origin::Authority;

/// Public registries, and where their tokens come from.
const PUBLIC: &[&str] = &[
    "registry-1.docker.io",
    "auth.docker.io",
    "ghcr.io",
    "quay.io",
    "gcr.io",
    ".gcr.io",
    ".pkg.dev",
    "registry.k8s.io",
    "mcr.microsoft.com",
    ".azurecr.io",
    "public.ecr.aws",
    "registry.gitlab.com",
    "registry.access.redhat.com",
    "registry.redhat.io",
    "nvcr.io",
    "docker.elastic.co",
    "registry.suse.com",
    "cgr.dev",
    "lscr.io",
    "container-registry.oracle.com",
];
/// Hosts remembered. Beyond, the oldest makes room.
const MAX_HOSTS: usize = 4096;
/// How long a host counts as none of ours before it is asked again.
const OTHER_AGE: Duration = Duration::from_hours(1);
/// The same, where it could not be asked.
const UNKNOWN_AGE: Duration = Duration::from_mins(1);
/// How long a host is let through after a client refused our certificate for it.
const REJECTED_AGE: Duration = Duration::from_mins(10);
/// How long a host counts as one that talks TLS as it should.
const SHAKEN_AGE: Duration = Duration::from_mins(10);

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Named by somebody who must know, or it answered as a registry.
    Registry,
    /// It did not.
    Other,
    /// It could not be asked.
    Unclear,
}

/// What is known of every host.
#[derive(Debug)]
pub(crate) struct Hosts {
    listed: Vec<HostPattern>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    verdicts: BTreeMap<Authority, (Instant, Verdict)>,
    rejected: BTreeMap<Authority, Instant>,
    shaken: BTreeMap<Authority, Instant>,
}

impl Hosts {
    /// `further`: hosts beside the public registries.
    pub(crate) fn new(further: &[HostPattern]) -> Self {
        let public = PUBLIC.iter().filter_map(|host| host.parse().ok());
        Self {
            listed: public.chain(further.iter().cloned()).collect(),
            known: Mutex::default(),
        }
    }

    /// Whether somebody named the host beforehand.
    pub(crate) fn is_listed(&self, host: &Authority) -> bool {
        self.listed.iter().any(|pattern| pattern.matches(host))
    }

    /// Whether a client refused our certificate for this host not long ago.
    pub(crate) fn is_rejected(&self, host: &Authority) -> bool {
        let known = self.lock();
        let at = known.rejected.get(host);
        at.is_some_and(|at| at.elapsed() < REJECTED_AGE)
    }

    /// A client refused our certificate for this host.
    pub(crate) fn reject(&self, host: Authority) {
        remember(&mut self.lock().rejected, host, Instant::now(), |at| *at);
    }

    /// What is known of a host, if it need not be asked.
    pub(crate) fn verdict(&self, host: &Authority) -> Option<Verdict> {
        if self.is_listed(host) {
            return Some(Verdict::Registry);
        }
        let known = self.lock();
        let (at, verdict) = known.verdicts.get(host)?;
        let is_current = match verdict {
            Verdict::Registry => true,
            Verdict::Other => at.elapsed() < OTHER_AGE,
            Verdict::Unclear => at.elapsed() < UNKNOWN_AGE,
        };
        is_current.then_some(*verdict)
    }

    /// A host answered, or did not.
    pub(crate) fn judge(&self, host: Authority, verdict: Verdict) {
        let entry = (Instant::now(), verdict);
        remember(&mut self.lock().verdicts, host, entry, |(at, _)| *at);
    }

    /// Whether a host was seen to talk TLS as it should, not long ago.
    pub(crate) fn is_shaken(&self, host: &Authority) -> bool {
        let known = self.lock();
        let at = known.shaken.get(host);
        at.is_some_and(|at| at.elapsed() < SHAKEN_AGE)
    }

    /// A host talked TLS as it should.
    pub(crate) fn shake(&self, host: Authority) {
        remember(&mut self.lock().shaken, host, Instant::now(), |at| *at);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember<T>(
    map: &mut BTreeMap<Authority, T>,
    host: Authority,
    what: T,
    at: impl Fn(&T) -> Instant,
) {
    if map.len() >= MAX_HOSTS && !map.contains_key(&host) {
        let oldest = map.iter().min_by_key(|(_, what)| at(what));
        if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
            map.remove(&oldest);
        }
    }
    map.insert(host, what);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Authority {
        Authority::parse(text, Some(443)).unwrap()
    }

    #[test]
    fn public_registries_are_known() {
        let hosts = Hosts::new(&["r.example:5000".parse().unwrap()]);
        assert_eq!(Hosts::new(&[]).listed.len(), PUBLIC.len());
        for name in ["registry-1.docker.io", "eu.gcr.io", "r.example:5000"] {
            assert_eq!(
                hosts.verdict(&host(name)),
                Some(Verdict::Registry),
                "{name}"
            );
        }
        assert_eq!(hosts.verdict(&host("bank.example")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_out_is_remembered_for_a_while() {
        let hosts = Hosts::new(&[]);
        hosts.judge(host("a"), Verdict::Registry);
        hosts.judge(host("b"), Verdict::Other);
        hosts.reject(host("a"));
        assert!(hosts.is_rejected(&host("a")) && !hosts.is_rejected(&host("b")));
        tokio::time::advance(OTHER_AGE).await;
        assert_eq!(hosts.verdict(&host("a")), Some(Verdict::Registry));
        assert_eq!(hosts.verdict(&host("b")), None);
        assert!(!hosts.is_rejected(&host("a")));
    }

    #[test]
    fn clients_cannot_fill_the_memory() {
        let hosts = Hosts::new(&[]);
        for number in 0..MAX_HOSTS + 10 {
            hosts.judge(host(&format!("h{number}")), Verdict::Other);
        }
        assert_eq!(hosts.lock().verdicts.len(), MAX_HOSTS);
    }
}
