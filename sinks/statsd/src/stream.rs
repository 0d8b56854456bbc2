//! The way to a receiver over a connection: TCP, or a Unix socket.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{Opener, SocketKind, explain};
use ebpf_process_delivery::{Backoff, Lookup, Peer, look_for_close};
use rustix::net::sockopt::set_tcp_user_timeout;

use crate::packets::Fate;
use crate::transport::{self, Transport};

/// How the receiver finds the packets in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Every line ends with a line break.
    Lines,
    /// Every packet has its length before it, four bytes, the lowest first.
    Length,
}

/// Whom to connect to.
pub(crate) enum Target {
    Tcp(Lookup),
    Unix(PathBuf, Arc<dyn Opener>),
}

/// A connection that is made anew, at most once per view, when it is lost.
pub(crate) struct Stream {
    target: Target,
    framing: Framing,
    connection: Option<Connection>,
    /// Whether a connection was lost since this was asked last.
    broke: bool,
    backoff: Backoff,
    /// Not connected before this.
    retry: Instant,
    /// How long connecting may take, and how long the packets of a view, all together.
    timeout: Duration,
    /// Of the view.
    deadline: Instant,
    now: Instant,
    /// What went wrong when there was a connection last.
    problem: Option<String>,
    /// A packet as it goes into the stream.
    frame: Vec<u8>,
}

struct Connection {
    socket: OwnedFd,
    /// Over TCP.
    receiver: Option<SocketAddr>,
}

/// How long a receiver's host may be silent before the kernel takes the connection for lost: data
/// would vanish in its buffer for a quarter of an hour.
const SILENCE: Duration = Duration::from_secs(30);

impl Stream {
    /// Connects to nobody yet.
    pub(crate) fn new(target: Target, framing: Framing, timeout: Duration, now: Instant) -> Self {
        Self {
            target,
            framing,
            connection: None,
            broke: false,
            backoff: crate::backoff(),
            retry: now,
            timeout,
            deadline: now,
            now,
            problem: None,
            frame: Vec::new(),
        }
    }

    /// Gives a connection up that is of no use any more; what is in the kernel's buffer still goes.
    fn lose(&mut self, error: &io::Error) {
        self.broke |= self.connection.take().is_some();
        self.retry = self.now + self.backoff.failed(None);
        if let Target::Tcp(lookup) = &mut self.target {
            lookup.doubt(self.now);
        }
        self.problem = Some(self.target.explain(error));
    }
}

impl Transport for Stream {
    fn begin(&mut self, now: Instant) {
        self.now = now;
        if let Some(connection) = &self.connection {
            if look_for_close(&connection.socket).is_err() {
                self.connection = None;
                self.broke = true;
            } else if self.target.is_still_at(connection, now) {
                self.backoff.succeeded();
            } else {
                // What it took still goes.
                self.connection = None;
            }
        }
        if self.connection.is_none() && self.retry <= now {
            match self.target.connect(now, self.timeout) {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => self.lose(&error),
            }
        }
        if self.connection.is_some() {
            self.problem = None;
        }
        self.deadline = Instant::now() + self.timeout;
    }

    fn send(&mut self, packet: &[u8]) -> Fate {
        let Some(connection) = &self.connection else { return Fate::Lost };
        self.frame.clear();
        match self.framing {
            Framing::Lines => {
                self.frame.extend_from_slice(packet);
                self.frame.push(b'\n');
            }
            Framing::Length => {
                // A packet is never that large: max_packet has a limit.
                let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
                self.frame.extend_from_slice(&length.to_le_bytes());
                self.frame.extend_from_slice(packet);
            }
        }
        let (sent, outcome) = connection.send(&self.frame, self.deadline);
        let Err(error) = outcome else { return Fate::Sent };
        // The rest of a packet is no packet, so it never follows on another connection.
        self.lose(&error);
        match self.framing {
            Framing::Lines if sent > 0 => Fate::Cut(sent),
            Framing::Lines | Framing::Length => Fate::Lost,
        }
    }

    fn peer(&mut self) -> Option<Peer> {
        let closed = self.connection.take_if(|connection| look_for_close(&connection.socket).is_err()).is_some();
        let broke = std::mem::take(&mut self.broke) || closed;
        Some(if broke { Peer::Gone } else { Peer::Here })
    }

    fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

impl Target {
    fn connect(&mut self, now: Instant, timeout: Duration) -> io::Result<Connection> {
        match self {
            Self::Tcp(lookup) => {
                let addresses = lookup.addresses(now, timeout).map_err(io::Error::other)?;
                let deadline = Instant::now() + timeout;
                let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
                let mut untried = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
                for &address in addresses {
                    // One that never answers leaves the others their share of the time.
                    let share = deadline.saturating_duration_since(Instant::now()) / untried;
                    untried = untried.saturating_sub(1).max(1);
                    match tcp(address, share) {
                        Ok(socket) => {
                            lookup.trust();
                            return Ok(Connection { socket, receiver: Some(address) });
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Self::Unix(path, opener) => {
                // Where there is no room for one more connection, that is an error.
                let socket = opener.connect(path, SocketKind::Stream, Some(Duration::ZERO))?;
                Ok(Connection { socket, receiver: None })
            }
        }
    }

    /// Whether the name still leads to where the connection does.
    fn is_still_at(&mut self, connection: &Connection, now: Instant) -> bool {
        match (self, connection.receiver) {
            (Self::Tcp(lookup), Some(receiver)) => {
                lookup.addresses(now, Duration::ZERO).is_ok_and(|addresses| addresses.contains(&receiver))
            }
            _ => true,
        }
    }

    /// What went wrong and the way out, for a person.
    fn explain(&self, error: &io::Error) -> String {
        let receiver = match self {
            Self::Tcp(lookup) => format!("tcp://{}", lookup.receiver()),
            Self::Unix(path, _) => format!("unix://{}", path.display()),
        };
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("nobody listens at {receiver}; start the receiver, or check the option address")
            }
            io::ErrorKind::TimedOut => format!("{receiver} does not answer in time, or does not read"),
            io::ErrorKind::UnexpectedEof => format!("{receiver} has closed the connection"),
            _ => match self {
                Self::Tcp(_) => format!("cannot send to {receiver}: {error}"),
                Self::Unix(..) => format!("cannot send to {receiver}: {}", explain(error)),
            },
        }
    }
}

impl Connection {
    /// Sends all, and says how much of it is on its way.
    fn send(&self, bytes: &[u8], deadline: Instant) -> (usize, io::Result<()>) {
        // Else the first packet after the receiver's end would go into the void without an error.
        if let Err(error) = look_for_close(&self.socket) {
            return (0, Err(error));
        }
        let mut sent = 0;
        while sent < bytes.len() {
            match transport::send(&self.socket, &bytes[sent..], deadline) {
                Ok(more) => sent += more,
                Err(error) => return (sent, Err(error)),
            }
        }
        (sent, Ok(()))
    }
}

fn tcp(address: SocketAddr, timeout: Duration) -> io::Result<OwnedFd> {
    if timeout.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_nodelay(true)?;
    let silence = u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX);
    set_tcp_user_timeout(&stream, silence)?;
    Ok(stream.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::{AtomicU16, Ordering};

    use ebpf_process_core::Direct;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(20);
    const EVERY: Duration = Duration::from_mins(5);

    #[test]
    fn a_connection_follows_its_name() {
        let [old, new] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let current = Arc::new(AtomicU16::new(port(&old)));
        let answer = Arc::clone(&current);
        let resolve = Arc::new(move |_: &str| Ok(vec![([127, 0, 0, 1], answer.load(Ordering::SeqCst)).into()]));
        let mut now = Instant::now();
        let limit = Duration::from_secs(30);
        let lookup = Lookup::new("statsd.example:8125", "address", resolve, EVERY, now);
        let mut stream = Stream::new(Target::Tcp(lookup), Framing::Lines, limit, now);
        stream.begin(now);
        assert_eq!(stream.send(b"a:1|c"), Fate::Sent);
        current.store(port(&new), Ordering::SeqCst);
        new.set_nonblocking(true).expect("a socket");
        let deadline = Instant::now() + limit;
        now += EVERY;
        let mut connection = loop {
            stream.begin(now);
            assert_eq!(stream.send(b"a:2|c"), Fate::Sent);
            match new.accept() {
                Ok((connection, _)) => break connection,
                Err(_) => assert!(Instant::now() < deadline, "the new address is not taken"),
            }
        };
        drop(stream);
        let mut text = String::new();
        connection.set_nonblocking(false).expect("a socket");
        connection.read_to_string(&mut text).expect("lines");
        assert_eq!(text, "a:2|c\n");
        let (mut connection, _) = old.accept().expect("the first connection");
        connection.read_to_string(&mut text).expect("lines");
        assert!(text.starts_with("a:2|c\na:1|c\n"), "{text}");
    }

    #[test]
    fn the_rest_of_a_packet_never_follows_on_another_connection() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("the path");
        // Larger than any socket's buffer.
        let large = b"a:1|c\n".repeat(4 << 20);
        for framing in [Framing::Lines, Framing::Length] {
            let now = Instant::now();
            let mut stream =
                Stream::new(Target::Unix(path.clone(), Arc::new(Direct::default())), framing, TIMEOUT, now);
            stream.begin(now);
            let fate = stream.send(&large);
            assert_eq!(stream.send(b"b:1|c"), Fate::Lost);
            let (mut connection, _) = listener.accept().expect("a connection");
            let mut bytes = Vec::new();
            connection.read_to_end(&mut bytes).expect("half a packet");
            match framing {
                Framing::Lines => assert_eq!((fate, bytes.starts_with(b"a:1|c\n")), (Fate::Cut(bytes.len()), true)),
                Framing::Length => {
                    assert_eq!(fate, Fate::Lost);
                    assert_eq!(bytes[..4], u32::try_from(large.len()).expect("a length").to_le_bytes());
                }
            }
            assert!(bytes.len() < large.len());
            assert!(stream.problem().expect("a problem").contains("does not read"));

            // Whoever reads again gets whole packets from the start, once it is time.
            stream.begin(now + Duration::from_secs(1));
            assert_eq!(stream.send(b"b:2|c"), Fate::Sent);
            drop(stream);
            let (mut connection, _) = listener.accept().expect("another connection");
            bytes.clear();
            connection.read_to_end(&mut bytes).expect("a packet");
            let expected: &[u8] = if framing == Framing::Lines { b"b:2|c\n" } else { b"\x05\0\0\0b:2|c" };
            assert_eq!(bytes, expected);
        }
    }
}
