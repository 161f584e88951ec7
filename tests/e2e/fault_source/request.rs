//! The requests, as far as the faults need them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::ops::Range;

/// A request head.
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    /// Reads the next request of a connection; `None` at its end.
    pub(super) fn read(stream: &mut BufReader<TcpStream>) -> Option<Self> {
        let first = read_line(stream)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let line = read_line(stream)?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        Some(Self {
            method,
            target,
            headers,
        })
    }

    /// The path without its leading slash: the name of the fault.
    pub(super) fn fault(&self) -> &str {
        self.target
            .trim_start_matches('/')
            .split('?')
            .next()
            .unwrap_or_default()
    }

    /// A number from the query.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        let (_path, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then(|| value.parse().ok())?)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The bytes that a `Range` header with one range asks for, of `size` bytes in all.
    pub(super) fn range(&self, size: usize) -> Option<Range<usize>> {
        let (first, last) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        let first: usize = first.parse().ok()?;
        let end = if last.is_empty() {
            size
        } else {
            last.parse::<usize>().ok()?.saturating_add(1)
        };
        (first < size && first < end).then_some(first..end.min(size))
    }
}

fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let length = stream.read_line(&mut line).ok()?;
    (length > 0).then(|| line.trim_end().to_owned())
}
