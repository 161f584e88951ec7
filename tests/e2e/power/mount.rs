//! The disk as a file system that processes can use (FUSE).

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::platter::{Node, Platter, to_usize};

/// The kernel remembers nothing: what it asks is answered from the platter each time.
const NO_TIME: Duration = Duration::ZERO;
/// In blocks of 4 KiB: 64 GiB, most of it free.
const BLOCKS: u64 = 16 << 20;
const BLOCK_BYTES: u32 = 4096;

/// A disk whose power can be cut; unmounted on drop.
pub(super) struct Disk {
    platter: Arc<Mutex<Platter>>,
    _session: BackgroundSession,
}

/// Makes the device through which such a disk is mounted, where nobody has: every kernel of Debian's knows it.
pub(super) fn make_device() {
    if !Path::new("/dev/fuse").exists() {
        let make = Command::new("mknod")
            .args(["/dev/fuse", "c", "10", "229"])
            .status();
        assert!(make.unwrap().success());
    }
}

impl Disk {
    pub(super) fn mount(at: &Path, seed: u64) -> Self {
        fs::create_dir_all(at).unwrap();
        let platter = Arc::new(Mutex::new(Platter::new(seed)));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("power-cut".to_owned())];
        let session = fuser::spawn_mount(Service(Arc::clone(&platter)), at, &config);
        Self {
            platter,
            _session: session.unwrap(),
        }
    }

    /// Nothing that was not synced is sure to be found again.
    pub(super) fn lose_power(&self) {
        lock(&self.platter).lose_power();
    }
}

fn lock(platter: &Mutex<Platter>) -> MutexGuard<'_, Platter> {
    platter.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Service(Arc<Mutex<Platter>>);

impl Service {
    fn on<T>(&self, number: INodeNo, act: impl FnOnce(&mut Node) -> T) -> Result<T, Errno> {
        lock(&self.0).node(number.0).map(act)
    }

    fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        self.on(INodeNo(number), |node| attributes(number, node))
    }

    fn make(&self, folder: INodeNo, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        let number = lock(&self.0).make(folder.0, name, node)?;
        self.attributes(number)
    }
}

fn attributes(number: u64, node: &Node) -> FileAttr {
    let now = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(number),
        size: node.bytes.len() as u64,
        blocks: (node.bytes.len() as u64).div_ceil(512),
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind: node.kind,
        perm: u16::try_from(node.mode & 0o7777).unwrap(),
        nlink: 1,
        uid: node.owner.0,
        gid: node.owner.1,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

fn answer(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn answer_entry(reply: ReplyEntry, found: Result<FileAttr, Errno>) {
    match found {
        Ok(found) => reply.entry(&NO_TIME, &found, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn answer_attributes(reply: ReplyAttr, found: Result<FileAttr, Errno>) {
    match found {
        Ok(found) => reply.attr(&NO_TIME, &found),
        Err(error) => reply.error(error),
    }
}

fn owner(request: &Request) -> (u32, u32) {
    (request.uid(), request.gid())
}

impl Filesystem for Service {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = lock(&self.0).find(parent.0, name);
        answer_entry(reply, found.and_then(|number| self.attributes(number)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(reply, self.attributes(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = self.on(ino, |node| {
            node.mode = mode.unwrap_or(node.mode);
            node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
            if let Some(size) = size {
                node.set_length(size);
            }
            attributes(ino.0, node)
        });
        answer_attributes(reply, changed);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let kind = if mode & 0o170_000 == 0o140_000 {
            FileType::Socket
        } else {
            FileType::RegularFile
        };
        let node = Node::new(kind, mode, owner(request));
        answer_entry(reply, self.make(parent, name, node));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let node = Node::new(FileType::Directory, mode, owner(request));
        answer_entry(reply, self.make(parent, name, node));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let node = Node::new(FileType::RegularFile, mode, owner(request));
        match self.make(parent, name, node) {
            Ok(new) => reply.created(
                &NO_TIME,
                &new,
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let mut platter = lock(&self.0);
        let linked = match platter.find(newparent.0, newname) {
            Ok(_) => Err(Errno::EEXIST),
            Err(_) => platter.link(newparent.0, newname, ino.0),
        };
        drop(platter);
        answer_entry(reply, linked.and_then(|()| self.attributes(ino.0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, lock(&self.0).unlink(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, lock(&self.0).unlink(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut platter = lock(&self.0);
        let renamed = platter.find(parent.0, name).and_then(|number| {
            // What bore the name before loses it.
            let _ = platter.unlink(newparent.0, newname);
            platter.link(newparent.0, newname, number)?;
            platter.node(parent.0)?.names.remove(name);
            Ok(())
        });
        drop(platter);
        answer(reply, renamed);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.on(ino, |_| ()) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.on(ino, |node| {
            let start = to_usize(offset).min(node.bytes.len());
            let end = node.bytes.len().min(start + to_usize(size.into()));
            node.bytes[start..end].to_vec()
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.on(ino, |node| node.write(offset, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.on(ino, Node::sync));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.on(ino, Node::sync));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let names = self.on(ino, |node| node.names.clone());
        let names = match names {
            Ok(names) => names,
            Err(error) => return reply.error(error),
        };
        for (place, (name, number)) in (1..).zip(names).skip(to_usize(offset)) {
            let kind = self.on(INodeNo(number), |node| node.kind);
            if reply.add(
                INodeNo(number),
                place,
                kind.unwrap_or(FileType::RegularFile),
                name,
            ) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(
            BLOCKS,
            BLOCKS,
            BLOCKS,
            BLOCKS,
            BLOCKS,
            BLOCK_BYTES,
            255,
            BLOCK_BYTES,
        );
    }
}
