//! A receiver on each way that there is. It reads when it is told to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::loopback;
use tempfile::TempDir;

/// A way from the sink to a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Udp,
    Tcp,
    Unixgram,
    Unix,
}

/// An address at which a receiver may be or not.
pub(crate) struct Place {
    way: Way,
    /// As in the sink's options.
    pub(crate) address: String,
    at: String,
    folder: TempDir,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Udp, Self::Tcp, Self::Unixgram, Self::Unix];

    /// A place where nobody is.
    pub(crate) fn place(self) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket").display().to_string();
        let udp = || UdpSocket::bind((loopback(), 0)).and_then(|socket| socket.local_addr());
        let tcp = || TcpListener::bind((loopback(), 0)).and_then(|socket| socket.local_addr());
        let (scheme, at) = match self {
            Self::Udp => ("udp", udp().expect("a port").to_string()),
            Self::Tcp => ("tcp", tcp().expect("a port").to_string()),
            Self::Unixgram => ("unixgram", path),
            Self::Unix => ("unix", path),
        };
        Place { way: self, address: format!("{scheme}://{at}"), at, folder }
    }
}

impl Place {
    /// Takes the path away; whoever listens goes on.
    pub(crate) fn unlink(&self) {
        // There is none where nobody has listened.
        let _ = std::fs::remove_file(self.path());
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

enum Socket {
    Udp(UdpSocket),
    Unixgram(UnixDatagram),
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A receiver that adds up counters.
pub(crate) struct Server {
    socket: Option<Socket>,
    connections: Vec<(File, Vec<u8>)>,
    /// Whether packets in a stream have their length before them.
    pub(crate) has_lengths: bool,
    /// Connections until now.
    pub(crate) accepted: usize,
    /// By name and tags.
    pub(crate) sums: BTreeMap<String, u64>,
}

impl Server {
    /// Starts at a place where nobody is.
    pub(crate) fn start(place: &Place) -> Self {
        let (connections, sums) = (Vec::new(), BTreeMap::new());
        let mut server = Self { socket: None, connections, has_lengths: false, accepted: 0, sums };
        server.restart(place);
        server
    }

    /// Starts again; what it has added up stays.
    pub(crate) fn restart(&mut self, place: &Place) {
        place.unlink();
        let socket = match place.way {
            Way::Udp => UdpSocket::bind(&place.at).and_then(|s| s.set_nonblocking(true).map(|()| Socket::Udp(s))),
            Way::Tcp => TcpListener::bind(&place.at).and_then(|s| s.set_nonblocking(true).map(|()| Socket::Tcp(s))),
            Way::Unixgram => {
                UnixDatagram::bind(place.path()).and_then(|s| s.set_nonblocking(true).map(|()| Socket::Unixgram(s)))
            }
            Way::Unix => {
                UnixListener::bind(place.path()).and_then(|s| s.set_nonblocking(true).map(|()| Socket::Unix(s)))
            }
        };
        self.socket = Some(socket.expect("the same place"));
    }

    /// Ends as a killed process does: whatever it has open is closed.
    pub(crate) fn kill(&mut self) {
        self.socket = None;
        self.connections.clear();
    }

    /// Resets the connections, so that the other side gets an error.
    pub(crate) fn reset_connections(&mut self) {
        self.accept();
        for (connection, _) in self.connections.drain(..) {
            let at_once = Some(Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(connection.as_fd(), at_once).expect("a reset");
        }
    }

    /// Reads until so many counters have this sum.
    pub(crate) fn read_until(&mut self, counters: usize, sum: u64) {
        let deadline = Instant::now() + super::LIMIT;
        while !self.has(counters, sum) {
            self.read();
            assert!(Instant::now() < deadline, "not {sum} each: {:?}", self.sums);
        }
    }

    /// Whether so many counters have this sum; none may have more.
    pub(crate) fn has(&self, counters: usize, sum: u64) -> bool {
        assert!(self.sums.values().all(|value| *value <= sum), "more than {sum}: {:?}", self.sums);
        self.sums.len() == counters && self.sums.values().all(|value| *value == sum)
    }

    /// Reads whatever is there.
    pub(crate) fn read(&mut self) {
        self.accept();
        let mut buffer = vec![0; 65_536];
        loop {
            let length = match &self.socket {
                Some(Socket::Udp(socket)) => socket.recv(&mut buffer),
                Some(Socket::Unixgram(socket)) => socket.recv(&mut buffer),
                _ => break,
            };
            let Ok(length) = length else { break };
            self.add(&buffer[..length]);
        }
        let mut connections = std::mem::take(&mut self.connections);
        for (connection, bytes) in &mut connections {
            let ended = loop {
                match connection.read(&mut buffer) {
                    Ok(0) => break true,
                    Ok(length) => bytes.extend_from_slice(&buffer[..length]),
                    Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
                }
            };
            while let Some(packet) = self.next_packet(bytes, ended) {
                self.add(&packet);
            }
        }
        self.connections = connections;
    }

    /// Reads a byte of each connection, as the slowest of receivers.
    pub(crate) fn read_a_byte(&mut self) {
        self.accept();
        for (connection, bytes) in &mut self.connections {
            let mut byte = [0];
            if connection.read_exact(&mut byte).is_ok() {
                bytes.extend(byte);
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let accepted: io::Result<OwnedFd> = match &self.socket {
                Some(Socket::Tcp(socket)) => socket.accept().and_then(|(stream, _)| {
                    stream.set_nonblocking(true)?;
                    Ok(stream.into())
                }),
                Some(Socket::Unix(socket)) => socket.accept().and_then(|(stream, _)| {
                    stream.set_nonblocking(true)?;
                    Ok(stream.into())
                }),
                _ => return,
            };
            let Ok(connection) = accepted else { return };
            self.accepted += 1;
            self.connections.push((connection.into(), Vec::new()));
        }
    }

    /// Takes a whole packet out of what was read of a stream. What is left at the end is thrown away, unless it is a
    /// line that lacks only its line break: netdata and Telegraf take that.
    fn next_packet(&self, bytes: &mut Vec<u8>, ended: bool) -> Option<Vec<u8>> {
        if self.has_lengths {
            let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
            let packet = bytes.get(4..4 + length)?.to_vec();
            bytes.drain(..4 + length);
            return Some(packet);
        }
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => Some(bytes.drain(..=end).collect()),
            None if ended && bytes.ends_with(b"|c") => Some(std::mem::take(bytes)),
            None => None,
        }
    }

    fn add(&mut self, packet: &[u8]) {
        let text = std::str::from_utf8(packet).expect("text");
        for line in text.lines() {
            let (name, rest) = line.split_once(':').expect("a name");
            let (growth, rest) = rest.split_once('|').expect("a number");
            let tags = rest.strip_prefix('c').expect("a counter");
            *self.sums.entry(format!("{name}{tags}")).or_default() += growth.parse::<u64>().expect("a number");
        }
    }
}
