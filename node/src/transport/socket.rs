//! The UDP socket under everything.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

/// What the kernel holds for us while we are busy: 300 ms at 100 Mbit/s, 30 ms at 1 Gbit/s.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Binds `listen`; an unspecified IPv6 address takes IPv4 as well, and falls back to IPv4 where the kernel has
/// no IPv6.
pub(crate) fn bind_udp(listen: SocketAddr) -> io::Result<UdpSocket> {
    match bind_one(listen) {
        Err(error)
            if listen.is_ipv6()
                && listen.ip().is_unspecified()
                && rustix::io::Errno::from_io_error(&error).is_some_and(has_no_ipv6) =>
        {
            tracing::debug!(%error, "no IPv6 here, IPv4 alone is used");
            bind_one(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listen.port()))
        }
        bound => bound,
    }
}

fn has_no_ipv6(errno: rustix::io::Errno) -> bool {
    [
        rustix::io::Errno::AFNOSUPPORT,
        rustix::io::Errno::ADDRNOTAVAIL,
    ]
    .contains(&errno)
}

/// Where a packet to `addr` would leave from, here `from` if given.
pub(crate) fn way(from: Option<IpAddr>, to: SocketAddr) -> io::Result<IpAddr> {
    let from = from.unwrap_or_else(|| match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    });
    let socket = UdpSocket::bind((from, 0))?;
    // To connect a UDP socket looks for the way and sends nothing.
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// Whether a link's way is lost: its own address is gone, or the routes from there. IPv6 addresses go with a cable that is
/// pulled, and do not come back with it.
pub fn is_lost(from: Option<IpAddr>, to: SocketAddr) -> bool {
    way(from, to).is_err_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::AddrNotAvailable
        )
    })
}

fn bind_one(listen: SocketAddr) -> io::Result<UdpSocket> {
    let family = if listen.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    if listen.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !listen.ip().is_unspecified())?;
    }
    enlarge_buffers(&socket);
    bind(&socket, &listen)?;
    Ok(socket.into())
}

/// Best effort: without privilege the kernel grants what `net.core.rmem_max` allows.
fn enlarge_buffers(socket: impl AsFd) {
    let receive = sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER_BYTES)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES));
    let send = sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER_BYTES)
        .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES));
    if let Err(error) = receive.and(send) {
        tracing::debug!(%error, "the socket keeps its default buffers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unspecified_address_hears_ipv4() {
        let socket = bind_udp("[::]:0".parse().unwrap()).unwrap();
        socket.set_nonblocking(false).unwrap();
        let port = socket.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", ("127.0.0.1", port)).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello");
        assert_eq!(from.ip().to_canonical(), client.local_addr().unwrap().ip());
    }

    #[test]
    fn a_way_is_lost_with_the_address_that_it_leads_from() {
        let here: SocketAddr = "127.0.0.1:9".parse().unwrap();
        assert_eq!(way(None, here).unwrap(), here.ip());
        assert!(!is_lost(None, here));
        assert!(!is_lost(Some(here.ip()), here));
        // For documentation: no host has it.
        assert!(is_lost(Some("192.0.2.1".parse().unwrap()), here));
    }

    #[test]
    fn a_busy_port_is_refused() {
        let socket = bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind_udp(socket.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
