//! Memory in large pages.
//!
//! Each event of a great world looks at another host, and the processor finds few of so many small pages by heart: with
//! large ones three thousand hosts get further by a quarter to a half in the same time.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The allocator reads its settings before `main`, from here alone: large pages, and none given back to be cleared anew.
const SETTINGS: [(&str, &str); 2] = [
    ("MIMALLOC_ALLOW_LARGE_OS_PAGES", "1"),
    ("MIMALLOC_PURGE_DELAY", "-1"),
];

/// Starts this program anew with large pages, unless somebody has decided on them. Without them it is only slower.
pub(crate) fn ask_for() {
    if SETTINGS
        .iter()
        .any(|(name, _)| std::env::var_os(name).is_some())
    {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let arguments = std::env::args_os().skip(1);
        let _ = Command::new(program).args(arguments).envs(SETTINGS).exec();
    }
}
