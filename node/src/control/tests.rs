//! The socket with a node that is made up.

use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dfnode_tracker::{TaskId, VersionId};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::server::{Door, Guest};
use super::wire::{
    HEADER_BYTES, Header, MAX_REPLY_BYTES, MAX_REQUEST_BYTES, News, Reply, Request, VERSION,
    decode, encode,
};
use super::*;
use crate::get::{CacheFile, DownloadSender, GetEvent, GetProgress, GetSummary, Started, TaskName};

const CONTENT: &[u8] = b"the content";
const OWNER: Caller = Caller { uid: 4_000 };
const STRANGER: Caller = Caller { uid: 4_001 };

/// A node whose downloads are driven by the test.
#[derive(Clone)]
struct FakeNode {
    downloads: mpsc::Sender<(Caller, GetRequest, DownloadSender)>,
    stopped: CancellationToken,
}

impl Service for FakeNode {
    async fn get(&self, caller: Caller, request: GetRequest) -> Result<Download, GetError> {
        if request.url.path() == "/missing" {
            return Err(GetError::NotFound);
        }
        let (sender, download) = Download::channel();
        self.downloads
            .send((caller, request, sender))
            .await
            .expect("the test listens");
        Ok(download)
    }

    async fn status(&self) -> Status {
        Status {
            peer: "made up".to_owned(),
            peers: 2,
            ..Status::default()
        }
    }

    async fn peers(&self) -> Vec<PeerView> {
        vec![PeerView {
            peer: "other".to_owned(),
            ..PeerView::default()
        }]
    }

    async fn tasks(&self) -> Vec<TaskView> {
        vec![
            task_of(None),
            task_of(Some(vec![STRANGER.uid])),
            task_of(Some(vec![OWNER.uid])),
        ]
    }

    async fn remove(
        &self,
        _: Caller,
        request: RemoveRequest,
    ) -> Result<RemoveOutcome, RemoveError> {
        Ok(RemoveOutcome {
            task: TaskId::from_bytes([1; 32]),
            was_here: true,
            freed_bytes: 7,
            announced: request.cluster,
        })
    }

    async fn shutdown(&self) {
        self.stopped.cancel();
    }
}

fn task_of(owners: Option<Vec<u32>>) -> TaskView {
    TaskView {
        task: TaskId::from_bytes([1; 32]),
        url: "http://source/file".to_owned(),
        version: None,
        length: None,
        done: 0,
        complete: false,
        readers: 0,
        peers: 0,
        last_used_unix_ms: 0,
        owners,
    }
}

fn request(path: &str) -> GetRequest {
    GetRequest::new(format!("http://source/{path}").parse().unwrap())
}

/// A served socket, the folder that it lies in, and what its node was asked.
struct House {
    folder: TempDir,
    node: FakeNode,
    downloads: mpsc::Receiver<(Caller, GetRequest, DownloadSender)>,
    stop: CancellationToken,
}

fn node() -> (
    FakeNode,
    mpsc::Receiver<(Caller, GetRequest, DownloadSender)>,
) {
    let (downloads, asked) = mpsc::channel(8);
    (
        FakeNode {
            downloads,
            stopped: CancellationToken::new(),
        },
        asked,
    )
}

impl House {
    fn new() -> Self {
        let (node, downloads) = node();
        let house = Self {
            folder: TempDir::new().unwrap(),
            node,
            downloads,
            stop: CancellationToken::new(),
        };
        let listener = ControlListener::bind(&house.socket()).unwrap();
        tokio::spawn(serve(
            listener,
            OWNER,
            house.node.clone(),
            house.stop.clone(),
        ));
        house
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET_NAME)
    }

    async fn client(&self) -> Client {
        Client::connect(&self.socket()).await.unwrap()
    }

    fn content_file(&self) -> CacheFile {
        let path = self.folder.path().join("cache");
        std::fs::write(&path, CONTENT).unwrap();
        CacheFile(Arc::new(std::fs::File::open(path).unwrap()))
    }

    /// Sends bytes as a caller who follows no protocol; what comes back, as long as it comes.
    async fn shout(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A node that hangs up on us while we talk is fine.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }
}

