//! The connection: a program's standard input, output and error, or a socket.
//!
//! It is read at all times, also while it is written to, and nothing waits but [`Peer::turn`].

use std::collections::VecDeque;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::net::{Shutdown, shutdown};

use crate::complaints::Complaints;
use crate::lines::Lines;

/// Bytes that are read at once. What follows is read in the next turn, so that no stream keeps the others waiting.
const PIECE: usize = 64 << 10;

/// A peer that is connected.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Closed where there is nothing more to be said.
    input: Option<OwnedFd>,
    /// Closed where there is nothing more to be heard.
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
    /// Whether input and output are one.
    is_socket: bool,
    lines: Lines,
    writing: VecDeque<Piece>,
    /// How much of the first one has gone out.
    at: usize,
    buffer: Vec<u8>,
}

/// Bytes on their way out.
#[derive(Debug)]
struct Piece {
    bytes: Arc<[u8]>,
    /// The batch that ends with them.
    ends: Option<u64>,
}

/// Waits until somebody wakes, no longer than the limit.
pub(crate) fn wait(woken: &mut PipeReader, limit: Duration) {
    let limit = Timespec::try_from(limit).ok();
    // An error is no reason to wait any longer.
    if poll(&mut [PollFd::new(&*woken, PollFlags::IN)], limit.as_ref()).is_ok_and(|ready| ready > 0) {
        let _ = woken.read(&mut [0; 64]);
    }
}

/// What has happened in a turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A whole line.
    Line(Vec<u8>),
    /// A line without an end.
    LineTooLong,
    /// Something could be written.
    Progress,
    /// A batch has gone out as a whole.
    Written(u64),
    /// It reads no more.
    InputClosed,
    /// It writes no more.
    OutputClosed,
}

impl Peer {
    /// Of a program's ends.
    pub(crate) fn program(input: OwnedFd, output: OwnedFd, errors: OwnedFd) -> io::Result<Self> {
        Self::new(Some(input), output, Some(errors), false)
    }

    /// Of a connected socket.
    pub(crate) fn socket(socket: OwnedFd) -> io::Result<Self> {
        Self::new(Some(socket.try_clone()?), socket, None, true)
    }

    fn new(input: Option<OwnedFd>, output: OwnedFd, errors: Option<OwnedFd>, is_socket: bool) -> io::Result<Self> {
        for stream in input.iter().chain([&output]).chain(&errors) {
            ioctl_fionbio(stream, true)?;
        }
        Ok(Self {
            input,
            output: Some(output),
            errors,
            is_socket,
            lines: Lines::default(),
            writing: VecDeque::new(),
            at: 0,
            buffer: vec![0; PIECE],
        })
    }

    /// Whether everything has gone out.
    pub(crate) fn is_idle(&self) -> bool {
        self.writing.is_empty()
    }

    /// Has bytes sent behind all others; with the number of the batch that ends with them.
    pub(crate) fn send(&mut self, bytes: Arc<[u8]>, ends: Option<u64>) {
        if self.input.is_some() {
            self.writing.push_back(Piece { bytes, ends });
        }
    }

    /// Whether nothing more is to be heard.
    pub(crate) fn has_closed(&self) -> bool {
        self.output.is_none()
    }

    /// Says that nothing more comes.
    pub(crate) fn close_input(&mut self) {
        self.writing.clear();
        let input = self.input.take();
        if let Some(socket) = input.filter(|_| self.is_socket) {
            // It may have been closed by the other end.
            let _ = shutdown(socket, Shutdown::Write);
        }
    }

    /// Waits until something happens or the time is over, and does what can be done without waiting.
    pub(crate) fn turn(
        &mut self,
        woken: &mut PipeReader,
        until: Instant,
        complaints: &mut Complaints,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let writes = self.input.as_ref().filter(|_| !self.writing.is_empty());
        let [wakes, says, warns, takes] = {
            let none = PollFlags::empty();
            let mut fds = vec![PollFd::new(&*woken, PollFlags::IN)];
            fds.extend(self.output.as_ref().map(|it| PollFd::new(it, PollFlags::IN)));
            fds.extend(self.errors.as_ref().map(|it| PollFd::new(it, PollFlags::IN)));
            fds.extend(writes.map(|it| PollFd::new(it, PollFlags::OUT)));
            let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
            match poll(&mut fds, left.as_ref()) {
                Ok(_) => {}
                Err(Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let mut found = fds.iter().map(PollFd::revents);
            let mut of = |is_there: bool| if is_there { found.next().unwrap_or(none) } else { none };
            [of(true), of(self.output.is_some()), of(self.errors.is_some()), of(writes.is_some())]
        };
        if !wakes.is_empty() {
            // However many there were, one look is enough.
            let _ = woken.read(&mut self.buffer);
        }
        if !warns.is_empty() {
            self.read_errors(complaints);
        }
        if !says.is_empty() {
            self.read_output(events);
        }
        if !takes.is_empty() {
            self.write(events);
        }
        Ok(())
    }

    /// Takes in what the program has written by now.
    pub(crate) fn drain(&mut self, complaints: &mut Complaints, events: &mut Vec<Event>) {
        // More than a pipe holds; who goes on writing has not ended.
        for _ in 0..64 {
            if !self.read_output(events) {
                break;
            }
        }
        self.read_errors(complaints);
    }

    /// Reads a piece. Whether there may be another one.
    fn read_output(&mut self, events: &mut Vec<Event>) -> bool {
        let Some(output) = &self.output else { return false };
        let length = match read(output, &mut self.buffer) {
            Err(Errno::AGAIN | Errno::INTR) => return false,
            read => read.unwrap_or(0),
        };
        if length == 0 {
            self.output = None;
            events.push(Event::OutputClosed);
            return false;
        }
        self.lines.push(&self.buffer[..length]);
        loop {
            match self.lines.next() {
                Ok(Some(line)) => events.push(Event::Line(line)),
                Ok(None) => return true,
                Err(_) => {
                    self.output = None;
                    events.push(Event::LineTooLong);
                    return false;
                }
            }
        }
    }

    fn read_errors(&mut self, complaints: &mut Complaints) {
        let Some(errors) = &self.errors else { return };
        match read(errors, &mut self.buffer) {
            Ok(length @ 1..) => complaints.push(&self.buffer[..length], Instant::now()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => {
                self.errors = None;
                complaints.end(Instant::now());
            }
        }
    }

    fn write(&mut self, events: &mut Vec<Event>) {
        while let (Some(input), Some(piece)) = (&self.input, self.writing.front()) {
            match write(input, &piece.bytes[self.at..]) {
                Ok(length) => {
                    self.at += length;
                    events.push(Event::Progress);
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.writing.clear();
                    self.input = None;
                    events.push(Event::InputClosed);
                    return;
                }
            }
            if self.at < piece.bytes.len() {
                // It has taken what it had room for.
                return;
            }
            self.at = 0;
            let ends = self.writing.pop_front().and_then(|piece| piece.ends);
            events.extend(ends.map(Event::Written));
        }
    }
}
