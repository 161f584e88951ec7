//! A file that is being made beside the name that it gets when it is whole.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use dfnode_node::get::{CacheFile, Started};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, copy_file_range, fallocate, ioctl_ficlone, linkat,
    open,
};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::check;
use super::pour::{Pour, ended_early};

/// Bytes copied at a time where the kernel does not copy by itself.
const BUFFER_BYTES: usize = 256 * 1024;

/// Bytes that the kernel is asked to copy at a time.
const KERNEL_BYTES: usize = 16 * 1024 * 1024;

/// A smaller file is written before its room could be asked for.
const WORTH_RESERVING_BYTES: u64 = 1024 * 1024;

/// Where this process finds its open files.
const OWN_FILES: &str = "/proc/self/fd";

/// Names tried for the file that is being made.
const NAMES: u32 = 100;

/// The file that is being made. Dropping it unfinished removes it.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    /// The name that it has meanwhile, where it must have one.
    beside: Option<PathBuf>,
    file: File,
    source: CacheFile,
    /// The source, where it is a pipe.
    pour: Option<Pour>,
    part: (u64, u64),
    copied_bytes: u64,
    /// The file system shares blocks between files: nothing is copied until the end.
    shares: bool,
}

impl Draft {
    /// Begins a file that is to be `part` of the content.
    pub(super) fn new(path: &Path, started: &Started, part: (u64, u64)) -> io::Result<Self> {
        let (file, beside) = create(path)?;
        let mut made = Self {
            path: path.to_owned(),
            beside,
            file,
            source: started.file.clone(),
            pour: Pour::of(&started.file, part.0),
            part,
            copied_bytes: 0,
            shares: false,
        };
        if let Ok(old) = fs::metadata(path) {
            made.become_like(&old)?;
        }
        made.shares = part == (0, u64::MAX) && made.share().is_ok();
        if let Some(length) = started.length.filter(|_| !made.shares) {
            made.reserve(length)?;
        }
        Ok(made)
    }

    /// Takes the owner, where this user may give files away, and the mode of the file that is to be replaced.
    fn become_like(&self, old: &Metadata) -> io::Result<()> {
        let new = self.file.metadata()?;
        let is_same = (old.uid(), old.gid()) == (new.uid(), new.gid());
        let kept = is_same || fchown(&self.file, Some(old.uid()), Some(old.gid())).is_ok();
        // Rights that a program has of its owner are not those of another.
        let mode = old.mode() & if kept { 0o7777 } else { 0o1777 };
        self.file.set_permissions(Permissions::from_mode(mode))
    }

    /// Copies what became readable.
    pub(super) fn copy(&mut self, runs: &[Range<u64>], stop: &CancellationToken) -> io::Result<()> {
        if self.shares {
            return Ok(());
        }
        let (first, end) = self.part;
        for run in runs {
            if let Some(pour) = &mut self.pour {
                let (file, copied) = (&self.file, &mut self.copied_bytes);
                pour.pour(run.end, stop, |at, bytes| {
                    file.write_all_at(bytes, at - first)?;
                    *copied += bytes.len() as u64;
                    Ok::<(), io::Error>(())
                })?;
                continue;
            }
            let run = run.start.max(first)..run.end.min(end);
            if run.start < run.end {
                copy(&self.source.0, &self.file, run.clone(), first, stop)?;
                self.copied_bytes += run.end - run.start;
            }
        }
        Ok(())
    }

    /// Completes the file of `length` bytes, and gives it its name.
    pub(super) fn finish(mut self, length: u64, stop: &CancellationToken) -> io::Result<()> {
        if self.shares {
            self.share()?;
        } else if self.pour.is_some() {
            // The last report may still wait to be read.
            let all = self.part.0..self.part.0.saturating_add(length);
            self.copy(&[all], stop)?;
            if self.copied_bytes != length {
                return Err(ended_early());
            }
        } else if self.copied_bytes != length {
            // A report was lost with the node that made it; all is there now.
            let first = self.part.0;
            copy(
                &self.source.0,
                &self.file,
                first..first.saturating_add(length),
                first,
                stop,
            )?;
        }
        self.file.set_len(length)?;
        let replaces = fs::symlink_metadata(&self.path).is_ok();
        if replaces {
            // Else a power cut could leave the name with zeros, where the old file was whole.
            self.file.sync_data()?;
        }
        let beside = match self.beside.take() {
            Some(beside) => beside,
            None => name_beside(&self.file, &self.path)?,
        };
        fs::rename(self.beside.insert(beside), &self.path)?;
        self.beside = None;
        if replaces {
            sync_folder(folder_of(&self.path))?;
        }
        Ok(())
    }

