//! What the upstream itself gives of an answer, asked for in the client's name.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, HeaderValue, IF_MATCH, IF_UNMODIFIED_SINCE, RANGE,
};
use hyper::{Response, StatusCode};
use tokio::time::{sleep, timeout};

use super::Source;
use super::sameness::Sameness;
use crate::body::Body;
use crate::redirect;
use crate::upstream::copy;

/// Tries in a row without a byte.
const MAX_TRIES: u32 = 6;
/// Half of the pause after the first try without a byte; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What is read from the upstream instead.
pub(super) struct Upstream {
    part: Option<Part>,
    /// Behind the last byte wanted of it.
    until: u64,
    /// Behind the last byte that it may give.
    end: u64,
    tries: u32,
}

/// What an upstream gives.
struct Part {
    body: Body,
    /// Bytes of it that come before those wanted.
    skip: u64,
    /// Whether it is all there is, and not the part that was asked for.
    is_whole: bool,
    /// Whether any was given on.
    flows: bool,
}

/// The upstream has something else by now, or does not say that it has the same: it need not be asked again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HasChanged;

impl Upstream {
    /// What lies before `until` is wanted of it, and before `end` if it gives no parts.
    pub(super) const fn new(until: u64, end: u64) -> Self {
        Self {
            part: None,
            until,
            end,
            tries: 0,
        }
    }

    pub(super) const fn until(&self) -> u64 {
        self.until
    }

    pub(super) const fn is_given_up(&self) -> bool {
        self.part.is_none() && self.tries >= MAX_TRIES
    }

    /// Whether it gives the part that was asked for.
    pub(super) fn gives_parts(&self) -> bool {
        self.part.as_ref().is_some_and(|part| !part.is_whole)
    }

    /// Whether it gives all, and asked again would begin with the first byte.
    pub(super) fn gives_all(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.is_whole)
    }

    /// Whether any of its bytes were given on.
    pub(super) fn flows(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.flows)
    }

    /// The next bytes, from `at` on; `None` if it is to be asked again.
    ///
    /// # Cancel safety
    /// Dropping the future loses a try, and no byte.
    pub(super) async fn next(
        &mut self,
        source: &Source,
        at: u64,
        silence: Duration,
    ) -> Result<Option<Bytes>, HasChanged> {
        let Some(part) = &mut self.part else {
            self.ask(source, at).await?;
            return Ok(None);
        };
        let Ok(Some(Ok(frame))) = timeout(silence, part.body.frame()).await else {
            self.part = None;
            return Ok(None);
        };
        let Ok(mut bytes) = frame.into_data() else {
            return Ok(None);
        };
        let skipped = usize::try_from(part.skip)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        drop(bytes.split_to(skipped));
        part.skip -= skipped as u64;
        bytes.truncate(usize::try_from(self.until - at).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            return Ok(None);
        }
        part.flows = true;
        self.tries = 0;
        source.shared.stats.fallback_bytes.add(bytes.len() as u64);
        Ok(Some(bytes))
    }

    pub(super) async fn ask(&mut self, source: &Source, at: u64) -> Result<(), HasChanged> {
        if self.tries > 0 {
            sleep(FIRST_PAUSE * (1 << self.tries)).await;
        }
        self.tries += 1;
        self.part = source.ask(at, self.until).await?;
        if self.gives_all() {
            // It gives no parts: each further hole would cost all that comes before.
            self.until = self.end;
        }
        Ok(())
    }
}

impl Source {
    /// Asks the upstream for what lies between; `None` if it gives nothing of use.
    async fn ask(&self, at: u64, end: u64) -> Result<Option<Part>, HasChanged> {
        let mut request = copy(&self.request);
        let headers = request.headers_mut();
        let Ok(range) = HeaderValue::try_from(format!("bytes={at}-{}", end - 1)) else {
            return Ok(None);
        };
        headers.insert(RANGE, range);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        match self.sameness.clone() {
            Sameness::Digest => None,
            Sameness::Etag(etag) => headers.insert(IF_MATCH, etag),
            Sameness::Date(date) => headers.insert(IF_UNMODIFIED_SINCE, date),
            Sameness::Unknown => return Err(HasChanged),
        };
        match redirect::send(&self.shared, &self.origin, request).await {
            Ok(led) => understand(led.answer, at, self.length, &self.sameness),
            Err(_) => Ok(None),
        }
    }
}

