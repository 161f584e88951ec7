//! The node's end: takes callers in, and judges what each may ask.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::Service;
use super::channel::{Channel, FrameError};
use super::listener::ControlListener;
use super::wire::{MAX_REPLY_BYTES, MAX_REQUEST_BYTES, News, Reply, Request, decode, encode};
use crate::get::{Caller, Download, GetEvent, GetRequest, RemoveError, RemoveRequest, TaskView};

/// Connections in all.
const MAX_CONNECTIONS: usize = 1024;

/// Connections of one user other than root, so that no one locks the others out.
const MAX_CONNECTIONS_PER_USER: usize = 256;

/// A caller that asks nothing for so long is sent away.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// A caller that takes nothing for so long (a stopped process) is sent away; it resumes with a new request.
const WRITE_PATIENCE: Duration = Duration::from_mins(1);

/// How often a caller hears that the node lives while there is nothing else to hear.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// How long callers may take to hear that the node stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Between two tries to take a caller in when the system has no room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves callers until `stop`; then waits a moment for those being served.
///
/// `owner` is the user that the node runs as: beside root the only one who may stop it.
pub async fn serve<S: Service>(
    listener: ControlListener,
    owner: Caller,
    service: S,
    stop: CancellationToken,
) {
    let door = Door::of(owner);
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.inner.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| door.admit(stream)) {
            Ok(Some(guest)) => {
                let service = service.clone();
                tasks.spawn(async move { guest.serve(&service).await });
            }
            Ok(None) => {}
            Err(error) => {
                warn!(%error, "cannot take a local caller in");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    let _ = timeout(FAREWELL, tasks.wait()).await;
}

/// Who is in, and who may do what.
#[derive(Debug, Clone)]
pub(super) struct Door {
    owner: Caller,
    guests: Arc<Mutex<BTreeMap<u32, usize>>>,
}

impl Door {
    /// The door of a node that runs as `owner`.
    pub(super) fn of(owner: Caller) -> Self {
        Self {
            owner,
            guests: Arc::default(),
        }
    }

    /// Lets a caller in unless there are too many.
    fn admit(&self, stream: UnixStream) -> io::Result<Option<Guest>> {
        let caller = Caller {
            uid: stream.peer_cred()?.uid(),
        };
        let Some(place) = self.make_room(caller) else {
            debug!(uid = caller.uid, "too many local callers");
            return Ok(None);
        };
        Ok(Some(Guest::in_place(place, stream)))
    }

    /// A place inside for one more connection of `caller`.
    pub(super) fn make_room(&self, caller: Caller) -> Option<Place> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = guests.values().sum();
        let own = guests.get(&caller.uid).copied().unwrap_or_default();
        if all >= MAX_CONNECTIONS || !self.is_trusted(caller) && own >= MAX_CONNECTIONS_PER_USER {
            return None;
        }
        guests.insert(caller.uid, own + 1);
        Some(Place {
            caller,
            door: self.clone(),
        })
    }

    const fn is_trusted(&self, caller: Caller) -> bool {
        caller.is_root() || caller.uid == self.owner.uid
    }
}

/// A caller's place inside, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    caller: Caller,
    door: Door,
}

impl Place {
    const fn is_trusted(&self) -> bool {
        self.door.is_trusted(self.caller)
    }

    fn may_see(&self, task: &TaskView) -> bool {
        let owners = task.owners.as_ref();
        self.caller.is_root() || owners.is_none_or(|owners| owners.contains(&self.caller.uid))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self
            .door
            .guests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = guests.get_mut(&self.caller.uid) {
            *own -= 1;
            if *own == 0 {
                guests.remove(&self.caller.uid);
            }
        }
    }
}

/// A caller that was let in.
#[derive(Debug)]
pub(super) struct Guest {
    place: Place,
    channel: Channel,
}

/// The caller broke the protocol, hung up or fell silent: nothing more to do for it.
#[derive(Debug)]
struct Left;

impl From<FrameError> for Left {
    fn from(_: FrameError) -> Self {
        Self
    }
}

impl Guest {
    pub(super) const fn in_place(place: Place, stream: UnixStream) -> Self {
        Self {
            place,
            channel: Channel::new(stream),
        }
    }