    /// A full disk is better known before the download than after it.
    fn reserve(&self, length: u64) -> io::Result<()> {
        let bytes = length.min(self.part.1).saturating_sub(self.part.0);
        if bytes < WORTH_RESERVING_BYTES {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(error.into()),
            // Not every file system can.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn share(&self) -> io::Result<()> {
        Ok(ioctl_ficlone(&self.file, &self.source.0)?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            // Nothing can be done about a file that stays.
            let _ = fs::remove_file(beside);
        }
    }
}

/// Has a new name survive a power cut.
fn sync_folder(folder: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // A folder may be written that may not be read, and not every file system can.
        Err(error) if !matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A new file in the folder of `path`, and its name if it has one.
///
/// Without a name, as most file systems can, nothing of it is left when this process is killed.
fn create(path: &Path) -> io::Result<(File, Option<PathBuf>)> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let can_be_named_later = Path::new(OWN_FILES).exists();
    match open(folder_of(path), flags, Mode::from_raw_mode(0o666)) {
        Ok(file) if can_be_named_later => Ok((file.into(), None)),
        Ok(_) | Err(_) => {
            let make = |draft: &Path| {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).open(draft)
            };
            beside(path, make).map(|(file, draft)| (file, Some(draft)))
        }
    }
}

/// Names a file that has none, hidden in the folder of `path`.
fn name_beside(file: &File, path: &Path) -> io::Result<PathBuf> {
    let nameless = format!("{OWN_FILES}/{}", file.as_raw_fd());
    let follow = AtFlags::SYMLINK_FOLLOW;
    let link = |draft: &Path| Ok(linkat(CWD, &nameless, CWD, draft, follow)?);
    beside(path, link).map(|((), draft)| draft)
}

/// Makes something under a new, hidden name in the same folder, so that renaming it is one step.
fn beside<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, PathBuf)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let name: String = name.to_string_lossy().chars().take(64).collect();
    let mut last = io::ErrorKind::AlreadyExists.into();
    for number in 0..NAMES {
        let draft = folder_of(path).join(format!(".{name}.{}-{number}.part", std::process::id()));
        match make(&draft) {
            Ok(new) => return Ok((new, draft)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Copies `run` of `source` to `target`, whose first byte is `first` of the source.
fn copy(
    source: &File,
    target: &File,
    run: Range<u64>,
    first: u64,
    stop: &CancellationToken,
) -> io::Result<()> {
    let (mut from, mut to) = (run.start, run.start - first);
    while from < run.end {
        check(stop)?;
        let ask = usize::try_from(run.end - from)
            .unwrap_or(usize::MAX)
            .min(KERNEL_BYTES);
        match copy_file_range(
            source.as_fd(),
            Some(&mut from),
            target.as_fd(),
            Some(&mut to),
            ask,
        ) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(
                Errno::XDEV
                | Errno::INVAL
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::IO,
            ) => {
                return copy_by_hand(source, target, from..run.end, to, stop);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(
    source: &File,
    target: &File,
    run: Range<u64>,
    mut to: u64,
    stop: &CancellationToken,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut from = run.start;
    while from < run.end {
        check(stop)?;
        let ask = usize::try_from(run.end - from)
            .unwrap_or(usize::MAX)
            .min(BUFFER_BYTES);
        source.read_exact_at(&mut buffer[..ask], from)?;
        target.write_all_at(&buffer[..ask], to)?;
        from += ask as u64;
        to += ask as u64;
    }
    Ok(())
}
