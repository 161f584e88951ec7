//! Who breaks things, and mends them.

use std::fs::{self, File};
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use super::trouble::Whom;
use super::{Plan, SMALL_DISK, World, lock};
use crate::dice::Dice;
use crate::lab::{Host, Job};

/// How often something breaks, at most.
const PAUSE: Duration = Duration::from_secs(4);
/// How long it stays broken, at most.
const BROKEN: Duration = Duration::from_secs(8);

const KILLED: &str = "node killed";
const UNPLUGGED: &str = "cable pulled";
const SPLIT: &str = "network split";
const FULL: &str = "disk full";
const SILENT: &str = "source off";

/// Puts new files on the source until the world's end.
pub(super) fn publish(world: &World<'_>, plan: &Plan, seed: u64) {
    let mut dice = Dice::new(seed ^ 0xF11E);
    for number in 1.. {
        thread::sleep(plan.publish_every);
        if Instant::now() >= world.end {
            return;
        }
        world.publish(number, *dice.pick(plan.sizes));
    }
}

/// Breaks and mends until the world's end; all is mended then.
pub(super) fn run(world: &World<'_>, seed: u64) {
    let mut dice = Dice::new(seed ^ 0x000A_BE00);
    while Instant::now() < world.end {
        thread::sleep(Duration::from_millis(dice.roll(as_millis(PAUSE))));
        let place = dice.place(world.nodes.len());
        let for_long = Duration::from_millis(200 + dice.roll(as_millis(BROKEN)));
        match dice.roll(10) {
            0..=3 => kill(world, &[place], for_long),
            4 => {
                let other = (place + 1 + dice.place(world.nodes.len() - 1)) % world.nodes.len();
                kill(world, &[place, other], for_long);
            }
            5..=6 => unplug(world, place, for_long),
            7 => split(world, for_long),
            8 => fill(world, for_long),
            _ => silence(world, for_long / 2),
        }
    }
}

fn as_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

fn kill(world: &World<'_>, places: &[usize], for_long: Duration) {
    for &place in places {
        lock(&world.troubles).begin(KILLED, Whom::Host(place));
        let mut node = lock(&world.nodes[place]);
        world.note_usage(&node);
        node.kill();
    }
    thread::sleep(for_long);
    for &place in places {
        lock(&world.nodes[place]).start_and_wait();
        lock(&world.troubles).end(KILLED, Whom::Host(place));
    }
}

fn unplug(world: &World<'_>, place: usize, for_long: Duration) {
    lock(&world.troubles).begin(UNPLUGGED, Whom::Host(place));
    world.lab.hosts()[place].set_link_up(false);
    thread::sleep(for_long);
    world.lab.hosts()[place].set_link_up(true);
    lock(&world.troubles).end(UNPLUGGED, Whom::Host(place));
}

fn silence(world: &World<'_>, for_long: Duration) {
    lock(&world.troubles).begin(SILENT, Whom::Source);
    lock(&world.origin).stop();
    thread::sleep(for_long);
    lock(&world.origin).resume(world.lab.source());
    lock(&world.troubles).end(SILENT, Whom::Source);
}

/// One half of the hosts and the other do not hear each other; both hear the source.
fn split(world: &World<'_>, for_long: Duration) {
    let (ours, theirs) = world.lab.hosts().split_at(world.nodes.len() / 2);
    let rules = theirs.iter().map(|host| {
        let (v4, v6) = (host.v4(), host.v6());
        format!("iptables -w -A INPUT -s {v4} -j DROP; ip6tables -w -A INPUT -s {v6} -j DROP")
    });
    let rules = rules.collect::<Vec<_>>().join("; ");
    lock(&world.troubles).begin(SPLIT, Whom::Nobody);
    for host in ours {
        shell(host, &rules);
    }
    thread::sleep(for_long);
    let heal = "iptables -w -F INPUT; ip6tables -w -F INPUT";
    for host in ours {
        shell(host, heal);
    }
    lock(&world.troubles).end(SPLIT, Whom::Nobody);
}

fn shell(host: &Host, script: &str) {
    let mut sh = host.command("sh");
    sh.args(["-ec", script]);
    Job::new(sh).run().expect_success(script);
}

/// Fills the disk of one cache to the last byte; its user can do without it.
fn fill(world: &World<'_>, for_long: Duration) {
    let ballast = lock(&world.nodes[SMALL_DISK]).data().join("ballast");
    lock(&world.troubles).begin(FULL, Whom::Nobody);
    let mut file = File::create(&ballast).unwrap();
    let disk = rustix::fs::statvfs(&ballast).unwrap();
    // Most of it at once; memory is taken only for what is written.
    let most = disk.f_bavail * disk.f_frsize;
    let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, most);
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    thread::sleep(for_long);
    fs::remove_file(&ballast).unwrap();
    lock(&world.troubles).end(FULL, Whom::Nobody);
}
