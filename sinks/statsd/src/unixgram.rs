//! The way to a receiver on this host through a Unix socket that takes datagrams.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{Opener, SocketKind, explain};

use crate::packets::Fate;
use crate::transport::{self, Transport, is_too_large};

/// A socket connected by its path, and again when whoever listened there is gone.
pub(crate) struct Unixgram {
    path: PathBuf,
    opener: Arc<dyn Opener>,
    socket: Option<UnixDatagram>,
    /// How long the packets of a view may wait for room, all together.
    timeout: Duration,
    deadline: Instant,
    problem: Option<String>,
}

impl Unixgram {
    /// Connects to nobody yet.
    pub(crate) fn new(path: PathBuf, opener: Arc<dyn Opener>, timeout: Duration, now: Instant) -> Self {
        Self { path, opener, socket: None, timeout, deadline: now, problem: None }
    }

    /// A datagram arrives whole or not at all, and an error is this one's.
    fn attempt(&mut self, packet: &[u8]) -> io::Result<()> {
        let socket = self.socket.take().map_or_else(|| self.connect(), Ok)?;
        let outcome = transport::send(&socket, packet, self.deadline);
        if !outcome.as_ref().is_err_and(is_gone) {
            self.socket = Some(socket);
        }
        outcome.map(drop)
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        self.opener.connect(&self.path, SocketKind::Datagram, Some(Duration::ZERO)).map(UnixDatagram::from)
    }

    fn explain(&self, error: &io::Error) -> String {
        let path = self.path.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("nobody listens at unixgram://{path}; start the receiver, or check the option address")
            }
            io::ErrorKind::TimedOut => format!("the receiver at unixgram://{path} does not read as fast as we send"),
            _ if is_too_large(error) => {
                format!("a datagram is too large for unixgram://{path}; lower the option max_packet")
            }
            _ => format!("cannot send to unixgram://{path}: {}", explain(error)),
        }
    }
}

impl Transport for Unixgram {
    fn begin(&mut self, _: Instant) {
        self.deadline = Instant::now() + self.timeout;
        self.problem = None;
    }

    fn send(&mut self, packet: &[u8]) -> Fate {
        let was_connected = self.socket.is_some();
        if !was_connected && self.problem.is_some() {
            return Fate::Lost;
        }
        let mut outcome = self.attempt(packet);
        if was_connected && outcome.as_ref().is_err_and(is_gone) {
            // Somebody else may listen at the same path by now.
            outcome = self.attempt(packet);
        }
        let Err(error) = outcome else { return Fate::Sent };
        if self.problem.is_none() {
            self.problem = Some(self.explain(&error));
        }
        Fate::Lost
    }

    fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn try_out(&mut self, _: Instant) -> Result<(), String> {
        self.connect().map(drop).map_err(|error| self.explain(&error))
    }
}

/// Whether nobody has the socket any more that this one is connected to.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected)
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::Direct;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(20);

    fn scene() -> (tempfile::TempDir, PathBuf, Unixgram) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let unixgram = Unixgram::new(path.clone(), Arc::new(Direct::default()), TIMEOUT, Instant::now());
        (folder, path, unixgram)
    }

    fn view(unixgram: &mut Unixgram, packet: &[u8]) -> Fate {
        unixgram.begin(Instant::now());
        unixgram.send(packet)
    }

    fn received(listener: &UnixDatagram) -> Vec<u8> {
        let mut buffer = [0; 64];
        let length = listener.recv(&mut buffer).expect("a datagram");
        buffer[..length].to_vec()
    }

    #[test]
    fn a_receiver_that_comes_late_or_anew_is_found_at_its_path() {
        let (_folder, path, mut unixgram) = scene();
        assert_eq!(view(&mut unixgram, b"a:1|c"), Fate::Lost);
        assert!(unixgram.problem().expect("a problem").contains("nobody listens"));
        for line in [b"a:2|c", b"a:3|c"] {
            let listener = UnixDatagram::bind(&path).expect("the path");
            assert_eq!(view(&mut unixgram, line), Fate::Sent);
            assert_eq!(received(&listener), line);
            assert_eq!(unixgram.problem(), None);
            // Its socket is closed and its path vanishes; the next one has the same path.
            std::fs::remove_file(&path).expect("the path");
        }
        assert_eq!(view(&mut unixgram, b"a:4|c"), Fate::Lost);
    }

    #[test]
    fn a_receiver_that_does_not_read_is_waited_for_no_longer_than_the_timeout() {
        let (_folder, path, mut unixgram) = scene();
        let listener = UnixDatagram::bind(&path).expect("the path");
        unixgram.begin(Instant::now());
        let started = Instant::now();
        let sent = (0..100_000).take_while(|_| unixgram.send(b"a:1|c") == Fate::Sent).count();
        assert!(sent < 100_000 && started.elapsed() >= TIMEOUT);
        assert!(unixgram.problem().expect("a problem").contains("does not read"));
        // Once it reads, there is room again, and nothing that was lost arrives.
        for _ in 0..sent {
            assert_eq!(received(&listener), b"a:1|c");
        }
        assert_eq!(view(&mut unixgram, b"a:2|c"), Fate::Sent);
        assert_eq!(received(&listener), b"a:2|c");
    }

    #[test]
    fn a_datagram_too_large_for_the_socket_is_lost_with_advice() {
        let (_folder, path, mut unixgram) = scene();
        let _listener = UnixDatagram::bind(&path).expect("the path");
        assert_eq!(view(&mut unixgram, &vec![b'x'; 64 << 20]), Fate::Lost);
        assert!(unixgram.problem().expect("a problem").contains("max_packet"));
        assert_eq!(view(&mut unixgram, b"a:1|c"), Fate::Sent);
    }
}
