//! Datagrams to a receiver over UDP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover};

use crate::lookup::Lookup;

/// How long a socket without room is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a refusal from elsewhere may take.
const REFUSAL: Duration = Duration::from_millis(100);

/// What is known of a datagram after it was sent. Problems are for people: what went wrong and the
/// way out, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It is on its way, and no refusal is known.
    Sent,
    /// It is on its way, but one before it was refused; which one is not known.
    Late {
        /// What is wrong.
        problem: String,
    },
    /// It certainly did not arrive.
    Lost {
        /// What is wrong.
        problem: String,
    },
    /// It certainly did not arrive, and never will: it is too large for the network.
    TooLarge {
        /// What is wrong.
        problem: String,
    },
}

/// The way to one receiver over UDP, for as long as the agent runs.
///
/// The socket is connected, so that the kernel tells about refusals. Of a name's addresses the first
/// is taken that there is a way to; after a refusal the next one is tried, at once where the
/// refused datagram is known, with the next datagram elsewhere. A receiver that moved is followed.
///
/// Datagrams go without "don't fragment": on a way with a smaller limit than this host's network,
/// whose notice a firewall throws away, they would vanish without a word. (No router fragments for
/// IPv6. There a datagram of at most 1232 bytes fits every way.)
#[derive(Debug)]
pub struct Datagrams {
    lookup: Lookup,
    socket: Option<Connected>,
    /// Why there is no socket.
    missing: String,
    /// Whether something went wrong since `begin`.
    failing: bool,
}

#[derive(Debug)]
struct Connected {
    socket: UdpSocket,
    receiver: SocketAddr,
    /// Whether the receiver is on this host, where a refusal comes before `send` returns.
    local: bool,
}

impl Datagrams {
    /// Knows no address yet.
    pub const fn new(lookup: Lookup) -> Self {
        Self { lookup, socket: None, missing: String::new(), failing: false }
    }

    /// Gets ready for some datagrams: looks the name up again when that is due. Waits for an answer
    /// only while no address is known, no longer than `patience`. An error is for a person; until
    /// the next call every datagram is lost then.
    pub fn begin(&mut self, now: Instant, patience: Duration) -> Result<(), String> {
        if std::mem::take(&mut self.failing) {
            self.lookup.doubt(now);
        } else {
            self.lookup.trust();
        }
        let patience = if self.socket.is_some() { Duration::ZERO } else { patience };
        let problem = match self.lookup.addresses(now, patience) {
            Ok(addresses) if self.socket.as_ref().is_some_and(|socket| addresses.contains(&socket.receiver)) => {
                return Ok(());
            }
            Ok(addresses) => match Connected::open_first(addresses) {
                Ok(socket) => {
                    self.socket = Some(socket);
                    return Ok(());
                }
                Err(error) => {
                    self.socket = None;
                    let (receiver, option) = (self.lookup.receiver(), self.lookup.option());
                    format!(
                        "there is no way to udp://{receiver}: {error}; check the option {option} and the routes of \
                         this host"
                    )
                }
            },
            Err(problem) => problem,
        };
        self.failing = true;
        self.missing.clone_from(&problem);
        Err(problem)
    }

    /// Sends a datagram.
    pub fn send(&mut self, datagram: &[u8]) -> Passage {
        let Some(socket) = &self.socket else { return Passage::Lost { problem: self.missing.clone() } };
        let (outcome, Some(error)) = socket.send(datagram) else { return Passage::Sent };
        self.failing = true;
        let problem = self.explain(&error);
        match outcome {
            Outcome::Sent => {
                self.turn();
                Passage::Late { problem }
            }
            Outcome::Lost if is_too_large(&error) => Passage::TooLarge { problem },
            Outcome::Lost => {
                if let Some(passage) = self.send_elsewhere(datagram) {
                    return passage;
                }
                if !is_refused(&error) {
                    // The host's own address or routes may be others now: a new socket finds out.
                    self.socket = None;
                    self.missing.clone_from(&problem);
                }
                Passage::Lost { problem }
            }
        }
    }

    /// Whether the name is known, and whether somebody listens as far as this host can tell: an empty datagram means
    /// nothing to any receiver, and where nobody listens it is refused. The error is for a person.
    pub fn try_out(&mut self, now: Instant, patience: Duration) -> Result<(), String> {
        self.begin(now, patience)?;
        for pause in [REFUSAL, Duration::ZERO] {
            match self.send(b"") {
                Passage::Sent => std::thread::park_timeout(pause),
                Passage::Late { problem } | Passage::Lost { problem } | Passage::TooLarge { problem } => {
                    return Err(problem);
                }
            }
        }
        Ok(())
    }

    /// Tries the receiver's other addresses; stays at the first that takes the datagram.
    fn send_elsewhere(&mut self, datagram: &[u8]) -> Option<Passage> {
        for address in self.others() {
            let Ok(socket) = Connected::open(address) else { continue };
            let (Outcome::Sent, error) = socket.send(datagram) else { continue };
            self.socket = Some(socket);
            return Some(match error {
                None => Passage::Sent,
                Some(error) => Passage::Late { problem: self.explain(&error) },
            });
        }
        None
    }

