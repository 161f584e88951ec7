//! Whom this host trusts to say who a server is.

use std::sync::{Arc, LazyLock};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tracing::debug;

/// How the certificate authorities of dfnode's proxies begin their names.
///
/// A host's programs may trust one, so that the proxy can open their connections. A node does not: whoever had such
/// a key could otherwise stand in for a source.
pub const OWN_AUTHORITY: &str = "dfnode proxy CA";

static ROOTS: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        debug!(%error, "some of the system's certificates cannot be read");
    }
    let is_foreign = |root: &CertificateDer<'static>| !is_own(root);
    found.certs.into_iter().filter(is_foreign).collect()
});

/// Why no further root of trust can be had.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It is no certificate, or one that cannot be used.
    #[error("the file given with --cacert holds no PEM certificate, or one that cannot be used")]
    Certificate,
    /// The TLS library does not start.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// TLS towards servers that speak HTTP/1.1 and that the system or one of these PEM files vouches for.
///
/// The system's roots are as they were when first asked for, without those that dfnode made. A host without any
/// still reads plain HTTP, and what the files vouch for.
///
/// # Errors
/// See [`TrustError`].
pub fn trusting<'a>(pems: impl IntoIterator<Item = &'a [u8]>) -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(ROOTS.iter().cloned());
    for pem in pems {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let found = found.map_err(|_| TrustError::Certificate)?;
        let (added, unusable) = roots.add_parsable_certificates(found);
        if added == 0 || unusable > 0 {
            return Err(TrustError::Certificate);
        }
    }
    let provider = Arc::new(ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

fn is_own(root: &[u8]) -> bool {
    root.windows(OWN_AUTHORITY.len())
        .any(|window| window == OWN_AUTHORITY.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_of_ours_is_known_by_its_name() {
        let named = |name: &str| {
            let mut params = rcgen::CertificateParams::default();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            let key = rcgen::KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().der().to_vec()
        };
        assert!(is_own(&named("dfnode proxy CA 01234567")));
        assert!(!is_own(&named("Some Authority")));
    }
}
