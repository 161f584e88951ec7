//! Which answer a path gives, and how the answer's body misbehaves.

use std::sync::Arc;
use std::time::Duration;

use super::content;
use super::serve::History;
use crate::http::Request;

/// An answer, ready to be written.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
    /// How long to wait before the first byte.
    pub(super) wait: Duration,
}

/// The body and what happens to it.
pub(super) struct Body {
    /// What is sent, unless the manner cuts it.
    pub(super) bytes: Vec<u8>,
    /// What Content-Length says, where there is one.
    pub(super) promised: usize,
    /// How it is sent.
    pub(super) manner: Manner,
}

/// How a body is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As HTTP wants it.
    Plain,
    /// At the rate that all slow answers share.
    Slow,
    /// A reset once so many bytes of the target were sent, over all answers.
    Until(usize),
    /// Half of it, then a reset.
    ResetInTheMiddle,
    /// Half of it, then nothing.
    StallInTheMiddle,
    /// Half of it, then an orderly end.
    EndInTheMiddle,
    /// In chunks, without a length.
    Chunked,
}

/// The size of a file whose URL does not say one.
const DEFAULT_SIZE: usize = 1 << 20;
/// How often a passing fault shows when the URL does not say.
const DEFAULT_TIMES: usize = 1;
/// How many bytes of a wrong length never come.
const PROMISED_IN_EXCESS: usize = 1000;
const TIME_TO_FIRST_BYTE: Duration = Duration::from_secs(3);

/// What a file's answers carry besides its bytes.
pub(super) struct File {
    bytes: Vec<u8>,
    etag: Option<String>,
    ranges: bool,
    manner: Manner,
    promises_more: bool,
}

/// Decides the answer to `request`, the `turn`-th (from 0) for its target.
pub(super) fn answer(request: &Request, turn: usize, history: &Arc<History>) -> Response {
    let size = request.number("size").unwrap_or(DEFAULT_SIZE);
    let passing = turn < request.number("times").unwrap_or(DEFAULT_TIMES);
    let file = File::plain(content(0, size), "\"v0\"".to_owned());
    let passing_manner = |manner| if passing { manner } else { Manner::Plain };
    match fault(request) {
        "401" => refuse(401),
        "403" => refuse(403),
        "410" => refuse(410),
        "500" => refuse(500),
        "members" if request.header("authorization") != Some("Bearer secret") => refuse(401),
        "503" if passing => {
            let mut busy = refuse(503);
            busy.headers.push(("Retry-After", "2".to_owned()));
            busy
        }
        "503" | "plain" | "members" => file.answer(request),
        "ttfb" => Response {
            wait: TIME_TO_FIRST_BYTE,
            ..file.answer(request)
        },
        "slow" => File {
            manner: Manner::Slow,
            ..file
        }
        .answer(request),
        "reset" => File {
            manner: passing_manner(Manner::ResetInTheMiddle),
            ..file
        }
        .answer(request),
        "stall" => File {
            manner: passing_manner(Manner::StallInTheMiddle),
            ..file
        }
        .answer(request),
        "change-etag" => {
            let version = changed(request, size, history);
            let manner = match version {
                0 => Manner::Until(change_after(request, size)),
                _ => Manner::Plain,
            };
            File {
                bytes: content(version, size),
                etag: Some(format!("\"v{version}\"")),
                manner,
                ..file
            }
            .answer(request)
        }
        "change-silent" => {
            let version = changed(request, size, history);
            File {
                bytes: content(version, size),
                etag: None,
                ..file
            }
            .answer(request)
        }
        "wrong-length" => File {
            promises_more: true,
            ..file
        }
        .answer(request),
        "no-range" => File {
            ranges: false,
            ..file
        }
        .answer(request),
        "chunked" => File {
            ranges: false,
            manner: Manner::Chunked,
            ..file
        }
        .answer(request),
        "weak" => File {
            etag: Some("W/\"v0\"".to_owned()),
            ..file
        }
        .answer(request),
        "no-validator" => File { etag: None, ..file }.answer(request),
        "empty" => File {
            bytes: Vec::new(),
            ..file
        }
        .answer(request),
        "redirect" => redirect(format!("/plain?size={size}")),
        "loop" => redirect(request.target.clone()),
        _ => refuse(404),
    }
}

/// The path without its leading slash: the name of the fault.
fn fault(request: &Request) -> &str {
    request.path().trim_start_matches('/')
}

/// After how many sent bytes a file changes: half of it, unless the URL says.
fn change_after(request: &Request, size: usize) -> usize {
    request.number("after").unwrap_or(size / 2)
}

/// The version of a file that changes once enough of it was sent.
fn changed(request: &Request, size: usize, history: &Arc<History>) -> u64 {
    u64::from(history.sent(&request.target) >= change_after(request, size))
}

impl File {
    /// A file without a fault.
    pub(super) fn plain(bytes: Vec<u8>, etag: String) -> Self {
        Self {
            bytes,
            etag: Some(etag),
            ranges: true,
            manner: Manner::Plain,
            promises_more: false,
        }
    }

    /// The same file, sent in another manner.
    pub(super) fn sent(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// The same file from a server that does not know ranges.
    pub(super) fn without_ranges(self) -> Self {
        Self {
            ranges: false,
            ..self
        }
    }

    /// The same file with one byte that is wrong.
    pub(super) fn corrupted(mut self) -> Self {
        let middle = self.bytes.len() / 2;
        self.bytes[middle] ^= 1;
        self
    }

    /// The answer to a request for it.
    pub(super) fn answer(self, request: &Request) -> Response {
        if let (Some(wanted), Some(etag)) = (request.header("if-match"), &self.etag)
            && wanted != etag
        {
            return plain(412, Vec::new());
        }
        let (size, mut bytes) = (self.bytes.len(), self.bytes);
        // What is promised and does not come lies behind what there is.
        let claimed = if self.promises_more {
            size + PROMISED_IN_EXCESS
        } else {
            size
        };
        let mut promised = claimed;
        let mut headers = vec![("Content-Type", "application/octet-stream".to_owned())];
        headers.extend(self.etag.map(|etag| ("ETag", etag)));
        let mut status = 200;
        if self.ranges {
            headers.push(("Accept-Ranges", "bytes".to_owned()));
            if let Some(range) = request.range(claimed) {
                let text = format!("bytes {}-{}/{claimed}", range.start, range.end - 1);
                headers.push(("Content-Range", text));
                promised = range.len();
                bytes = bytes[range.start.min(size)..range.end.min(size)].to_vec();
                status = 206;
            }
        }
        let body = Body {
            bytes,
            promised,
            manner: self.manner,
        };
        Response {
            status,
            headers,
            body,
            wait: Duration::ZERO,
        }
    }
}

pub(super) fn refuse(status: u16) -> Response {
    plain(status, format!("status {status}\n").into_bytes())
}

fn redirect(location: String) -> Response {
    let mut response = plain(302, Vec::new());
    response.headers.push(("Location", location));
    response
}

pub(super) fn plain(status: u16, bytes: Vec<u8>) -> Response {
    let body = Body {
        promised: bytes.len(),
        bytes,
        manner: Manner::Plain,
    };
    Response {
        status,
        headers: Vec::new(),
        body,
        wait: Duration::ZERO,
    }
}
