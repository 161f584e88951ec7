//! The names of things: a task, one version of its bytes, and places within it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

/// Separates the id of a URL from that of a digest and of anything added later.
const URL_CONTEXT: &str = "dfnode 1 task url";
const DIGEST_CONTEXT: &str = "dfnode 1 task digest";

/// What a cluster shares: the same id on every host that asks for the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId([u8; 32]);

impl TaskId {
    /// Names a task by bytes that came over the wire or from disk.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id of a URL as `selector` sees it.
    pub fn of_url(selector: &Selector<'_>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(URL_CONTEXT);
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(selector.canonical_url().as_bytes());
        field(selector.tag.as_bytes());
        field(selector.credential.unwrap_or_default());
        let mut headers: Vec<(String, &str)> = selector
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), *value))
            .collect();
        headers.sort_unstable();
        for (name, value) in headers {
            field(name.as_bytes());
            field(value.as_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The id of content named by its digest (`sha256:HEX`), whatever host serves it.
    pub fn of_digest(digest: &Digest) -> Self {
        Self(blake3::derive_key(
            DIGEST_CONTEXT,
            digest.to_string().as_bytes(),
        ))
    }

    /// The first ten hexadecimal digits: enough to tell tasks apart in a log.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..5])
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.short())
    }
}

/// Everything that decides whether two requests for a URL are one task.
#[derive(Debug, Clone)]
pub struct Selector<'a> {
    /// The URL as asked for.
    pub url: &'a Url,
    /// Names of query parameters that do not select content (signatures, expiry times).
    pub filter: &'a [String],
    /// The user's own separation of equal URLs.
    pub tag: &'a str,
    /// Headers that select content (`Accept`, `Accept-Language`, …), names in any case.
    pub headers: &'a [(&'a str, &'a str)],
    /// Keyed hash of the caller's credential, when the source answers callers differently.
    pub credential: Option<&'a [u8]>,
}

/// Query parameters of signed URLs that change with every signature and never select content.
///
/// S3, GCS, OSS, COS, OBS and Azure, and the `ns` that containerd adds for a mirror.
const SIGNATURE_PARAMS: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-User-Agent",
    "X-Goog-Algorithm",
    "X-Goog-Credential",
    "X-Goog-Date",
    "X-Goog-Expires",
    "X-Goog-SignedHeaders",
    "X-Goog-Signature",
    "OSSAccessKeyId",
    "Expires",
    "Signature",
    "SecurityToken",
    "AccessKeyId",
    "q-sign-algorithm",
    "q-ak",
    "q-sign-time",
    "q-key-time",
    "q-header-list",
    "q-url-param-list",
    "q-signature",
    "x-cos-security-token",
    "se",
    "sig",
    "sp",
    "spr",
    "sr",
    "st",
    "sv",
    "skoid",
    "sktid",
    "skt",
    "ske",
    "sks",
    "skv",
    "ns",
];

/// What makes a query that of a signed URL: only then are short names such as `se` dropped.
const SIGNATURE_MARKS: &[&str] = &[
    "X-Amz-Signature",
    "X-Goog-Signature",
    "Signature",
    "q-signature",
    "sig",
];

impl Selector<'_> {
    /// The URL without fragment and user info, its query sorted and without what does not select content.
    fn canonical_url(&self) -> String {
        let signed = self
            .url
            .query_pairs()
            .any(|(name, _)| SIGNATURE_MARKS.contains(&name.as_ref()));
        let mut pairs: Vec<(String, String)> = self
            .url
            .query_pairs()
            .filter(|(name, _)| !self.filter.iter().any(|dropped| dropped == name.as_ref()))
            .filter(|(name, _)| !(signed && SIGNATURE_PARAMS.contains(&name.as_ref())))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        pairs.sort_unstable();
        let mut url = self.url.clone();
        url.set_fragment(None);
        // These fail only for URLs that cannot have user info, which then carry none.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        if pairs.is_empty() {
            url.set_query(None);
        } else {
            url.query_pairs_mut().clear().extend_pairs(pairs);
        }
        url.into()
    }
}

/// One state of a task's bytes at the source: bytes of two versions are never mixed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionId([u8; 32]);

impl VersionId {
    /// Names a version by bytes that came over the wire or from disk.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Hashes what identifies the version; `kind` keeps an `ETag` from colliding with a digest.
    pub fn derive(kind: &str, value: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("dfnode 1 version");
        hasher.update(&(kind.len() as u64).to_le_bytes());
        hasher.update(kind.as_bytes());
        hasher.update(value);
        Self(*hasher.finalize().as_bytes())
    }

    /// The version of content that is named by `digest`, as `authority` (`scheme://host:port`) gives it.
    ///
    /// The bytes are the same wherever they come from, if nobody lies. Whether somebody does is known only when the
    /// whole was hashed, and whether a place has them at all only from the place itself: so what one says is kept
    /// apart from what another says.
    pub fn of_content(digest: &Digest, authority: &str) -> Self {
        Self::derive("content", format!("{digest} {authority}").as_bytes())
    }

    /// The 32 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..8]))
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VersionId({self})")
    }
}

/// The number of a piece, the unit of leases and of source ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PieceIndex(pub u32);

/// The number of a block, the unit that is hashed, verified, stored, forwarded and blamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockIndex(pub u32);

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// BLAKE3 of one block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockDigest(pub [u8; 32]);

impl BlockDigest {
    /// Hashes the bytes of a block.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Enough of it to tell whether two nodes mean the same bytes.
    pub const fn tag(&self) -> DigestTag {
        let bytes = &self.0;
        DigestTag([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ])
    }
}

/// The first bytes of a [`BlockDigest`]: what is compared, not what is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestTag(pub [u8; 8]);

impl fmt::Debug for BlockDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockDigest({})", hex::encode(&self.0[..5]))
    }
}

/// A digest of the whole content that somebody other than a peer vouches for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Digest {
    /// SHA-256, as OCI names content.
    Sha256([u8; 32]),
    /// MD5, as old tools publish it: guards against accidents, not against forgers.
    Md5([u8; 16]),
    /// BLAKE3 with the default output length.
    Blake3([u8; 32]),
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(bytes) => write!(f, "sha256:{}", hex::encode(bytes)),
            Self::Md5(bytes) => write!(f, "md5:{}", hex::encode(bytes)),
            Self::Blake3(bytes) => write!(f, "blake3:{}", hex::encode(bytes)),
        }
    }
}

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// The part before the colon is missing or unknown.
    #[error("a digest is written sha256:HEX, blake3:HEX or md5:HEX, not `{0}`")]
    Algorithm(String),
    /// The part behind the colon is not the right number of hexadecimal digits.
    #[error("`{0}` is not the right number of hexadecimal digits for this digest")]
    Hex(String),
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((algorithm, digits)) = text.split_once(':') else {
            return Err(ParseDigestError::Algorithm(text.to_owned()));
        };
        match algorithm {
            "sha256" => parse(digits).map(Self::Sha256),
            "md5" => parse(digits).map(Self::Md5),
            "blake3" => parse(digits).map(Self::Blake3),
            _ => Err(ParseDigestError::Algorithm(text.to_owned())),
        }
    }
}

fn parse<const N: usize>(digits: &str) -> Result<[u8; N], ParseDigestError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes)
        .map_err(|_| ParseDigestError::Hex(digits.to_owned()))?;
    Ok(bytes)
}
