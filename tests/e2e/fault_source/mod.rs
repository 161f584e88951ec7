//! A web server with one fault per path.
//!
//! It must run inside the source's namespace, so this test binary starts itself there again: with
//! [`SERVE`] set, the test [`serves_faults_when_told_to`] is the server instead of a test.
//!
//! | path | what goes wrong |
//! |---|---|
//! | /plain | nothing: strong `ETag`, Range, If-Match |
//! | /401 /403 /404 /410 /500 | always answers so |
//! | /503 | answers so, with Retry-After, for the first `times` requests |
//! | /ttfb | the first byte comes after 3 s |
//! | /slow | 10 Mbit for all connections together |
//! | /reset | the first `times` GETs are reset in their middle |
//! | /stall | the first `times` GETs stop in their middle and stay open |
//! | /change-etag | content and `ETag` change once `after` bytes were sent; answers under way are reset |
//! | /change-silent | content changes for later answers, and there is no validator |
//! | /wrong-length | Content-Length promises 1000 bytes more than come |
//! | /no-range | Range is ignored |
//! | /chunked | no length, no Range |
//! | /weak, /no-validator | the `ETag` is weak; there is none |
//! | /empty | no bytes, rightly |
//! | /redirect, /loop | leads to /plain; leads to itself |
//! | /members | only for `Authorization: Bearer secret`, else 401 |
//!
//! All take `?size=BYTES` and any further parameter, which makes another URL of the same fault.
//! [`FaultSource::start_registry`] offers images with such faults as well, over TLS.

mod log;
mod registry;
mod response;
mod serve;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use self::log::Asked;
pub(crate) use self::registry::PORT as REGISTRY_PORT;
use crate::files::noise;
use crate::lab::{Host, Process, SOURCE_NAME};
use crate::registries::Identity;

/// Tells this binary to be the server: `PORT LOG`.
const SERVE: &str = "DFNODE_E2E_SERVE_FAULTS";
const PORT: u16 = 8000;

/// The server, on the source's host.
pub(crate) struct FaultSource {
    _process: Process,
    base: String,
    log: PathBuf,
}

impl FaultSource {
    /// Starts it on `host`.
    pub(crate) fn start(host: &Host) -> Self {
        Self::start_with(host, &[])
    }

    /// Starts it on `host`, where it also is a registry of faults: `fault.test:7443/FAULT/NAME` is the
    /// image `test/NAME` of `storage`, and what its big blobs suffer is FAULT.
    pub(crate) fn start_registry(host: &Host, storage: &Path, identity: &Identity) -> Self {
        Self::start_with(host, &[storage, &identity.certificate, &identity.key])
    }

    fn start_with(host: &Host, more: &[&Path]) -> Self {
        let log = host.dir().join("faults.log");
        fs::write(&log, "").unwrap();
        let mut command = host.command("env");
        let mut told = format!("{PORT} {}", log.display());
        for path in more {
            write!(told, " {}", path.display()).unwrap();
        }
        command.arg(format!("{SERVE}={told}"));
        command.arg(env::current_exe().unwrap());
        command.args([
            "--exact",
            "fault_source::serves_faults_when_told_to",
            "--nocapture",
        ]);
        let output = host.dir().join("faults.output");
        let mut process = Process::start(&mut command, &output);
        let give_up = Instant::now() + Duration::from_secs(10);
        while fs::read_to_string(&log).unwrap().is_empty() {
            assert!(
                process.is_running() && Instant::now() < give_up,
                "{}",
                process.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
        Self {
            _process: process,
            base: format!("http://{SOURCE_NAME}:{PORT}"),
            log,
        }
    }

    /// The address of `path`, e.g. `reset?size=1000000`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// What was asked for so far, in the order in which the answers ended.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        log::read(&self.log)
    }

    /// What was asked for under `path`, given as to [`FaultSource::url`].
    pub(crate) fn asked_for(&self, path: &str) -> Vec<Asked> {
        let target = format!("/{path}");
        self.asked()
            .into_iter()
            .filter(|asked| asked.target == target)
            .collect()
    }
}

/// The content that the server sends before (`0`) or after (`1`) its change.
pub(crate) fn content(version: u64, size: usize) -> Vec<u8> {
    noise(1000 + version, size)
}

#[test]
fn serves_faults_when_told_to() {
    let Ok(told) = env::var(SERVE) else { return };
    let words: Vec<_> = told.split(' ').collect();
    let (port, log) = (words[0].parse().unwrap(), log::Log::open(words[1].as_ref()));
    let [storage, certificate, key] = words[2..] else {
        serve::forever(port, &Arc::new(serve::Server::new(log, None)));
    };
    let shelves = registry::Shelves::open(storage.as_ref());
    let server = Arc::new(serve::Server::new(log, Some(shelves)));
    let tls = Arc::new(registry::tls(certificate.as_ref(), key.as_ref()));
    thread::scope(|scope| {
        scope.spawn(|| serve::forever_with_tls(registry::PORT, &tls, &server));
        serve::forever(port, &server)
    });
}

/// Closes with a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    let at_once = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(stream, at_once).unwrap();
}
