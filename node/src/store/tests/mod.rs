//! The store as its callers see it.

mod audit;
mod blocks;
mod crash;
mod model;
mod room;

use std::path::Path;

use dfnode_gossip::PeerId;
use dfnode_tracker::{BlockSet, Layout, SourceHead, Validators};

use super::*;

/// Sixteen blocks of the smallest size.
const SIXTEEN: u64 = 16 * 32_768;
/// A block that no file of these tests has: digests from here on say nothing about any.
const BEYOND: u32 = 1000;

fn task(number: u8) -> TaskId {
    TaskId::from_bytes([number; 32])
}

fn meta(length: Option<u64>, etag: &str) -> Meta {
    let validators = Validators {
        etag: Some(etag.to_owned()),
        last_modified: None,
    };
    let head = SourceHead {
        length,
        validators,
        ranges: true,
        digest: None,
        authority: None,
        public: true,
    };
    Meta::of(&head, [1; 32]).expect("a sane length")
}

/// The bytes of a block: a pattern that tells task, version and block.
fn content(seed: u64, layout: &Layout, block: u32) -> Bytes {
    let range = layout.range_of(BlockIndex(block));
    let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("small")];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&block.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn config() -> StoreConfig {
    StoreConfig {
        cache_bytes: 100 * SIXTEEN,
        free_floor_bytes: 0,
        ..StoreConfig::default()
    }
}

fn open(folder: &Path) -> Opened {
    Store::open(folder, config()).expect("opens")
}

fn batch(meta: &Meta, first: u32) -> SignedBatch {
    SignedBatch {
        version: meta.version,
        signer: PeerId::from_bytes([7; 32]),
        first: BlockIndex(first),
        digests: vec![BlockDigest([1; 32]); 8],
        signature: vec![2; 64],
    }
}

async fn fill(store: &Store, task: TaskId, meta: &Meta, seed: u64) {
    let reserved = store.reserve(task, meta, About::default());
    for block in 0..meta.layout.blocks().expect("a known length") {
        let bytes = content(seed, &meta.layout, block);
        store
            .put(task, meta.version, BlockIndex(block), bytes)
            .expect("fits");
    }
    reserved.await.expect("there is room");
}

async fn assert_holds(store: &Store, task: TaskId, meta: &Meta, seed: u64, blocks: &BlockSet) {
    for block in blocks.iter() {
        let bytes = store
            .read(task, meta.version, block)
            .await
            .expect("is there");
        assert!(
            bytes == content(seed, &meta.layout, block.0),
            "block {block}"
        );
    }
}
