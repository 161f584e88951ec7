//! Whom this host trusts to say who a server is.

use std::sync::LazyLock;

use rustls::pki_types::CertificateDer;
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

/// The system's roots of trust as they were when first asked for, without those that dfnode made.
pub fn system_roots() -> &'static [CertificateDer<'static>] {
    &ROOTS
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
