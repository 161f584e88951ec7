//! Runs fuzz targets over their committed corpus: what once was found is looked for at every `cargo test`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A target's name and body.
pub(super) type Target = (&'static str, fn(&[u8]));

/// Runs every input of every target; names those that fail.
pub(super) fn replay(targets: &[Target]) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut failed = Vec::new();
    for (name, run) in targets {
        let folder = corpus.join(name);
        let inputs = fs::read_dir(&folder).expect("each target has a corpus");
        let mut count = 0;
        for input in inputs {
            let path = input.expect("the folder can be read").path();
            let bytes = fs::read(&path).expect("the file can be read");
            count += 1;
            if catch_unwind(AssertUnwindSafe(|| run(&bytes))).is_err() {
                failed.push(path);
            }
        }
        assert!(count > 0, "{name} has an empty corpus");
    }
    assert!(failed.is_empty(), "these inputs fail: {failed:?}");
}