/// What an answer gives from `at` on, of a whole of `length` bytes.
fn understand(
    answer: Response<Body>,
    at: u64,
    length: u64,
    sameness: &Sameness,
) -> Result<Option<Part>, HasChanged> {
    let is_named = *sameness == Sameness::Digest;
    let skip = match answer.status() {
        StatusCode::OK => at,
        StatusCode::PARTIAL_CONTENT => 0,
        StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE if !is_named => {
            return Err(HasChanged);
        }
        _ => return Ok(None),
    };
    if !sameness.holds(&answer, length) {
        return if is_named { Ok(None) } else { Err(HasChanged) };
    }
    let starts_here = answer.status() == StatusCode::OK || first_byte(&answer) == Some(at);
    Ok(starts_here.then(|| Part {
        is_whole: answer.status() == StatusCode::OK,
        body: answer.into_body(),
        skip,
        flows: false,
    }))
}

/// Where a part begins.
fn first_byte(answer: &Response<Body>) -> Option<u64> {
    let range = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let first = range.strip_prefix("bytes ")?.split('-').next()?;
    first.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Response<Body> {
        let mut answer = Response::new(body::full("bytes"));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            answer.headers_mut().insert(*name, value);
        }
        answer
    }

    /// What is to be skipped of an answer to a question for what follows byte 10 of 100.
    fn skip(
        sameness: &Sameness,
        status: u16,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Option<u64>, HasChanged> {
        let part = understand(answer(status, headers), 10, 100, sameness)?;
        Ok(part.map(|part| part.skip))
    }

    #[test]
    fn a_file_is_continued_only_with_what_bears_its_name_and_length() {
        let etag = Sameness::Etag(HeaderValue::from_static("\"1\""));
        let range = ("content-range", "bytes 10-99/100");
        assert_eq!(skip(&etag, 206, &[range, ("etag", "\"1\"")]), Ok(Some(0)));
        let whole = ("content-length", "100");
        assert_eq!(skip(&etag, 200, &[whole, ("etag", "\"1\"")]), Ok(Some(10)));
        for headers in [
            &[range][..],
            &[range, ("etag", "\"2\"")],
            &[range, ("etag", "W/\"1\"")],
            &[("content-range", "bytes 10-98/99"), ("etag", "\"1\"")],
            &[("content-range", "bytes 10-99/*"), ("etag", "\"1\"")],
            &[range, ("etag", "\"1\""), ("content-encoding", "gzip")],
        ] {
            assert_eq!(skip(&etag, 206, headers), Err(HasChanged), "{headers:?}");
        }
        assert_eq!(skip(&etag, 412, &[]), Err(HasChanged));
        assert_eq!(skip(&etag, 503, &[]), Ok(None));
        let elsewhere = ("content-range", "bytes 0-99/100");
        assert_eq!(skip(&etag, 206, &[elsewhere, ("etag", "\"1\"")]), Ok(None));
    }

    #[test]
    fn a_file_without_a_name_is_continued_only_with_what_is_of_its_date() {
        let date = Sameness::Date(HeaderValue::from_static(DATE));
        let range = ("content-range", "bytes 10-99/100");
        let later = ("last-modified", "Wed, 21 Oct 2015 07:28:01 GMT");
        assert_eq!(
            skip(&date, 206, &[range, ("last-modified", DATE)]),
            Ok(Some(0))
        );
        assert_eq!(skip(&date, 206, &[range, later]), Err(HasChanged));
        assert_eq!(skip(&date, 206, &[range]), Err(HasChanged));
        assert_eq!(skip(&Sameness::Unknown, 206, &[range]), Err(HasChanged));
    }

    #[test]
    fn a_blob_is_continued_unless_its_length_is_another() {
        let blob = |headers: &[(&'static str, &'static str)]| skip(&Sameness::Digest, 206, headers);
        assert_eq!(blob(&[("content-range", "bytes 10-99/100")]), Ok(Some(0)));
        assert_eq!(blob(&[("content-range", "bytes 10-99/*")]), Ok(Some(0)));
        assert_eq!(blob(&[("content-range", "bytes 10-99/101")]), Ok(None));
        assert_eq!(skip(&Sameness::Digest, 200, &[]), Ok(Some(10)));
        assert_eq!(
            skip(&Sameness::Digest, 200, &[("content-length", "99")]),
            Ok(None)
        );
        assert_eq!(skip(&Sameness::Digest, 412, &[]), Ok(None));
    }
}
