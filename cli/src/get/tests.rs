//! Whole downloads through a node that is made up.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use dfnode_node::control::{ControlListener, SOCKET_NAME, Service, serve};
use dfnode_node::get::{
    CacheFile, Caller, Download, DownloadSender, GetError, GetEvent, GetProgress, GetRequest,
    GetSummary, PeerView, RemoveError, RemoveOutcome, RemoveRequest, Started, Status, TaskView,
};
use dfnode_tracker::{TaskId, VersionId};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::args::{Cli, Command};

const CONTENT: &[u8] = b"the content of the file";

/// A node whose downloads are driven by the test.
#[derive(Clone)]
struct FakeNode(mpsc::Sender<DownloadSender>);

impl Service for FakeNode {
    async fn get(&self, _: Caller, _: GetRequest) -> Result<Download, GetError> {
        let (sender, download) = Download::channel();
        self.0.send(sender).await.map_err(|_| GetError::Cancelled)?;
        Ok(download)
    }

    fn status(&self) -> impl Future<Output = Status> + Send {
        std::future::ready(Status::default())
    }

    fn peers(&self) -> impl Future<Output = Vec<PeerView>> + Send {
        std::future::ready(Vec::new())
    }

    fn tasks(&self) -> impl Future<Output = Vec<TaskView>> + Send {
        std::future::ready(Vec::new())
    }

    fn remove(
        &self,
        _: Caller,
        _: RemoveRequest,
    ) -> impl Future<Output = Result<RemoveOutcome, RemoveError>> + Send {
        std::future::ready(Err(RemoveError::NotFound))
    }

