//! TLS as libp2p does it: self-signed certificates that name the node's key.

use std::collections::BTreeSet;
use std::sync::Arc;

use dfnode_gossip::PeerId;
use libp2p_tls::certificate;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme, version,
};

use crate::identity::{Identity, peer_of};

/// The protocol's name in the handshake: whoever speaks another is refused there.
const ALPN: &[u8] = b"dfnode/1";

/// Both sides' TLS.
pub(crate) struct TlsConfigs {
    pub(crate) client: Arc<QuicClientConfig>,
    pub(crate) server: Arc<QuicServerConfig>,
}

/// Why this node cannot speak TLS. It is none of the operator's doing.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS: {0}")]
pub struct TlsError(String);

impl TlsConfigs {
    pub(crate) fn new(
        identity: &Identity,
        allow: Option<Arc<BTreeSet<PeerId>>>,
    ) -> Result<Self, TlsError> {
        let failed = |error: &dyn std::fmt::Display| TlsError(error.to_string());
        let provider = Arc::new(provider());
        let (cert, key) =
            certificate::generate(identity.keypair()).map_err(|error| failed(&error))?;
        let signing = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| failed(&error))?;
        // Not `with_single_cert`: it would look for a certificate that webpki understands.
        let resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(
            vec![cert],
            signing,
        )));
        let verifier = Arc::new(Verifier { allow });

        let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| failed(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(Arc::clone(&resolver) as _);
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_sni = false;
        client.resumption = rustls::client::Resumption::disabled();

        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;

        Ok(Self {
            client: Arc::new(QuicClientConfig::try_from(client).map_err(|error| failed(&error))?),
            server: Arc::new(QuicServerConfig::try_from(server).map_err(|error| failed(&error))?),
        })
    }
}

/// AES-128 first: with the processor's help it costs the least per byte.
fn provider() -> CryptoProvider {
    use ring::{cipher_suite as suite, kx_group as group};
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![group::X25519, group::SECP256R1],
        ..ring::default_provider()
    }
}

/// The peer at the other end, as its certificate proved it.
pub(crate) fn peer_at(connection: &quinn::Connection) -> Option<PeerId> {
    let chain = connection
        .peer_identity()?
        .downcast::<Vec<CertificateDer<'static>>>()
        .ok()?;
    peer_in(chain.first()?).ok()
}

fn peer_in(cert: &CertificateDer<'_>) -> Result<PeerId, Error> {
    let parsed = certificate::parse(cert).map_err(|_| CertificateError::BadEncoding)?;
    peer_of(&parsed.peer_id()).ok_or_else(|| CertificateError::UnknownIssuer.into())
}

/// Accepts every certificate of libp2p's form whose key is ed25519 and, if there is an allow-list, on it.
#[derive(Debug)]
struct Verifier {
    allow: Option<Arc<BTreeSet<PeerId>>>,
}

impl Verifier {
    fn verify(&self, cert: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !rest.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        let peer = peer_in(cert)?;
        match &self.allow {
            Some(allow) if !allow.contains(&peer) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn verify_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    certificate::parse(cert)
        .map_err(|_| CertificateError::BadEncoding)?
        .verify_signature(signed.scheme, message, signed.signature())
        .map_err(|_| CertificateError::BadSignature)?;
    Ok(HandshakeSignatureValid::assertion())
}

/// What the certificate's own key (not the node's) may be.
fn schemes() -> Vec<SignatureScheme> {
    vec![
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ED25519,
    ]
}

fn only_tls13() -> Error {
    Error::General("only TLS 1.3 is spoken here".to_owned())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(cert, rest)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        cert: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(cert, rest)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
