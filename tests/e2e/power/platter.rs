//! What lies on the disk and what only seems to: files, names, and what a loss of power leaves of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use fuser::{Errno, FileType};

use crate::dice::Dice;

/// What the disk writes at once: after a loss of power each of these is old or new.
const PAGE_BYTES: u64 = 4096;
/// The folder that is mounted.
pub(super) const ROOT: u64 = 1;

/// A file, folder or socket: as it reads, and as it will be found if the power goes now.
pub(super) struct Node {
    pub(super) kind: FileType,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) bytes: Vec<u8>,
    pub(super) names: BTreeMap<OsString, u64>,
    durable_bytes: Vec<u8>,
    durable_names: BTreeMap<OsString, u64>,
    /// The pages that differ.
    dirty: BTreeSet<u64>,
}

impl Node {
    pub(super) const fn new(kind: FileType, mode: u32, owner: (u32, u32)) -> Self {
        Self {
            kind,
            mode,
            owner,
            bytes: Vec::new(),
            names: BTreeMap::new(),
            durable_bytes: Vec::new(),
            durable_names: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        if end > self.bytes.len() as u64 {
            self.set_length(end);
        }
        self.bytes[to_usize(offset)..to_usize(end)].copy_from_slice(data);
        self.dirty.extend(pages(offset, end));
    }

    pub(super) fn set_length(&mut self, length: u64) {
        let before = self.bytes.len() as u64;
        self.bytes.resize(to_usize(length), 0);
        self.dirty
            .extend(pages(before.min(length), before.max(length)));
    }

    /// What was written is on the disk from now on.
    pub(super) fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            self.keep(page);
        }
        self.durable_bytes.resize(self.bytes.len(), 0);
        self.durable_names.clone_from(&self.names);
    }

    fn keep(&mut self, page: u64) {
        let start = to_usize(page * PAGE_BYTES);
        let end = self.bytes.len().min(start + to_usize(PAGE_BYTES));
        if start < end {
            let length = self.durable_bytes.len().max(end);
            self.durable_bytes.resize(length, 0);
            self.durable_bytes[start..end].copy_from_slice(&self.bytes[start..end]);
        }
    }

    /// The power goes: of all that was not synced, chance decides page by page and name by name.
    fn lose_power(&mut self, dice: &mut Dice) {
        for page in std::mem::take(&mut self.dirty) {
            if dice.roll(2) == 0 {
                self.keep(page);
            }
        }
        self.bytes.clone_from(&self.durable_bytes);
        let names: BTreeSet<OsString> = self.names.keys().cloned().collect();
        for name in names
            .into_iter()
            .chain(self.durable_names.clone().into_keys())
        {
            if dice.roll(2) == 0 {
                match self.names.get(&name) {
                    Some(node) => self.durable_names.insert(name, *node),
                    None => self.durable_names.remove(&name),
                };
            }
        }
        self.names.clone_from(&self.durable_names);
    }
}

pub(super) struct Platter {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    dice: Dice,
}

impl Platter {
    pub(super) fn new(seed: u64) -> Self {
        let root = Node::new(FileType::Directory, 0o700, (0, 0));
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            dice: Dice::new(seed),
        }
    }

    pub(super) fn node(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    pub(super) fn find(&mut self, folder: u64, name: &OsStr) -> Result<u64, Errno> {
        let found = self.node(folder)?.names.get(name).copied();
        found.ok_or(Errno::ENOENT)
    }

    pub(super) fn make(&mut self, folder: u64, name: &OsStr, node: Node) -> Result<u64, Errno> {
        if self.find(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        self.node(folder)?.names.insert(name.to_owned(), number);
        self.nodes.insert(number, node);
        Ok(number)
    }

    pub(super) fn link(&mut self, folder: u64, name: &OsStr, number: u64) -> Result<(), Errno> {
        self.node(number)?;
        self.node(folder)?.names.insert(name.to_owned(), number);
        Ok(())
    }

    pub(super) fn unlink(&mut self, folder: u64, name: &OsStr) -> Result<(), Errno> {
        let number = self.find(folder, name)?;
        if !self.node(number)?.names.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        // The node stays: a process may have it open, and the power may go before the folder is synced.
        self.node(folder)?.names.remove(name);
        Ok(())
    }

    /// To be called when no process has anything open there.
    pub(super) fn lose_power(&mut self) {
        for node in self.nodes.values_mut() {
            node.lose_power(&mut self.dice);
        }
        let names = self.nodes.values().flat_map(|node| node.names.values());
        let found: BTreeSet<u64> = names.copied().chain([ROOT]).collect();
        self.nodes.retain(|number, _| found.contains(number));
    }
}

fn pages(start: u64, end: u64) -> std::ops::Range<u64> {
    start / PAGE_BYTES..end.div_ceil(PAGE_BYTES)
}

pub(super) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

#[test]
fn what_was_synced_stays_and_each_page_of_the_rest_is_old_or_new() {
    let page = |content: u8| vec![content; to_usize(PAGE_BYTES)];
    let mut platter = Platter::new(5);
    let file = Node::new(FileType::RegularFile, 0o600, (0, 0));
    let number = platter.make(ROOT, OsStr::new("file"), file).unwrap();
    let file = platter.node(number).unwrap();
    file.write(0, &page(1));
    file.sync();
    for number in 1..64 {
        file.write(number * PAGE_BYTES, &page(2));
    }
    platter.node(ROOT).unwrap().sync();
    platter.lose_power();
    let number = platter.find(ROOT, OsStr::new("file")).unwrap();
    let bytes = platter.node(number).unwrap().bytes.clone();
    assert_eq!(bytes[..page(1).len()], page(1));
    let later = bytes.chunks(page(1).len()).skip(1);
    let kept = later.filter(|bytes| **bytes == page(2)[..]).count();
    assert!(
        (10..50).contains(&kept),
        "{kept} of 63 unsynced pages are there"
    );
}
