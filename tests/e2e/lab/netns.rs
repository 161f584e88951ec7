//! One network namespace that removes itself.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every namespace of ours is called first; a pid follows.
const PREFIX: &str = "dfnode-e2e";
/// Where `ip netns` keeps its namespaces, and the files it mounts over /etc inside them.
const NAMESPACES: &str = "/run/netns";
const PRIVATE_ETC: &str = "/etc/netns";

/// How TCP finds its rate: Linux's own default, whatever the machine's kernel was built with.
///
/// BBR takes the time that acknowledgements wait in a host's full queue for the path's limit, and keeps a source to a
/// fifth of the rate of a link whose other direction is busy.
const CONGESTION_CONTROL: (&str, &str) = ("net/ipv4/tcp_congestion_control", "cubic");
/// What namespaces may choose from. A kernel that was built with another default lets them choose only once the host does.
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// A network namespace, removed on drop together with its private /etc files.
pub(super) struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace named after this process, lab `number` and `tag`, loopback up.
    pub(super) fn create(number: u32, tag: &str) -> Self {
        let name = format!("{PREFIX}-{}-{number}-{tag}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let netns = Self { name };
        netns.ip(&["link", "set", "lo", "up"]);
        let (knob, value) = CONGESTION_CONTROL;
        allow(value);
        netns.set(knob, value);
        netns
    }

    /// Turns a knob of the kernel, named as under /proc/sys, inside the namespace.
    pub(super) fn set(&self, knob: &str, value: &str) {
        let write = format!("echo {value} > /proc/sys/{knob}");
        run(self.command("sh").args(["-c", &write]));
    }

    /// Runs `ip` inside the namespace and panics when it fails.
    pub(super) fn ip(&self, args: &[&str]) -> Vec<u8> {
        run(Command::new("ip").args(["-n", &self.name]).args(args))
    }

    /// Runs `tc` inside the namespace and panics when it fails.
    pub(super) fn tc(&self, args: &[&str]) {
        run(Command::new("tc").args(["-n", &self.name]).args(args));
    }

    /// The name under which `ip` knows it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    pub(super) fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// A command that will run `program` inside.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Replaces /etc/`file` for the processes inside.
    pub(super) fn write_etc(&self, file: &str, text: &str) {
        let folder = self.private_etc();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), text).unwrap();
    }

    fn private_etc(&self) -> PathBuf {
        Path::new(PRIVATE_ETC).join(&self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Ends what still runs inside `name` and removes it. Never panics: it runs while a test unwinds.
fn remove(name: &str) {
    if let Ok(listed) = Command::new("ip").args(["netns", "pids", name]).output() {
        for pid in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).output();
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    let _ = fs::remove_dir_all(Path::new(PRIVATE_ETC).join(name));
}

/// Removes the namespaces of runs that were killed before they could: those whose pid is gone.
pub(super) fn sweep_dead_runs() {
    let Ok(entries) = fs::read_dir(NAMESPACES) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = owner(&name)
            && !Path::new("/proc").join(pid).exists()
        {
            remove(&name);
        }
    }
}

/// The pid in a name of ours.
fn owner(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)?
        .strip_prefix('-')?
        .split('-')
        .next()
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn the_owner_is_the_pid_in_the_name() {
    assert_eq!(owner("dfnode-e2e-4711-0-peer-a"), Some("4711"));
    assert_eq!(owner("docker-4711"), None);
}

/// Lets namespaces choose how TCP finds its rate.
fn allow(congestion_control: &str) {
    let allowed = fs::read_to_string(ALLOWED).unwrap();
    if allowed
        .split_whitespace()
        .all(|name| name != congestion_control)
    {
        fs::write(ALLOWED, format!("{} {congestion_control}", allowed.trim())).unwrap();
    }
}
