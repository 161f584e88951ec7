//! The QUIC endpoint and how its connections behave.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, MtuDiscoveryConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};

use super::demux::Demux;
use super::gate::MAX_PENDING;
use super::tls::TlsConfigs;

/// Blocks that one peer may be sending us at a time.
pub(crate) const MAX_BLOCK_STREAMS: u32 = 64;
/// The control stream, and push/pulls beside it.
const MAX_TWO_WAY_STREAMS: u32 = 8;

/// A link on which nothing came for this long ends on both sides without a word. There are no keep-alives: an
/// idle link costs nothing, and in a small cluster the push/pulls (every 30 s) keep using the same one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// The largest block plus its header, so that no block ever waits for credit in its middle.
const STREAM_WINDOW_BYTES: u32 = dfnode_tracker::MAX_BLOCK_BYTES + 64 * 1024;
/// 1 Gbit/s at a round trip of 60 ms; also what a peer can make us hold unread.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Bytes below the scheduler, which can no longer take them back: 1 Gbit/s at a round trip of 16 ms.
const SEND_WINDOW_BYTES: u64 = 2 * 1024 * 1024;

/// A guess for the first packets, in place of the internet's 333 ms: a lost first packet is repeated after
/// three times this.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// The one packet size that is tried beyond QUIC's 1200 bytes: it passes Ethernet and the usual tunnels. A
/// search for the last 4 % would cost 4 KB for each connection.
const PROBED_MTU: u16 = 1400;
/// Half the way to [`PROBED_MTU`] and one: the search then has a single step.
const MTU_STEP: u16 = 101;

/// Starts the endpoint on `socket`; also returns the configuration for dialling.
pub(crate) fn start(socket: Arc<Demux>, tls: TlsConfigs) -> io::Result<Endpoint> {
    let transport = Arc::new(transport_config());
    let mut server = ServerConfig::with_crypto(tls.server);
    server
        .transport_config(Arc::clone(&transport))
        .migration(false)
        .max_incoming(MAX_PENDING);
    let mut client = ClientConfig::new(tls.client);
    client.transport_config(transport);

    let mut config = EndpointConfig::default();
    config.grease_quic_bit(false);
    let runtime = Arc::new(TokioRuntime);
    let mut endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

fn transport_config() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(PROBED_MTU).minimum_change(MTU_STEP);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_BLOCK_STREAMS))
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_TWO_WAY_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(IDLE_TIMEOUT.try_into().ok())
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(CubicConfig::default()));
    config
}
