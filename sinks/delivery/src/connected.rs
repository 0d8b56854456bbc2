//! A UDP socket that is connected to a receiver.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use rustix::io::Errno;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover};

/// How long a socket without room is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A socket that the kernel tells about refusals.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) socket: UdpSocket,
    pub(crate) receiver: SocketAddr,
    /// Whether the receiver is on this host, where a refusal comes before `send` returns.
    pub(crate) local: bool,
    /// Whether the kernel cuts what is sent.
    pub(crate) cuts: bool,
}

/// What the kernel did with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Sent,
    Lost,
}

impl Connected {
    /// Takes the first address that there is a way to. Nothing is sent.
    pub(crate) fn open_first(addresses: &[SocketAddr], segment: Option<u16>) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for &address in addresses {
            match Self::open(address, segment) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) fn open(receiver: SocketAddr, segment: Option<u16>) -> io::Result<Self> {
        let any: SocketAddr = match receiver {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        match receiver {
            SocketAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?,
            SocketAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?,
        }
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(receiver)?;
        let local = receiver.ip().is_loopback() || socket.local_addr()?.ip() == receiver.ip();
        let cuts = segment.is_some_and(|size| setsockopt(&socket, UdpGsoSegment, &size.into()).is_ok());
        Ok(Self { socket, receiver, local, cuts })
    }

    /// The way takes one datagram at a time.
    pub(crate) fn cut_no_more(&mut self) {
        self.cuts = false;
        // A datagram is never larger than the size, so it would not be cut in any case.
        let _ = setsockopt(&self.socket, UdpGsoSegment, &0);
    }

    /// Sends a datagram; with an error if it is lost, or if another one before it is.
    ///
    /// A refusal is kept by the socket until somebody asks. One that makes the sending fail belongs to
    /// an earlier datagram: this one was not sent, so it is sent again. One that is there afterwards
    /// is this datagram's own if the receiver is local, and may be anybody's otherwise.
    pub(crate) fn send(&self, datagram: &[u8]) -> (Outcome, Option<io::Error>) {
        let mut late = None;
        let mut outcome = self.socket.send(datagram);
        if outcome.is_err() {
            late = outcome.err();
            outcome = self.socket.send(datagram);
        }
        match (outcome, self.refusal(), late) {
            (Err(error), ..) => (Outcome::Lost, Some(error)),
            (Ok(_), Some(refusal), _) if self.local => (Outcome::Lost, Some(refusal)),
            (Ok(_), Some(refusal), _) | (Ok(_), None, Some(refusal)) => (Outcome::Sent, Some(refusal)),
            (Ok(_), None, None) => (Outcome::Sent, None),
        }
    }

    /// The error that waits at the socket, if there is one. That none can be asked for is none.
    fn refusal(&self) -> Option<io::Error> {
        self.socket.take_error().ok().flatten()
    }
}

pub(crate) fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// Whether what is sent at once is no matter for this way: its frames are smaller, or it cannot add checksums.
pub(crate) fn cannot_be_cut(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::IO, Errno::MSGSIZE, Errno::OPNOTSUPP]
        .iter()
        .any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

pub(crate) fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::loopback;

    use super::*;

    /// A receiver whose port stays free when it goes.
    fn receiver() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((loopback(), 0)).expect("a port");
        let address = socket.local_addr().expect("an address");
        (socket, address)
    }

    #[test]
    fn a_datagram_to_nobody_on_this_host_is_lost_and_the_next_one_is_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(probe) = UdpSocket::bind(address) else { continue };
            let address = probe.local_addr().expect("an address");
            drop(probe);
            let socket = Connected::open(address, None).expect("a socket");
            for _ in 0..3 {
                let (outcome, error) = socket.send(b"a:1|c");
                assert_eq!(outcome, Outcome::Lost);
                assert!(is_refused(&error.expect("a refusal")));
            }
            let listener = UdpSocket::bind(address).expect("the same port");
            assert!(!is_refused(&socket.send(&vec![0; 66_000]).1.expect("it is too large")));
            assert_eq!(socket.send(b"a:2|c").0, Outcome::Sent);
            let mut buffer = [0; 64];
            let length = listener.recv(&mut buffer).expect("a datagram");
            assert_eq!(buffer[..length], *b"a:2|c");
        }
    }

    #[test]
    fn a_refusal_from_elsewhere_counts_once_and_nothing_is_due_again() {
        let late =
            |(outcome, error): (Outcome, Option<io::Error>)| (outcome, error.is_some_and(|error| is_refused(&error)));
        let (listener, address) = receiver();
        let mut socket = Connected::open(address, None).expect("a socket");
        socket.local = false;
        drop(listener);
        assert_eq!(late(socket.send(b"a:1|c")), (Outcome::Sent, true));
        let listener = UdpSocket::bind(address).expect("the same port");
        assert_eq!(late(socket.send(b"a:1|c")), (Outcome::Sent, false));

        // A refusal that arrives between two datagrams: it is the first one's.
        drop(listener);
        socket.socket.send(b"a:1|c").expect("a datagram");
        let listener = UdpSocket::bind(address).expect("the same port");
        assert_eq!(late(socket.send(b"a:2|c")), (Outcome::Sent, true));
        assert_eq!(late(socket.send(b"a:3|c")), (Outcome::Sent, false));
        drop(listener);
    }

    #[test]
    fn no_datagram_forbids_to_be_fragmented() {
        use rustix::net::sockopt::{ip_mtu_discover, ipv6_mtu_discover};

        let (_listener, address) = receiver();
        let socket = Connected::open(address, None).expect("a socket").socket;
        assert_eq!(ip_mtu_discover(&socket), Ok(Ipv4PathMtuDiscovery::DONT));
        if let Ok(listener) = UdpSocket::bind("[::1]:0") {
            let socket = Connected::open(listener.local_addr().expect("an address"), None).expect("a socket").socket;
            assert_eq!(ipv6_mtu_discover(&socket), Ok(Ipv6PathMtuDiscovery::DONT));
        }
    }
}
