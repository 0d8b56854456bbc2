//! The way to a receiver over UDP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::lookup::Lookup;
use crate::packet::Fate;
use crate::transport::{Transport, is_too_large};

/// A socket connected to one receiver, so that the kernel tells about refusals.
pub(crate) struct Udp {
    lookup: Lookup,
    socket: Option<Connected>,
    /// How long a name may be waited for when no address is known.
    timeout: Duration,
    problem: Option<String>,
}

struct Connected {
    socket: UdpSocket,
    receiver: SocketAddr,
    /// Whether the receiver is on this host, where a refusal comes before `send` returns.
    local: bool,
}

impl Udp {
    /// Knows no address yet.
    pub(crate) const fn new(lookup: Lookup, timeout: Duration) -> Self {
        Self { lookup, socket: None, timeout, problem: None }
    }
}

impl Transport for Udp {
    fn begin(&mut self, now: Instant) {
        if self.problem.take().is_some() {
            self.lookup.doubt(now);
        } else {
            self.lookup.trust();
        }
        let patience = if self.socket.is_some() { Duration::ZERO } else { self.timeout };
        match self.lookup.addresses(now, patience) {
            Ok(addresses) if self.socket.as_ref().is_some_and(|socket| addresses.contains(&socket.receiver)) => {}
            Ok(addresses) => match Connected::open_first(addresses) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => {
                    self.socket = None;
                    self.problem = Some(format!(
                        "there is no way to udp://{}: {error}; check the option address and the routes of this host",
                        self.lookup.receiver()
                    ));
                }
            },
            Err(problem) => self.problem = Some(problem),
        }
    }

    fn send(&mut self, packet: &[u8]) -> Fate {
        let Some(socket) = &self.socket else { return Fate::Lost };
        let (fate, Some(error)) = socket.send(packet) else { return Fate::Sent };
        if self.problem.is_none() {
            self.problem = Some(socket.explain(&error));
        }
        if fate == Fate::Lost && !is_refused(&error) && !is_too_large(&error) {
            // The host's own address or routes may be others now: a new socket finds out.
            self.socket = None;
        }
        fate
    }

    fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

