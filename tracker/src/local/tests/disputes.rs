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
use crate::meta::{Meta, SourceFailure, SourceHead, Validators};
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
    /// Reads that the source answers before it fails.
    patience: usize,
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
    let mut holder = Holder {
        tracker,
        failures: Vec::new(),
        patience: usize::MAX,
    };
    holder.want();
    holder
}

impl Holder {
    fn want(&mut self) {
        let wish = Wish {
            can_read: true,
            credentialed: false,
            named: None,
            seen: None,
            max_age: Duration::from_mins(1),
            part: None,
        };
        self.tracker.register(NOW, task(), wish);
        self.serve();
    }

    /// The whole is wrong: what is read of the source for it, one after the other.
    fn dispute(&mut self) -> Vec<Range<u32>> {
        self.tracker.handle_wrong_digest(NOW, &task());
        let mut runs = Vec::new();
        loop {
            let served = self.serve();
            assert!(served.len() < 2, "the source is asked once at a time");
            match served.into_iter().next() {
                Some(run) => runs.push(run),
                None => return runs,
            }
        }
    }

    /// Lets the source answer what is asked of it now.
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
            if self.patience == 0 {
                self.tracker
                    .handle_source_end(NOW, &task(), *lease, Err(reset()));
                continue;
            }
            self.patience -= 1;
            for block in run.clone() {
                let (block, digest) = (BlockIndex(block), bytes(block));
                self.tracker
                    .handle_source_block(NOW, &task(), *lease, block, digest);
            }
            self.tracker
                .handle_source_end(NOW, &task(), *lease, Ok(None));
        }
        asked.into_iter().map(|(_, run)| run).collect()
    }

    fn blamed(&self) -> BTreeSet<PeerId> {
        self.tracker.isolated().keys().copied().collect()
    }
}

fn everything() -> [Range<u32>; 1] {
    let all = 0..BLOCKS;
    [all]
}

fn reset() -> SourceFailure {
    SourceFailure::Transient {
        what: "reset".to_owned(),
    }
}

fn signer_of(run: &Range<u32>) -> u32 {
    run.start / EACH
}

/// Whom one block was compared of, first to last, and what was read after that.
fn samples_of(runs: &[Range<u32>]) -> (BTreeSet<u32>, &[Range<u32>]) {
    let (samples, rest) = runs.split_at(usize::from(SIGNERS));
    assert!(samples.iter().all(|run| run.len() == 1), "{samples:?}");
    (samples.iter().map(signer_of).collect(), rest)
}

#[test]
fn one_liar_costs_the_source_a_sample_of_each_signer_and_what_it_signed() {
    let theirs: Vec<u32> = (EACH..2 * EACH).collect();
    let mut holder = holds(&theirs, true);
    let runs = holder.dispute();
    let (samples, rest) = samples_of(&runs);
    assert_eq!(samples, BTreeSet::from([0, 1, 2, 3]));
    let blocks: u32 = rest.iter().map(|run| run.end - run.start).sum();
    assert_eq!(blocks, EACH - 1);
    assert!(rest.iter().all(|run| signer_of(run) == 1), "{rest:?}");
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
    assert_eq!(holder.dispute(), everything());
    assert_eq!(holder.blamed(), BTreeSet::from([peer(1), peer(3)]));
    assert_eq!(holder.failures, []);
}

#[test]
fn where_nobody_lied_everything_is_compared_once_and_the_name_is_wrong() {
    let mut holder = holds(&[], true);
    let runs = holder.dispute();
    assert_eq!(samples_of(&runs).1, everything());
    assert_eq!(holder.failures, [TaskFailure::WrongDigest]);
    holder.want();
    assert_eq!(holder.dispute(), [], "once is enough");
    assert_eq!(holder.failures.len(), 2);
    assert!(holder.blamed().is_empty());
}

#[test]
fn a_source_without_ranges_is_read_once() {
    let mut holder = holds(&[3], false);
    assert_eq!(holder.dispute(), everything());
    assert_eq!(holder.blamed(), BTreeSet::from([peer(0)]));
}

#[test]
fn a_sample_that_cannot_be_read_fails_nobody() {
    let theirs: Vec<u32> = (0..BLOCKS).collect();
    let mut holder = holds(&theirs, true);
    holder.patience = 1;
    holder.tracker.handle_wrong_digest(NOW, &task());
    holder.serve();
    holder.serve();
    holder.patience = usize::MAX;
    while !holder.serve().is_empty() {}
    assert_eq!(holder.failures, []);
    assert_eq!(holder.blamed().len(), usize::from(SIGNERS) - 1);
}

#[test]
fn a_comparison_that_is_broken_off_says_nothing_and_begins_anew() {
    let mut holder = holds(&[3], false);
    holder.patience = 0;
    assert_eq!(holder.dispute(), everything());
    assert_eq!(holder.failures, [TaskFailure::Source(reset())]);
    holder.want();
    holder.tracker.handle_wrong_digest(NOW, &task());
    holder.tracker.service_down(NOW, &task());
    holder.want();
    holder.patience = usize::MAX;
    assert_eq!(holder.dispute(), everything());
    assert_eq!(holder.blamed(), BTreeSet::from([peer(0)]));
    assert_eq!(holder.failures.len(), 1);
}

#[test]
fn a_block_that_is_lost_meanwhile_fails_nobody() {
    let mut holder = holds(&[3], false);
    holder.tracker.handle_wrong_digest(NOW, &task());
    holder
        .tracker
        .handle_block_damaged(NOW, &task(), BlockIndex(7));
    while !holder.serve().is_empty() {}
    assert_eq!(holder.failures, []);
    let view = holder.tracker.task(&task()).expect("a task");
    assert_eq!(view.blocks_held, BLOCKS, "the source brought it again");
}
