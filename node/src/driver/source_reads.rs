//! Reads of the source, one task each: bytes become hashed blocks there, the loop only moves them on.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dfnode_gossip::Now;
use dfnode_tracker::{
    BlockDigest, BlockIndex, Extent, Lease, Meta, Origin, ReadPlan, SourceFailure, SourceHead,
    TaskId,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Duration, Instant};
use tracing::{debug, info};

use super::cutter::Cutter;
use super::{Driver, Parts, Report};
use crate::get::GetRequest;
use crate::limits::Limiter;
use crate::source::{HeadAt, SourceEvent, SourceRequest};

/// Blocks of one read that may wait for their verdict; the read pauses beyond.
const BLOCKS_AHEAD: usize = 16;
/// Life signs come at most this often.
const LIFE_SIGN_PERIOD: Duration = Duration::from_millis(100);

/// One read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReadKey {
    pub(super) task: TaskId,
    pub(super) lease: u64,
}

/// A block that was cut from an answer and hashed.
pub(crate) struct CutBlock {
    pub(super) block: BlockIndex,
    pub(super) digest: BlockDigest,
    pub(super) bytes: Bytes,
    pub(super) room: OwnedSemaphorePermit,
}

/// How a read ended: the length of a stream that ended, or why it failed.
pub(crate) type ReadEnd = Result<Option<u64>, SourceFailure>;

/// The reads under way, and which local caller's credentials each uses.
#[derive(Default)]
pub(super) struct SourceReads {
    running: BTreeMap<ReadKey, Running>,
}

struct Running {
    abort: AbortHandle,
    caller: u64,
    extent: Extent,
}

impl SourceReads {
    /// Whether the source is being read in a caller's name.
    pub(super) fn reads_for(&self, task: TaskId, caller: u64) -> bool {
        self.running
            .iter()
            .any(|(key, running)| key.task == task && running.caller == caller)
    }
}

impl Driver {
    /// Starts to read what a lease covers, in the name of a local caller who may.
    pub(super) fn read_source(&mut self, now: Now, task: TaskId, lease: Lease) {
        let key = ReadKey {
            task,
            lease: lease.id,
        };
        let Some((caller, request)) = self.tasks.reader_of(&task) else {
            let nobody = SourceFailure::Refused { status: 403 };
            self.tracker
                .handle_source_end(now, &task, lease.id, Err(nobody));
            return;
        };
        if self.needs_no_answer(&task, &lease.extent) {
            self.tracker
                .handle_source_end(now, &task, lease.id, Ok(None));
            return;
        }
        info!(task = %task.short(), lease = lease.id, extent = ?ExtentName(&lease.extent), "reading the source");
        self.parts.stats.source_reads.add(1);
        let limits = vec![
            self.parts.limits.download.clone(),
            self.tasks.limiter(&task),
        ];
        let extent = lease.extent.clone();
        let request = for_source(&request, lease.extent, limits);
        let parts = self.parts.clone();
        let abort = self.parts.spawn(async move {
            let end = read(&parts, key, request).await;
            parts.report(Report::SourceEnd { key, end }).await;
        });
        if let Some(older) = self.reads.running.insert(
            key,
            Running {
                abort,
                caller,
                extent,
            },
        ) {
            older.abort.abort();
        }
    }

    /// Whether callers may have a version that no answer of the source could show to be the same: it was read with the
    /// credential that all of them hold.
    fn needs_no_answer(&self, task: &TaskId, extent: &Extent) -> bool {
        let is_owned = self
            .tasks
            .entries
            .get(task)
            .is_some_and(|entry| entry.is_owned);
        matches!(extent, Extent::Validate { meta } if meta.single && is_owned)
    }

    /// Stops a read; nothing more is heard of it.
    pub(super) fn stop_source(&mut self, task: TaskId, lease: u64) {
        if let Some(running) = self.reads.running.remove(&ReadKey { task, lease }) {
            running.abort.abort();
        }
    }

    /// Stops every read of a task.
    pub(super) fn stop_reads_of(&mut self, task: TaskId) {
        self.reads.running.retain(|key, running| {
            let stays = key.task != task;
            if !stays {
                running.abort.abort();
            }
            stays
        });
    }

