//! The server itself: a thread per connection.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::log::{Asked, Log};
use super::registry::Shelves;
use super::response::{Manner, Response, answer};
use crate::http::Request;

/// How much is written at a time: the grain of rates and of the counted bytes.
const SLICE_BYTES: usize = 16 * 1024;
/// 10 Mbit.
const SLOW_BYTES_PER_SEC: u32 = 1_250_000;
/// Longer than any test waits.
const STALL: Duration = Duration::from_mins(10);

/// What was asked and sent so far, for the faults that pass or begin later.
pub(super) struct History {
    turns: Mutex<BTreeMap<String, usize>>,
    sent: Mutex<BTreeMap<String, usize>>,
    /// When the line that slow answers share is free again.
    slow_until: Mutex<Instant>,
}

impl History {
    /// How many bytes of `target` were sent, over all answers.
    pub(super) fn sent(&self, target: &str) -> usize {
        self.sent.lock().unwrap().get(target).copied().unwrap_or(0)
    }

    fn next_turn(&self, request: &Request) -> usize {
        let mut turns = self.turns.lock().unwrap();
        let key = format!("{} {}", request.method, request.target);
        let turn = turns.entry(key).or_default();
        *turn += 1;
        *turn - 1
    }

    fn note_sent(&self, target: &str, bytes: usize) {
        *self
            .sent
            .lock()
            .unwrap()
            .entry(target.to_owned())
            .or_default() += bytes;
    }

    /// Waits until the slow line has carried `bytes` more.
    fn wait_for_slow_line(&self, bytes: usize) {
        let took = Duration::from_secs(1) * u32::try_from(bytes).unwrap() / SLOW_BYTES_PER_SEC;
        let free = {
            let mut until = self.slow_until.lock().unwrap();
            *until = (*until).max(Instant::now()) + took;
            *until
        };
        thread::sleep(free.saturating_duration_since(Instant::now()));
    }
}

/// A client's end, with TLS or without.
pub(super) trait Wire: Read + Write {
    /// The socket below.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}

/// What all connections share.
pub(super) struct Server {
    history: Arc<History>,
    log: Log,
    /// The images of the registry, where there is one.
    shelves: Option<Shelves>,
}

impl Server {
    pub(super) fn new(log: Log, shelves: Option<Shelves>) -> Self {
        let history = History {
            turns: Mutex::default(),
            sent: Mutex::default(),
            slow_until: Mutex::new(Instant::now()),
        };
        Self {
            history: Arc::new(history),
            log,
            shelves,
        }
    }
}

/// Answers on `port` until the process is killed.
pub(super) fn forever(port: u16, server: &Arc<Server>) -> ! {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    server.log.ready();
    loop {
        let (stream, _from) = listener.accept().unwrap();
        let server = Arc::clone(server);
        thread::spawn(move || converse(stream, &server));
    }
}

/// The same over TLS.
pub(super) fn forever_with_tls(port: u16, tls: &Arc<ServerConfig>, server: &Arc<Server>) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    loop {
        let (stream, _from) = listener.accept().unwrap();
        let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
        let server = Arc::clone(server);
        thread::spawn(move || converse(StreamOwned::new(connection, stream), &server));
    }
}

/// Answers the requests of one connection.
fn converse(wire: impl Wire, server: &Server) {
    let Server {
        history,
        log,
        shelves,
    } = server;
    let mut requests = BufReader::new(wire);
    while let Some(request) = Request::read(&mut requests) {
        let turn = history.next_turn(&request);
        let response = shelves
            .as_ref()
            .and_then(|shelves| shelves.answer(&request, turn))
            .unwrap_or_else(|| answer(&request, turn, history));
        let mut sent = 0;
        let ended = write(requests.get_mut(), &request, &response, history, &mut sent);
        log.note(&Asked {
            method: request.method.clone(),
            target: request.target.clone(),
            range: request.header("range").map(str::to_owned),
            if_match: request.header("if-match").map(str::to_owned),
            authorized: request.header("authorization").is_some(),
            status: response.status,
            body_bytes: sent as u64,
        });
        let whole = request.method == "HEAD" || sent >= response.body.promised;
        if ended.is_err() || !whole {
            return;
        }
    }
}

/// Writes `response`; `sent` counts the body's bytes as they go. An error ends the connection.
fn write(
    stream: &mut impl Wire,
    request: &Request,
    response: &Response,
    history: &History,
    sent: &mut usize,
) -> io::Result<()> {
    thread::sleep(response.wait);
    let (bytes, manner) = (&response.body.bytes, response.body.manner);
    let mut head = Vec::new();
    write!(head, "HTTP/1.1 {} Fault\r\n", response.status)?;
    for (name, value) in &response.headers {
        write!(head, "{name}: {value}\r\n")?;
    }
    match manner {
        Manner::Chunked => write!(head, "Transfer-Encoding: chunked\r\n\r\n")?,
        Manner::Plain
        | Manner::Slow
        | Manner::Until(_)
        | Manner::ResetInTheMiddle
        | Manner::StallInTheMiddle
        | Manner::EndInTheMiddle => {
            write!(head, "Content-Length: {}\r\n\r\n", response.body.promised)?;
        }
    }
    stream.write_all(&head)?;
    if request.method == "HEAD" {
        return stream.flush();
    }
    let cut = matches!(
        manner,
        Manner::ResetInTheMiddle | Manner::StallInTheMiddle | Manner::EndInTheMiddle
    );
    let whole = if cut {
        &bytes[..bytes.len() / 2]
    } else {
        bytes
    };
    for slice in whole.chunks(SLICE_BYTES) {
        if matches!(manner, Manner::Until(end) if history.sent(&request.target) >= end) {
            return reset(stream);
        }
        if manner == Manner::Slow {
            history.wait_for_slow_line(slice.len());
        }
        if manner == Manner::Chunked {
            // In one go: small writes of their own would wait for acknowledgements.
            let head = format!("{:x}\r\n", slice.len());
            stream.write_all(&[head.as_bytes(), slice, b"\r\n"].concat())?;
        } else {
            stream.write_all(slice)?;
        }
        *sent += slice.len();
        history.note_sent(&request.target, slice.len());
    }
    match manner {
        Manner::Chunked => stream.write_all(b"0\r\n\r\n"),
        Manner::ResetInTheMiddle => reset(stream),
        Manner::StallInTheMiddle => {
            thread::sleep(STALL);
            Err(io::ErrorKind::TimedOut.into())
        }
        // The connection ends there: less was sent than promised.
        Manner::EndInTheMiddle | Manner::Plain | Manner::Slow | Manner::Until(_) => stream.flush(),
    }
}

fn reset(stream: &impl Wire) -> io::Result<()> {
    super::reset(stream.socket());
    Err(io::ErrorKind::ConnectionReset.into())
}
