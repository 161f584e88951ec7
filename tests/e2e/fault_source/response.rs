//! Which answer a path gives, and how the answer's body misbehaves.

use std::sync::Arc;
use std::time::Duration;

use super::content;
use super::request::Request;
use super::serve::History;

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
    /// Half of it, then a reset.
    ResetInTheMiddle,
    /// Half of it, then nothing.
    StallInTheMiddle,
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
struct File {
    size: usize,
    etag: Option<String>,
    ranges: bool,
    manner: Manner,
    promises_more: bool,
    version: u64,
}

/// Decides the answer to `request`, the `turn`-th (from 0) for its target.
pub(super) fn answer(request: &Request, turn: usize, history: &Arc<History>) -> Response {
    let size = request.number("size").unwrap_or(DEFAULT_SIZE);
    let passing = turn < request.number("times").unwrap_or(DEFAULT_TIMES);
    let file = File {
        size,
        etag: Some("\"v0\"".to_owned()),
        ranges: true,
        manner: Manner::Plain,
        promises_more: false,
        version: 0,
    };
    let passing_manner = |manner| if passing { manner } else { Manner::Plain };
    match request.fault() {
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
            File {
                version,
                etag: Some(format!("\"v{version}\"")),
                ..file
            }
            .answer(request)
        }
        "change-silent" => {
            let version = changed(request, size, history);
            File {
                version,
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
        "empty" => File { size: 0, ..file }.answer(request),
        "redirect" => redirect(format!("/plain?size={size}")),
        "loop" => redirect(request.target.clone()),
        _ => refuse(404),
    }
}

/// The version of a file that changes once enough of it was sent: half of it, unless the URL says.
fn changed(request: &Request, size: usize, history: &Arc<History>) -> u64 {
    let after = request.number("after").unwrap_or(size / 2);
    u64::from(history.sent(&request.target) >= after)
}

impl File {
    fn answer(self, request: &Request) -> Response {
        if let (Some(wanted), Some(etag)) = (request.header("if-match"), &self.etag)
            && wanted != etag
        {
            return plain(412, Vec::new());
        }
        let mut bytes = content(self.version, self.size);
        // What is promised and does not come lies behind what there is.
        let claimed = if self.promises_more {
            self.size + PROMISED_IN_EXCESS
        } else {
            self.size
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
                bytes = bytes[range.start.min(self.size)..range.end.min(self.size)].to_vec();
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

fn refuse(status: u16) -> Response {
    plain(status, format!("status {status}\n").into_bytes())
}

fn redirect(location: String) -> Response {
    let mut response = plain(302, Vec::new());
    response.headers.push(("Location", location));
    response
}

fn plain(status: u16, bytes: Vec<u8>) -> Response {
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
