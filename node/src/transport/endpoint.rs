//! The QUIC endpoint and how its connections behave.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};

use quinn_proto::RandomConnectionIdGenerator;
use ring::hmac;

use super::demux::Demux;
use super::gate::MAX_PENDING;
use super::tls::TlsConfigs;
use crate::identity::Identity;

/// Blocks that one peer may be sending us at a time.
pub(crate) const MAX_BLOCK_STREAMS: u32 = 64;
/// The control stream, and push/pulls beside it.
const MAX_TWO_WAY_STREAMS: u32 = 8;

/// A link on which nothing came for this long ends on both sides without a word. There are no keep-alives: an
/// idle link costs nothing, and making a new one for the next push/pull costs a round trip.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// The largest block plus its header, so that no block ever waits for credit in its middle.
const STREAM_WINDOW_BYTES: u32 = dfnode_tracker::MAX_BLOCK_BYTES + 64 * 1024;
/// 1 Gbit/s at a round trip of 70 ms, and a quarter for messages beside the blocks; also what a peer can make us hold
/// unread.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 12 * 1024 * 1024;
/// The same before admission, which takes some hundred bytes.
pub(super) const STRANGER_WINDOW_BYTES: u32 = 16 * 1024;
/// What may be written and not acknowledged: as much as the peer lets in.
const SEND_WINDOW_BYTES: u64 = CONNECTION_WINDOW_BYTES as u64;

/// A guess for the first packets, in place of the internet's 333 ms: a lost first packet is repeated after
/// three times this.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// The one packet size that is tried beyond QUIC's 1200 bytes: it passes Ethernet and the usual tunnels. A
/// search for the last 4 % would cost 4 KB for each connection.
const PROBED_MTU: u16 = 1400;
/// Half the way to [`PROBED_MTU`] and one: the search then has a single step.
const MTU_STEP: u16 = 101;

/// Packets that are acknowledged together, and how long a lesser number may wait: the links that bring blocks are
/// full of blocks in the other direction too, and each packet costs both hosts time.
const ACK_EVERY_PACKETS: u32 = 10;
const ACK_DELAY: Duration = Duration::from_millis(10);

const CONNECTION_ID_BYTES: usize = 8;
/// Resets are shorter than what they answer; with this pause all peers of a node that came back hear of it in a second.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// What strangers may send before their connections are looked at.
const MAX_EARLY_BYTES: u64 = 64 * 1024;
const MAX_EARLY_BYTES_TOTAL: u64 = 4 * 1024 * 1024;

/// Starts the endpoint on `socket`.
pub(crate) fn start(
    socket: Arc<Demux>,
    tls: TlsConfigs,
    identity: &Identity,
) -> io::Result<Endpoint> {
    let transport = Arc::new(transport_config());
    let mut server = ServerConfig::with_crypto(tls.server);
    server
        .transport_config(Arc::clone(&transport))
        .migration(false)
        .max_incoming(MAX_PENDING)
        .incoming_buffer_size(MAX_EARLY_BYTES)
        .incoming_buffer_size_total(MAX_EARLY_BYTES_TOTAL);
    let mut client = ClientConfig::new(tls.client);
    client.transport_config(transport);

    let mut config = endpoint_config(identity);
    config.grease_quic_bit(false);
    let runtime = Arc::new(TokioRuntime);
    let mut endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

/// Stateless resets under a key that a restart keeps: a node that died without a word tells peers that still write to
/// its old links at once that these are gone. They would send their answers there until their patience ends.
fn endpoint_config(identity: &Identity) -> EndpointConfig {
    let key = identity.secret_for("dfnode 1 quic stateless resets");
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)));
    // Random, and not quinn's own that can be told from others' for a key: that key would change with a restart.
    config
        .cid_generator(|| Box::new(RandomConnectionIdGenerator::new(CONNECTION_ID_BYTES)))
        .min_reset_interval(RESET_INTERVAL);
    config
}

/// Lets an admitted peer send as much as blocks need.
pub(super) fn open_window(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
}

fn transport_config() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(PROBED_MTU).minimum_change(MTU_STEP);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY_PACKETS))
        .max_ack_delay(Some(ACK_DELAY));
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_BLOCK_STREAMS))
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_TWO_WAY_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(IDLE_TIMEOUT.try_into().ok())
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .datagram_receive_buffer_size(None)
        .ack_frequency_config(Some(acks))
        // Measured on a 100 Mbit/s link with a queue of 40 ms and eight senders: full rate, 1 % lost, equal shares.
        // BBR keeps the queue shorter, but its shares differ fourfold and a block may stand for a second; control
        // by delay (as Swift's) lost up to half the rate while the hosts' processors were busy.
        .congestion_controller_factory(Arc::new(CubicConfig::default()));
    config
}
