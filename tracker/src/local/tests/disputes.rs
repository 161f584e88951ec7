//! A whole that is not what a caller named: what is compared with the source, and who is blamed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};
use ed25519_dalek::{Signer, SigningKey};

use super::cluster::{bytes, task};
use crate::blocks::BlockSet;
use crate::ids::BlockIndex;
use crate::local::{Config, LocalTracker};
use crate::message::{Extent, SignedBatch};
use crate::meta::{Meta, SourceHead, Validators};
use crate::output::{Output, TaskEvent, TaskFailure};
use crate::task::Wish;
use crate::tracker::Tracker;

const NOW: Now = Now::from_micros(1_000_000);
/// Each signed so many blocks.
const SIGNERS: u8 = 4;
const EACH: u32 = 10;
const BLOCKS: u32 = EACH * SIGNERS as u32;

/// A node that holds the whole of a file, signed for by others.
struct Holder {
    tracker: LocalTracker,
    failures: Vec<TaskFailure>,
}

fn key(signer: u8) -> SigningKey {
    SigningKey::from_bytes(&[signer + 1; 32])
}

fn peer(signer: u8) -> PeerId {
    PeerId::from_bytes(*key(signer).verifying_key().as_bytes())
}

fn holds(falsely_signed: &[u32], ranges: bool) -> Holder {
    let head = SourceHead {
        length: Some(u64::from(BLOCKS) * 32 * 1024),
        validators: Validators {
            etag: Some("\"1\"".to_owned()),
            last_modified: None,
        },
        ranges,
        digest: None,
        authority: None,
        public: true,
    };
    let meta = Meta::of(&head, [0; 32]).expect("a small file");
    assert_eq!(meta.layout.blocks(), Some(BLOCKS));
    let batches = (0..SIGNERS).map(|signer| {
        let first = u32::from(signer) * EACH;
        let digests: Vec<_> = (first..first + EACH)
            .map(|block| {
                let is_false = falsely_signed.contains(&block);
                bytes(if is_false { block + 1000 } else { block })
            })
            .collect();
        let first = BlockIndex(first);
        let signed = SignedBatch::signing_bytes(&task(), &meta.version, first, &digests);
        SignedBatch {
            version: meta.version,
            signer: peer(signer),
            first,
            digests,
            signature: key(signer).sign(&signed).to_bytes().to_vec(),
        }
    });
    let batches = batches.collect();
    let mut tracker = LocalTracker::new(&Config::default(), PeerId::from_bytes([9; 32]), 1);
    tracker.set_ready(NOW);
    let all = BlockSet::all(BLOCKS);
    tracker.restore(NOW, task(), meta, all, batches);
    let wish = Wish {
        can_read: true,
        credentialed: false,
        named: None,
        max_age: Duration::from_mins(1),
        part: None,
    };
    tracker.register(NOW, task(), wish);
    let mut holder = Holder {
        tracker,
        failures: Vec::new(),
    };
    holder.serve();
    holder
}

impl Holder {
    /// The whole is wrong: what is read of the source for it, round by round.
    fn dispute(&mut self) -> Vec<Vec<Range<u32>>> {
        self.tracker.handle_wrong_digest(NOW, &task());
        std::iter::from_fn(|| Some(self.serve()).filter(|round| !round.is_empty())).collect()
    }

    /// Lets the source answer all that is asked of it now.
    fn serve(&mut self) -> Vec<Range<u32>> {
        let mut asked = Vec::new();
        while let Some(output) = self.tracker.poll_output() {
            if let Output::ReadSource { lease, .. } = &output
                && let Extent::Blocks { run, .. } = &lease.extent
            {
                asked.push((lease.id, run.clone()));
            }
            if let Output::Task { event, .. } = output
                && let TaskEvent::Failed(failure) = event
            {
                self.failures.push(failure);
            }
        }
        for (lease, run) in &asked {
            for block in run.clone() {
                let (block, digest) = (BlockIndex(block), bytes(block));
                self.tracker
                    .handle_source_block(NOW, &task(), *lease, block, digest);
            }
            self.tracker
                .handle_source_end(NOW, &task(), *lease, Ok(None));
        }
        let mut runs: Vec<Range<u32>> = asked.into_iter().map(|(_, run)| run).collect();
        runs.sort_unstable_by_key(|run| run.start);
        runs
    }

    fn blamed(&self) -> BTreeSet<PeerId> {
        self.tracker.isolated().keys().copied().collect()
    }
}

fn signers_of(runs: &[Range<u32>]) -> Vec<u32> {
    runs.iter().map(|run| run.start / EACH).collect()
}

#[test]
fn one_liar_costs_the_source_a_sample_of_each_signer_and_what_it_signed() {
    let theirs: Vec<u32> = (EACH..2 * EACH).collect();
    let mut holder = holds(&theirs, true);
    let rounds = holder.dispute();
    assert_eq!(rounds.len(), 2, "{rounds:?}");
    assert_eq!(signers_of(&rounds[0]), [0, 1, 2, 3]);
    assert!(rounds[0].iter().all(|run| run.len() == 1));
    let rest: u32 = rounds[1].iter().map(|run| run.end - run.start).sum();
    assert_eq!(rest, EACH - 1);
    assert!(signers_of(&rounds[1]).iter().all(|signer| *signer == 1));
    assert_eq!(holder.blamed(), BTreeSet::from([peer(1)]));
    assert_eq!(holder.failures, []);
}

#[test]
fn a_liar_whom_no_sample_shows_is_found_by_comparing_everything() {
    let all_of_one = EACH..2 * EACH;
    let one_of_another = 3 * EACH + 4;
    let falsely: Vec<u32> = all_of_one.chain([one_of_another]).collect();
    let mut holder = holds(&falsely, true);
    holder.dispute();
    let found = BTreeSet::from([peer(1)]);
    assert_eq!(holder.blamed(), found, "this seed's sample shows both");
    assert_eq!(holder.dispute(), vec![vec![0..BLOCKS]]);
    assert_eq!(holder.blamed(), BTreeSet::from([peer(1), peer(3)]));
    assert_eq!(holder.failures, []);
}

#[test]
fn where_nobody_lied_everything_is_compared_once_and_the_name_is_wrong() {
    let mut holder = holds(&[], true);
    let rounds = holder.dispute();
    assert_eq!(rounds.len(), 2);
    assert_eq!(rounds[1], vec![0..BLOCKS]);
    assert_eq!(holder.failures, [TaskFailure::WrongDigest]);
    assert_eq!(holder.dispute(), Vec::<Vec<Range<u32>>>::new());
    assert_eq!(holder.failures.len(), 1, "nobody waits any more");
    assert!(holder.blamed().is_empty());
}

#[test]
fn a_source_without_ranges_is_read_once() {
    let mut holder = holds(&[3], false);
    assert_eq!(holder.dispute(), vec![vec![0..BLOCKS]]);
    assert_eq!(holder.blamed(), BTreeSet::from([peer(0)]));
}
