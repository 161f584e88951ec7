//! Contents to download, and their digests.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ring::digest::{Context, SHA256, digest};

/// `length` bytes that do not compress and differ with `seed` (splitmix64: fast, and always the same).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The SHA-256 of `bytes`, in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// The SHA-256 of a file, or `None` when there is none.
pub(crate) fn sha256_of(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let (mut hasher, mut buffer) = (Context::new(&SHA256), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hex::encode(hasher.finish())),
            count => hasher.update(&buffer[..count]),
        }
    }
}
