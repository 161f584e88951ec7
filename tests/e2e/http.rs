//! The requests that the tests' own servers read.

use std::collections::BTreeMap;
use std::io::{BufRead, Read as _};
use std::ops::Range;

/// More than any form that a client sends.
const MAX_BODY_BYTES: u64 = 64 * 1024;

/// A request, its body included.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Request {
    /// Reads the next request of a connection; `None` at its end.
    pub(crate) fn read(stream: &mut impl BufRead) -> Option<Self> {
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
        let length = headers
            .get("content-length")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let mut body = String::new();
        let mut rest = stream.take(u64::min(length, MAX_BODY_BYTES));
        rest.read_to_string(&mut body).ok()?;
        Some(Self {
            method,
            target,
            headers,
            body,
        })
    }

    /// The path, without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A number from the query.
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.parameter(name)?.parse().ok()
    }

    /// A parameter of the query, or of the form that was posted.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).into_iter().next()
    }

    /// All parameters of that name.
    pub(crate) fn parameters(&self, name: &str) -> Vec<String> {
        let query = self
            .target
            .split_once('?')
            .map_or("", |(_path, query)| query);
        let pairs = query.split('&').chain(self.body.split('&'));
        pairs
            .filter_map(|pair| pair.split_once('='))
            .filter(|(key, _value)| *key == name)
            .map(|(_key, value)| percent_decoded(value))
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The bytes that a `Range` header with one range asks for, of `size` bytes in all.
    pub(crate) fn range(&self, size: usize) -> Option<Range<usize>> {
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

fn read_line(stream: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let length = stream.read_line(&mut line).ok()?;
    (length > 0).then(|| line.trim_end().to_owned())
}

/// The value of a form's field as it was before it was encoded.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (byte, read) = match (first, code) {
            (b'%', Some(code)) => (code, 3),
            (b'+', _) => (b' ', 1),
            (other, _) => (*other, 1),
        };
        bytes.push(byte);
        rest = &rest[read..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_form_is_read_beside_the_query() {
    let text = "POST /token?service=a HTTP/1.1\r\nContent-Length: 31\r\n\r\n\
                scope=repository%3Aa%2Fb%3Apull";
    let request = Request::read(&mut text.as_bytes()).unwrap();
    assert_eq!(request.parameter("service").as_deref(), Some("a"));
    assert_eq!(
        request.parameter("scope").as_deref(),
        Some("repository:a/b:pull")
    );
}
