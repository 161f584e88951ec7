//! The lab's public authority: what the world's certificate authorities are to real hosts.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};

/// It signs the certificates of the lab's servers, and every furnished host trusts it.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
    dir: PathBuf,
}

/// A certificate with its key, as files in PEM.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new one, which keeps its files in `dir`.
    pub(crate) fn create(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "dfnode lab internet authority");
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            key,
            dir: dir.to_owned(),
        }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for `names` and `addresses`, in files called `file`.
    pub(crate) fn identify(&self, file: &str, names: &[&str], addresses: &[Ipv4Addr]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.use_authority_key_identifier_extension = true;
        let addresses = addresses.iter().map(|ip| SanType::IpAddress((*ip).into()));
        params.subject_alt_names.extend(addresses);
        let leaf = params
            .signed_by(&key, &self.certificate, &self.key)
            .unwrap();
        let path = |ending: &str| self.dir.join(format!("{file}.{ending}"));
        fs::write(path("pem"), leaf.pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        Identity {
            certificate: path("pem"),
            key: path("key"),
        }
    }
}