    pub(super) async fn serve<S: Service>(mut self, service: &S) {
        loop {
            let request = timeout(REQUEST_PATIENCE, self.channel.read(MAX_REQUEST_BYTES)).await;
            let answered = match request {
                Ok(Ok(Some(body))) => match decode::<Request>(&body) {
                    Ok(request) => self.answer(service, request).await,
                    Err(error) => self
                        .refuse(format!("no such request: {error}"))
                        .await
                        .and(Err(Left)),
                },
                Ok(Err(error @ (FrameError::Version { .. } | FrameError::TooLong(_)))) => {
                    self.refuse(error.to_string()).await.and(Err(Left))
                }
                Ok(Ok(None) | Err(FrameError::Io(_))) | Err(_) => Err(Left),
            };
            if answered.is_err() {
                return;
            }
        }
    }

    async fn answer<S: Service>(&mut self, service: &S, request: Request) -> Result<(), Left> {
        match request {
            Request::Get(request) => self.get(service, *request).await,
            Request::Status => {
                self.reply(&Reply::Status(Box::new(service.status().await)))
                    .await
            }
            Request::Peers => self.reply(&Reply::Peers(service.peers().await)).await,
            Request::Tasks => {
                let mut tasks = service.tasks().await;
                tasks.retain(|task| self.place.may_see(task));
                self.reply(&Reply::Tasks(tasks)).await
            }
            Request::Remove(request) => self.remove(service, request).await,
            Request::Shutdown => self.shutdown(service).await,
        }
    }

    async fn remove<S: Service>(
        &mut self,
        service: &S,
        request: RemoveRequest,
    ) -> Result<(), Left> {
        let outcome = if request.cluster && !self.place.is_trusted() {
            Err(RemoveError::Forbidden)
        } else {
            service.remove(self.place.caller, request).await
        };
        self.reply(&Reply::Removed(outcome)).await
    }

    async fn shutdown<S: Service>(&mut self, service: &S) -> Result<(), Left> {
        if !self.place.is_trusted() {
            return self
                .refuse("only root and the user that the node runs as may stop it".to_owned())
                .await;
        }
        info!(uid = self.place.caller.uid, "asked to stop");
        self.reply(&Reply::Stopping).await?;
        service.shutdown().await;
        Ok(())
    }

    async fn get<S: Service>(&mut self, service: &S, request: GetRequest) -> Result<(), Left> {
        let mut begin = Box::pin(service.get(self.place.caller, request));
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut begin => break outcome,
                () = self.channel.hung_up() => return Err(Left),
                () = sleep(SIGN_OF_LIFE) => self.report(News::Waiting).await?,
            }
        };
        match outcome {
            Ok(download) => self.relay(download).await,
            Err(error) => self.report(News::Failed(error)).await,
        }
    }

    /// Passes on what happens to a download until it ends; leaves it when the caller hangs up.
    async fn relay(&mut self, mut download: Download) -> Result<(), Left> {
        loop {
            let news = tokio::select! {
                biased;
                () = self.channel.hung_up() => return Err(Left),
                news = download.next() => news,
                () = sleep(SIGN_OF_LIFE) => {
                    self.report(News::Waiting).await?;
                    continue;
                }
            };
            match news {
                None => return Ok(()),
                Some(Err(error)) => self.report(News::Failed(error)).await?,
                Some(Ok(event)) => self.tell(event).await?,
            }
        }
    }

    async fn tell(&mut self, event: GetEvent) -> Result<(), Left> {
        match event {
            GetEvent::Started(started) => {
                let reply = Reply::Download(News::Started {
                    id: started.id,
                    task: started.task,
                    version: started.version,
                    length: started.length,
                });
                let frame = encode(&reply, MAX_REPLY_BYTES).ok_or(Left)?;
                let file = started.file.0.as_fd();
                Ok(
                    timeout(WRITE_PATIENCE, self.channel.write(&frame, Some(file)))
                        .await
                        .map_err(|_| Left)??,
                )
            }
            GetEvent::Progress(progress) => self.report(News::Progress(progress)).await,
            GetEvent::Restarted => self.report(News::Restarted).await,
            GetEvent::Done(summary) => self.report(News::Done(summary)).await,
        }
    }

    async fn report(&mut self, news: News) -> Result<(), Left> {
        self.reply(&Reply::Download(news)).await
    }

    async fn refuse(&mut self, why: String) -> Result<(), Left> {
        self.reply(&Reply::Refused(why)).await
    }

    async fn reply(&mut self, reply: &Reply) -> Result<(), Left> {
        let frame = encode(reply, MAX_REPLY_BYTES).ok_or(Left)?;
        Ok(timeout(WRITE_PATIENCE, self.channel.write(&frame, None))
            .await
            .map_err(|_| Left)??)
    }
}
