//! One client: its request is read and answered as fast as it goes, without ever waiting for it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::sockopt::set_socket_linger;

use crate::page::Receipt;
use crate::reply::Reply;
use crate::request::HEAD_LIMIT;
use crate::sheet::Sheet;

/// What is read at once.
const CHUNK: usize = 8 * 1024;

/// A connection on its way from the request to the end.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// When it is closed, however far it is.
    pub(crate) deadline: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// So much of the request has come.
    Request(Vec<u8>),
    /// The reply is sent.
    Reply(Reply),
    /// What still comes is read and thrown away: closing before would destroy the reply on its way. The
    /// client closes in its turn once it has had all.
    Farewell(Option<Receipt>),
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Progress {
    Goes,
    Over,
    /// The client has had all of a page, and the connection is over.
    Fetched(Receipt),
}

impl Connection {
    /// A new client; its socket must not block.
    pub(crate) const fn new(stream: TcpStream, deadline: Instant) -> Self {
        Self { stream, deadline, stage: Stage::Request(Vec::new()) }
    }

    /// What to wait for.
    pub(crate) const fn interest(&self) -> PollFlags {
        match self.stage {
            Stage::Request(_) | Stage::Farewell(_) => PollFlags::IN,
            Stage::Reply(_) => PollFlags::OUT,
        }
    }

    /// What it keeps in memory for the rest of a page.
    pub(crate) fn sheet(&self) -> Option<&Arc<Sheet>> {
        match &self.stage {
            Stage::Reply(reply) => reply.sheet(),
            Stage::Farewell(_) | Stage::Request(_) => None,
        }
    }

    /// Goes on without waiting. `answer` makes a reply to what has come so far, if that is enough.
    pub(crate) fn advance(&mut self, answer: impl Fn(&[u8]) -> Option<Reply>) -> Progress {
        let progress = match &mut self.stage {
            Stage::Request(received) => {
                let mut chunk = [0; CHUNK];
                match self.stream.read(&mut chunk) {
                    Ok(0) => return Progress::Over,
                    Ok(length) => {
                        let before = received.len();
                        received.extend_from_slice(&chunk[..length]);
                        if is_worth_reading(received, before)
                            && let Some(reply) = answer(received)
                        {
                            self.stage = Stage::Reply(reply);
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            Stage::Reply(reply) => match self.stream.write(reply.rest()) {
                Ok(length) => {
                    if reply.sent(length) {
                        Ok(())
                    } else {
                        self.stage = Stage::Farewell(reply.take_receipt());
                        self.stream.shutdown(Shutdown::Write)
                    }
                }
                Err(error) => Err(error),
            },
            Stage::Farewell(receipt) => match self.stream.read(&mut [0; CHUNK]) {
                Ok(0) => return receipt.take().map_or(Progress::Over, Progress::Fetched),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            },
        };
        match progress {
            Ok(()) => Progress::Goes,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Progress::Goes,
            Err(_) => Progress::Over,
        }
    }
}

/// Half a reply ends in a reset: a client that reads up to the end of the connection must not take it for a whole one.
impl Drop for Connection {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Reply(_)) {
            // Without it the connection ends as ever, and most clients miss the end of the page.
            let _ = set_socket_linger(&self.stream, Some(Duration::ZERO));
        }
    }
}

/// Whether there is an answer to what has come, of which so many bytes were there before: the first
/// ones tell what is no request, and a blank line ends one. Reading it all again for every byte would
/// let a slow client take a processor's time.
fn is_worth_reading(received: &[u8], before: usize) -> bool {
    let new = &received[before.saturating_sub(3)..];
    let is_blank = new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n");
    before == 0 || is_blank || received.len() >= HEAD_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_begins_when_it_ends_and_when_it_is_too_long() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for before in 0..head.len() {
            // In whatever pieces it comes.
            assert!(is_worth_reading(head, before), "{before}");
            let begun = &head[..head.len() - 1];
            assert_eq!(is_worth_reading(begun, before.min(begun.len())), before == 0, "{before}");
        }
        assert!(is_worth_reading(b"GET / HTTP/1.1\n\n", 15));
        let long = vec![b'x'; HEAD_LIMIT];
        assert!(is_worth_reading(&long, 9));
        assert!(!is_worth_reading(&long[1..], 9));
    }
}
