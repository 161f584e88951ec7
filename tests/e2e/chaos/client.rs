//! One host's user, who downloads all the time.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{Published, World, lock};
use crate::dice::Dice;
use crate::engines::PROXY;
use crate::files::sha256_of;
use crate::lab::Process;

/// Of the files published last, so many are asked for: older ones may be forgotten by everybody.
const RECENT: usize = 6;
/// Without news for so long, and without a reason, a download hangs.
const MAX_SILENCE: Duration = Duration::from_secs(30);
/// More than a client that only waits reads and writes between two looks.
const NEWS_BYTES: u64 = 100_000;
/// How often it is looked whether a download moves.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How a client fared.
#[derive(Default)]
pub(super) struct Fared {
    pub(super) whole: u64,
    pub(super) cancelled: u64,
    pub(super) excused: u64,
    pub(super) urls: BTreeSet<String>,
    /// What must not happen, in words.
    pub(super) wrongs: Vec<String>,
}

/// Downloads until the world's end.
pub(super) fn run(world: &World<'_>, place: usize, seed: u64) -> Fared {
    let mut dice = Dice::new(seed ^ (place as u64 + 1) << 32);
    let mut fared = Fared::default();
    while Instant::now() < world.end {
        let file = {
            let files = lock(&world.files);
            let recent = &files[files.len().saturating_sub(RECENT)..];
            dice.pick(recent).clone()
        };
        fared.urls.insert(file.url.clone());
        download(world, place, &file, &mut dice, &mut fared);
        thread::sleep(Duration::from_millis(dice.roll(500)));
    }
    fared
}

fn download(world: &World<'_>, place: usize, file: &Published, dice: &mut Dice, fared: &mut Fared) {
    let host = &world.lab.hosts()[place];
    let output = host.dir().join("got");
    let _ = fs::remove_file(&output);
    let by_proxy = dice.roll(3) == 0;
    let mut command = if by_proxy {
        curl(host.command("curl"), &file.url, &output)
    } else {
        lock(&world.nodes[place]).get_as_member(&file.url, &output)
    };
    let log = host.dir().join("client.log");
    let _ = fs::remove_file(&log);
    let began = Instant::now();
    let mut getting = Process::start(&mut command, &log);
    let patience = Duration::from_millis(dice.roll(4000));
    let is_impatient = dice.roll(6) == 0;
    let mut seen = Seen {
        done: None,
        taken_bytes: 0,
        silence: Duration::ZERO,
        looked: began,
    };
    while getting.is_running() {
        if is_impatient && began.elapsed() > patience {
            getting.kill();
            fared.cancelled += 1;
            return;
        }
        if hangs(world, place, file, &getting, &mut seen) {
            fared.wrongs.push(format!(
                "host {place} waits for {}, of which it has {:?}: {}",
                file.url,
                seen.done,
                context(world, place, &getting)
            ));
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let status = getting.wait();
    let got = sha256_of(&output);
    if status.success() {
        if got.as_ref() == Some(&file.digest) {
            fared.whole += 1;
        } else {
            fared
                .wrongs
                .push(format!("host {place}: wrong bytes of {}", file.url));
        }
    } else if lock(&world.troubles).excuse(place, began) {
        fared.excused += 1;
    } else {
        let how = if by_proxy { "curl" } else { "get" };
        fared.wrongs.push(format!(
            "host {place}: {how} of {} failed ({status}) after {:?}: {}",
            file.url,
            began.elapsed(),
            context(world, place, &getting)
        ));
    }
}

fn curl(mut curl: Command, url: &str, output: &Path) -> Command {
    curl.args(["-sS", "--fail", "-x", &format!("http://{PROXY}"), "-o"]);
    curl.arg(output).arg(url);
    curl
}

/// What a client saw of a download last.
struct Seen {
    done: Option<u64>,
    /// What the client has read and written, which grows also where no task tells of it.
    taken_bytes: u64,
    /// How long it did not move since, without a reason.
    silence: Duration,
    looked: Instant,
}

/// Whether a download stands still for too long without a reason.
fn hangs(
    world: &World<'_>,
    place: usize,
    file: &Published,
    getting: &Process,
    seen: &mut Seen,
) -> bool {
    if seen.looked.elapsed() < LOOK_EVERY {
        return false;
    }
    let since = std::mem::replace(&mut seen.looked, Instant::now());
    let tasks = lock(&world.nodes[place]).json("tasks");
    let done = tasks
        .as_ref()
        .and_then(|tasks| tasks.as_array())
        .and_then(|tasks| tasks.iter().find(|task| task["url"] == file.url.as_str()))
        .and_then(|task| task["done"].as_u64());
    let taken_bytes = taken_bytes(getting);
    if done != seen.done || taken_bytes >= seen.taken_bytes + NEWS_BYTES {
        (seen.done, seen.silence) = (done, Duration::ZERO);
        seen.taken_bytes = taken_bytes;
    } else if !lock(&world.troubles).excuse(place, since) {
        seen.silence += seen.looked - since;
    }
    seen.silence > MAX_SILENCE
}

/// What a process has read and written so far.
fn taken_bytes(process: &Process) -> u64 {
    let pid = process.pid().as_raw_nonzero();
    let counts = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let lines = counts.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(name, _)| ["rchar", "wchar"].contains(name))
        .filter_map(|(_, count)| count.parse::<u64>().ok())
        .sum()
}

fn context(world: &World<'_>, place: usize, getting: &Process) -> String {
    let recent = lock(&world.troubles).recent(Duration::from_mins(1));
    let node = lock(&world.nodes[place]);
    let (log, tasks) = (node.log(), node.json("tasks"));
    let tail: Vec<&str> = log.lines().rev().take(40).collect();
    format!(
        "{}\n{recent:#?}\n{tail:#?}\n{}",
        getting.log(),
        tasks.unwrap_or_default()
    )
}
