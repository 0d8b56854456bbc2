//! Datagrams to a receiver over UDP.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::connected::{Connected, Outcome, cannot_be_cut, is_refused, is_too_large};
use crate::lookup::Lookup;

/// What one call sends at most, cut into datagrams by the kernel: bytes and datagrams.
const LARGEST: usize = 65_507;
const MOST: usize = 64;

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
    /// The size of the datagrams that the kernel is to cut, if it can.
    segment: Option<u16>,
    socket: Option<Connected>,
    /// Why there is no socket.
    missing: String,
    /// Whether something went wrong since `begin`.
    failing: bool,
}

impl Datagrams {
    /// Knows no address yet.
    pub const fn new(lookup: Lookup) -> Self {
        Self { lookup, segment: None, socket: None, missing: String::new(), failing: false }
    }

    /// Has the kernel cut what is sent into datagrams of this size, where it can (Linux 4.18): one call for many of them.
    /// No datagram may be larger from then on.
    #[must_use]
    pub const fn cut(mut self, size: u16) -> Self {
        self.segment = Some(size);
        self
    }

    /// Whether the kernel cuts what is sent, as far as is known: it is asked when a receiver is connected to, and where a
    /// way cannot take what is cut (a tunnel, a network with smaller frames), that shows in the sending.
    pub fn cuts(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.cuts)
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
            Ok(addresses) => match Connected::open_first(addresses, self.segment) {
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

    /// Sends datagrams that stand one behind the other, each but the last as large as [`cut`](Self::cut) says, and tells
    /// of each what is known of it.
    ///
    /// Where the kernel cuts them it takes some dozens at once, and a refusal is that of all: nobody listened when they
    /// came. On this host they are then sent again one by one, as [`send`](Self::send) does it; from elsewhere it counts
    /// for as many, in the place of those that were refused.
    pub fn send_all(&mut self, datagrams: &[u8], mut told: impl FnMut(Passage)) {
        let size = self.segment.map_or(usize::MAX, usize::from);
        for piece in datagrams.chunks((LARGEST / size).clamp(1, MOST).saturating_mul(size)) {
            match self.send_cut(piece, size) {
                Some(passage) => (0..piece.len().div_ceil(size)).for_each(|_| told(passage.clone())),
                None => piece.chunks(size).for_each(|datagram| told(self.send(datagram))),
            }
        }
    }

    /// Sends several datagrams at once, if the kernel takes them.
    fn send_cut(&mut self, datagrams: &[u8], size: usize) -> Option<Passage> {
        let socket = self.socket.as_mut().filter(|socket| socket.cuts && datagrams.len() > size)?;
        match socket.send(datagrams) {
            (Outcome::Sent, None) => Some(Passage::Sent),
            (Outcome::Sent, Some(error)) => {
                self.failing = true;
                let problem = self.explain(&error);
                self.turn();
                Some(Passage::Late { problem })
            }
            (Outcome::Lost, error) => {
                if error.is_some_and(|error| cannot_be_cut(&error)) {
                    socket.cut_no_more();
                }
                None
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
            let Ok(socket) = Connected::open(address, self.segment) else { continue };
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
        if let Some(socket) = self.others().into_iter().find_map(|address| Connected::open(address, self.segment).ok())
        {
            self.socket = Some(socket);
        }
    }

    /// The receiver's addresses but for the one in use, beginning with the one behind it.
    fn others(&self) -> Vec<SocketAddr> {
        let current = self.socket.as_ref().map(|socket| socket.receiver);
        let known = self.lookup.known();
        let place = known.iter().position(|address| Some(*address) == current).unwrap_or(0);
        let (before, after) = known.split_at(place);
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};

    use ebpf_process_core::testkit::loopback;

    use super::*;
    use crate::lookup::Resolve;

    const LONG: Duration = Duration::from_secs(30);
    const EVERY: Duration = Duration::from_secs(60 * 5);

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
            assert!(matches!(datagrams.send(b"a:2|c"), Passage::Lost { problem } if problem.ends_with(
                "nobody listens at udp://h.example:8125; start the receiver, or check the option address"
            )));
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

    /// Datagrams of 1000 bytes, each of one letter, and a short one.
    fn letters(count: u8) -> (Vec<u8>, Vec<Vec<u8>>) {
        let whole: Vec<_> = (0..count).map(|n| vec![n; if n + 1 == count { 7 } else { 1000 }]).collect();
        (whole.concat(), whole)
    }

    #[test]
    fn what_the_kernel_cuts_is_what_one_by_one_would_be() {
        for cuts in [true, false] {
            let (listener, address) = receiver(loopback());
            let now = Instant::now();
            let resolve: Resolve = Arc::new(move |_| Ok(vec![address]));
            let lookup = Lookup::new("h.example:8125", "address", resolve, EVERY, now);
            let mut datagrams = Datagrams::new(lookup).cut(1000);
            datagrams.begin(now, LONG).expect("an address");
            let socket = datagrams.socket.as_mut().expect("a socket");
            // A kernel before 4.18 takes the other way by itself.
            if !cuts {
                socket.cut_no_more();
            }
            // More than go at once, and no more than a socket holds that nobody reads.
            let (bytes, whole) = letters(70);
            let mut told = Vec::new();
            std::thread::scope(|scope| {
                let received = scope.spawn(|| {
                    let mut buffer = [0; 2000];
                    let mut next = || listener.recv(&mut buffer).map(|length| buffer[..length].to_vec());
                    (0..70).map(|_| next().expect("a datagram")).collect::<Vec<_>>()
                });
                datagrams.send_all(&bytes, |passage| told.push(passage));
                assert_eq!(received.join().expect("all of them"), whole);
            });
            assert_eq!(told, vec![Passage::Sent; 70]);
        }
    }

    #[test]
    fn what_is_cut_and_refused_is_known_for_each() {
        let (listener, address) = receiver(loopback());
        let now = Instant::now();
        let mut datagrams = at(vec![address], now).cut(1000);
        let mut socket = Connected::open(address, Some(1000)).expect("a socket");
        let (bytes, whole) = letters(5);
        drop(listener);
        let cuts = socket.cuts;
        datagrams.socket = Some(socket);
        let mut told = Vec::new();
        datagrams.send_all(&bytes, |passage| told.push(passage));
        assert!(told.len() == 5 && told.iter().all(|passage| matches!(passage, Passage::Lost { .. })), "{told:?}");
        assert_eq!(datagrams.cuts(), cuts, "that nobody listens does not mean that it cannot be cut");
        // From elsewhere it is known later, and counts for what is sent next.
        socket = datagrams.socket.take().expect("a socket");
        socket.local = false;
        socket.socket.send(b"before").expect("a datagram");
        let listener = UdpSocket::bind(address).expect("the same port");
        datagrams.socket = Some(socket);
        told.clear();
        datagrams.send_all(&bytes, |passage| told.push(passage));
        assert!(!cuts || told.iter().all(|passage| matches!(passage, Passage::Late { .. })), "{told:?}");
        let mut buffer = [0; 2000];
        for datagram in whole {
            let length = listener.recv(&mut buffer).expect("a datagram");
            assert_eq!(buffer[..length], datagram);
        }
    }

    #[test]
    fn a_way_that_cannot_take_what_is_cut_takes_it_one_by_one() {
        let (listener, address) = receiver(loopback());
        let mut datagrams = at(vec![address], Instant::now()).cut(1000);
        let mut socket = Connected::open(address, Some(1000)).expect("a socket");
        // The kernel refuses more than 65,507 bytes whatever it is to do with them.
        let (outcome, error) = socket.send(&vec![b'x'; 66_000]);
        assert_eq!(outcome, Outcome::Lost);
        assert!(cannot_be_cut(&error.expect("a reason")));
        socket.cut_no_more();
        datagrams.socket = Some(socket);
        assert!(!datagrams.cuts());
        let (bytes, _) = letters(3);
        let mut told = Vec::new();
        datagrams.send_all(&bytes, |passage| told.push(passage));
        assert_eq!(told, vec![Passage::Sent; 3]);
        assert_eq!((0..3).map(|_| listener.recv(&mut [0; 2000]).expect("one")).collect::<Vec<_>>(), [1000, 1000, 7]);
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

    #[test]
    fn the_socket_stays_and_the_others_follow_behind_it() {
        let now = Instant::now();
        let addresses: Vec<_> = [1, 2, 3].map(|port| SocketAddr::from((loopback(), port))).into();
        let mut datagrams = at(addresses.clone(), now);
        assert_eq!(datagrams.others(), addresses[1..]);
        let port = |datagrams: &Datagrams| datagrams.socket.as_ref().expect("a socket").socket.local_addr().ok();
        let before = port(&datagrams);
        assert_eq!((datagrams.begin(now, LONG), port(&datagrams)), (Ok(()), before));
        datagrams.socket = Connected::open(addresses[1], None).ok();
        assert_eq!(datagrams.others(), [addresses[2], addresses[0]]);
    }

    #[test]
    fn no_more_goes_at_once_than_the_kernel_takes() {
        let (listener, address) = receiver(loopback());
        let mut datagrams = at(vec![address], Instant::now()).cut(9000);
        datagrams.socket = Connected::open(address, Some(9000)).ok();
        let cuts = datagrams.cuts();
        let mut told = Vec::new();
        datagrams.send_all(&vec![b'x'; 15 * 9000], |passage| told.push(passage));
        assert_eq!((told, datagrams.cuts()), (vec![Passage::Sent; 15], cuts), "nothing was refused");
        drop(listener);
    }
}