    /// The head of an answer came: what shall be cut from it?
    pub(super) fn handle_source_head(
        &mut self,
        now: Now,
        key: ReadKey,
        head: &SourceHead,
        plan: oneshot::Sender<Option<ReadPlan>>,
    ) {
        let Some(running) = self.reads.running.get(&key) else {
            return;
        };
        let caller = running.caller;
        let mut head = head.clone();
        // A signed URL is as good as a password: what it opens is not for everybody.
        head.public &= !self.tasks.has_credential(&key.task, caller);
        let wanted = self
            .tracker
            .handle_source_head(now, &key.task, key.lease, &head);
        if let Some(wanted) = &wanted {
            self.prove(now, key.task, caller, wanted.meta.version);
        }
        // A read that was stopped meanwhile no longer listens.
        let _ = plan.send(wanted);
    }

    /// Some bytes came.
    pub(super) fn handle_source_bytes(&mut self, now: Now, key: ReadKey, bytes: u64) {
        if self.reads.running.contains_key(&key) {
            self.tracker
                .handle_source_bytes(now, &key.task, key.lease, bytes);
        }
    }

    /// A block was cut and hashed: its bytes wait for the verdict.
    pub(super) fn handle_source_block(&mut self, now: Now, key: ReadKey, cut: CutBlock) {
        if !self.reads.running.contains_key(&key) {
            return;
        }
        self.parts.stats.from_source.add(cut.bytes.len() as u64);
        let CutBlock {
            block,
            digest,
            bytes,
            room,
        } = cut;
        if self
            .parked
            .park(
                key.task,
                Origin::Source(key.lease),
                block,
                bytes,
                Some(room),
            )
            .is_ok()
        {
            self.tracker
                .handle_source_block(now, &key.task, key.lease, block, digest);
        }
    }

    /// A read ended by itself.
    pub(super) fn handle_source_end(&mut self, now: Now, key: ReadKey, end: ReadEnd) {
        let Some(running) = self.reads.running.remove(&key) else {
            return;
        };
        match &end {
            Ok(_) => {
                debug!(task = %key.task.short(), lease = key.lease, "a read of the source ended");
                if let Extent::Validate { meta } = &running.extent {
                    self.prove(now, key.task, running.caller, meta.version);
                }
            }
            Err(failure) => {
                info!(task = %key.task.short(), lease = key.lease, %failure, "a read of the source failed");
                self.tasks
                    .note_source_failure(&key.task, running.caller, failure);
                let is_ones_own =
                    matches!(&running.extent, Extent::Validate { meta } if meta.single);
                if is_ones_own && *failure == SourceFailure::Changed {
                    self.move_out(key.task, running.caller);
                }
                let is_refused = matches!(failure, SourceFailure::Refused { .. });
                if is_refused && self.tasks.reader_of(&key.task).is_some() {
                    // One caller's no is not another's: the same lease is tried in the next one's name.
                    self.read_source(
                        now,
                        key.task,
                        Lease {
                            id: key.lease,
                            extent: running.extent,
                        },
                    );
                    self.open_gates(now, key.task);
                    return;
                }
            }
        }
        self.tracker
            .handle_source_end(now, &key.task, key.lease, end);
        self.open_gates(now, key.task);
    }
}

