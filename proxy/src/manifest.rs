//! Manifests pass as they are; what one lists, its reader may have.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use dfnode_tracker::Digest;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;
use tracing::debug;

use crate::body::{Body, BodyError};
use crate::credential::{Credential, is_plain};
use crate::origin::Origin;
use crate::proxy::Shared;
use crate::relay;
use crate::yes::LONG_AGE;

/// The longest manifest that is read; registries allow no longer ones.
const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// Blobs of one manifest that are remembered.
pub(crate) const MAX_BLOBS: usize = 1024;

/// Passes a manifest on, and remembers what it lists for this client.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    origin: &Origin,
    request: Request<Body>,
    repository: String,
) -> Response<Body> {
    let reader = is_plain(request.headers()).then(|| Reader {
        shared: Arc::clone(shared),
        credential: Credential::of(request.headers(), shared.yeses.hash_key()),
        origin: origin.clone(),
        repository,
        seen: Vec::new(),
    });
    let answer = relay::relay(shared, origin, request).await;
    match reader.filter(|_| answer.status() == StatusCode::OK) {
        Some(reader) => answer.map(|inner| {
            let watched = Watched {
                inner,
                reader: Some(reader),
            };
            watched.boxed_unsync()
        }),
        None => answer,
    }
}

/// Who reads, and what it has read.
struct Reader {
    shared: Arc<Shared>,
    credential: Credential,
    origin: Origin,
    repository: String,
    seen: Vec<u8>,
}

impl Reader {
    fn finish(self) {
        let blobs = blobs_of(&self.seen);
        debug!(host = %self.origin.authority, blobs = blobs.len(), "manifest");
        for digest in blobs {
            let yeses = &self.shared.yeses;
            let key = yeses.key(self.credential, &self.origin, &self.repository, &digest);
            yeses.add(key, LONG_AGE, None);
        }
    }
}

/// A body that is looked at while it passes.
struct Watched {
    inner: Body,
    reader: Option<Reader>,
}

impl Watched {
    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.finish();
        }
    }
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map(Bytes::as_ref).unwrap_or_default();
                let is_too_long = self
                    .reader
                    .as_ref()
                    .is_some_and(|reader| reader.seen.len() + bytes.len() > MAX_MANIFEST_BYTES);
                if is_too_long {
                    self.reader = None;
                }
                if let Some(reader) = &mut self.reader {
                    reader.seen.extend_from_slice(bytes);
                }
                // Whoever sends it on knows the length and may not ask for an end.
                if self.inner.is_end_stream() {
                    self.finish();
                }
            }
            Some(Err(_)) => self.reader = None,
            None => self.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    urls: Vec<String>,
}

/// What a manifest lists and the registry has vouched for: it takes no manifest whose blobs its repository lacks.
pub(crate) fn blobs_of(manifest: &[u8]) -> Vec<Digest> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else {
        return Vec::new();
    };
    // Layers that lie elsewhere are named without being looked for.
    let is_here = |blob: &Descriptor| {
        blob.urls.is_empty()
            && !blob.media_type.contains("foreign")
            && !blob.media_type.contains("nondistributable")
    };
    let blobs = manifest.config.into_iter().chain(manifest.layers);
    blobs
        .filter(is_here)
        .filter_map(|blob| blob.digest.parse().ok())
        .filter(|digest| matches!(digest, Digest::Sha256(_)))
        .take(MAX_BLOBS)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::Sha256([byte; 32])
    }

    #[test]
    fn config_and_layers_are_listed_but_nothing_that_lies_elsewhere() {
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}"}},"layers":[{{"digest":"{}"}},
            {{"digest":"{}","urls":["https://x"]}},
            {{"digest":"{}","mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}},
            {{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e"}},{{"digest":"nonsense"}}]}}"#,
            digest(1),
            digest(2),
            digest(3),
            digest(4)
        );
        assert_eq!(blobs_of(manifest.as_bytes()), [digest(1), digest(2)]);
    }

    #[test]
    fn an_index_lists_no_blobs() {
        let index = format!(r#"{{"manifests":[{{"digest":"{}"}}]}}"#, digest(1));
        assert!(blobs_of(index.as_bytes()).is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = blobs_of(&bytes);
        }
    }
}
