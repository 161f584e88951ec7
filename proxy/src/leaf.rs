//! What this proxy shows as the certificate of each host, kept ready.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use tokio::time::Instant;

use crate::ca::Ca;

/// Hosts whose certificates are kept.
const MAX_HOSTS: usize = 1024;
/// How long one is used: far shorter than it is valid.
const MAX_AGE: Duration = Duration::from_hours(24);

/// Certificates by host.
#[derive(Debug)]
pub(crate) struct Leaves {
    ca: Ca,
    provider: Arc<CryptoProvider>,
    ready: Mutex<BTreeMap<String, (Instant, Arc<ServerConfig>)>>,
}

impl Leaves {
    pub(crate) fn new(ca: Ca, provider: Arc<CryptoProvider>) -> Self {
        Self {
            ca,
            provider,
            ready: Mutex::default(),
        }
    }

    /// How to talk TLS as `host`, a name or an address.
    pub(crate) fn get(&self, host: &str) -> io::Result<Arc<ServerConfig>> {
        let now = Instant::now();
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, config)) = ready.get(host)
            && now - *made < MAX_AGE
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make(host)?);
        if ready.len() >= MAX_HOSTS {
            let oldest = ready.iter().min_by_key(|(_, (made, _))| *made);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                ready.remove(&oldest);
            }
        }
        ready.insert(host.to_owned(), (now, Arc::clone(&config)));
        Ok(config)
    }

    fn make(&self, host: &str) -> io::Result<ServerConfig> {
        let leaf = self.ca.leaf(host).map_err(io::Error::other)?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(leaf.chain, leaf.key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}
