//! Content that is named by its digest, as registries of container images name it.

use dfnode_tracker::{Digest, VersionId};
use url::Url;

/// A digest, and who was asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentName {
    /// The name of the bytes: the same task on every node, whoever was asked.
    pub digest: Digest,
    /// Who said that the caller may have them: `scheme://host:port`.
    ///
    /// A yes counts for this authority alone. Bytes that were read elsewhere are shown only after the authority has
    /// proved to have them too, or anybody could ask a server of his own about somebody else's digest.
    pub authority: String,
}

impl ContentName {
    /// The content that `url` gives under `digest`.
    pub fn new(digest: Digest, url: &Url) -> Self {
        Self {
            digest,
            authority: authority(url),
        }
    }

    /// The version of the content that this authority gives.
    pub(crate) fn version(&self) -> VersionId {
        VersionId::of_content(&self.digest, &self.authority)
    }
}

/// Who answers for a URL, the port always written out.
pub(crate) fn authority(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!(
        "{}://{}:{port}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    )
}
