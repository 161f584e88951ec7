//! Outputs fed by hand.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use dfnode_node::get::CacheFile;
use dfnode_tracker::{TaskId, VersionId};
use tempfile::TempDir;

use super::*;

const CONTENT: &[u8] = b"0123456789";

fn started(folder: &TempDir, content: &[u8], version: u8) -> Started {
    let path = folder.path().join("cache");
    fs::write(&path, content).unwrap();
    Started {
        id: String::new(),
        task: TaskId::from_bytes([0; 32]),
        version: VersionId::from_bytes([version; 32]),
        length: Some(content.len() as u64),
        file: CacheFile(Arc::new(File::open(path).unwrap())),
    }
}

fn progress(run: std::ops::Range<u64>, contiguous: u64) -> GetProgress {
    GetProgress {
        runs: vec![run],
        contiguous,
        ..GetProgress::default()
    }
}

fn summary(bytes: u64) -> GetSummary {
    GetSummary {
        bytes,
        ..GetSummary::default()
    }
}

/// What lies in the folder beside the cache.
fn names(folder: &TempDir) -> Vec<String> {
    let names = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "cache").collect()
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out");
    let mut output = Output::open(&path, None, CancellationToken::new()).unwrap();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.advance(&progress(5..10, 0)).unwrap();
    assert!(!path.exists());
    output.advance(&progress(0..5, 10)).unwrap();
    output.finish(&summary(10)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(names(&folder), ["out"]);
}

#[test]
fn a_download_that_is_left_leaves_the_old_file_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out");
    fs::write(&path, "old").unwrap();
    let mut output = Output::open(&path, None, CancellationToken::new()).unwrap();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.advance(&progress(0..5, 5)).unwrap();
    drop(output);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(&folder), ["out"]);
}

#[test]
#[expect(clippy::print_stderr, reason = "what is skipped is told")]
fn a_download_whose_process_is_killed_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out");
    let mut output = Output::open(&path, None, CancellationToken::new()).unwrap();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.advance(&progress(0..5, 5)).unwrap();
    // Killed, it drops nothing.
    std::mem::forget(output);
    if knows_nameless_files(&folder) {
        assert_eq!(names(&folder), [""; 0]);
    } else {
        eprintln!("SKIPPED: this file system has no files without a name");
    }
}

fn knows_nameless_files(folder: &TempDir) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::WRONLY;
    open(folder.path(), flags, Mode::from_raw_mode(0o600)).is_ok()
}

#[test]
fn a_replaced_file_keeps_its_mode_and_its_links() {
    let folder = TempDir::new().unwrap();
    let (path, link) = (folder.path().join("out"), folder.path().join("link"));
    fs::write(&path, "old and longer than the new").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("out", &link).unwrap();
    let mut output = Output::open(&link, None, CancellationToken::new()).unwrap();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.finish(&summary(10)).unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn what_a_link_names_is_made_if_it_is_not_there() {
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("link");
    symlink("further", &link).unwrap();
    symlink("out", folder.path().join("further")).unwrap();
    let mut output = Output::open(&link, None, CancellationToken::new()).unwrap();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.finish(&summary(10)).unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read(folder.path().join("out")).unwrap(), CONTENT);
}

#[test]
#[expect(clippy::print_stderr, reason = "what is skipped is told")]
fn a_replaced_file_keeps_its_owner() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root gives files away");
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out");
    fs::write(&path, "old").unwrap();
    chown(&path, Some(4711), Some(4712)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut output = Output::open(&path, None, CancellationToken::new()).unwrap();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.finish(&summary(10)).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid()), (4711, 4712));
    assert_eq!(found.mode() & 0o7777, 0o640);
}

#[test]
fn a_range_begins_at_the_front_of_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out");
    for (range, expected) in [
        ((2, Some(4)), &b"234"[..]),
        ((7, None), b"789"),
        ((0, Some(99)), CONTENT),
    ] {
        let mut output = Output::open(&path, Some(range), CancellationToken::new()).unwrap();
        output.start(&started(&folder, CONTENT, 1)).unwrap();
        output.advance(&progress(0..4, 4)).unwrap();
        output.advance(&progress(4..10, 10)).unwrap();
        output.finish(&summary(expected.len() as u64)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), expected);
    }
}

