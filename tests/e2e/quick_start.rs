//! The first minute with dfnode, typed as the README says, on hosts that know nothing yet.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::DFNODE;
use crate::files::{noise, sha256, sha256_of};
use crate::lab::{Finished, Host, Job, Lab, Process, Shape, take_turn};
use crate::origin::Origin;

/// Beside this crate's manifest is the repository's first page.
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
/// Where the quick start begins; it ends with the next heading.
const HEADING: &str = "## Quick start";
/// Key-less, for private networks, and a name instead of an address.
const OPEN: &str = "
peer-a$ dfnode run --open
peer-b$ dfnode run --open --join peer-a
peer-c$ dfnode run --open --join peer-a
peer-a$ dfnode get http://example.org/file -o file
peer-b$ dfnode get http://example.org/file -o file
peer-c$ dfnode get http://example.org/file -o file
";

/// A person at three keyboards, who types `HOST$ COMMAND` lines.
struct Typist<'lab> {
    lab: &'lab Lab,
    url: String,
    daemons: Vec<Process>,
}

impl<'lab> Typist<'lab> {
    fn sit_down(lab: &'lab Lab, url: String) -> Self {
        let tools = lab.dir().join("tools");
        fs::create_dir(&tools).unwrap();
        std::os::unix::fs::symlink(DFNODE, tools.join("dfnode")).unwrap();
        // Hosts of a lab share their files, so a copy between them is a copy; and the typist is root.
        write_tool(
            &tools.join("scp"),
            &format!(
                "cp \"$1\" \"{}/${{2%%:*}}/home/${{2#*:}}\"",
                lab.dir().display()
            ),
        );
        write_tool(&tools.join("sudo"), "exec \"$@\"");
        for host in lab.hosts() {
            fs::create_dir_all(home(host)).unwrap();
            fs::create_dir_all(host.dir().join("var")).unwrap();
        }
        Self {
            lab,
            url,
            daemons: Vec::new(),
        }
    }

    /// Types every line of `text` that has a host's prompt; the rest is what the reader sees.
    fn type_all(&mut self, text: &str) {
        for line in text.lines() {
            let Some((prompt, command)) = line.trim().split_once("$ ") else {
                continue;
            };
            let Some(host) = self.lab.hosts().iter().find(|host| host.name() == prompt) else {
                continue;
            };
            self.type_one(host, command.trim().trim_end_matches('&').trim());
        }
    }

    fn type_one(&mut self, host: &'lab Host, command: &str) {
        let command = self.with_lab_url(command);
        if command.contains("dfnode run") {
            let log = host.dir().join("run.log");
            let mut daemon =
                Process::start(&mut self.shell(host, &format!("exec {command}")), &log);
            let give_up = Instant::now() + Duration::from_secs(10);
            while self
                .shell(host, "dfnode status")
                .output()
                .is_ok_and(|status| !status.status.success())
            {
                assert!(
                    daemon.is_running() && Instant::now() < give_up,
                    "{command}: {}",
                    daemon.log()
                );
                thread::sleep(Duration::from_millis(20));
            }
            self.daemons.push(daemon);
        } else {
            let done: Finished = Job::new(self.shell(host, &command)).run();
            let logs: Vec<_> = self.daemons.iter().map(Process::log).collect();
            assert!(
                done.code == Some(0),
                "{}$ {command}: {done:#?}\n{logs:#?}",
                host.name()
            );
        }
    }

    /// The same command, with the example's address replaced by one that exists in the lab.
    fn with_lab_url(&self, command: &str) -> String {
        let words = command.split(' ').map(|word| {
            if word.contains("://") {
                &self.url
            } else {
                word
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// A shell on `host`, in a home of its own and with a /var/lib of its own: there lies root's node.
    fn shell(&self, host: &Host, command: &str) -> Command {
        let mut shell = host.command("env");
        shell
            .arg("-i")
            .arg(format!("HOME={}", home(host).display()));
        shell.arg(format!(
            "PATH={}/tools:/usr/sbin:/usr/bin:/sbin:/bin",
            self.lab.dir().display()
        ));
        shell.args([
            "sh",
            "-c",
            "mount --bind \"$1\" /var/lib && cd && eval \"$2\"",
            "sh",
        ]);
        shell.arg(host.dir().join("var")).arg(command);
        shell
    }
}

fn home(host: &Host) -> PathBuf {
    host.dir().join("home")
}

fn write_tool(path: &std::path::Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Types `text` on three hosts and looks what is in their homes then.
fn three_hosts_get_the_file_by_typing(text: &str) {
    let lab = Lab::new(3, Shape::Mbit(100), Shape::Mbit(100));
    let origin = Origin::start(lab.source());
    let content = noise(11, 6_000_000);
    origin.publish("file", &content);
    let mut typist = Typist::sit_down(&lab, origin.url("file"));
    typist.type_all(text);
    for host in lab.hosts() {
        let right = fs::read_dir(home(host)).unwrap().flatten().any(|file| {
            let digest = file
                .file_type()
                .unwrap()
                .is_file()
                .then(|| sha256_of(&file.path()))
                .flatten();
            digest == Some(sha256(&content))
        });
        assert!(right, "{} did not get the file", host.name());
    }
    assert_eq!(
        origin.copies("file").body_bytes,
        content.len() as u64,
        "read more than once"
    );
}

#[test]
fn the_quick_start_of_the_readme_works_as_written() {
    let Some(_turn) = take_turn(&["nginx", "mount"]) else {
        return;
    };
    let readme = fs::read_to_string(README).unwrap();
    let (_before, rest) = readme.split_once(HEADING).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    three_hosts_get_the_file_by_typing(section);
}

#[test]
fn an_open_cluster_is_joined_by_name() {
    let Some(_turn) = take_turn(&["nginx", "mount"]) else {
        return;
    };
    three_hosts_get_the_file_by_typing(OPEN);
}
