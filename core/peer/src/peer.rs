//! The connection: a program's standard input, output and error, or a socket.
//!
//! It is read at all times, also while it is written to, and nothing waits but [`Peer::turn`].

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::net::{Shutdown, shutdown};

use crate::bell::Ears;
use crate::complaints::Complaints;
use crate::lines::Lines;

/// Bytes that are read at once. What follows is read in the next turn, so that no stream keeps the others waiting.
const PIECE: usize = 64 << 10;

/// A peer that is connected: it is one thread's.
#[derive(Debug)]
pub struct Peer {
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
    bytes: Bytes,
    /// What is said to be written once they have gone out.
    ends: Option<u64>,
}

/// What has happened in a turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole line, without its end.
    Line(Vec<u8>),
    /// A line of more than 1 MiB; nothing more is heard.
    LineTooLong,
    /// Something could be written.
    Progress,
    /// Everything up to the bytes that were [sent](Peer::send) with this number has gone out.
    Written(u64),
    /// It reads no more.
    InputClosed,
    /// It writes no more.
    OutputClosed,
}

impl Peer {
    /// Of a program's ends: its standard input, output and error.
    pub fn program(input: OwnedFd, output: OwnedFd, errors: OwnedFd) -> io::Result<Self> {
        Self::new(Some(input), output, Some(errors), false)
    }

    /// Of a connected socket.
    pub fn socket(socket: OwnedFd) -> io::Result<Self> {
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
    pub fn is_idle(&self) -> bool {
        self.writing.is_empty()
    }

    /// Has bytes sent behind all others, which is told where they have a number. Where the input is closed they are nobody's.
    pub fn send(&mut self, bytes: Bytes, ends: Option<u64>) {
        if self.input.is_some() {
            self.writing.push_back(Piece { bytes, ends });
        }
    }

    /// Whether nothing more is to be heard.
    pub fn has_closed(&self) -> bool {
        self.output.is_none()
    }

    /// Says that nothing more comes.
    pub fn close_input(&mut self) {
        self.writing.clear();
        let input = self.input.take();
        if let Some(socket) = input.filter(|_| self.is_socket) {
            // It may have been closed by the other end.
            let _ = shutdown(socket, Shutdown::Write);
        }
    }

    /// Waits until something happens or the time is over, and does what can be done without waiting.
    pub fn turn(
        &mut self,
        ears: &mut Ears,
        until: Instant,
        complaints: &mut Complaints,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let writes = self.input.as_ref().filter(|_| !self.writing.is_empty());
        let [wakes, says, warns, takes] = {
            let none = PollFlags::empty();
            let mut fds = vec![PollFd::new(&*ears, PollFlags::IN)];
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
            ears.forget();
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
    pub fn drain(&mut self, complaints: &mut Complaints, events: &mut Vec<Event>) {
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

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::bell::Bell;
    use crate::logged::logged;
    use crate::owner::Owner;

    /// A peer with the program's ends of its pipes.
    struct Program {
        peer: Peer,
        ears: Ears,
        bell: Bell,
        complaints: Complaints,
        input: PipeReader,
        output: PipeWriter,
        errors: PipeWriter,
    }

    impl Program {
        fn new() -> Self {
            let [(input, to_it), (from_it, output), (warnings, errors)] = [(); 3].map(|()| pipe().expect("a pipe"));
            let peer = Peer::program(to_it.into(), from_it.into(), warnings.into()).expect("a peer");
            let (bell, ears) = Bell::new().expect("descriptors");
            let complaints = Complaints::new(Owner::Sink("db".to_owned()));
            Self { peer, ears, bell, complaints, input, output, errors }
        }

        /// What happens in a turn that ends with the first thing that does.
        fn turn(&mut self) -> Vec<Event> {
            let (mut events, until) = (Vec::new(), Instant::now() + Duration::from_secs(60));
            self.peer.turn(&mut self.ears, until, &mut self.complaints, &mut events).expect("a turn");
            assert!(Instant::now() < until, "nothing has happened");
            events
        }
    }

    #[test]
    fn what_is_sent_goes_out_as_fast_as_it_is_read() {
        let mut program = Program::new();
        let long = Bytes::from(vec![b'x'; 1 << 20]);
        assert!(program.peer.is_idle());
        program.peer.send(long.clone(), Some(7));
        program.peer.send(Bytes::from_static(b"end"), Some(8));
        assert!(!program.peer.is_idle());
        let (mut events, mut got) = (Vec::new(), Vec::new());
        while !program.peer.is_idle() {
            events.extend(program.turn());
            let mut piece = vec![0; PIECE];
            let length = program.input.read(&mut piece).expect("bytes");
            got.extend_from_slice(&piece[..length]);
        }
        program.peer.close_input();
        program.input.read_to_end(&mut got).expect("bytes");
        assert!(got == [&long[..], b"end"].concat());
        events.retain(|event| *event != Event::Progress);
        assert_eq!(events, [Event::Written(7), Event::Written(8)]);
    }

    #[test]
    fn a_bell_and_warnings_are_heard_once() {
        let mut program = Program::new();
        program.bell.ring();
        program.errors.write_all(b"W! one\n").expect("room");
        assert_eq!(program.turn(), []);
        let now = Timespec::default();
        assert_eq!(poll(&mut [PollFd::new(&program.ears, PollFlags::IN)], Some(&now)), Ok(0));
        program.output.write_all(b"hello\nhal").expect("room");
        assert_eq!(program.turn(), [Event::Line(b"hello".to_vec())], "the bell and the warning are over");
        let lines = logged(|| {
            program.errors.write_all(b"W! two\n").expect("room");
            assert_eq!(program.turn(), []);
        });
        assert_eq!(lines, [r#"WARN two sink="db""#]);
    }

    #[test]
    fn what_a_program_has_written_before_it_closed_is_heard() {
        let mut program = Program::new();
        program.output.write_all(&b"line\n".repeat(20_000)[..60_000]).expect("room");
        program.errors.write_all(b"E! three\n").expect("room");
        assert!(!program.peer.has_closed());
        let Program { mut peer, mut complaints, output, errors, input, .. } = program;
        drop((output, errors, input));
        let mut events = Vec::new();
        let lines = logged(|| peer.drain(&mut complaints, &mut events));
        assert_eq!(lines, [r#"ERROR three sink="db""#]);
        assert_eq!((events.len(), events.pop(), peer.has_closed()), (12_001, Some(Event::OutputClosed), true));
    }

    #[test]
    fn the_end_of_each_stream_is_told() {
        let Program { mut peer, mut ears, mut complaints, output, input, errors, .. } = Program::new();
        drop(input);
        peer.send(Bytes::from_static(b"nobody"), Some(1));
        let mut events = Vec::new();
        peer.turn(&mut ears, Instant::now(), &mut complaints, &mut events).expect("a turn");
        assert_eq!((&events[..], peer.is_idle()), (&[Event::InputClosed][..], true));
        peer.send(Bytes::from_static(b"nobody"), Some(2));
        assert!(peer.is_idle(), "it is nobody's");
        drop((output, errors));
        peer.turn(&mut ears, Instant::now(), &mut complaints, &mut events).expect("a turn");
        assert_eq!((&events[1..], peer.has_closed()), (&[Event::OutputClosed][..], true));

        let (here, mut there) = UnixStream::pair().expect("a pair");
        let mut peer = Peer::socket(here.into()).expect("a peer");
        there.write_all(&vec![b'x'; 4096]).expect("room");
        peer.close_input();
        assert_eq!(there.read(&mut [0]).expect("an end"), 0, "it is told that nothing more comes");
        assert!(!peer.has_closed());
    }
}
