//! Looks for what must not be anywhere: passwords, tokens, signed addresses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Node};
use crate::lab::{Host, Job, Process, program};

/// What a capture must contain to prove that it would have shown a secret.
const MARKER: &str = "a-marker-that-anybody-may-read";
/// The shortest piece of a secret that counts: an altered or cut one is still looked for.
const PIECE_BYTES: usize = 16;

/// Everything that passes the link of a host, written down.
pub(crate) struct Capture<'lab> {
    host: &'lab Host,
    _tcpdump: Process,
    file: PathBuf,
}

impl<'lab> Capture<'lab> {
    /// Listens on the link of `host`.
    pub(crate) fn start(host: &'lab Host) -> Self {
        let file = host.dir().join("capture.pcap");
        let mut command = host.command(program("tcpdump").unwrap());
        command
            .args(["-i", "eth0", "-U", "-s", "0", "-w"])
            .arg(&file);
        let log = host.dir().join("tcpdump.log");
        let mut tcpdump = Process::start(&mut command, &log);
        let give_up = Instant::now() + Duration::from_secs(10);
        while !tcpdump.log().contains("listening on") {
            assert!(
                tcpdump.is_running() && Instant::now() < give_up,
                "{}",
                tcpdump.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
        Self {
            host,
            _tcpdump: tcpdump,
            file,
        }
    }

    /// What was captured so far; a marker sent in the clear proves that it would show.
    fn bytes(&self) -> Vec<u8> {
        let mut curl = crate::registries::curl(self.host);
        curl.args(["-o", "/dev/null"]);
        curl.arg(format!("http://registry.test/v2/?{MARKER}"));
        Job::new(curl).run().expect_success("the marker");
        let give_up = Instant::now() + Duration::from_secs(10);
        loop {
            let bytes = fs::read(&self.file).unwrap();
            if contains(&bytes, MARKER.as_bytes()) {
                return bytes;
            }
            assert!(
                Instant::now() < give_up,
                "the marker does not show in {}",
                self.file.display()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Panics when one of `secrets` is in what the nodes logged, stored, sent or say about themselves.
pub(crate) fn expect_none(cluster: &Cluster<'_>, captures: &[Capture<'_>], secrets: &[String]) {
    assert!(
        secrets.len() > 10,
        "only {} secrets were handed out",
        secrets.len()
    );
    let search = Search::new(secrets);
    for node in cluster.nodes() {
        let name = node.host().name();
        search.expect_none(&format!("the log of {name}"), node.log().as_bytes());
        for file in files_below(node.data()) {
            search.expect_none(&file.display().to_string(), &fs::read(&file).unwrap());
        }
        for (what, text) in told(node) {
            search.expect_none(&format!("{what} of {name}"), text.as_bytes());
        }
    }
    for capture in captures {
        search.expect_none(&capture.file.display().to_string(), &capture.bytes());
    }
}

/// All that a node tells about itself.
fn told(node: &Node<'_>) -> Vec<(String, String)> {
    let pages = [
        "/",
        "/metrics",
        "/api/v1/status",
        "/api/v1/peers",
        "/api/v1/tasks",
    ];
    let pages = pages.iter().map(|page| {
        let mut curl = node.host().command("curl");
        curl.arg("-sS").arg(format!("http://127.0.0.1:65002{page}"));
        let done = Job::new(curl).run();
        ((*page).to_owned(), done.stdout)
    });
    let words = ["status", "peers", "tasks"].iter().map(|word| {
        let done = Job::new(node.command(&[word, "--json"])).run();
        (format!("dfnode {word}"), done.stdout)
    });
    pages.chain(words).collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// Secrets, each by its last bytes: the part of a token that is not alike in all of them.
struct Search {
    pieces: BTreeSet<Vec<u8>>,
    lengths: BTreeSet<usize>,
    /// Whether some piece begins with these two bytes: most places are told apart by that.
    beginnings: Vec<bool>,
}

impl Search {
    fn new(secrets: &[String]) -> Self {
        let last = |secret: &String| {
            let bytes = secret.as_bytes();
            bytes[bytes.len().saturating_sub(PIECE_BYTES)..].to_vec()
        };
        let pieces: BTreeSet<Vec<u8>> = secrets.iter().map(last).collect();
        let mut beginnings = vec![false; 1 << 16];
        for piece in &pieces {
            beginnings[beginning(piece)] = true;
        }
        Self {
            lengths: pieces.iter().map(Vec::len).collect(),
            pieces,
            beginnings,
        }
    }

    fn expect_none(&self, place: &str, bytes: &[u8]) {
        let found = self.find(bytes);
        assert!(
            found.is_none(),
            "{place} holds the secret that ends with {:?}",
            found.map(String::from_utf8_lossy)
        );
    }

    /// The first piece in `bytes`.
    fn find<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let places = bytes.windows(2).enumerate();
        let possible = places.filter(|(_at, two)| self.beginnings[beginning(two)]);
        possible
            .flat_map(|(at, _two)| {
                let lengths = self.lengths.iter();
                lengths.filter_map(move |length| bytes.get(at..at + length))
            })
            .find(|window| self.pieces.contains(*window))
    }
}

/// The first two bytes as a number.
fn beginning(piece: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([piece[0], piece[1]]))
}

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

#[test]
fn the_end_of_a_secret_is_found_wherever_it_stands() {
    let search = Search::new(&[
        "Bearer-0123456789abcdef-ghij".to_owned(),
        "short".to_owned(),
    ]);
    let end = b"6789abcdef-ghij";
    assert_eq!(search.find(b"...6789abcdef-ghi?..."), None);
    assert!(search.find(b"...56789abcdef-ghij...").is_some() && end.len() == PIECE_BYTES - 1);
    assert!(search.find(b"ashortb").is_some());
}
