//! The way to a receiver over UDP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

use ebpf_process_core::BuildError;

use crate::packet::Fate;

/// A socket connected to one receiver, so that the kernel tells about refusals.
pub(crate) struct Udp {
    socket: UdpSocket,
    receiver: SocketAddr,
    /// Whether the receiver is on this host, where a refusal comes before `send` returns.
    local: bool,
}

impl Udp {
    /// Resolves the name and takes the first address that there is a way to. Nothing is sent.
    pub(crate) fn connect(receiver: &str) -> Result<Self, BuildError> {
        let refused = |problem: String, way_out: &str| BuildError::Refused {
            problem,
            way_out: way_out.to_owned(),
            passing: true,
        };
        let addresses = receiver.to_socket_addrs().map_err(|error| {
            let way_out = "check the option address and the name server, or write the IP address itself";
            refused(format!("cannot resolve the StatsD receiver {receiver}: {error}"), way_out)
        })?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match Self::open(address) {
                Ok(udp) => return Ok(udp),
                Err(error) => last = error,
            }
        }
        let way_out = "check the option address and the routes of this host";
        Err(refused(format!("there is no way to the StatsD receiver {receiver}: {last}"), way_out))
    }

    fn open(receiver: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match receiver {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(receiver)?;
        let local = receiver.ip().is_loopback() || socket.local_addr()?.ip() == receiver.ip();
        Ok(Self { socket, receiver, local })
    }

    /// Sends a datagram; with an error if it is lost, or if another one before it is.
    ///
    /// A refusal is kept by the socket until somebody asks. One that is there before this datagram
    /// is sent belongs to an earlier one; so does one that makes the sending fail, and then the
    /// datagram is sent again. One that is there afterwards is this datagram's own if the receiver
    /// is local, and may be anybody's otherwise.
    pub(crate) fn send(&self, datagram: &[u8]) -> (Fate, Option<io::Error>) {
        let mut late = self.refusal();
        let mut outcome = self.socket.send(datagram);
        if let Err(error) = &outcome
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            late = outcome.err();
            outcome = self.socket.send(datagram);
        }
        match (outcome, self.refusal(), late) {
            (Err(error), ..) => (Fate::Lost, Some(error)),
            (Ok(_), Some(refusal), _) if self.local => (Fate::Lost, Some(refusal)),
            (Ok(_), Some(refusal), _) | (Ok(_), None, Some(refusal)) => (Fate::Late, Some(refusal)),
            (Ok(_), None, None) => (Fate::Sent, None),
        }
    }

    /// What went wrong and the way out, for a person.
    pub(crate) fn explain(&self, error: &io::Error) -> String {
        let receiver = self.receiver;
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                format!("nobody listens at udp://{receiver}; start the receiver, or check the option address")
            }
            _ if error.raw_os_error() == Some(EMSGSIZE) => {
                format!("a datagram is too large for the way to udp://{receiver}; lower the option max_packet")
            }
            _ => format!("cannot send to udp://{receiver}: {error}"),
        }
    }

    /// The error that waits at the socket, if there is one. That none can be asked for is none.
    fn refusal(&self) -> Option<io::Error> {
        self.socket.take_error().ok().flatten()
    }
}

/// Linux: "message too long".
const EMSGSIZE: i32 = 90;

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(address: &str) -> (UdpSocket, String) {
        let socket = UdpSocket::bind(address).expect("a port");
        let address = socket.local_addr().expect("an address").to_string();
        (socket, address)
    }

    #[test]
    fn a_datagram_to_nobody_on_this_host_is_lost_and_the_next_one_is_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(probe) = UdpSocket::bind(address) else { continue };
            let address = probe.local_addr().expect("an address").to_string();
            drop(probe);
            let udp = Udp::connect(&address).expect("a socket");
            for _ in 0..3 {
                let (fate, error) = udp.send(b"a:1|c");
                assert_eq!(fate, Fate::Lost);
                assert!(udp.explain(&error.expect("a refusal")).contains("nobody listens"));
            }
            let listener = UdpSocket::bind(&address).expect("the same port");
            assert_eq!(udp.send(b"a:2|c").0, Fate::Sent);
            let mut buffer = [0; 64];
            let length = listener.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], b"a:2|c");
        }
    }

    #[test]
    fn a_refusal_from_elsewhere_counts_once_and_nothing_is_due_again() {
        let (listener, address) = receiver("127.0.0.1:0");
        let mut udp = Udp::connect(&address).expect("a socket");
        udp.local = false;
        drop(listener);
        assert_eq!(udp.send(b"a:1|c").0, Fate::Late);
        let listener = UdpSocket::bind(&address).expect("the same port");
        assert_eq!(udp.send(b"a:1|c").0, Fate::Sent);

        // A refusal that arrives between two datagrams: it is the first one's.
        drop(listener);
        udp.socket.send(b"a:1|c").expect("a datagram");
        let listener = UdpSocket::bind(&address).expect("the same port");
        assert_eq!(udp.send(b"a:2|c").0, Fate::Late);
        assert_eq!(udp.send(b"a:3|c").0, Fate::Sent);
        drop(listener);
    }

    #[test]
    fn a_datagram_beyond_what_the_network_takes_is_lost_with_advice() {
        let (_listener, address) = receiver("127.0.0.1:0");
        let udp = Udp::connect(&address).expect("a socket");
        let (fate, error) = udp.send(&vec![b'x'; 65_508]);
        assert_eq!(fate, Fate::Lost);
        assert!(udp.explain(&error.expect("an error")).contains("max_packet"));
    }

    #[test]
    fn a_name_that_does_not_resolve_is_refused_with_a_way_out() {
        let Err(BuildError::Refused { problem, way_out, passing }) = Udp::connect("no-such-host.invalid:8125") else {
            panic!("a name that cannot exist");
        };
        assert!(problem.contains("no-such-host.invalid") && way_out.contains("address") && passing);
    }
}
