//! Losses of power: what a node finds on its disk afterwards, and what of it it believes.

mod mount;
mod platter;

use std::thread;
use std::time::Duration;

use self::mount::Disk;
use crate::cluster::{Node, Options};
use crate::crowd::{expect_right, output};
use crate::dice::Dice;
use crate::files::{noise, sha256};
use crate::lab::{Lab, Process, Shape, take_turn};
use crate::origin::Origin;
use crate::sizes::full;

const SEED: u64 = 11;
/// What must have been found again after some cut: else nothing is believed at all, and nothing is shown.
const SOMETHING: u64 = 1_000_000;

#[test]
fn no_block_is_believed_that_a_loss_of_power_took() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    mount::make_device();
    let (cuts, length) = if full() {
        (200, 100_000_000)
    } else {
        (6, 40_000_000)
    };
    let lab = Lab::new(1, Shape::Mbit(100), Shape::Mbit(100));
    let origin = Origin::start(lab.source());
    let content = noise(41, length);
    origin.publish("file", &content);
    let url = origin.url("file");
    let host = &lab.hosts()[0];
    let disk = Disk::mount(&host.dir().join("data"), SEED);
    let mut node = Node::new(host, Options::default());
    node.start_and_wait();
    let mut dice = Dice::new(SEED);
    let mut most = 0;
    let right = sha256(&content);
    for cut in 1..=cuts {
        let log = host.dir().join("get.log");
        let get = Process::start(&mut node.get_command(&url, &output(&node)), &log);
        thread::sleep(Duration::from_millis(dice.roll(3000)));
        // Dead, it syncs nothing more: as if the power had gone at that moment.
        drop(get);
        node.kill();
        disk.lose_power();
        node.start_and_wait();
        let tasks = node.json("tasks").unwrap();
        let believed = tasks[0]["done"].as_u64().unwrap_or_default();
        eprintln!("cut {cut}: {believed} bytes are believed");
        most = most.max(believed);
        if believed == length as u64 || cut == cuts {
            // What is believed is read, and what is not there is found out.
            let finished = node.get(&url, &output(&node)).run();
            expect_right(&node, &finished, &right);
            node.forget(&url);
        }
        let log = node.log();
        assert!(!log.contains("damaged"), "{log}");
    }
    assert!(most >= SOMETHING, "{}", node.log());
}