#[tokio::test]
async fn lists_and_status_come_as_the_node_gave_them() {
    let house = House::new();
    let mut client = house.client().await;
    assert_eq!(client.status().await.unwrap().peers, 2);
    assert_eq!(client.peers().await.unwrap()[0].peer, "other");
}

#[tokio::test]
async fn a_download_brings_the_file_itself_and_its_events_in_order() {
    let mut house = House::new();
    let mut download = house.client().await.get(request("file")).await.unwrap();
    let (caller, asked, sender) = house.downloads.recv().await.unwrap();
    assert_eq!(caller.uid, rustix::process::getuid().as_raw());
    assert_eq!(asked, request("file"));

    let started = Started {
        id: "a1".to_owned(),
        task: TaskId::from_bytes([1; 32]),
        version: VersionId::from_bytes([2; 32]),
        length: Some(11),
        file: house.content_file(),
    };
    sender.send(GetEvent::Started(started)).unwrap();
    let Some(Ok(GetEvent::Started(started))) = download.next().await else {
        panic!("started")
    };
    let mut bytes = vec![0; CONTENT.len()];
    started.file.0.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, CONTENT);
    assert!(
        started.file.0.write_at(b"x", 0).is_err(),
        "callers may not write to the cache"
    );

    let progress = GetProgress {
        done_bytes: 11,
        runs: vec![0..4, 8..11],
        ..GetProgress::default()
    };
    sender.send(GetEvent::Progress(progress.clone())).unwrap();
    let Some(Ok(GetEvent::Progress(seen))) = download.next().await else {
        panic!("progress")
    };
    assert_eq!(seen, progress);
    sender
        .send(GetEvent::Done(GetSummary {
            bytes: 11,
            ..GetSummary::default()
        }))
        .unwrap();
    assert!(matches!(download.next().await, Some(Ok(GetEvent::Done(_)))));
    assert!(download.next().await.is_none());
}

#[tokio::test]
async fn a_caller_that_hangs_up_ends_its_download() {
    let mut house = House::new();
    let download = house.client().await.get(request("file")).await.unwrap();
    let (_, _, sender) = house.downloads.recv().await.unwrap();
    drop(download);
    tokio::time::timeout(Duration::from_secs(5), sender.gone())
        .await
        .unwrap();
}

#[tokio::test]
async fn errors_of_a_download_keep_their_kind() {
    let mut house = House::new();
    let mut download = house.client().await.get(request("missing")).await.unwrap();
    assert!(matches!(
        download.next().await,
        Some(Err(RemoteError::Get(GetError::NotFound)))
    ));

    let mut download = house.client().await.get(request("file")).await.unwrap();
    let (_, _, sender) = house.downloads.recv().await.unwrap();
    sender.fail(GetError::SourceRefused { status: 403 });
    let Some(Err(RemoteError::Get(error))) = download.next().await else {
        panic!("an error")
    };
    assert_eq!(error, GetError::SourceRefused { status: 403 });
}

#[tokio::test]
async fn a_download_without_news_is_not_taken_for_lost() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(SOCKET_NAME);
    let listener = ControlListener::bind(&path).unwrap();
    let client = Client::connect(&path).await.unwrap();
    let mut download = client.get(request("file")).await.unwrap();
    let (stream, _) = listener.inner.accept().await.unwrap();
    let mut node = Channel::new(stream);
    for news in [
        News::Waiting,
        News::Waiting,
        News::Failed(GetError::Timeout),
    ] {
        node.write(
            &encode(&Reply::Download(news), MAX_REPLY_BYTES).unwrap(),
            None,
        )
        .await
        .unwrap();
    }
    assert!(matches!(
        download.next().await,
        Some(Err(RemoteError::Get(GetError::Timeout)))
    ));
}

