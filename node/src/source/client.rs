//! Connections to sources, and whom they trust.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dfnode_tracker::SourceFailure;
use reqwest::{Client, NoProxy, Proxy, redirect};

use super::SourceConfig;
use super::fickle::Fickle;
use super::roots::{TrustError, trusting};

/// Sets of roots that callers brought and that are kept ready.
const MAX_CLIENTS: usize = 16;
/// Connections to one host that are kept open between reads.
const MAX_IDLE_PER_HOST: usize = 16;
/// How long they are.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Why sources cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum SourceSetupError {
    /// Further roots of trust cannot be had.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The proxy is not one that can be used.
    #[error("the proxy for sources cannot be used: {why}")]
    Proxy {
        /// Why.
        why: String,
    },
    /// The HTTP library does not start.
    #[error("cannot set up HTTP: {why}")]
    Http {
        /// Why.
        why: String,
    },
}

/// One client per set of trusted roots.
#[derive(Debug)]
pub(super) struct Clients {
    config: SourceConfig,
    common: Client,
    /// Whose parts cannot be put together.
    pub(super) fickle: Fickle,
    own: Mutex<BTreeMap<[u8; 32], Client>>,
}

impl Clients {
    pub(super) fn new(config: SourceConfig) -> Result<Self, SourceSetupError> {
        let common = build(&config, None)?;
        Ok(Self {
            config,
            common,
            fickle: Fickle::default(),
            own: Mutex::default(),
        })
    }

    /// The client that trusts what this caller trusts.
    pub(super) fn get(&self, cacert: Option<&[u8]>) -> Result<Client, SourceFailure> {
        let Some(pem) = cacert else {
            return Ok(self.common.clone());
        };
        let key = *blake3::hash(pem).as_bytes();
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = own.get(&key) {
            return Ok(client.clone());
        }
        let client = build(&self.config, Some(pem)).map_err(|error| SourceFailure::Final {
            what: error.to_string(),
        })?;
        while own.len() >= MAX_CLIENTS {
            own.pop_first();
        }
        own.insert(key, client.clone());
        Ok(client)
    }
}

fn build(config: &SourceConfig, own: Option<&[u8]>) -> Result<Client, SourceSetupError> {
    let tls = trusting(config.cacert.iter().map(Vec::as_slice).chain(own))?;
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .user_agent(&config.user_agent)
        .connect_timeout(config.patience.connect)
        // A question that nobody takes for so long went where no way leads any more: a host that lost its address with
        // its cable would wait for an answer to it as if the source thought about it.
        .tcp_user_timeout(config.patience.connect)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tls_backend_preconfigured(tls);
    let builder = match &config.proxy {
        None => builder.no_proxy(),
        Some(proxy) => {
            let proxy = Proxy::all(proxy.as_str()).map_err(|error| SourceSetupError::Proxy {
                why: error.without_url().to_string(),
            })?;
            let direct = NoProxy::from_string(&config.direct.join(","));
            builder.proxy(proxy.no_proxy(direct))
        }
    };
    builder.build().map_err(|error| SourceSetupError::Http {
        why: error.without_url().to_string(),
    })
}
