//! A task's file: making, reading and writing it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use bytes::Bytes;
use dfnode_tracker::BlockIndex;
use rustix::buffer::spare_capacity;

use super::{Entry, Opening, Stage, Stamp, Written};
use crate::store::error::ReadError;

impl Entry {
    /// Reads a range of the file. Blocking.
    pub(in crate::store) fn read_range(
        &self,
        range: &Range<u64>,
        exact: bool,
    ) -> Result<Option<Bytes>, ReadError> {
        let file = self.file()?;
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let offset = range.start + bytes.len() as u64;
            match rustix::io::pread(&file, spare_capacity(&mut bytes), offset) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(ReadError::Io(errno.into())),
            }
        }
        bytes.truncate(length);
        let whole = bytes.len() == length || (!exact && !bytes.is_empty());
        Ok(whole.then(|| Bytes::from(bytes)))
    }

    /// The open file. Blocking, briefly.
    ///
    /// Somebody may have taken it away: then an empty one stands for it, and its blocks are found missing.
    pub(in crate::store) fn file(&self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.lock().file {
            return Ok(Arc::clone(file));
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).mode(0o600);
        let (file, is_new) = match options.open(&self.path) {
            // Another thread may find the same, and make it first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (options.create(true).truncate(false).open(&self.path)?, true)
            }
            opened => (opened?, false),
        };
        let mut state = self.lock();
        if state.stage == Stage::Removed {
            if is_new {
                fs::remove_file(&self.path)?;
            }
            return Err(io::ErrorKind::NotFound.into());
        }
        state.unsynced |= is_new;
        Ok(Arc::clone(state.file.get_or_insert_with(|| Arc::new(file))))
    }

    /// Opens the file anew when it is next needed.
    pub(in crate::store) fn let_go(&self) {
        self.lock().file = None;
    }

    /// Makes the file. Blocking. Returns the blocks that waited for it, or that the task was removed.
    pub(in crate::store) fn create_file(&self) -> io::Result<Option<Vec<BlockIndex>>> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)?;
        let mut state = self.lock();
        if state.stage == Stage::Removed {
            return Ok(None);
        }
        state.file = Some(Arc::new(file));
        state.unsynced = true;
        state.stage = Stage::Ready;
        Ok(Some(state.pending.keys().copied().collect()))
    }

    /// Tells whoever waits that the place is ready, unless it was taken away meanwhile.
    pub(in crate::store) fn announce(&self) {
        self.opened.send_if_modified(|opening| {
            let waited = *opening == Opening::Pending;
            if waited {
                *opening = Opening::Ready;
            }
            waited
        });
    }

    /// Lets go of the file if nothing is under way; it opens again when needed.
    pub(in crate::store) fn close_idle(&self) {
        let mut state = self.lock();
        if state.pending.is_empty() && state.writing.is_empty() && !state.unsynced {
            state.file = None;
            state.proof.drop_digests();
        }
    }

    /// A block to write now and its place, unless another thread is at it.
    pub(in crate::store) fn begin_write(&self, block: BlockIndex) -> Option<(Bytes, u64)> {
        let mut state = self.lock();
        let bytes = state.pending.get(&block)?.clone();
        let offset = state.meta.layout.range_of(block).start;
        state.writing.insert(block).then_some((bytes, offset))
    }

    /// The block that [`begin_write`](Self::begin_write) gave is in the file, or could not be written.
    pub(in crate::store) fn end_write_if(
        &self,
        block: BlockIndex,
        bytes: &Bytes,
        in_file: bool,
        stamp: Option<Stamp>,
    ) -> Written {
        let mut state = self.lock();
        state.writing.remove(&block);
        let is_last = state.writing.is_empty();
        state.proof.write_ended(stamp, is_last);
        match state.pending.get(&block) {
            None => return Written::Dropped,
            Some(current) if !in_file || current.as_ptr() != bytes.as_ptr() => {
                return Written::Again;
            }
            Some(_) => {}
        }
        state.pending.remove(&block);
        state.unsynced = true;
        state.proof.wrote(block);
        self.progress.send_modify(|progress| {
            progress.written.insert(block);
        });
        Written::Done(bytes.len() as u64)
    }
}
