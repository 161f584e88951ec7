//! Whether this machine can carry a lab, and whose turn it is.

use std::env;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Labs share the processors, so they take turns: two at once would measure each other.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for this test's turn, or says aloud why it cannot run and returns `None`.
///
/// Needs root, iproute2 and `programs`. With `CI=true` a missing one is a failure: a test that never
/// runs proves nothing.
pub(crate) fn take_turn(programs: &[&str]) -> Option<MutexGuard<'static, ()>> {
    if let Some(missing) = missing(programs) {
        assert!(
            env::var("CI").as_deref() != Ok("true"),
            "CI must run this test: {missing}"
        );
        eprintln!("SKIPPED: needs {missing}");
        return None;
    }
    // A test that failed while it held the turn says nothing about the next one.
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

fn missing(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root (for network namespaces)".to_owned());
    }
    ["ip", "tc"]
        .iter()
        .chain(programs)
        .find(|name| program(name).is_none())
        .map(|name| format!("the program `{name}`"))
}

/// Where `name` is installed. The sbin folders are looked through even when PATH lacks them.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
