//! A registry whose images have faults, so that engines can be watched meeting them.
//!
//! `fault.test:7443/FAULT/NAME` is the image `test/NAME` of a real registry's storage. Manifests and
//! configurations are right; the layers suffer FAULT:
//!
//! | FAULT | what goes wrong with each layer |
//! |---|---|
//! | plain | nothing |
//! | corrupt, corrupt-once | a byte is wrong: always, or the first time |
//! | truncate, reset, stall | the first GET ends orderly, with a reset, or not at all, in its middle |
//! | slow | 10 Mbit for all together |
//! | 503 | so the first GET is answered |
//! | no-range, no-length | Range is ignored; there is neither a length nor Range |

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::response::{File, Manner, Response, plain, refuse};
use crate::http::Request;
use crate::registries::Storage;

/// Where it listens.
pub(crate) const PORT: u16 = 7443;
/// Blobs below this are configurations, which have no faults.
const SMALLEST_LAYER_BYTES: usize = 16 * 1024;

/// The images of another registry.
pub(super) struct Shelves(Storage);

/// The TLS with which the registry is offered: HTTP/1.1 alone.
pub(super) fn tls(certificate: &Path, key: &Path) -> ServerConfig {
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

impl Shelves {
    pub(super) fn open(storage: &Path) -> Self {
        Self(Storage::create(storage))
    }

    /// The answer to `request`, the `turn`-th (from 0) of its method for its target, if it concerns a
    /// registry at all.
    pub(super) fn answer(&self, request: &Request, turn: usize) -> Option<Response> {
        let path = request.path().strip_prefix("/v2/")?;
        if path.is_empty() {
            let mut welcome = plain(200, b"{}".to_vec());
            let version = "registry/2.0".to_owned();
            welcome
                .headers
                .push(("Docker-Distribution-Api-Version", version));
            return Some(welcome);
        }
        let answer = match path.split('/').collect::<Vec<_>>()[..] {
            [_fault, name, "manifests", reference] => self.manifest(name, reference, request),
            [fault, _name, "blobs", digest] => self.blob(fault, digest, request, turn),
            _ => None,
        };
        Some(answer.unwrap_or_else(|| refuse(404)))
    }

    fn manifest(&self, name: &str, reference: &str, request: &Request) -> Option<Response> {
        let digest = if reference.starts_with("sha256:") {
            reference.to_owned()
        } else {
            self.0.tagged(&format!("test/{name}"))?
        };
        let bytes = fs::read(self.0.file(&digest)).ok()?;
        let manifest: Value = serde_json::from_slice(&bytes).ok()?;
        let media_type = manifest["mediaType"].as_str()?.to_owned();
        let mut response = File::plain(bytes, format!("\"{digest}\"")).answer(request);
        response
            .headers
            .retain(|(name, _value)| *name != "Content-Type");
        response.headers.push(("Content-Type", media_type));
        response.headers.push(("Docker-Content-Digest", digest));
        Some(response)
    }

    fn blob(&self, fault: &str, digest: &str, request: &Request, turn: usize) -> Option<Response> {
        let bytes = fs::read(self.0.file(digest)).ok()?;
        let small = bytes.len() < SMALLEST_LAYER_BYTES;
        let file = File::plain(bytes, format!("\"{digest}\""));
        let first = turn == 0 && request.method == "GET";
        let file = match fault {
            _ if small => file,
            "corrupt" => file.corrupted(),
            "corrupt-once" if first => file.corrupted(),
            "truncate" if first => file.sent(Manner::EndInTheMiddle),
            "reset" if first => file.sent(Manner::ResetInTheMiddle),
            "stall" if first => file.sent(Manner::StallInTheMiddle),
            "slow" => file.sent(Manner::Slow),
            "503" if first => {
                let mut busy = refuse(503);
                busy.wait = Duration::from_millis(10);
                return Some(busy);
            }
            "no-range" => file.without_ranges(),
            "no-length" => file.without_ranges().sent(Manner::Chunked),
            "plain" | "corrupt-once" | "truncate" | "reset" | "stall" | "503" => file,
            _ => return None,
        };
        let mut response = file.answer(request);
        response
            .headers
            .push(("Docker-Content-Digest", digest.to_owned()));
        Some(response)
    }
}
