//! One client: its request is read and answered as fast as it goes, without ever waiting for it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::PollFlags;

use crate::page::Page;
use crate::request::{HEAD_LIMIT, Reply};

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
    /// So many bytes of the reply are sent.
    Reply(Reply, usize),
    /// What still comes is read and thrown away: closing before would destroy the reply on its way. The
    /// client closes in its turn once it has had all.
    Farewell(Option<Arc<Page>>),
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Progress {
    Goes,
    Over,
    /// The client has had all of this page, and the connection is over.
    Fetched(Arc<Page>),
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
            Stage::Reply(..) => PollFlags::OUT,
        }
    }

    /// The page that it sends.
    pub(crate) const fn page(&self) -> Option<&Arc<Page>> {
        match &self.stage {
            Stage::Reply(reply, _) => reply.page(),
            Stage::Farewell(page) => page.as_ref(),
            Stage::Request(_) => None,
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
                            self.stage = Stage::Reply(reply, 0);
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            Stage::Reply(reply, sent) => match self.stream.write(reply.rest(*sent)) {
                Ok(length) => {
                    *sent += length;
                    if reply.rest(*sent).is_empty() {
                        self.stage = Stage::Farewell(reply.page().cloned());
                        self.stream.shutdown(Shutdown::Write)
                    } else {
                        Ok(())
                    }
                }
                Err(error) => Err(error),
            },
            Stage::Farewell(page) => match self.stream.read(&mut [0; CHUNK]) {
                Ok(0) => return page.take().map_or(Progress::Over, Progress::Fetched),
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

/// Whether there is an answer to what has come, of which so many bytes were there before: the first
/// ones tell what is no request, and a blank line ends one. Reading it all again for every byte would
/// let a slow client take a processor's time.
fn is_worth_reading(received: &[u8], before: usize) -> bool {
    let new = &received[before.saturating_sub(3)..];
    let is_blank = new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n");
    before == 0 || is_blank || received.len() >= HEAD_LIMIT
}
