//! One UDP port for QUIC and for sealed packets.
//!
//! Every QUIC packet of ours has the bit 0x40 of its first byte set (we never grease it), every sealed packet
//! has it clear. The kernel may hand over many datagrams of one sender glued together, of both kinds, so each
//! buffer is cut by its stride before anything else.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::private_net::is_private;

pub(super) const QUIC_FIXED_BIT: u8 = 0x40;

/// Takes the datagrams that are not QUIC's. It must not wait.
pub(crate) trait PacketSink: Send + Sync + fmt::Debug + 'static {
    fn receive(&self, packet: &mut [u8], from: SocketAddr);
}

/// quinn's socket with a side door.
#[derive(Debug)]
pub(crate) struct Demux {
    inner: Arc<dyn AsyncUdpSocket>,
    /// The same socket, for sealed packets.
    packets: UdpSocket,
    sink: Arc<dyn PacketSink>,
    /// The socket speaks IPv6, so IPv4 addresses must be written as IPv6 has them.
    is_ipv6: bool,
    /// In an open cluster nothing comes from or goes to public addresses.
    private_only: bool,
}

impl Demux {
    pub(crate) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        packets: UdpSocket,
        sink: Arc<dyn PacketSink>,
        private_only: bool,
    ) -> io::Result<Self> {
        let is_ipv6 = inner.local_addr()?.is_ipv6();
        Ok(Self {
            inner,
            packets,
            sink,
            is_ipv6,
            private_only,
        })
    }

    /// Sends one sealed packet, or drops it: whoever sends packets can bear their loss.
    ///
    /// # Errors
    /// If there is no way to that address: quinn would say so to the log alone.
    pub(crate) fn send_packet(&self, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        if self.shuns(to) {
            return Ok(());
        }
        match self.packets.send_to(packet, self.native(to)) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether nothing may come from there or go there.
    pub(crate) fn shuns(&self, addr: SocketAddr) -> bool {
        self.private_only && !is_private(addr.ip().to_canonical())
    }

    fn native(&self, addr: SocketAddr) -> SocketAddr {
        match addr.ip() {
            IpAddr::V4(ip) if self.is_ipv6 => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port())
            }
            IpAddr::V4(_) | IpAddr::V6(_) => addr,
        }
    }

    /// Hands the packets of one buffer to the sink; what is left for QUIC moves to the front.
    fn sort(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let from = canonical(meta.addr);
        if self.shuns(from) {
            meta.len = 0;
            return;
        }
        meta.len = sort_segments(&mut buffer[..meta.len], meta.stride, |packet| {
            self.sink.receive(packet, from);
        });
    }
}

/// Cuts `buffer` every `stride` bytes and keeps the segments that are QUIC's; returns their length.
///
/// Only the last segment may be shorter than the others, before and after.
pub(super) fn sort_segments(
    buffer: &mut [u8],
    stride: usize,
    mut sealed: impl FnMut(&mut [u8]),
) -> usize {
    let stride = stride.max(1);
    let mut kept = 0;
    let mut at = 0;
    while at < buffer.len() {
        let end = buffer.len().min(at + stride);
        if buffer[at] & QUIC_FIXED_BIT == 0 {
            sealed(&mut buffer[at..end]);
        } else {
            if kept != at {
                buffer.copy_within(at..end, kept);
            }
            kept += end - at;
        }
        at = end;
    }
    kept
}

/// The address as people write it: IPv4 as IPv4, also on a socket that speaks both.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

impl AsyncUdpSocket for Demux {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.shuns(transmit.destination) {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        for (buffer, meta) in bufs.iter_mut().zip(meta.iter_mut()).take(count) {
            self.sort(buffer, meta);
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(bytes: &[u8], stride: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut buffer = bytes.to_vec();
        let mut packets = Vec::new();
        let kept = sort_segments(&mut buffer, stride, |packet| packets.push(packet.to_vec()));
        buffer.truncate(kept);
        (buffer, packets)
    }

    #[test]
    fn a_glued_buffer_is_cut_before_it_is_sorted() {
        let bytes = [0x40, 1, 2, 0x01, 3, 4, 0xc0, 5, 6, 0x02];
        let (quic, packets) = sorted(&bytes, 3);
        assert_eq!(quic, [0x40, 1, 2, 0xc0, 5, 6]);
        assert_eq!(packets, [vec![0x01, 3, 4], vec![0x02]]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            stride in 0_usize..40,
        ) {
            let (quic, packets) = sorted(&bytes, stride);
            let is_quic = |segment: &&[u8]| segment[0] & QUIC_FIXED_BIT != 0;
            let segments: Vec<&[u8]> = bytes.chunks(stride.max(1)).collect();
            let expected: Vec<u8> = segments.iter().copied().filter(|s| is_quic(s)).flatten().copied().collect();
            prop_assert_eq!(quic, expected);
            let sealed: Vec<&[u8]> = segments.iter().copied().filter(|s| !is_quic(s)).collect();
            prop_assert_eq!(packets, sealed);
        }
    }
}
