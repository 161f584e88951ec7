//! Disks that are full, read-only, or not what they were.

use std::fs;
use std::path::PathBuf;

use super::scene::{LENGTH, Scene};
use super::{Fault, ITS_OWN};
use crate::crowd::output;
use crate::disk::Disk;
use crate::files::sha256_of;

/// The largest file under a folder: the cached content.
fn largest(folder: PathBuf) -> PathBuf {
    let mut folders = vec![folder];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                files.push((about.len(), entry.path()));
            }
        }
    }
    files.into_iter().max().unwrap().1
}

/// The file is asked for again at the host at `place`; it must come, and be right.
fn get_again(scene: &mut Scene<'_>, place: usize) {
    let node = &scene.cluster.nodes()[place];
    fs::remove_file(output(node)).unwrap();
    let done = node.get(scene.url(), &output(node)).run();
    assert_eq!(done.code, Some(0), "{done:#?}\n{}", node.log());
    let got = sha256_of(&output(node)).map(|hex| format!("sha256:{hex}"));
    assert_eq!(got, Some(scene.digest()));
}

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::new(
            "disk-small",
            "a host's cache has room for a fifth of the file",
        )
        .prepared(|scene| {
            Some(Disk::small(
                scene.cluster.nodes()[4].data(),
                LENGTH / (4 << 20),
            ))
        })
        .copies(ITS_OWN)
        .late(8),
        Fault::new(
            "disk-fills",
            "somebody fills the disk of a host's cache in the middle",
        )
        .prepared(|scene| Some(Disk::small(scene.cluster.nodes()[4].data(), 64)))
        .strikes(|scene| {
            // Fails when the disk is full, which is what it is for.
            let _ = fs::write(
                scene.cluster.nodes()[4].data().join("junk"),
                vec![1; 80 << 20],
            );
        })
        .copies(ITS_OWN)
        .late(8),
        Fault::new(
            "cache-altered",
            "a cached file is altered on disk and asked for again",
        )
        .then(|scene| {
            let file = largest(scene.cluster.nodes()[4].data().to_owned());
            let mut bytes = fs::read(&file).unwrap();
            bytes[LENGTH / 2] ^= 1;
            fs::write(&file, bytes).unwrap();
            get_again(scene, 4);
        }),
        Fault::new(
            "cache-deleted",
            "a cached file is deleted and asked for again",
        )
        .then(|scene| {
            fs::remove_file(largest(scene.cluster.nodes()[4].data().to_owned())).unwrap();
            get_again(scene, 4);
        }),
        Fault::new(
            "cache-lost",
            "a host loses its whole cache, is restarted, and asks again with the source gone",
        )
        .then(|scene| {
            scene.origin().stop();
            let node = scene.cluster.node_mut(4);
            node.kill();
            fs::remove_dir_all(node.data()).unwrap();
            node.start_and_wait();
            get_again(scene, 4);
        }),
    ]
}
