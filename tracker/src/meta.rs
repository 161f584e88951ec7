//! What is known of a version: its cut, and what the source said that identifies it.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, VersionId};
use crate::layout::Layout;

/// The longest validator kept; a longer one counts as none.
pub const MAX_VALIDATOR_BYTES: usize = 256;

/// What the source says that tells one state of a resource from the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// The strong `ETag`, quotes included. A weak one is never kept here.
    pub etag: Option<String>,
    /// `Last-Modified` as sent, if it lies more than 60 s before `Date`.
    pub last_modified: Option<String>,
}

impl Validators {
    /// Whether these identify a version strongly enough to read it in parts.
    pub const fn are_strong(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

/// What the head of a source's answer told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceHead {
    /// The length of the whole resource, if told.
    pub length: Option<u64>,
    /// The validators, already judged strong.
    pub validators: Validators,
    /// Whether the source answers range requests (it sent 206, or `Accept-Ranges: bytes`).
    pub ranges: bool,
    /// The digest of the whole, when the source vouches for one (`Repr-Digest`, an OCI name).
    pub digest: Option<Digest>,
    /// Who gives it, `scheme://host:port`, where `digest` is the content's name and not the source's word.
    pub authority: Option<String>,
    /// Whether the source gave this to a request without credentials, and forbade no sharing.
    pub public: bool,
}

impl SourceHead {
    /// The version, if it has a name of its own: by digest and authority if the digest is its name, by digest if one is
    /// known, else by the strong `ETag`.
    pub fn named(&self) -> Option<VersionId> {
        let by_digest = self.digest.as_ref().map(|digest| match &self.authority {
            Some(authority) => VersionId::of_content(digest, authority),
            None => VersionId::derive("digest", digest.to_string().as_bytes()),
        });
        let by_etag = || {
            let etag = self.validators.etag.as_ref()?;
            Some(VersionId::derive("etag", etag.as_bytes()))
        };
        by_digest.or_else(by_etag)
    }
}

/// A version as nodes tell each other of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Which version.
    pub version: VersionId,
    /// How its bytes are cut.
    pub layout: Layout,
    /// What further reads must match.
    pub validators: Validators,
    /// The digest of the whole, if the source vouches for one.
    pub digest: Option<Digest>,
    /// Whether the source gives it to anybody.
    pub public: bool,
    /// Whether the source can be read in parts.
    pub ranges: bool,
    /// Whether one response is the whole version: no validator, no range or no length to read it by again.
    pub single: bool,
}

impl Meta {
    /// Names the version that `head` describes.
    ///
    /// As [`SourceHead::named`], else by `Last-Modified` and length. Without any, the version is this one read, `nonce`:
    /// another read may give other bytes.
    pub fn of(head: &SourceHead, nonce: [u8; 32]) -> Option<Self> {
        let layout = match head.length {
            Some(length) => Layout::of_length(length)?,
            None => Layout::of_stream(),
        };
        let modified = &head.validators.last_modified;
        let (version, single) = match (head.named(), modified, head.length) {
            (Some(version), _, Some(_)) => (version, false),
            (_, Some(modified), Some(length)) => (
                VersionId::derive("modified", format!("{modified}|{length}").as_bytes()),
                false,
            ),
            _ => (VersionId::derive("read", &nonce), true),
        };
        Some(Self {
            version,
            layout,
            validators: head.validators.clone(),
            digest: head.digest.clone(),
            public: head.public,
            ranges: head.ranges,
            single: single || !head.ranges && head.length.is_none(),
        })
    }

    /// Whether a peer's word for a version can be used at all.
    pub fn is_sound(&self) -> bool {
        let fits = |text: &Option<String>| {
            text.as_ref()
                .is_none_or(|text| text.len() <= MAX_VALIDATOR_BYTES)
        };
        self.layout.is_sound()
            && fits(&self.validators.etag)
            && fits(&self.validators.last_modified)
    }
}

/// The most bytes of words about a failure that one node tells another.
const MAX_FAILURE_BYTES: usize = 512;

/// Why a read of the source ended before its extent did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SourceFailure {
    /// 401, 402, 403, 407, 410 or 451: this caller may not read. Another caller may.
    #[error("the source refused this request with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// 404: nobody finds it.
    #[error("the source has nothing at this URL (status 404)")]
    NotFound,
    /// 429 or 503: come again later.
    #[error("the source is busy (status {status}), asking for {retry_after_ms} ms of patience")]
    Busy {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, or the reader's own patience where none was sent.
        retry_after_ms: u64,
    },
    /// Another status, a reset, a stall or a timeout: a further try may succeed.
    #[error("{what}")]
    Transient {
        /// In words for the user.
        what: String,
    },
    /// A certificate that is not trusted, a redirect loop, an answer that makes no sense: a further try of this host will
    /// not help; another's may.
    #[error("{what}")]
    Final {
        /// In words for the user.
        what: String,
    },
    /// The resource is no longer the version that the lease names (412, or another validator).
    #[error("the content changed at the source while it was read")]
    Changed,
}

impl SourceFailure {
    /// Whether it is a no to one reader, which says nothing about others.
    pub(crate) const fn is_readers_own(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Final { .. })
    }

    /// Whether its words are few and of one line: others print them.
    pub(crate) fn is_sound(&self) -> bool {
        match self {
            Self::Transient { what } | Self::Final { what } => {
                what.len() <= MAX_FAILURE_BYTES && !what.contains(char::is_control)
            }
            Self::Refused { .. } | Self::NotFound | Self::Busy { .. } | Self::Changed => true,
        }
    }

    /// The same in words that others accept.
    pub(crate) fn in_short(mut self) -> Self {
        if let Self::Transient { what } | Self::Final { what } = &mut self {
            *what = what.replace(char::is_control, " ");
            what.truncate(what.floor_char_boundary(MAX_FAILURE_BYTES));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_print_is_one_short_line() {
        let long = "é\n\u{1b}[2J".repeat(400);
        let failure = SourceFailure::Transient { what: long };
        assert!(!failure.is_sound());
        let short = failure.in_short();
        assert!(short.is_sound(), "{short:?}");
        assert!(short.to_string().len() > MAX_FAILURE_BYTES - 4);
    }
}
