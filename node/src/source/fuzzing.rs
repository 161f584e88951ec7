//! Fuzz targets for what sources answer.

use std::cell::OnceCell;

use bytes::Bytes;
use dfnode_tracker::{MAX_VALIDATOR_BYTES, Meta, SourceFailure};
use futures::stream;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Response, StatusCode};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::SourceEvent;
use super::body::{Cut, Sink, Tail, Window};
use super::failure::of_status;
use super::head::{ContentRange, read};
use super::patience::Patience;
use crate::fuzzing::input::Input;

/// The longest wait that a source is granted, milliseconds.
const MAX_WAIT_MS: u64 = 600_000;

/// The head of an answer, one header a line behind two bytes of status: lengths and ranges make sense, and whatever a
/// source says makes a version that peers accept.
pub fn head(bytes: &[u8]) {
    let mut input = Input(bytes);
    let status = u16::from_le_bytes(input.array());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::PARTIAL_CONTENT);
    let mut headers = HeaderMap::new();
    for line in input.0.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let range = ContentRange::of(&headers);
    if let Some(range) = range {
        if let Some((first, last)) = range.span {
            assert!(first <= last && range.total.is_none_or(|total| last < total));
        }
        assert_eq!(ContentRange::parse(&shown(range)), Some(range));
    }
    let head = read(status, &headers, false);
    let is_part = matches!(status.as_u16(), 206 | 416);
    assert_eq!(head.ranges, is_part);
    assert!(!is_part || head.length == range.and_then(|range| range.total));
    let validators = &head.validators;
    for text in [&validators.etag, &validators.last_modified] {
        let length = text.as_ref().map_or(0, String::len);
        assert!(length <= MAX_VALIDATOR_BYTES);
    }
    assert!(!read(status, &headers, true).public);
    if let Some(meta) = Meta::of(&head, [7; 32]) {
        assert!(meta.is_sound());
        assert_eq!(meta.layout.length(), head.length);
    }
    if let SourceFailure::Busy { retry_after_ms, .. } = of_status(status, &headers, "h") {
        assert!(retry_after_ms <= MAX_WAIT_MS);
    }
}

fn shown(range: ContentRange) -> String {
    let span = range
        .span
        .map_or_else(|| "*".to_owned(), |(first, last)| format!("{first}-{last}"));
    let total = range
        .total
        .map_or_else(|| "*".to_owned(), |total| total.to_string());
    format!("bytes {span}/{total}")
}

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// A body in pieces: exactly what the window shows is handed over, or the read fails.
pub fn body(bytes: &[u8]) {
    let mut input = Input(bytes);
    let [skip, take, told, keep, flags] = input.array();
    let window = Window {
        skip: u64::from(skip),
        take: (flags % 2 == 0).then(|| u64::from(take)),
        body_bytes: (flags / 2 % 2 == 0).then(|| u64::from(told)),
    };
    let mut chunks = Vec::new();
    while !input.0.is_empty() {
        let length = usize::from(input.byte().unwrap_or_default()) % 64;
        let (chunk, rest) = input.0.split_at(length.min(input.0.len()));
        input.0 = rest;
        chunks.push(Bytes::copy_from_slice(chunk));
    }
    let whole = chunks.concat();
    let shown = whole.get(usize::from(skip)..).unwrap_or_default();
    let known = &whole[..usize::from(skip).min(whole.len())];
    let (seam, is_same) = match flags / 4 % 4 {
        0 => (Some(known.to_vec()), true),
        1 if !known.is_empty() => {
            let mut other = known.to_vec();
            other[0] ^= 1;
            (Some(other), false)
        }
        _ => (None, true),
    };
    let expected = window
        .take
        .or_else(|| window.body_bytes.map(|all| all.saturating_sub(window.skip)));
    let (given, ended, after) = pump(chunks, window, seam.as_deref(), usize::from(keep));
    assert!(shown.starts_with(&given), "other bytes than the source's");
    assert!(window.take.is_none_or(|take| given.len() as u64 <= take));
    let kept = &given[given.len().saturating_sub(usize::from(keep))..];
    match ended {
        Ok(count) => {
            assert!(
                is_same || window.take == Some(0),
                "what changed was not seen"
            );
            assert_eq!(count, given.len() as u64);
            assert!(expected.is_none_or(|expected| count >= expected));
            assert!(after.ends_in(kept));
        }
        Err(SourceFailure::Changed) => assert!(!is_same),
        Err(SourceFailure::Final { .. }) => {
            let told = window.body_bytes;
            assert!(told.is_some_and(|told| whole.len() as u64 > told));
        }
        Err(SourceFailure::Transient { .. }) => {
            assert!(expected.is_some_and(|expected| (given.len() as u64) < expected));
        }
        Err(failure) => unreachable!("{failure}"),
    }
}

fn pump(
    chunks: Vec<Bytes>,
    window: Window,
    before: Option<&[u8]>,
    keep: usize,
) -> (Vec<u8>, Result<u64, SourceFailure>, Tail) {
    let (events, mut told) = mpsc::channel(chunks.len() + 1);
    let sink = Sink {
        events,
        limits: Vec::new(),
        patience: Patience::default(),
    };
    let chunks = stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
    let answer = Response::from(hyper::Response::new(Body::wrap_stream(chunks)));
    let mut after = Tail::of(keep);
    let before = before.map(|bytes| {
        let mut tail = Tail::of(bytes.len());
        tail.see(bytes);
        tail
    });
    let pumped = RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_time().build().expect("a runtime")
        });
        runtime.block_on(sink.pump_between(answer, window, "h", before.as_ref(), &mut after))
    });
    drop(sink);
    let mut given = Vec::new();
    while let Ok(event) = told.try_recv() {
        match event {
            SourceEvent::Bytes(bytes) => given.extend_from_slice(&bytes),
            SourceEvent::Head(_) | SourceEvent::Unchanged | SourceEvent::End(_) => {
                unreachable!("a body has only bytes")
            }
        }
    }
    let ended = pumped.map_err(|cut| match cut {
        Cut::Failed(failure) => failure,
        Cut::Unwanted => unreachable!("the receiver is there"),
    });
    (given, ended, after)
}

impl Tail {
    fn ends_in(&self, bytes: &[u8]) -> bool {
        self.continues(0, bytes) && !self.continues(0, &[bytes, &[0]].concat())
    }
}