impl Connected {
    /// Takes the first address that there is a way to. Nothing is sent.
    fn open_first(addresses: &[SocketAddr]) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for &address in addresses {
            match Self::open(address) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
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
    /// A refusal is kept by the socket until somebody asks. One that makes the sending fail belongs to
    /// an earlier datagram: this one was not sent, so it is sent again. One that is there afterwards
    /// is this datagram's own if the receiver is local, and may be anybody's otherwise.
    fn send(&self, datagram: &[u8]) -> (Fate, Option<io::Error>) {
        let mut late = None;
        let mut outcome = self.socket.send(datagram);
        if outcome.is_err() {
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
    fn explain(&self, error: &io::Error) -> String {
        let receiver = self.receiver;
        if is_refused(error) {
            format!("nobody listens at udp://{receiver}; start the receiver, or check the option address")
        } else if is_too_large(error) {
            format!("a datagram is too large for the way to udp://{receiver}; lower the option max_packet")
        } else {
            format!("cannot send to udp://{receiver}: {error}")
        }
    }

    /// The error that waits at the socket, if there is one. That none can be asked for is none.
    fn refusal(&self) -> Option<io::Error> {
        self.socket.take_error().ok().flatten()
    }
}

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;
    use crate::lookup::Resolve;

    const LONG: Duration = Duration::from_secs(30);
    const EVERY: Duration = Duration::from_mins(5);

    fn receiver(address: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(address).expect("a port");
        socket.set_read_timeout(Some(LONG)).expect("a time limit");
        let address = socket.local_addr().expect("an address");
        (socket, address)
    }

    fn received(listener: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 64];
        let length = listener.recv(&mut buffer).expect("a datagram");
        buffer[..length].to_vec()
    }

    #[test]
    fn a_datagram_to_nobody_on_this_host_is_lost_and_the_next_one_is_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(probe) = UdpSocket::bind(address) else { continue };
            let address = probe.local_addr().expect("an address");
            drop(probe);
            let socket = Connected::open(address).expect("a socket");
            for _ in 0..3 {
                let (fate, error) = socket.send(b"a:1|c");
                assert_eq!(fate, Fate::Lost);
                assert!(socket.explain(&error.expect("a refusal")).contains("nobody listens"));
            }
            let listener = UdpSocket::bind(address).expect("the same port");
            assert_eq!(socket.send(b"a:2|c").0, Fate::Sent);
            assert_eq!(received(&listener), b"a:2|c");
        }
    }

    #[test]
    fn a_refusal_from_elsewhere_counts_once_and_nothing_is_due_again() {
        let (listener, address) = receiver("127.0.0.1:0");
        let mut socket = Connected::open(address).expect("a socket");
        socket.local = false;
        drop(listener);
        assert_eq!(socket.send(b"a:1|c").0, Fate::Late);
        let listener = UdpSocket::bind(address).expect("the same port");
        assert_eq!(socket.send(b"a:1|c").0, Fate::Sent);

        // A refusal that arrives between two datagrams: it is the first one's.
        drop(listener);
        socket.socket.send(b"a:1|c").expect("a datagram");
        let listener = UdpSocket::bind(address).expect("the same port");
        assert_eq!(socket.send(b"a:2|c").0, Fate::Late);
        assert_eq!(socket.send(b"a:3|c").0, Fate::Sent);
        drop(listener);
    }

    #[test]
    fn a_datagram_beyond_what_the_network_takes_is_lost_with_advice() {
        let (_listener, address) = receiver("127.0.0.1:0");
        let socket = Connected::open(address).expect("a socket");
        let (fate, error) = socket.send(&vec![b'x'; 65_508]);
        assert_eq!(fate, Fate::Lost);
        assert!(socket.explain(&error.expect("an error")).contains("max_packet"));
    }

    /// A name that leads to whatever port is in the returned cell.
    fn moving(port: u16, now: Instant) -> (Arc<AtomicU16>, Udp) {
        let port = Arc::new(AtomicU16::new(port));
        let current = Arc::clone(&port);
        let resolve: Resolve = Arc::new(move |_| Ok(vec![([127, 0, 0, 1], current.load(Ordering::SeqCst)).into()]));
        (port, Udp::new(Lookup::new("statsd.example:8125", resolve, EVERY, now), LONG))
    }

    /// Sends a line per view until one arrives, each a second after the one before.
    fn send_until_it_arrives(udp: &mut Udp, mut now: Instant, listener: &UdpSocket) {
        listener.set_nonblocking(true).expect("a socket");
        let limit = Instant::now() + LONG;
        while listener.recv(&mut [0; 64]).is_err() {
            assert!(Instant::now() < limit, "the receiver is not found: {:?}", udp.problem());
            now += Duration::from_secs(1);
            udp.begin(now);
            udp.send(b"a:1|c");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_receiver_that_moved_is_found_after_a_refusal() {
        let now = Instant::now();
        let (old, address) = receiver("127.0.0.1:0");
        let (port, mut udp) = moving(address.port(), now);
        udp.begin(now);
        assert_eq!(udp.send(b"a:1|c"), Fate::Sent);
        let (new, address) = receiver("127.0.0.1:0");
        port.store(address.port(), Ordering::SeqCst);
        drop(old);
        send_until_it_arrives(&mut udp, now, &new);
    }

    #[test]
    fn a_receiver_that_moved_without_a_word_is_found_when_the_name_is_due() {
        let now = Instant::now();
        let (old, address) = receiver("127.0.0.1:0");
        let (port, mut udp) = moving(address.port(), now);
        let (new, address) = receiver("127.0.0.1:0");
        udp.begin(now);
        assert_eq!(udp.send(b"a:1|c"), Fate::Sent);
        port.store(address.port(), Ordering::SeqCst);
        udp.begin(now + EVERY / 2);
        assert_eq!(udp.send(b"a:2|c"), Fate::Sent);
        assert_eq!((received(&old), received(&old)), (b"a:1|c".to_vec(), b"a:2|c".to_vec()));
        send_until_it_arrives(&mut udp, now + EVERY, &new);
    }

    #[test]
    fn a_name_server_that_fails_and_comes_back_is_not_the_end() {
        let (listener, address) = receiver("127.0.0.1:0");
        let port = Arc::new(AtomicU16::new(0));
        let current = Arc::clone(&port);
        let resolve: Resolve = Arc::new(move |_| match current.load(Ordering::SeqCst) {
            0 => Err(io::ErrorKind::NotFound.into()),
            port => Ok(vec![([127, 0, 0, 1], port).into()]),
        });
        let now = Instant::now();
        let mut udp = Udp::new(Lookup::new("statsd.example:8125", resolve, EVERY, now), LONG);
        udp.begin(now);
        assert_eq!(udp.send(b"a:1|c"), Fate::Lost);
        assert!(udp.problem().expect("a problem").contains("cannot resolve"));
        port.store(address.port(), Ordering::SeqCst);
        send_until_it_arrives(&mut udp, now, &listener);
    }
}