    fn shutdown(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// A host with a node that is made up, and one `dfnode get` on it.
struct Host {
    folder: TempDir,
    downloads: mpsc::Receiver<DownloadSender>,
    node: JoinHandle<()>,
}

impl Host {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (node, downloads) = start(&folder);
        Self {
            folder,
            downloads,
            node,
        }
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// `dfnode get` of a URL; its output is [`Self::output`].
    fn get(&self, words: &[&str]) -> JoinHandle<Result<Exit, Failure>> {
        let (data, output) = (
            self.folder.path().display().to_string(),
            self.output().display().to_string(),
        );
        let usual = [
            "dfnode",
            "get",
            "http://source/file",
            "--quiet",
            "--data",
            &data,
            "-o",
            &output,
        ];
        let cli = Cli::try_parse_from(usual.iter().chain(words)).unwrap();
        let Command::Get(args) = cli.command else {
            panic!("a get")
        };
        tokio::spawn(command(*args))
    }

    /// The next download that the node is asked for.
    async fn asked(&mut self) -> DownloadSender {
        self.downloads.recv().await.unwrap()
    }

    /// The node dies; another one takes its place.
    fn restart(&mut self) {
        self.node.abort();
        (self.node, self.downloads) = start(&self.folder);
    }

    fn started(&self) -> GetEvent {
        let path = self.folder.path().join("cache");
        fs::write(&path, CONTENT).unwrap();
        GetEvent::Started(Started {
            id: "a1".to_owned(),
            task: TaskId::from_bytes([1; 32]),
            version: VersionId::from_bytes([2; 32]),
            length: Some(CONTENT.len() as u64),
            file: CacheFile(Arc::new(fs::File::open(path).unwrap())),
        })
    }

    /// What lies in the folder that was not there before the download.
    fn left_behind(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name != SOCKET_NAME && name != "cache")
            .collect()
    }
}

pub(super) fn start(folder: &TempDir) -> (JoinHandle<()>, mpsc::Receiver<DownloadSender>) {
    let (downloads, asked) = mpsc::channel(8);
    let listener = ControlListener::bind(&folder.path().join(SOCKET_NAME)).unwrap();
    let served = serve(
        listener,
        Caller { uid: 0 },
        FakeNode(downloads),
        CancellationToken::new(),
    );
    (tokio::spawn(served), asked)
}

fn progress(run: std::ops::Range<u64>) -> GetEvent {
    let contiguous = run.end;
    GetEvent::Progress(GetProgress {
        done_bytes: run.end,
        runs: vec![run],
        contiguous,
        ..GetProgress::default()
    })
}

fn done() -> GetEvent {
    GetEvent::Done(GetSummary {
        bytes: CONTENT.len() as u64,
        ..GetSummary::default()
    })
}

fn exit_of(outcome: Result<Exit, Failure>) -> Exit {
    outcome.unwrap_or_else(|failure| failure.exit)
}

#[tokio::test]
async fn a_file_is_downloaded_by_the_node_of_the_host() {
    let mut host = Host::new();
    let get = host.get(&[]);
    let node = host.asked().await;
    node.send(host.started()).unwrap();
    node.send(progress(0..CONTENT.len() as u64)).unwrap();
    node.send(done()).unwrap();
    assert_eq!(exit_of(get.await.unwrap()), Exit::Ok);
    assert_eq!(fs::read(host.output()).unwrap(), CONTENT);
    assert_eq!(host.left_behind(), ["out"]);
}

#[tokio::test]
async fn a_download_goes_on_when_its_node_dies() {
    let mut host = Host::new();
    let get = host.get(&[]);
    let node = host.asked().await;
    node.send(host.started()).unwrap();
    node.send(progress(0..5)).unwrap();
    host.restart();
    drop(node);
    let node = host.asked().await;
    node.send(host.started()).unwrap();
    node.send(done()).unwrap();
    assert_eq!(exit_of(get.await.unwrap()), Exit::Ok);
    assert_eq!(fs::read(host.output()).unwrap(), CONTENT);
}

#[tokio::test]
async fn a_node_that_gives_way_is_followed_by_the_next() {
    let mut host = Host::new();
    let get = host.get(&[]);
    host.asked().await.fail(GetError::Cancelled);
    let node = host.asked().await;
    node.send(host.started()).unwrap();
    node.send(done()).unwrap();
    assert_eq!(exit_of(get.await.unwrap()), Exit::Ok);
}

#[tokio::test]
async fn a_download_that_fails_leaves_nothing() {
    let mut host = Host::new();
    let get = host.get(&[]);
    let node = host.asked().await;
    node.send(host.started()).unwrap();
    node.send(progress(0..5)).unwrap();
    node.fail(GetError::SourceRefused { status: 410 });
    assert_eq!(exit_of(get.await.unwrap()), Exit::SourceRefused);
    assert!(host.left_behind().is_empty());
}

#[tokio::test]
async fn a_timeout_ends_a_download_even_if_the_node_does_not() {
    let mut host = Host::new();
    let get = host.get(&["--timeout", "0"]);
    assert_eq!(exit_of(get.await.unwrap()), Exit::Timeout);
    assert!(
        host.downloads.try_recv().is_err(),
        "there was no time to ask"
    );
}

#[tokio::test]
async fn a_full_disk_has_a_number_of_its_own() {
    let mut host = Host::new();
    let words = ["-o", "/dev/full"];
    let data = host.folder.path().display().to_string();
    let usual = [
        "dfnode",
        "get",
        "http://source/file",
        "--quiet",
        "--data",
        &data,
    ];
    let Command::Get(args) = Cli::try_parse_from(usual.iter().chain(&words))
        .unwrap()
        .command
    else {
        panic!("a get")
    };
    let get = tokio::spawn(command(*args));
    let node = host.asked().await;
    node.send(host.started()).unwrap();
    node.send(done()).unwrap();
    assert_eq!(exit_of(get.await.unwrap()), Exit::NoSpace);
}

#[tokio::test]
async fn a_reader_of_stdout_that_has_seen_enough_is_no_failure() {
    let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let unwritable = || {
        Err(session::unwritable(output::OutputError::Write {
            path: "-".into(),
            source: broken(),
        }))
    };
    let exit = |outcome, is_stdout| exit_of(forgive_broken_pipe(outcome, is_stdout));
    assert_eq!(exit(unwritable(), true), Exit::Ok);
    assert_eq!(exit(unwritable(), false), Exit::Other);
    assert_eq!(exit(Err(broken().into()), true), Exit::Other);
}
