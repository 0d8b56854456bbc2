//! What was handed to a connection that acknowledges nothing.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::Ledger;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::front::pop_if;

/// So long after it was sent, data that arrived nowhere has brought a reset back.
const RIPE: Duration = Duration::from_millis(100);

/// What is known of the connection that took data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It has not been closed.
    Here,
    /// It has been closed, or was given up: what it took may be lost.
    Gone,
}

/// Whether the peer of a connection is still there, without waiting. What it says is read and thrown
/// away: this is for protocols in which it has nothing to say.
///
/// A peer that has closed the connection is an [`UnexpectedEof`](io::ErrorKind::UnexpectedEof). The
/// first write after that would still succeed, and go nowhere: so look before each.
pub fn look_for_close(connection: impl AsFd) -> io::Result<()> {
    let mut words = [0; 256];
    // A peer that never stops talking is there.
    for _ in 0..16 {
        match recv(&connection, &mut words, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Errno::AGAIN) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Samples that were handed to a connection, until it is known to be there a tenth of a second later:
/// then they are entered as written, and as unconfirmed when it was closed before.
#[derive(Debug)]
pub struct Doubt {
    ledger: Arc<Ledger>,
    /// When, and how many samples; the oldest first.
    sent: VecDeque<(Instant, u64)>,
}

impl Doubt {
    /// Nothing is in doubt.
    pub const fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, sent: VecDeque::new() }
    }

    /// Samples were handed over at this moment.
    pub fn sent(&mut self, samples: u64, now: Instant) {
        if samples > 0 {
            self.sent.push_back((now, samples));
        }
    }

    /// Enters what follows from the state of the connection that took all of it.
    pub fn look(&mut self, peer: Peer, now: Instant) {
        match peer {
            Peer::Here => {
                while let Some((_, samples)) = pop_if(&mut self.sent, |(sent, _)| *sent + RIPE <= now) {
                    self.ledger.written(samples);
                }
            }
            Peer::Gone => self.ledger.unconfirmed(self.sent.drain(..).map(|(_, samples)| samples).sum()),
        }
    }

    /// Whether nothing is in doubt.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// When to look next.
    pub fn due(&self) -> Option<Instant> {
        self.sent.front().map(|(sent, _)| *sent + RIPE)
    }

    /// When a look at the end tells all.
    pub fn ripe(&self) -> Option<Instant> {
        self.sent.back().map(|(sent, _)| *sent + RIPE)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use ebpf_process_core::testkit::offer;

    use super::*;

    #[test]
    fn a_peer_that_has_closed_is_seen_before_anything_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (mut server, _) = listener.accept().expect("a client");
        assert!(look_for_close(&client).is_ok());
        server.write_all(&[b'x'; 1000]).expect("words");
        assert!(look_for_close(&client).is_ok(), "it talks");
        drop(server);
        let limit = Instant::now() + Duration::from_secs(60);
        while look_for_close(&client).is_ok() {
            assert!(Instant::now() < limit, "the end is not seen");
            std::thread::yield_now();
        }
        let (client, server) = UnixStream::pair().expect("a pair");
        assert!(look_for_close(&client).is_ok());
        drop(server);
        assert!(look_for_close(&client).is_err());
    }

    #[test]
    fn what_was_sent_is_written_a_moment_later_or_unconfirmed() {
        let ledger = Arc::new(Ledger::default());
        offer(&ledger, 10);
        let mut doubt = Doubt::new(Arc::clone(&ledger));
        let now = Instant::now();
        doubt.sent(0, now);
        assert!(doubt.is_empty(), "nothing was sent");
        doubt.sent(1, now);
        doubt.sent(2, now + RIPE / 2);
        doubt.look(Peer::Here, now + RIPE / 2);
        assert_eq!((ledger.tally().written, doubt.due()), (0, Some(now + RIPE)));
        doubt.look(Peer::Here, now + RIPE);
        assert_eq!((ledger.tally().written, doubt.due()), (1, doubt.ripe()));
        doubt.sent(3, now + RIPE);
        doubt.look(Peer::Gone, now + RIPE);
        let tally = ledger.tally();
        assert_eq!((tally.written, tally.unconfirmed, tally.queued, doubt.is_empty()), (1, 5, 4, true));
    }
}
