//! What one home knows of a source as another is told, and what becomes of it there.

use std::ops::Range;

use dfnode_gossip::{Now, PeerId};

use super::leases::{Leases, MAX_TOLD, before};
use crate::blocks::BlockSet;
use crate::holds::Holds;
use crate::message::{Extent, Lease, TableCopy};

impl Leases {
    pub(super) fn copy(&self, now: Now) -> TableCopy {
        TableCopy {
            meta: self.meta.clone(),
            unread: Holds::pack(&self.unread, None),
            leases: self
                .out
                .values()
                .map(|out| (out.holder, out.lease.clone(), out.read_to))
                .collect(),
            validated_ms: self.validated_ms(now),
        }
    }

    fn validated_ms(&self, now: Now) -> u64 {
        self.validated.map_or(u64::MAX, |at| {
            u64::try_from(now.saturating_since(at).as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Whether a copy is of a later moment than what is known here: ranks keep copies of long ago, and what was read since
    /// would be read again.
    pub(super) fn is_behind(&self, now: Now, copy: &TableCopy) -> bool {
        let (Some(ours), Some(theirs)) = (&self.meta, &copy.meta) else {
            return self.meta.is_none();
        };
        if ours.version != theirs.version {
            return copy.validated_ms < self.validated_ms(now);
        }
        let open = |run: &Range<u32>, read_to: u32| {
            let read_to = read_to.max(run.start);
            u64::from(run.end.saturating_sub(read_to))
        };
        let out = self.out.values().map(|out| open(&out.run, out.read_to));
        let left_here = u64::from(self.unread.len()) + out.sum::<u64>();
        let out = copy
            .leases
            .iter()
            .map(|(_, lease, read_to)| match &lease.extent {
                Extent::Blocks { run, .. } => open(run, *read_to),
                Extent::Probe | Extent::Validate { .. } => 0,
            });
        let unread = copy.unread.unpack(None).unwrap_or_default();
        u64::from(unread.len()) + out.sum::<u64>() < left_here
    }

    pub(super) fn adopt(&mut self, now: Now, copy: TableCopy) {
        let Some(meta) = copy.meta else {
            for (holder, lease, read_to) in copy.leases {
                self.enter_lease(now, holder, lease, read_to);
            }
            return;
        };
        self.validated = before(now, copy.validated_ms);
        self.unread = copy.unread.unpack(None).unwrap_or_default();
        self.meta = Some(meta);
        self.out.clear();
        for (holder, lease, read_to) in copy.leases {
            self.enter_lease(now, holder, lease, read_to);
        }
        for out in self.out.values_mut() {
            out.hearsay = true;
        }
    }

    /// Another home's word while leases are granted here: what was read or is being read there need not be leased.
    ///
    /// `is_known`: who registered here says itself what it reads, and knows better.
    pub(super) fn hear(&mut self, now: Now, copy: TableCopy, is_known: impl Fn(&PeerId) -> bool) {
        let (Some(theirs), Some(mut left)) = (&copy.meta, copy.unread.unpack(None)) else {
            return;
        };
        let Some(ours) = &self.meta else {
            let out = std::mem::take(&mut self.out);
            self.adopt(now, copy);
            self.out.extend(out);
            return;
        };
        if ours.version != theirs.version || ours.single {
            return;
        }
        for (holder, lease, read_to) in copy.leases {
            let Extent::Blocks { run, .. } = &lease.extent else {
                continue;
            };
            let is_news = !is_known(&holder) && !self.out.contains_key(&lease.id);
            if is_news && self.out.len() < MAX_TOLD {
                let id = lease.id;
                self.enter_lease(now, holder, lease, read_to);
                self.out.entry(id).and_modify(|out| out.hearsay = true);
            } else {
                left.insert_run(read_to.max(run.start)..run.end.max(run.start));
            }
        }
        let read: BlockSet = self.unread.minus(&left).collect();
        self.unread.subtract(&read);
    }

    /// A holder says what it reads: what it does not name of the leases that another home told of is over.
    pub(super) fn note_ended(&mut self, holder: &PeerId, named: &[Lease]) {
        let over: Vec<u64> = self
            .out
            .iter()
            .filter(|(id, out)| {
                out.hearsay && out.holder == *holder && named.iter().all(|lease| lease.id != **id)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.revoke(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{Meta, SourceHead, Validators};

    const NOW: Now = Now::from_micros(60_000_000);

    fn meta() -> Meta {
        let head = SourceHead {
            length: Some(100_000_000),
            validators: Validators {
                etag: Some("\"1\"".to_owned()),
                ..Validators::default()
            },
            ranges: true,
            digest: None,
            authority: None,
            public: true,
        };
        Meta::of(&head, [1; 32]).expect("a small file")
    }

    fn set(run: Range<u32>) -> BlockSet {
        let mut set = BlockSet::new();
        set.insert_run(run);
        set
    }

    fn leases(unread: Range<u32>, read: Option<Range<u32>>) -> Leases {
        let mut leases = Leases::new();
        leases.adopt_meta(NOW, meta(), 0);
        leases.unread = set(unread);
        if let Some(run) = read {
            let extent = Extent::Blocks {
                meta: meta(),
                run: run.clone(),
            };
            let lease = Lease { id: 1, extent };
            leases.enter_lease(NOW, PeerId::from_bytes([1; 32]), lease, run.start);
        }
        leases
    }

    #[test]
    fn what_a_rank_kept_of_long_ago_is_not_taken_for_what_is_left() {
        let late = leases(200..300, Some(150..200));
        let early = leases(50..300, None);
        assert!(early.is_behind(NOW, &late.copy(NOW)));
        assert!(!late.is_behind(NOW, &early.copy(NOW)));
        assert!(!late.is_behind(NOW, &late.copy(NOW)));
        assert!(
            Leases::new().is_behind(NOW, &early.copy(NOW)),
            "anything is better than nothing"
        );
        assert!(!early.is_behind(NOW, &Leases::new().copy(NOW)));
    }

    #[test]
    fn what_another_home_leased_is_not_leased_again_however_late_it_says_so() {
        let mut here = leases(0..300, None);
        let elsewhere = leases(200..300, Some(150..200));
        here.hear(NOW, elsewhere.copy(NOW), |_| false);
        assert_eq!(here.unread.runs(), set(200..300).runs());
        assert_eq!(here.out.len(), 1);
        here.note_ended(&PeerId::from_bytes([1; 32]), &[]);
        assert_eq!(
            here.unread.runs(),
            set(150..300).runs(),
            "its reader knows better"
        );
    }

    #[test]
    fn a_lease_that_its_holder_has_told_of_here_is_not_taken_from_hearsay() {
        let mut here = leases(0..300, None);
        let elsewhere = leases(200..300, Some(150..200));
        here.hear(NOW, elsewhere.copy(NOW), |_| true);
        assert!(here.out.is_empty());
        assert_eq!(
            here.unread.runs(),
            set(150..300).runs(),
            "it may not read on"
        );
    }
}