#[tokio::test]
async fn a_node_that_dies_while_it_is_asked_is_gone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(SOCKET_NAME);
    let listener = ControlListener::bind(&path).unwrap();
    let dies = async {
        let (stream, _) = listener.inner.accept().await.unwrap();
        stream.readable().await.unwrap();
        // What was asked is not read: the kernel calls that a reset.
        drop(stream);
    };
    let ask = async { Client::connect(&path).await.unwrap().status().await };
    let ((), asked) = tokio::join!(dies, ask);
    assert!(matches!(asked, Err(ClientError::Gone)), "{asked:?}");
}

#[tokio::test]
async fn a_node_that_dies_is_told_from_a_download_that_fails() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(SOCKET_NAME);
    let listener = ControlListener::bind(&path).unwrap();
    let client = Client::connect(&path).await.unwrap();
    let mut download = client.get(request("file")).await.unwrap();
    drop(listener);
    assert!(matches!(
        download.next().await,
        Some(Err(RemoteError::Lost(_)))
    ));
    assert!(matches!(
        Client::connect(&path).await,
        Err(ClientError::Absent)
    ));
}

#[tokio::test]
async fn another_version_is_named_by_both_sides() {
    let house = House::new();
    let answer = house.shout(&[VERSION + 1, 2, 0, 0, 0, b'{', b'}']).await;
    let header = Header::parse(*answer.first_chunk::<HEADER_BYTES>().unwrap());
    assert_eq!(
        header.version, VERSION,
        "a newer program reads ours from the first byte"
    );
    let Reply::Refused(why) = decode(&answer[HEADER_BYTES..]).unwrap() else {
        panic!("refused")
    };
    assert!(why.contains(&format!("version {}", VERSION + 1)), "{why}");

    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&[9, 0, 0, 0, 0]).await.unwrap();
    let error = Channel::new(ours).read(MAX_REPLY_BYTES).await.unwrap_err();
    assert!(matches!(error, FrameError::Version { theirs: 9 }));
}

#[tokio::test]
async fn garbage_harms_nobody_else() {
    let house = House::new();
    house.shout(b"GET / HTTP/1.1\r\n\r\n").await;
    house.shout(&[VERSION, 0xff, 0xff, 0xff, 0xff]).await;
    house
        .shout(&[VERSION, 4, 0, 0, 0, b'{', b'"', 0xff, b'}'])
        .await;
    house.shout(&[VERSION, 200, 0, 0, 0, b'{']).await;
    house.shout(&[]).await;
    let deep = encode(&"[".repeat(100_000), MAX_REQUEST_BYTES).unwrap();
    house.shout(&deep).await;
    assert_eq!(house.client().await.status().await.unwrap().peers, 2);
}

#[tokio::test]
async fn a_file_that_a_caller_sends_is_closed() {
    let house = House::new();
    let (mut read_end, write_end) = std::io::pipe().unwrap();
    let stream = UnixStream::connect(house.socket()).await.unwrap();
    let mut channel = Channel::taking_files(stream);
    channel
        .write(
            &encode(&Request::Status, MAX_REQUEST_BYTES).unwrap(),
            Some(write_end.as_fd()),
        )
        .await
        .unwrap();
    channel.read(MAX_REPLY_BYTES).await.unwrap().unwrap();
    drop(write_end);
    let ended = tokio::task::spawn_blocking(move || read_end.read(&mut [0]));
    let ended = tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.unwrap(), 0, "the node kept the file");
}

/// A caller with another user's id; what it asks is answered as over a socket.
async fn ask_as(caller: Caller, request: Request) -> (Reply, FakeNode) {
    let (node, _downloads) = node();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guest = Guest::in_place(Door::of(OWNER).make_room(caller).unwrap(), theirs);
    let served = node.clone();
    tokio::spawn(async move { guest.serve(&served).await });
    let mut channel = Channel::new(ours);
    channel
        .write(&encode(&request, MAX_REQUEST_BYTES).unwrap(), None)
        .await
        .unwrap();
    let body = channel.read(MAX_REPLY_BYTES).await.unwrap().unwrap();
    (decode(&body).unwrap(), node)
}