    /// Turns to the receiver's next address that there is a way to, if it has several.
    fn turn(&mut self) {
        if let Some(socket) = self.others().into_iter().find_map(|address| Connected::open(address).ok()) {
            self.socket = Some(socket);
        }
    }

    /// The receiver's addresses but for the one in use, beginning with the one behind it.
    fn others(&self) -> Vec<SocketAddr> {
        let current = self.socket.as_ref().map(|socket| socket.receiver);
        let known = self.lookup.known();
        let behind = known.iter().position(|address| Some(*address) == current).map_or(0, |place| place + 1);
        let (before, after) = known.split_at(behind);
        after.iter().chain(before).copied().filter(|address| Some(*address) != current).collect()
    }

    /// What went wrong and the way out, for a person.
    fn explain(&self, error: &io::Error) -> String {
        let (receiver, option) = (self.lookup.receiver(), self.lookup.option());
        if is_refused(error) {
            format!("nobody listens at udp://{receiver}; start the receiver, or check the option {option}")
        } else if is_too_large(error) {
            format!("a datagram is too large for the way to udp://{receiver}")
        } else {
            format!("cannot send to udp://{receiver}: {error}")
        }
    }
}

/// What the kernel did with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    Lost,
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
        match receiver {
            SocketAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?,
            SocketAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?,
        }
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(receiver)?;
        let local = receiver.ip().is_loopback() || socket.local_addr()?.ip() == receiver.ip();
        Ok(Self { socket, receiver, local })
    }

    /// Sends a datagram; with an error if it is lost, or if another one before it is.
    ///
    /// A refusal is kept by the socket until somebody asks. One that makes the sending fail belongs to
    /// an earlier datagram: this one was not sent, so it is sent again. One that is there afterwards
    /// is this datagram's own if the receiver is local, and may be anybody's otherwise.
    fn send(&self, datagram: &[u8]) -> (Outcome, Option<io::Error>) {
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

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};

    use ebpf_process_core::testkit::loopback;

    use super::*;
    use crate::lookup::Resolve;

    const LONG: Duration = Duration::from_secs(30);
    const EVERY: Duration = Duration::from_mins(5);

    /// A receiver whose port stays free when it goes.
    fn receiver(at: Ipv4Addr) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((at, 0)).expect("a port");
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
                let (outcome, error) = socket.send(b"a:1|c");
                assert_eq!(outcome, Outcome::Lost);
                assert!(is_refused(&error.expect("a refusal")));
            }
            let listener = UdpSocket::bind(address).expect("the same port");
            assert_eq!(socket.send(b"a:2|c").0, Outcome::Sent);
            assert_eq!(received(&listener), b"a:2|c");
        }
    }

    #[test]
    fn a_refusal_from_elsewhere_counts_once_and_nothing_is_due_again() {
        let late =
            |(outcome, error): (Outcome, Option<io::Error>)| (outcome, error.is_some_and(|error| is_refused(&error)));
        let (listener, address) = receiver(loopback());
        let mut socket = Connected::open(address).expect("a socket");
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
        let (_listener, address) = receiver(loopback());
        let socket = Connected::open(address).expect("a socket").socket;
        assert_eq!(ip_mtu_discover(&socket), Ok(Ipv4PathMtuDiscovery::DONT));
        if let Ok(listener) = UdpSocket::bind("[::1]:0") {
            let socket = Connected::open(listener.local_addr().expect("an address")).expect("a socket").socket;
            assert_eq!(ipv6_mtu_discover(&socket), Ok(Ipv6PathMtuDiscovery::DONT));
        }
    }

    /// The way to a name that has these addresses.
    fn at(addresses: Vec<SocketAddr>, now: Instant) -> Datagrams {
        let resolve: Resolve = Arc::new(move |_| Ok(addresses.clone()));
        let mut datagrams = Datagrams::new(Lookup::new("h.example:8125", "address", resolve, EVERY, now));
        datagrams.begin(now, LONG).expect("an address");
        datagrams
    }

    #[test]
    fn of_several_addresses_the_one_that_does_not_refuse_is_taken_at_once() {
        let now = Instant::now();
        let [(nobody, first), (listener, second)] = [(); 2].map(|()| receiver(loopback()));
        drop(nobody);
        let mut datagrams = at(vec![first, second], now);
        for n in 0..3 {
            assert_eq!(datagrams.send(&[n]), Passage::Sent);
            assert_eq!(received(&listener), [n]);
            assert_eq!(datagrams.begin(now, LONG), Ok(()));
        }
        // It goes, and the other one comes: no datagram is lost on the way.
        drop(listener);
        let listener = UdpSocket::bind(first).expect("the first port");
        assert_eq!(datagrams.send(b"a:1|c"), Passage::Sent);
        assert_eq!(received(&listener), b"a:1|c");
        // Where nobody listens anywhere, that is said.
        drop(listener);
        for _ in 0..2 {
            assert!(
                matches!(datagrams.send(b"a:2|c"), Passage::Lost { problem } if problem.contains("nobody listens"))
            );
        }
        let listener = UdpSocket::bind(second).expect("the second port");
        assert_eq!(datagrams.send(b"a:3|c"), Passage::Sent);
        assert_eq!(received(&listener), b"a:3|c");
    }

    #[test]
    fn a_trial_finds_out_whether_somebody_listens() {
        let now = Instant::now();
        let (listener, address) = receiver(loopback());
        let mut datagrams = at(vec![address], now);
        datagrams.socket.as_mut().expect("a socket").local = false;
        assert_eq!(datagrams.try_out(now, LONG), Ok(()));
        drop(listener);
        assert!(datagrams.try_out(now, LONG).expect_err("nobody").contains("nobody listens"));
    }

    #[test]
    fn a_refusal_from_elsewhere_turns_to_the_next_address() {
        let now = Instant::now();
        let [(nobody, first), (listener, second)] = [(); 2].map(|()| receiver(loopback()));
        drop(nobody);
        let mut datagrams = at(vec![first, second], now);
        datagrams.socket.as_mut().expect("a socket").local = false;
        assert!(matches!(datagrams.send(b"a:1|c"), Passage::Late { problem } if problem.contains("nobody listens")));
        assert_eq!(datagrams.send(b"a:2|c"), Passage::Sent);
        assert_eq!(received(&listener), b"a:2|c");
    }

    #[test]
    fn a_datagram_beyond_what_the_network_takes_is_said_to_be_too_large() {
        let (_listener, address) = receiver(loopback());
        let mut datagrams = at(vec![address], Instant::now());
        assert!(matches!(datagrams.send(&vec![b'x'; 65_508]), Passage::TooLarge { .. }));
        assert_eq!(datagrams.send(b"a:1|c"), Passage::Sent);
    }

    /// A name that leads to whatever port is in the returned cell.
    fn moving(first: SocketAddr, now: Instant) -> (Arc<AtomicU16>, Datagrams) {
        let port = Arc::new(AtomicU16::new(first.port()));
        let current = Arc::clone(&port);
        let resolve: Resolve = Arc::new(move |_| Ok(vec![(first.ip(), current.load(Ordering::SeqCst)).into()]));
        (port, Datagrams::new(Lookup::new("statsd.example:8125", "address", resolve, EVERY, now)))
    }

    /// Sends a line per view until one arrives, each a second after the one before.
    fn send_until_it_arrives(datagrams: &mut Datagrams, mut now: Instant, listener: &UdpSocket) {
        listener.set_nonblocking(true).expect("a socket");
        let limit = Instant::now() + LONG;
        while listener.recv(&mut [0; 64]).is_err() {
            assert!(Instant::now() < limit, "the receiver is not found");
            now += Duration::from_secs(1);
            let _ = datagrams.begin(now, LONG);
            datagrams.send(b"a:1|c");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_receiver_that_moved_is_found_after_a_refusal() {
        let now = Instant::now();
        let at = loopback();
        let (old, address) = receiver(at);
        let (port, mut datagrams) = moving(address, now);
        datagrams.begin(now, LONG).expect("an address");
        assert_eq!(datagrams.send(b"a:1|c"), Passage::Sent);
        let (new, address) = receiver(at);
        port.store(address.port(), Ordering::SeqCst);
        drop(old);
        send_until_it_arrives(&mut datagrams, now, &new);
    }

    #[test]
    fn a_receiver_that_moved_without_a_word_is_found_when_the_name_is_due() {
        let now = Instant::now();
        let at = loopback();
        let (old, address) = receiver(at);
        let (port, mut datagrams) = moving(address, now);
        let (new, address) = receiver(at);
        datagrams.begin(now, LONG).expect("an address");
        assert_eq!(datagrams.send(b"a:1|c"), Passage::Sent);
        port.store(address.port(), Ordering::SeqCst);
        datagrams.begin(now + EVERY / 2, LONG).expect("an address");
        assert_eq!(datagrams.send(b"a:2|c"), Passage::Sent);
        assert_eq!((received(&old), received(&old)), (b"a:1|c".to_vec(), b"a:2|c".to_vec()));
        send_until_it_arrives(&mut datagrams, now + EVERY, &new);
    }

    #[test]
    fn a_name_server_that_fails_and_comes_back_is_not_the_end() {
        let at = loopback();
        let (listener, address) = receiver(at);
        let port = Arc::new(AtomicU16::new(0));
        let current = Arc::clone(&port);
        let resolve: Resolve = Arc::new(move |_| match current.load(Ordering::SeqCst) {
            0 => Err(io::ErrorKind::NotFound.into()),
            port => Ok(vec![(at, port).into()]),
        });
        let now = Instant::now();
        let mut datagrams = Datagrams::new(Lookup::new("statsd.example:8125", "address", resolve, EVERY, now));
        assert!(datagrams.begin(now, LONG).expect_err("no address").contains("cannot resolve"));
        assert!(matches!(datagrams.send(b"a:1|c"), Passage::Lost { problem } if problem.contains("cannot resolve")));
        port.store(address.port(), Ordering::SeqCst);
        send_until_it_arrives(&mut datagrams, now, &listener);
    }
}