#[test]
fn a_changed_source_starts_a_file_over() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out");
    let mut output = Output::open(&path, None, CancellationToken::new()).unwrap();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.advance(&progress(0..10, 10)).unwrap();
    output.restart();
    output.start(&started(&folder, b"new", 2)).unwrap();
    output.advance(&progress(0..1, 1)).unwrap();
    output.advance(&progress(1..3, 3)).unwrap();
    output.finish(&summary(3)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

/// A stream into a pipe, and its other end.
fn pipe(folder: &TempDir) -> (Output, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
    let output = Output::open(Path::new(&path), None, CancellationToken::new()).unwrap();
    assert!(names(folder).is_empty());
    (output, reader)
}

#[test]
fn what_is_no_regular_file_is_written_in_order() {
    let folder = TempDir::new().unwrap();
    let (mut output, mut reader) = pipe(&folder);
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.advance(&progress(5..10, 0)).unwrap();
    output.advance(&progress(0..2, 2)).unwrap();
    output.advance(&progress(2..5, 10)).unwrap();
    output.finish(&summary(10)).unwrap();
    drop(output);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, CONTENT);
}

#[test]
fn a_stream_goes_on_with_the_same_version_only() {
    let folder = TempDir::new().unwrap();
    let (mut output, mut reader) = pipe(&folder);
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.advance(&progress(0..0, 4)).unwrap();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.restart();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.advance(&progress(0..0, 6)).unwrap();
    output.restart();
    assert!(matches!(
        output.start(&started(&folder, CONTENT, 2)),
        Err(OutputError::Changed)
    ));
    drop(output);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"012345");
}

#[test]
fn a_stream_does_not_go_on_behind_bytes_that_were_found_false() {
    let folder = TempDir::new().unwrap();
    let (mut output, mut reader) = pipe(&folder);
    output.start(&started(&folder, b"01x3456789", 1)).unwrap();
    output.advance(&progress(0..0, 4)).unwrap();
    output.restart();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    // What was written cannot be compared yet.
    output.advance(&progress(0..0, 3)).unwrap();
    let compared = output.advance(&progress(0..0, 6));
    assert!(matches!(compared, Err(OutputError::Changed)));
    assert!(output.finish(&summary(10)).is_err());
    drop(output);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"01x3");
}

#[test]
fn a_stream_that_has_all_its_bytes_is_compared_too() {
    let folder = TempDir::new().unwrap();
    for (written, is_right) in [(&b"01x3456789"[..], false), (CONTENT, true)] {
        let (mut output, _reader) = pipe(&folder);
        output.start(&started(&folder, written, 1)).unwrap();
        output.advance(&progress(0..10, 10)).unwrap();
        output.restart();
        output.start(&started(&folder, CONTENT, 1)).unwrap();
        assert_eq!(output.finish(&summary(10)).is_ok(), is_right);
    }
}

#[test]
fn a_stream_does_not_go_on_from_a_pipe_that_has_other_bytes() {
    let folder = TempDir::new().unwrap();
    let (mut output, mut reader) = pipe(&folder);
    output.start(&started(&folder, b"01x3456789", 1)).unwrap();
    output.advance(&progress(0..0, 4)).unwrap();
    output.restart();
    let (started, mut pipe) = piped(1, Some(10));
    output.start(&started).unwrap();
    pipe.write_all(CONTENT).unwrap();
    let outcome = output
        .advance(&progress(0..3, 3))
        .and_then(|()| output.finish(&summary(10)));
    assert!(matches!(outcome, Err(OutputError::Changed)));
    drop(output);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"01x3");
}

