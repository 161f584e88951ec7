//! What is on disk, as far as it is believed: the one place that names redb.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dfnode_tracker::{BlockSet, Holds, SignedBatch, TaskId};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tracing::warn;

use super::record::{BadRecord, Kind, TaskRecord, frame, unframe};

const INDEX_FILE: &str = "index.redb";
/// Where a damaged index is kept, for whoever wants to know what happened.
const ASIDE_FILE: &str = "index.damaged";
/// Memory that the index may use for its pages.
const PAGE_CACHE_BYTES: usize = 16 * 1024 * 1024;

const TASKS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("tasks");
const HAVE: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("have");
const BATCHES: TableDefinition<'_, (&[u8; 32], u64), &[u8]> = TableDefinition::new("batches");

/// The index on disk. Used by one thread at a time: it is never on the way of a block.
pub(super) struct Index {
    path: PathBuf,
    slot: Mutex<Slot>,
}

/// Where the open database is.
#[derive(Default)]
struct Slot {
    /// Absent after an error of the disk: the next use opens it again.
    database: Option<Database>,
    /// Whether it is to stay absent.
    is_closed: bool,
}

impl Slot {
    fn take(&mut self, path: &Path) -> Result<Database, IndexError> {
        match self.database.take() {
            Some(database) => Ok(database),
            None if self.is_closed => Err(IndexError::Closed),
            None => open_database(path),
        }
    }
}

/// What the index believes of a task.
pub(super) struct Indexed {
    pub(super) task: TaskId,
    pub(super) record: TaskRecord,
    pub(super) have: BlockSet,
    pub(super) batches: Vec<SignedBatch>,
    /// The number that the next batch gets.
    pub(super) next_batch: u64,
}

/// What one commit changes. Removals come first.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) removed: Vec<TaskId>,
    pub(super) tasks: Vec<TaskChange>,
}

/// A task as it is to be believed from now on.
pub(super) struct TaskChange {
    pub(super) task: TaskId,
    pub(super) record: TaskRecord,
    pub(super) have: BlockSet,
    /// The number of the first of `batches`.
    pub(super) first_batch: u64,
    pub(super) batches: Vec<SignedBatch>,
}

/// Why the index did not do what it was asked. It is as before.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    /// The database's own error.
    #[error("{0}")]
    Database(#[source] Box<redb::Error>),
    /// The database's code met something that it did not expect.
    #[error("the file is damaged")]
    Panicked,
    /// Its store is closed.
    #[error("the store is closed")]
    Closed,
    /// The records say something that no store wrote.
    #[error(transparent)]
    Record(#[from] BadRecord),
}

impl<E: Into<redb::Error>> From<E> for IndexError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

impl IndexError {
    /// Whether it is the file's content that is wrong, and not the way to it.
    fn is_damage(&self) -> bool {
        let Self::Database(error) = self else {
            return !matches!(self, Self::Closed);
        };
        if let redb::Error::Io(error) = error.as_ref() {
            return matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            );
        }
        !matches!(error.as_ref(), redb::Error::DatabaseAlreadyOpen)
    }
}

impl Index {
    /// Opens the index in `folder`. A damaged one is put aside and begun anew, empty.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<Indexed>), IndexError> {
        let path = folder.join(INDEX_FILE);
        let loaded = open_database(&path).and_then(|database| {
            let tasks = guarded(|| load(&database))?;
            Ok((database, tasks))
        });
        let (database, tasks) = match loaded {
            Ok(loaded) => loaded,
            Err(error) if !error.is_damage() => return Err(error),
            Err(error) => {
                warn!(index = %path.display(), %error, "the index of the cache is damaged; the cache starts empty");
                // Both may fail if there was no file; then opening says so.
                let _ = fs::rename(&path, folder.join(ASIDE_FILE));
                let _ = fs::remove_file(&path);
                (open_database(&path)?, Vec::new())
            }
        };
        Ok((
            Self {
                path,
                slot: Mutex::new(Slot {
                    database: Some(database),
                    is_closed: false,
                }),
            },
            tasks,
        ))
    }

    /// Lets go of the file, whoever else still holds the index.
    pub(super) fn close(&self) {
        let closed = Slot {
            database: None,
            is_closed: true,
        };
        drop(std::mem::replace(&mut *self.lock(), closed));
    }

    /// The signed batches of a task.
    pub(super) fn batches(&self, task: TaskId) -> Result<Vec<SignedBatch>, IndexError> {
        let mut slot = self.lock();
        let database = slot.take(&self.path)?;
        let database = &*slot.database.insert(database);
        guarded(|| {
            let key = task.as_bytes();
            let table = database.begin_read()?.open_table(BATCHES)?;
            let mut batches = Vec::new();
            for row in table.range((key, 0)..=(key, u64::MAX))? {
                let (_, record) = row?;
                batches.extend(unframe::<SignedBatch>(Kind::Batch, record.value()).ok());
            }
            Ok(batches)
        })
    }

    /// Makes `changes` durable, all or none.
    pub(super) fn apply(&self, changes: &Changes) -> Result<(), IndexError> {
        let mut slot = self.lock();
        let database = slot.take(&self.path)?;
        guarded(|| commit(&database, changes))?;
        slot.database = Some(database);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what reads a file that may hold anything: the database may panic on what it cannot be.
fn guarded<T>(work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(IndexError::Panicked))
}

