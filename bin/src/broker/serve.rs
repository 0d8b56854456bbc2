//! The broker's loop: a request, an answer.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ebpf_process_core::SocketKind;
use tracing::warn;

use super::allowed::Allowed;
use super::language::{MOST_BROUGHT, Refusal, Reply, Request, decode, encode, send_parts};
use super::programs::{Pipes, Programs};
use super::user::User;
use super::wire::{Arrival, LONGEST, Socket};
use super::{assist, open};

/// Between two lines of the log about what was refused.
const PAUSE: Duration = Duration::from_secs(1);

/// What serves the agent.
pub(crate) struct Server<Read> {
    socket: Socket,
    /// What the configuration in effect lets the agent ask for, and the one before it, whose sinks may still be finishing.
    allowed: Allowed,
    before: Allowed,
    /// The same of the one that was read last, until the agent says whether it takes it over.
    coming: Option<Allowed>,
    user: User,
    /// Reads the configuration again: what it lets the agent ask for, and its bytes; or in words what is wrong with it.
    read_again: Read,
    programs: Programs,
    refused: Refused,
}

/// What was asked that nobody asks who means well.
#[derive(Default)]
struct Refused {
    count: u64,
    said: Option<Instant>,
}

impl<Read: FnMut() -> Result<(Allowed, Vec<u8>), String>> Server<Read> {
    /// Serves who has the other end of the socket and runs as `user`.
    pub(crate) fn new(socket: Socket, allowed: Allowed, user: User, read_again: Read) -> Self {
        Self {
            socket,
            allowed,
            before: Allowed::default(),
            coming: None,
            user,
            read_again,
            programs: Programs::default(),
            refused: Refused::default(),
        }
    }

    /// Returns when the other end is closed. Programs that were started are killed then.
    pub(crate) fn run(mut self) {
        let mut buffer = vec![0; LONGEST];
        loop {
            let (number, asked, descriptors) = match self.socket.receive(&mut buffer, MOST_BROUGHT) {
                Ok(Arrival::End) | Err(_) => break,
                Ok(Arrival::TooLarge) => (0, None, Vec::new()),
                Ok(Arrival::Message(length, descriptors)) => {
                    let (number, asked) = decode(buffer.get(..length).unwrap_or_default());
                    (number, asked, descriptors)
                }
            };
            let answered = match asked {
                Some(request) => self.answer(number, request, descriptors),
                None => Err(self.refused.note("it is in no language of the broker's")),
            };
            let last = match answered {
                Ok(None) => continue,
                Ok(Some(last)) => last,
                Err(refusal) => Reply::Refused(refusal),
            };
            if self.socket.send(&encode(number, &last), &[]).is_err() {
                break;
            }
        }
        self.programs.end_all();
    }

    /// Does what is asked. The last message of the answer comes back, unless somebody else sends it.
    fn answer(&mut self, number: u32, request: Request, descriptors: Vec<OwnedFd>) -> Result<Option<Reply>, Refusal> {
        if !descriptors.is_empty() && !matches!(request, Request::Assist(..)) {
            return Err(self.refused.note("it brings descriptors"));
        }
        let said = match request {
            Request::Configuration => {
                let (allowed, bytes) = (self.read_again)().map_err(Refusal::of)?;
                self.coming = Some(allowed);
                send_parts(&self.socket, number, &bytes, &[] as &[OwnedFd])?;
                None
            }
            Request::InEffect(is) => {
                if let Some(coming) = self.coming.take().filter(|_| is) {
                    self.before = std::mem::replace(&mut self.allowed, coming);
                }
                None
            }
            Request::Assist(name, bytes) => {
                // One that was taken out lets go of what it had.
                let Some(probe) = self.configurations().find_map(|allowed| allowed.probe(&name)).cloned() else {
                    return Err(self.refused.note(&format!("no probe {name} is switched on")));
                };
                return assist::assist(&self.socket, number, &probe, bytes, descriptors).map(|()| None);
            }
            Request::Terminate(program) => {
                self.programs.terminate(program)?;
                None
            }
            Request::End(program) => Some(self.programs.end(program)?),
            Request::Ended(program) => self.programs.ended(program)?,
            asked if !self.configurations().any(|allowed| allowed.has(&asked)) => {
                return Err(self.refused.note(&format!("no sink or probe has named {asked:?} in what it opens")));
            }
            Request::Start(program) => {
                let (started, Pipes { input, output, errors }) = self.programs.start(&program, &self.user)?;
                send_parts(&self.socket, number, &[], &[input, output, errors])?;
                Some(started.cast_signed())
            }
            Request::Read(path) => self.hand_over(number, &open::read(&path, &self.user)?)?,
            Request::Append(path) => self.hand_over(number, &open::append(&path, &self.user)?)?,
            Request::Directory(path) => self.hand_over(number, &open::directory(&path, &self.user)?)?,
            Request::Stream(path) => self.hand_over(number, &open::connect(&path, SocketKind::Stream, &self.user)?)?,
            Request::Datagrams(path) => {
                self.hand_over(number, &open::connect(&path, SocketKind::Datagram, &self.user)?)?
            }
            Request::Listen(address) => self.hand_over(number, &open::listen(address)?)?,
        };
        Ok(Some(Reply::Done(said)))
    }

    fn hand_over(&self, number: u32, opened: &OwnedFd) -> Result<Option<i32>, Refusal> {
        send_parts(&self.socket, number, &[], &[opened])?;
        Ok(None)
    }

    /// Those by which the agent may ask, the newest first.
    fn configurations(&self) -> impl Iterator<Item = &Allowed> {
        self.coming.iter().chain([&self.allowed, &self.before])
    }
}

impl Refused {
    /// Counts it, and says so in the log if nothing was said for a while.
    fn note(&mut self, why: &str) -> Refusal {
        self.count += 1;
        if self.said.is_none_or(|said| said.elapsed() >= PAUSE) {
            self.said = Some(Instant::now());
            let count = self.count;
            // Whatever it was, the line is short.
            let why: String = why.chars().take(200).collect();
            warn!("the broker refuses what the agent asks: {why}; {count} refused so far");
        }
        Refusal::of("it is not what the broker was started for: a plugin names in `opens` what it opens")
    }
}