#[test]
fn a_stream_that_has_not_begun_starts_over() {
    let folder = TempDir::new().unwrap();
    let (mut output, _reader) = pipe(&folder);
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.restart();
    output.start(&started(&folder, CONTENT, 2)).unwrap();
    output.finish(&summary(10)).unwrap();
}

#[test]
fn where_nothing_can_be_written_is_said_before_the_download() {
    let folder = TempDir::new().unwrap();
    assert!(
        Output::open(
            &folder.path().join("missing/out"),
            None,
            CancellationToken::new()
        )
        .is_err()
    );
    fs::write(folder.path().join("file"), "").unwrap();
    for name in ["", "new/", "new/.", "file/", "file/out"] {
        let path = folder.path().join(name);
        let opened = Output::open(&path, None, CancellationToken::new());
        assert!(opened.is_err(), "{name}");
    }
}

#[test]
fn a_write_that_nobody_wants_any_more_ends() {
    let folder = TempDir::new().unwrap();
    let stop = CancellationToken::new();
    let mut output = Output::open(&folder.path().join("out"), None, stop.clone()).unwrap();
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    stop.cancel();
    let ended = output
        .advance(&progress(0..10, 10))
        .and_then(|()| output.finish(&summary(10)));
    assert!(ended.is_err() || output.path.exists());
    drop(output);
    assert!(names(&folder).is_empty() || names(&folder) == ["out"]);
}

/// A start whose bytes come through a pipe, and the end to put them in.
fn piped(version: u8, length: Option<u64>) -> (Started, io::PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let started = Started {
        id: String::new(),
        task: TaskId::from_bytes([0; 32]),
        version: VersionId::from_bytes([version; 32]),
        length,
        file: CacheFile(Arc::new(File::from(std::os::fd::OwnedFd::from(reader)))),
    };
    (started, writer)
}

#[test]
fn a_file_is_made_of_what_comes_through_a_pipe() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out");
    let mut output = Output::open(&path, None, CancellationToken::new()).unwrap();
    let (started, mut pipe) = piped(1, None);
    output.start(&started).unwrap();
    pipe.write_all(&CONTENT[..6]).unwrap();
    output.advance(&progress(0..4, 4)).unwrap();
    pipe.write_all(&CONTENT[6..]).unwrap();
    output.finish(&summary(10)).unwrap();
    assert_eq!(fs::read(path).unwrap(), CONTENT);
}

#[test]
fn a_part_comes_through_a_pipe_from_its_first_byte_on() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out");
    let range = Some((3, Some(7)));
    let mut output = Output::open(&path, range, CancellationToken::new()).unwrap();
    let (started, mut pipe) = piped(1, Some(10));
    output.start(&started).unwrap();
    pipe.write_all(&CONTENT[3..8]).unwrap();
    output.advance(&progress(3..8, 8)).unwrap();
    output.finish(&summary(5)).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"34567");
}

#[test]
fn a_pipe_that_ends_early_makes_no_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out");
    let mut output = Output::open(&path, None, CancellationToken::new()).unwrap();
    let (started, mut pipe) = piped(1, Some(10));
    output.start(&started).unwrap();
    pipe.write_all(&CONTENT[..6]).unwrap();
    drop(pipe);
    output.advance(&progress(0..10, 10)).unwrap();
    assert!(output.finish(&summary(10)).is_err());
    drop(output);
    assert!(names(&folder).is_empty());
}

#[test]
fn a_stream_goes_on_from_a_file_to_a_pipe_that_repeats_what_was_written() {
    let folder = TempDir::new().unwrap();
    let (mut output, mut reader) = pipe(&folder);
    output.start(&started(&folder, CONTENT, 1)).unwrap();
    output.advance(&progress(0..0, 4)).unwrap();
    output.restart();
    let (started, mut pipe) = piped(1, Some(10));
    output.start(&started).unwrap();
    pipe.write_all(CONTENT).unwrap();
    output.advance(&progress(0..3, 3)).unwrap();
    output.finish(&summary(10)).unwrap();
    drop(output);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, CONTENT);
}
