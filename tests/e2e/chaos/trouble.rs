//! What was wrong when: the only excuse that a client accepts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After the end of a trouble its effects may be felt for so long: a node starts, a link's peers dial again.
const AFTERMATH: Duration = Duration::from_secs(12);

/// Who suffers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// The host at this place.
    Host(usize),
    /// Whoever needs the source.
    Source,
    /// It is no excuse: the source answers, and every host reaches it.
    Nobody,
}

struct Trouble {
    what: &'static str,
    whom: Whom,
    from: Instant,
    until: Option<Instant>,
}

/// Everything that went wrong so far.
#[derive(Default)]
pub(super) struct Troubles(Vec<Trouble>);

impl Troubles {
    pub(super) fn begin(&mut self, what: &'static str, whom: Whom) {
        self.0.push(Trouble {
            what,
            whom,
            from: Instant::now(),
            until: None,
        });
    }

    pub(super) fn end(&mut self, what: &'static str, whom: Whom) {
        let open = self.0.iter_mut().rev();
        let mut open = open.filter(|one| one.until.is_none());
        if let Some(one) = open.find(|one| one.what == what && one.whom == whom) {
            one.until = Some(Instant::now());
        }
    }

    /// Whether the client at `place` had a reason to fail or to wait at some time since `since`.
    pub(super) fn excuse(&self, place: usize, since: Instant) -> bool {
        self.0.iter().any(|one| {
            let concerns = one.whom == Whom::Source || one.whom == Whom::Host(place);
            concerns && one.until.is_none_or(|until| until + AFTERMATH > since)
        })
    }

    /// How often what happened.
    pub(super) fn summary(&self) -> String {
        let mut counts = BTreeMap::<&str, u32>::new();
        for one in &self.0 {
            *counts.entry(one.what).or_default() += 1;
        }
        let each = counts
            .iter()
            .map(|(what, count)| format!("{what}: {count}"));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Troubles that began `ago` before now or later, in words, for a report.
    pub(super) fn recent(&self, ago: Duration) -> Vec<String> {
        let now = Instant::now();
        let age = |at: Instant| (now - at).as_secs_f32();
        self.0
            .iter()
            .filter(|one| now - one.from < ago)
            .map(|one| {
                let whom = match one.whom {
                    Whom::Host(place) => format!("host {place}"),
                    Whom::Source => "source".to_owned(),
                    Whom::Nobody => "no excuse".to_owned(),
                };
                let end = one.until.map(|until| format!(" to -{:.1}", age(until)));
                format!(
                    "{} ({whom}) -{:.1}{}",
                    one.what,
                    age(one.from),
                    end.unwrap_or_default()
                )
            })
            .collect()
    }
}
