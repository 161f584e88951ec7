//! The certificate authority of this host: who it is that opens a TLS connection.
//!
//! It is made once, by a command that says so, and lies in the node's folder. Its key can stand in for any host
//! towards whoever trusts it, so it is this user's alone and never leaves the folder.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dfnode_node::ambient;
use dfnode_node::source::OWN_AUTHORITY;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// The names of its files.
const CERTIFICATE_FILE: &str = "proxy-ca.crt";
const KEY_FILE: &str = "proxy-ca.key";
/// How long it is valid.
const CA_DAYS: i64 = 3650;
/// How long a certificate of a host is valid; it is made anew long before its end.
const LEAF_DAYS: i64 = 90;
/// Certificates are valid from before they are made: clocks differ.
const BACKDATED: Duration = Duration::days(2);
/// The longest file that is read.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Why there is no certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read the key.
    #[error("{0} may be read by others; whoever has it can stand in for any host: make a new one")]
    Open(PathBuf),
    /// The files are there and are not what they should be.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The cryptography fails.
    #[error("cannot make a certificate: {0}")]
    Crypto(String),
}

/// The certificate authority.
pub struct Ca {
    key: KeyPair,
    /// Stands for the certificate where others are signed: same name, same key.
    issuer: Certificate,
    der: CertificateDer<'static>,
    pem: String,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca(…)")
    }
}

impl Ca {
    /// Where its certificate lies in a node's folder.
    pub fn certificate_path(data: &Path) -> PathBuf {
        data.join(CERTIFICATE_FILE)
    }

    /// Where its key lies.
    pub fn key_path(data: &Path) -> PathBuf {
        data.join(KEY_FILE)
    }