/// Reads one extent and cuts the answer into blocks, until there is enough of it.
async fn read(parts: &Parts, key: ReadKey, request: SourceRequest) -> ReadEnd {
    let room = Arc::new(Semaphore::new(BLOCKS_AHEAD));
    let mut cutting: Option<Cutting> = None;
    let mut life = LifeSign {
        bytes: 0,
        last: None,
    };
    let validated = match &request.extent {
        Extent::Validate { meta } => Some(meta.clone()),
        Extent::Probe | Extent::Blocks { .. } => None,
    };
    let mut answer = parts.source.read(request);
    while let Some(event) = answer.next().await {
        match event {
            SourceEvent::Head(HeadAt { head, offset }) => {
                if let Some(meta) = &validated {
                    return if is_same(&head, meta) {
                        Ok(None)
                    } else {
                        Err(SourceFailure::Changed)
                    };
                }
                let Some(plan) = plan_for(parts, key, head).await else {
                    return Ok(None);
                };
                let cutter = Cutter::new(plan.meta.layout, plan.run, offset);
                if cutter.is_done() {
                    return Ok(None);
                }
                cutting = Some(Cutting {
                    cutter,
                    offset,
                    is_stream: plan.meta.layout.length().is_none(),
                });
            }
            SourceEvent::Bytes(mut bytes) => {
                let Some(Cutting { cutter, .. }) = &mut cutting else {
                    continue;
                };
                // The source waits while the disk is behind.
                parts.store.room().await;
                life.show(parts, key, bytes.len()).await;
                while !bytes.is_empty() && !cutter.is_done() {
                    if let Some((block, bytes)) = cutter.push(&mut bytes) {
                        hand_over(parts, key, block, bytes, &room).await;
                    }
                }
                if cutter.is_done() {
                    return Ok(None);
                }
            }
            SourceEvent::Unchanged => return Ok(None),
            SourceEvent::End(end) => {
                let bytes = end?;
                let Some(Cutting {
                    mut cutter,
                    offset,
                    is_stream,
                }) = cutting
                else {
                    return Ok(None);
                };
                if let Some((block, bytes)) = cutter.finish() {
                    hand_over(parts, key, block, bytes, &room).await;
                }
                return Ok(is_stream.then_some(offset + bytes));
            }
        }
    }
    Err(SourceFailure::Transient {
        what: "the answer broke off".to_owned(),
    })
}

/// An answer whose head was understood.
struct Cutting {
    cutter: Cutter,
    offset: u64,
    is_stream: bool,
}

async fn plan_for(parts: &Parts, key: ReadKey, head: SourceHead) -> Option<ReadPlan> {
    let (plan, answer) = oneshot::channel();
    parts.report(Report::SourceHead { key, head, plan }).await;
    answer.await.ok().flatten()
}

/// Hashes a block and gives it to the loop, once there is room for it.
async fn hand_over(
    parts: &Parts,
    key: ReadKey,
    block: BlockIndex,
    bytes: Bytes,
    room: &Arc<Semaphore>,
) {
    let Ok(room) = Arc::clone(room).acquire_owned().await else {
        return;
    };
    let bytes = parts.faults.on_source(bytes);
    let digest = BlockDigest::of(&bytes);
    parts
        .report(Report::SourceBlock {
            key,
            cut: CutBlock {
                block,
                digest,
                bytes,
                room,
            },
        })
        .await;
}

struct LifeSign {
    bytes: u64,
    last: Option<Instant>,
}

impl LifeSign {
    async fn show(&mut self, parts: &Parts, key: ReadKey, more: usize) {
        self.bytes += more as u64;
        if self
            .last
            .is_none_or(|last| last.elapsed() >= LIFE_SIGN_PERIOD)
        {
            self.last = Some(Instant::now());
            parts
                .report(Report::SourceBytes {
                    key,
                    bytes: self.bytes,
                })
                .await;
        }
    }
}

/// An extent in a log line.
struct ExtentName<'a>(&'a Extent);

impl std::fmt::Debug for ExtentName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Extent::Probe => f.write_str("probe"),
            Extent::Blocks { run, .. } => write!(f, "blocks {}..{}", run.start, run.end),
            Extent::Validate { .. } => f.write_str("validate"),
        }
    }
}

/// What is asked of the source in a caller's name.
pub(super) fn for_source(
    request: &GetRequest,
    extent: Extent,
    limits: Vec<Limiter>,
) -> SourceRequest {
    SourceRequest {
        url: request.url.clone(),
        headers: request.headers.clone(),
        extent,
        cacert: request.cacert.clone(),
        content: request.content.clone(),
        limits,
    }
}

/// Whether a head names the version that `meta` does.
pub(super) fn is_same(head: &SourceHead, meta: &Meta) -> bool {
    Meta::of(head, [0; 32]).is_some_and(|found| found.version == meta.version) && !meta.single
}
