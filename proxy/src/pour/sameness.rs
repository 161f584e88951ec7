//! How bytes of two hands are known to be of the same.

use dfnode_node::get::{GetError, StreamError};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED,
};
use hyper::{Response, StatusCode};

use crate::body::Body;

/// How bytes of the upstream are known to be of what an answer began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sameness {
    /// They are asked for by their digest.
    Digest,
    /// The upstream calls them so, and nothing else.
    Etag(HeaderValue),
    /// The upstream says that they are of this date, which was no longer young when they were read.
    Date(HeaderValue),
    /// In no way.
    Unknown,
}

impl Sameness {
    /// Whether what was given is wrong, or of something that is no more.
    ///
    /// Another version of what a digest names is the same from another authority.
    pub(super) fn is_rotten(&self, error: &StreamError) -> bool {
        match error {
            StreamError::Get(GetError::DigestMismatch { .. }) | StreamError::Untrue => true,
            StreamError::Changed => *self != Self::Digest,
            StreamError::Get(_) | StreamError::Stalled(_) | StreamError::Read(_) => false,
        }
    }

    /// Whether an answer is about the same, a whole of `length` bytes.
    ///
    /// A condition in the question is not enough: many servers do not look at it.
    pub(super) fn holds(&self, answer: &Response<Body>, length: u64) -> bool {
        let headers = answer.headers();
        let told = total(answer);
        let is_whole = told == Some(length) && !headers.contains_key(CONTENT_ENCODING);
        match self {
            Self::Digest => {
                told.is_none_or(|told| told == length) && !headers.contains_key(CONTENT_ENCODING)
            }
            Self::Etag(etag) => is_whole && headers.get(ETAG) == Some(etag),
            Self::Date(date) => is_whole && headers.get(LAST_MODIFIED) == Some(date),
            Self::Unknown => false,
        }
    }
}

/// The length of the whole, if an answer with a part of it or all of it tells.
fn total(answer: &Response<Body>) -> Option<u64> {
    let header = |name: &HeaderName| answer.headers().get(name)?.to_str().ok();
    let length = match answer.status() {
        StatusCode::PARTIAL_CONTENT => header(&CONTENT_RANGE)?.rsplit_once('/')?.1,
        _ => header(&CONTENT_LENGTH)?,
    };
    length.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_a_digest_is_the_same_and_of_a_file_is_not() {
        let date = Sameness::Date(HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT"));
        assert!(date.is_rotten(&StreamError::Changed));
        assert!(!Sameness::Digest.is_rotten(&StreamError::Changed));
    }
}