    /// The one in this folder, if there is one.
    ///
    /// # Errors
    /// If its files cannot be read, or their key by others as well.
    pub fn load(data: &Path) -> Result<Option<Self>, CaError> {
        let (path, key_path) = (Self::certificate_path(data), Self::key_path(data));
        let Some(key) = read(&key_path)? else {
            return Ok(None);
        };
        let Some(pem) = read(&path)? else {
            return Ok(None);
        };
        let metadata = fs::metadata(&key_path).map_err(file(&key_path))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(CaError::Open(key_path));
        }
        let damaged = |path: &Path, why: String| CaError::Damaged {
            path: path.to_owned(),
            why,
        };
        let key = KeyPair::from_pem(&key).map_err(|error| damaged(&key_path, error.to_string()))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| damaged(&path, error.to_string()))?;
        let issuer = issuer(&key)?;
        let spki = key.public_key_der();
        if !der.windows(spki.len()).any(|window| window == spki) {
            return Err(damaged(
                &path,
                "it is not that of the key beside it".to_owned(),
            ));
        }
        Ok(Some(Self {
            key,
            issuer,
            der,
            pem,
        }))
    }

    /// The one in this folder, made if there is none.
    ///
    /// # Errors
    /// As [`load`](Self::load), and if the folder cannot be written.
    pub fn load_or_create(data: &Path) -> Result<Self, CaError> {
        if let Some(ca) = Self::load(data)? {
            return Ok(ca);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
        let issuer = issuer(&key)?;
        write(&Self::key_path(data), key.serialize_pem().as_bytes(), 0o600)?;
        write(
            &Self::certificate_path(data),
            issuer.pem().as_bytes(),
            0o644,
        )?;
        Ok(Self {
            der: issuer.der().clone(),
            pem: issuer.pem(),
            key,
            issuer,
        })
    }

    /// Its certificate, for those who are to trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a host, with its key, and the chain to show.
    pub(crate) fn leaf(&self, host: &str) -> Result<Leaf, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let is_short = host.len() <= 64;
        if is_short {
            params.distinguished_name.push(DnType::CommonName, host);
        }
        let name = match host.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(host.try_into().map_err(crypto)?),
        };
        params.subject_alt_names = vec![name];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // Equal numbers of one issuer for different certificates would be refused by some clients.
        params.serial_number = Some(serial());
        (params.not_before, params.not_after) = validity(LEAF_DAYS);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
        let signed = params
            .signed_by(&key, &self.issuer, &self.key)
            .map_err(crypto)?;
        Ok(Leaf {
            chain: vec![signed.der().clone(), self.der.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }
}

/// Whether this is the certificate, in PEM, of some dfnode's authority.
pub fn is_own_certificate(pem: &[u8]) -> bool {
    CertificateDer::from_pem_slice(pem).is_ok_and(|der| {
        der.windows(OWN_AUTHORITY.len())
            .any(|window| window == OWN_AUTHORITY.as_bytes())
    })
}

/// A certificate of a host.
pub(crate) struct Leaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// The authority's certificate as the key determines it, but for its dates.
fn issuer(key: &KeyPair) -> Result<Certificate, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let mark = blake3::hash(&key.public_key_der()).to_hex();
    let name = format!("{OWN_AUTHORITY} {}", &mark[..8]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(CA_DAYS);
    params.self_signed(key).map_err(crypto)
}

fn validity(days: i64) -> (OffsetDateTime, OffsetDateTime) {
    let seconds = i64::try_from(ambient::unix_millis() / 1000).unwrap_or_default();
    let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    (now - BACKDATED, now + Duration::days(days))
}

fn serial() -> SerialNumber {
    let mut bytes = ambient::random_bytes::<16>();
    // Positive, and never zero.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands where a function of an owned error is wanted"
)]
fn crypto(error: rcgen::Error) -> CaError {
    CaError::Crypto(error.to_string())
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> CaError + use<> {
    let path = path.to_owned();
    move |source| CaError::File { path, source }
}

fn read(path: &Path) -> Result<Option<String>, CaError> {
    match fs::metadata(path) {
        Ok(found) if found.len() > MAX_FILE_BYTES => Err(CaError::Damaged {
            path: path.to_owned(),
            why: "it is too long".to_owned(),
        }),
        Ok(_) => fs::read_to_string(path).map(Some).map_err(file(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file(path)(error)),
    }
}

/// Writes a file in one step, replacing what is there.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let draft = path.with_extension(format!("{:016x}", ambient::seed()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut file| {
            // Whatever the umask took away.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&draft, path));
    written.map_err(file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Ca::load(folder.path()).unwrap().is_none());
        let made = Ca::load_or_create(folder.path()).unwrap();
        let found = Ca::load_or_create(folder.path()).unwrap();
        assert_eq!(made.pem(), found.pem());
        let key = fs::metadata(Ca::key_path(folder.path())).unwrap();
        assert_eq!(key.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_may_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        Ca::load_or_create(folder.path()).unwrap();
        let path = Ca::key_path(folder.path());
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Ca::load(folder.path()), Err(CaError::Open(_))));
    }

    #[test]
    fn files_that_do_not_belong_together_are_an_error() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Ca::load_or_create(one.path()).unwrap();
        Ca::load_or_create(two.path()).unwrap();
        fs::copy(
            Ca::certificate_path(one.path()),
            Ca::certificate_path(two.path()),
        )
        .unwrap();
        assert!(matches!(Ca::load(two.path()), Err(CaError::Damaged { .. })));
    }

    #[test]
    fn a_leaf_is_trusted_by_who_trusts_the_authority_and_for_its_host_alone() {
        use rustls::client::danger::ServerCertVerifier as _;
        use rustls::pki_types::{ServerName, UnixTime};
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(folder.path()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
            .unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
            std::sync::Arc::new(roots),
            provider,
        )
        .build()
        .unwrap();
        let now =
            UnixTime::since_unix_epoch(std::time::Duration::from_millis(ambient::unix_millis()));
        for host in ["registry.example", "10.1.2.3", "::1"] {
            let leaf = ca.leaf(host).unwrap();
            let accepts = |name: &str| {
                verifier
                    .verify_server_cert(
                        &leaf.chain[0],
                        &leaf.chain[1..],
                        &ServerName::try_from(name.to_owned()).unwrap(),
                        &[],
                        now,
                    )
                    .is_ok()
            };
            assert!(accepts(host), "{host}");
            assert!(!accepts("other.example"), "{host}");
        }
    }
}