fn open_database(path: &Path) -> Result<Database, IndexError> {
    guarded(|| {
        let database = Database::builder()
            .set_cache_size(PAGE_CACHE_BYTES)
            .create(path)?;
        if !has_tables(&database) {
            let transaction = begin(&database)?;
            transaction.open_table(TASKS)?;
            transaction.open_table(HAVE)?;
            transaction.open_table(BATCHES)?;
            transaction.commit()?;
        }
        Ok(database)
    })
}

/// Nothing is written where nothing is missing: a full disk can be read.
fn has_tables(database: &Database) -> bool {
    database.begin_read().is_ok_and(|transaction| {
        transaction.open_table(TASKS).is_ok()
            && transaction.open_table(HAVE).is_ok()
            && transaction.open_table(BATCHES).is_ok()
    })
}

fn begin(database: &Database) -> Result<WriteTransaction, IndexError> {
    let mut transaction = database.begin_write()?;
    // So that opening after a crash does not walk the whole index.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn commit(database: &Database, changes: &Changes) -> Result<(), IndexError> {
    let transaction = begin(database)?;
    {
        let mut tasks = transaction.open_table(TASKS)?;
        let mut have = transaction.open_table(HAVE)?;
        let mut batches = transaction.open_table(BATCHES)?;
        for task in &changes.removed {
            let key = task.as_bytes();
            tasks.remove(key)?;
            have.remove(key)?;
            batches.retain_in((key, 0)..=(key, u64::MAX), |_, _| false)?;
        }
        for change in &changes.tasks {
            let key = change.task.as_bytes();
            let holds = Holds::pack(&change.have, change.record.meta.layout.blocks());
            tasks.insert(
                key,
                frame(Kind::Task, &change.record)
                    .ok_or(BadRecord)?
                    .as_slice(),
            )?;
            have.insert(key, frame(Kind::Have, &holds).ok_or(BadRecord)?.as_slice())?;
            for (number, batch) in (change.first_batch..).zip(&change.batches) {
                batches.insert(
                    (key, number),
                    frame(Kind::Batch, batch).ok_or(BadRecord)?.as_slice(),
                )?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn load(database: &Database) -> Result<Vec<Indexed>, IndexError> {
    let transaction = database.begin_read()?;
    let have = transaction.open_table(HAVE)?;
    let mut batches: BTreeMap<TaskId, Vec<(u64, Option<SignedBatch>)>> = BTreeMap::new();
    for row in transaction.open_table(BATCHES)?.iter()? {
        let (key, record) = row?;
        let (task, number) = key.value();
        let batch = unframe(Kind::Batch, record.value()).ok();
        batches
            .entry(TaskId::from_bytes(*task))
            .or_default()
            .push((number, batch));
    }
    let mut tasks = Vec::new();
    for row in transaction.open_table(TASKS)?.iter()? {
        let (key, record) = row?;
        let task = TaskId::from_bytes(*key.value());
        let holds = have.get(key.value())?;
        let holds = holds
            .as_ref()
            .map(redb::AccessGuard::value)
            .unwrap_or_default();
        let batches = batches.remove(&task).unwrap_or_default();
        match indexed(task, record.value(), holds, batches) {
            Ok(indexed) => tasks.push(indexed),
            Err(error) => warn!(%task, %error, "a task of the cache is dropped"),
        }
    }
    Ok(tasks)
}

pub(super) fn indexed(
    task: TaskId,
    record: &[u8],
    holds: &[u8],
    batches: Vec<(u64, Option<SignedBatch>)>,
) -> Result<Indexed, BadRecord> {
    let record: TaskRecord = unframe(Kind::Task, record)?;
    if !record.meta.is_sound() {
        return Err(BadRecord);
    }
    let holds: Holds = unframe(Kind::Have, holds)?;
    let have = holds.unpack(record.meta.layout.blocks()).ok_or(BadRecord)?;
    let next_batch = match batches.last() {
        Some((number, _)) => number.checked_add(1).ok_or(BadRecord)?,
        None => 0,
    };
    // A lost batch costs trust in its blocks only: whoever restores asks for their digests again.
    let batches = batches.into_iter().filter_map(|(_, batch)| batch).collect();
    Ok(Indexed {
        task,
        record,
        have,
        batches,
        next_batch,
    })
}

#[cfg(test)]
mod tests {
    use dfnode_tracker::{Meta, SourceHead, Validators};

    use super::super::about::About;
    use super::*;

    #[test]
    fn a_batch_behind_which_there_is_no_number_is_not_believed() {
        let head = SourceHead {
            length: Some(10),
            validators: Validators::default(),
            ranges: false,
            digest: None,
            authority: None,
            public: true,
        };
        let record = TaskRecord {
            generation: 1,
            used_at_ms: 0,
            complete: false,
            meta: Meta::of(&head, [1; 32]).unwrap(),
            about: About::default(),
        };
        let record = frame(Kind::Task, &record).unwrap();
        let holds = frame(Kind::Have, &Holds::Nothing).unwrap();
        let next = |number| {
            let task = TaskId::from_bytes([1; 32]);
            indexed(task, &record, &holds, vec![(number, None)]).map(|indexed| indexed.next_batch)
        };
        assert_eq!(next(7), Ok(8));
        assert_eq!(next(u64::MAX), Err(BadRecord));
    }
}