#[tokio::test]
async fn only_root_and_the_owner_may_stop_a_node() {
    let (reply, node) = ask_as(STRANGER, Request::Shutdown).await;
    assert!(matches!(reply, Reply::Refused(_)));
    assert!(!node.stopped.is_cancelled());
    for caller in [OWNER, Caller { uid: 0 }] {
        let (reply, node) = ask_as(caller, Request::Shutdown).await;
        assert_eq!(reply, Reply::Stopping);
        node.stopped.cancelled().await;
    }
}

#[tokio::test]
async fn only_root_and_the_owner_may_remove_from_the_cluster() {
    let remove = |cluster| {
        let what = TaskName::Id(TaskId::from_bytes([1; 32]));
        Request::Remove(RemoveRequest { what, cluster })
    };
    assert_eq!(
        ask_as(STRANGER, remove(true)).await.0,
        Reply::Removed(Err(RemoveError::Forbidden))
    );
    assert!(matches!(
        ask_as(STRANGER, remove(false)).await.0,
        Reply::Removed(Ok(_))
    ));
    assert!(matches!(
        ask_as(OWNER, remove(true)).await.0,
        Reply::Removed(Ok(_))
    ));
}

#[tokio::test]
async fn tasks_read_with_credentials_are_shown_to_their_user_and_root_alone() {
    let seen = async |caller| {
        let (Reply::Tasks(tasks), _) = ask_as(caller, Request::Tasks).await else {
            panic!("tasks")
        };
        let owners = tasks.iter().map(|task| task.owners.clone());
        owners.collect::<Vec<_>>()
    };
    assert_eq!(seen(STRANGER).await, [None, Some(vec![STRANGER.uid])]);
    assert_eq!(seen(OWNER).await, [None, Some(vec![OWNER.uid])]);
    assert_eq!(seen(Caller { uid: 0 }).await.len(), 3);
}

#[tokio::test]
async fn one_user_cannot_lock_the_others_out() {
    let (node, _downloads) = node();
    let door = Door::of(OWNER);
    let mut inside = Vec::new();
    while let Some(guest) = door.make_room(STRANGER) {
        inside.push(guest);
    }
    assert!(inside.len() > 100);
    assert!(door.make_room(Caller { uid: 4_002 }).is_some());
    inside.pop();
    assert!(door.make_room(STRANGER).is_some());
    drop(node);
}

#[tokio::test]
async fn the_socket_is_open_to_all_and_leaves_with_its_node() {
    let house = House::new();
    let mode = std::fs::metadata(house.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o666);
    house.stop.cancel();
    while house.socket().exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(std::fs::read_dir(house.folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_socket_left_by_a_dead_node_is_replaced_whatever_the_length_of_its_path() {
    let folder = TempDir::new().unwrap();
    let deep = folder.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let path = deep.join(SOCKET_NAME);
    let mut stale = std::fs::File::create(&path).unwrap();
    stale.write_all(b"stale").unwrap();
    stale.rewind().unwrap();
    let listener = ControlListener::bind(&path).unwrap();
    assert_eq!(listener.path(), path);
    let (node, _downloads) = node();
    tokio::spawn(serve(listener, OWNER, node, CancellationToken::new()));
    assert_eq!(
        Client::connect(&path)
            .await
            .unwrap()
            .status()
            .await
            .unwrap()
            .peers,
        2
    );
}

#[tokio::test]
async fn a_node_that_leaves_does_not_take_its_successors_socket_along() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(SOCKET_NAME);
    let before = ControlListener::bind(&path).unwrap();
    let after = ControlListener::bind(&path).unwrap();
    drop(before);
    assert!(path.exists());
    drop(after);
    assert!(!path.exists());
}
