//! The agent's side: opens by itself, and asks the broker where it may not.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ebpf_process_core::{Assistant, BuildError, Direct, Directory, Message, Opener, Program, SocketKind, Started};
use parking_lot::Mutex;
use rustix::event::{Timespec, poll};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::{Errno, ioctl_fionbio};

use super::allowed::whole_path;
use super::language::{LONGEST_ASSIST, MOST_BROUGHT, Refusal, Reply, Request, decode, encode};
use super::wire::{Arrival, LONGEST, MOST_DESCRIPTORS, Socket};

/// How long an answer may take: a disk or a file system over a network may hang.
const LIMIT: Duration = Duration::from_secs(10);

/// The same of the configuration, which may be many files.
const CONFIGURATION_LIMIT: Duration = Duration::from_secs(30);

/// The same of what a probe needs done, beyond what the broker itself allows for it.
const ASSIST_LIMIT: Duration = Duration::from_secs(70);

/// Until the next attempt to connect to a listener without room.
const PAUSE: Duration = Duration::from_millis(20);

/// What an answer may have at most, all its messages together.
const MOST_BYTES: usize = 64 << 20;
const MOST_OF_ANSWER: usize = 1 << 16;

/// Who asks the broker, one request at a time, from any thread.
#[derive(Debug)]
pub(crate) struct Client {
    link: Mutex<Link>,
    direct: Direct,
    /// The same connection, to wait for its end.
    watched: Arc<Socket>,
    /// Whether nobody is to hear of its end any more.
    ending: AtomicBool,
}

#[derive(Debug)]
struct Link {
    socket: Arc<Socket>,
    /// Of the last request. Answers to those before have come too late.
    number: u32,
    buffer: Vec<u8>,
}

/// A whole answer.
#[derive(Debug, Default)]
struct Answer {
    said: Option<i32>,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Client {
    /// Asks over this socket.
    pub(crate) fn new(socket: Socket) -> Self {
        let socket = Arc::new(socket);
        let watched = Arc::clone(&socket);
        let link = Mutex::new(Link { socket, number: 0, buffer: Vec::new() });
        Self { link, direct: Direct::default(), watched, ending: AtomicBool::default() }
    }

    /// Waits until the broker has ended. False if that is no news, since the agent ends.
    pub(crate) fn wait_for_end(&self) -> bool {
        // Where it cannot be watched the next request tells.
        self.watched.wait_for_end().is_ok() && !self.ending.load(Ordering::Acquire)
    }

    /// Nothing is asked any more: the broker ends.
    pub(crate) fn let_go(&self) {
        self.ending.store(true, Ordering::Release);
        // It is closed already where the broker has ended.
        let _ = rustix::net::shutdown(&*self.watched, rustix::net::Shutdown::Both);
    }

    /// The bytes of the configuration as it is now, once it is right; from then on it too decides what is opened, until
    /// [`is_in_effect`](Self::is_in_effect). An error is what is wrong with it, in words.
    pub(crate) fn configuration(&self) -> io::Result<Vec<u8>> {
        self.ask(&Request::Configuration, &[], CONFIGURATION_LIMIT).map(|answer| answer.bytes).map_err(io::Error::from)
    }

    /// Says whether the configuration that was read last is taken over. One that is not decides nothing any more; of one
    /// that is, neither does what was in effect before the last.
    pub(crate) fn is_in_effect(&self, is: bool) {
        // A broker that has ended ends the agent as well.
        let _ = self.ask(&Request::InEffect(is), &[], LIMIT);
    }

    fn ask(&self, request: &Request, brought: &[OwnedFd], limit: Duration) -> Result<Answer, Refusal> {
        let deadline = Instant::now() + limit;
        let late = || Refusal::of("the process that opens files for the agent does not answer in time");
        let mut link = self.link.try_lock_until(deadline).ok_or_else(late)?;
        let outcome = link.ask(request, brought, deadline);
        outcome.unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::TimedOut => Err(late()),
            _ => Err(Refusal::of(format!("cannot ask the process that opens files for the agent: {error}"))),
        })
    }

    /// The one descriptor that an answer is.
    fn one(&self, request: &Request) -> io::Result<OwnedFd> {
        let answer = self.ask(request, &[], LIMIT)?;
        answer.descriptors.into_iter().next().ok_or_else(|| io::Error::other("the broker's answer opens nothing"))
    }

    /// Opens by itself, or by the broker where it is a right that is missing.
    fn or_ask<T>(&self, direct: io::Result<T>, request: impl FnOnce() -> Request) -> io::Result<T>
    where
        T: From<OwnedFd>,
    {
        match direct {
            Err(error) if is_denied(&error) => self.one(&request()).map(T::from),
            direct => direct,
        }
    }
}

impl Link {
    /// Sends a request and waits for all of the answer. An error is the connection's.
    fn ask(
        &mut self,
        request: &Request,
        brought: &[OwnedFd],
        deadline: Instant,
    ) -> io::Result<Result<Answer, Refusal>> {
        self.number = self.number.wrapping_add(1);
        let message = encode(self.number, request);
        if message.len() > LONGEST || brought.len() > MOST_BROUGHT {
            return Ok(Err(Refusal::of("it is too long to be asked")));
        }
        let brought: Vec<_> = brought.iter().map(AsFd::as_fd).collect();
        self.socket.send_before(&message, &brought, deadline)?;
        let mut answer = Answer::default();
        loop {
            self.socket.wait(deadline)?;
            self.buffer.resize(LONGEST, 0);
            let arrival = self.socket.receive(&mut self.buffer, MOST_DESCRIPTORS)?;
            let Arrival::Message(length, descriptors) = arrival else {
                let ended = io::Error::new(io::ErrorKind::BrokenPipe, "it has ended");
                return if matches!(arrival, Arrival::End) { Err(ended) } else { Ok(Err(not_understood())) };
            };
            let bytes = match decode(self.buffer.get(..length).unwrap_or_default()) {
                (number, _) if number != self.number => continue,
                (_, Some(Reply::Refused(refusal))) => return Ok(Err(refusal)),
                (_, Some(Reply::Done(said))) => {
                    answer.said = said;
                    self.buffer = Vec::new();
                    return Ok(Ok(answer));
                }
                (_, Some(Reply::Part(bytes))) => bytes,
                (_, None) => return Ok(Err(not_understood())),
            };
            answer.bytes.extend(bytes);
            answer.descriptors.extend(descriptors);
            if answer.bytes.len() > MOST_BYTES || answer.descriptors.len() > MOST_OF_ANSWER {
                return Ok(Err(Refusal::of("the broker's answer is too long")));
            }
        }
    }
}

fn not_understood() -> Refusal {
    Refusal::of("the broker's answer is not understood; this is a mistake in the program, please report it")
}

/// Whether somebody with more rights could do it.
fn is_denied(error: &io::Error) -> bool {
    let denied = [Errno::ACCESS, Errno::PERM, Errno::ROFS].map(|errno| Some(errno.raw_os_error()));
    denied.contains(&error.raw_os_error())
}

/// Why a directory cannot be used by a process that has every right to it.
fn closed(directory: &Path) -> io::Error {
    let words = format!(
        "{} has been closed to this agent since its start (Landlock), or a file system was mounted over it or above it since \
         then; restart the agent",
        directory.display()
    );
    io::Error::new(io::ErrorKind::PermissionDenied, words)
}

/// The directory, if this process can make and remove files in it, and use those that are in it.
fn usable(directory: Directory) -> io::Result<Directory> {
    let through = directory.through();
    accessat(CWD, through, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
    // The file system lets it, or the line above would have failed.
    let entries = fs::read_dir(through).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => closed(directory.named()),
        _ => error,
    })?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            match accessat(CWD, entry.path(), Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS) {
                // Removed meanwhile.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(directory)
}

impl Opener for Client {
    fn read(&self, path: &Path) -> io::Result<File> {
        self.or_ask(self.direct.read(path), || Request::Read(whole_path(path)))
    }

    fn append(&self, path: &Path) -> io::Result<File> {
        self.or_ask(self.direct.append(path), || Request::Append(whole_path(path)))
    }

    fn directory(&self, path: &Path) -> io::Result<Directory> {
        match self.direct.directory(path).and_then(usable) {
            Err(error) if is_denied(&error) => {}
            direct => return direct,
        }
        let opened = self.one(&Request::Directory(whole_path(path)))?;
        usable(Directory::new(path, opened)).map_err(|error| {
            if !is_denied(&error) {
                return error;
            }
            let path = path.display();
            let user = rustix::process::geteuid().as_raw();
            io::Error::new(error.kind(), format!("{path} cannot be used ({error}): chown -R {user} {path}"))
        })
    }

    fn connect(&self, path: &Path, kind: SocketKind, limit: Option<Duration>) -> io::Result<OwnedFd> {
        let direct = self.direct.connect(path, kind, limit);
        if !direct.as_ref().is_err_and(is_denied) {
            return direct;
        }
        let path = whole_path(path);
        let request = match kind {
            SocketKind::Stream => Request::Stream(path),
            SocketKind::Datagram => Request::Datagrams(path),
        };
        let start = Instant::now();
        loop {
            match self.one(&request) {
                Ok(socket) => {
                    ioctl_fionbio(&socket, false)?;
                    return Ok(socket);
                }
                // The broker waits for nobody.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && limit.is_none_or(|limit| start.elapsed() < limit) => {}
                Err(error) => return Err(error),
            }
            let pause = limit.map_or(PAUSE, |limit| limit.saturating_sub(start.elapsed()).min(PAUSE));
            // However it ends, the next attempt is made.
            let _ = poll(&mut [], Timespec::try_from(pause).ok().as_ref());
        }
    }

    fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.or_ask(self.direct.listen(address), || Request::Listen(address))
    }

    fn start(&self, program: &Program) -> io::Result<Started> {
        let answer = self.ask(&Request::Start(program.clone()), &[], LIMIT)?;
        let mut pipes = answer.descriptors.into_iter();
        match (pipes.next(), pipes.next(), pipes.next(), answer.said) {
            (Some(input), Some(output), Some(errors), Some(number)) => {
                Ok(Started { input, output, errors, number: number.cast_unsigned() })
            }
            _ => Err(not_understood().into()),
        }
    }

    fn terminate(&self, program: u32) -> io::Result<()> {
        self.ask(&Request::Terminate(program), &[], LIMIT)?;
        Ok(())
    }

    fn end(&self, program: u32) -> io::Result<ExitStatus> {
        let answer = self.ask(&Request::End(program), &[], LIMIT)?;
        answer.said.map(ExitStatus::from_raw).ok_or_else(|| not_understood().into())
    }

    fn ended(&self, program: u32) -> io::Result<Option<ExitStatus>> {
        let answer = self.ask(&Request::Ended(program), &[], LIMIT)?;
        Ok(answer.said.map(ExitStatus::from_raw))
    }
}

#[cfg(test)]
impl Client {
    /// Asks for a file that this process could open itself.
    pub(crate) fn asks_to_read(&self, path: &Path) -> io::Result<File> {
        self.one(&Request::Read(whole_path(path))).map(File::from)
    }
}

impl Assistant for Client {
    fn assist(&self, probe: &str, request: Message) -> Result<Message, BuildError> {
        let Message { bytes, descriptors } = request;
        if bytes.len() > LONGEST_ASSIST {
            return Err(BuildError::refused("what is asked for is too long", "this is a mistake, please report it"));
        }
        let answer = self.ask(&Request::Assist(probe.to_owned(), bytes), &descriptors, ASSIST_LIMIT);
        answer.map(|Answer { bytes, descriptors, .. }| Message { bytes, descriptors }).map_err(BuildError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::pair;
    use super::*;

    #[test]
    fn an_answer_that_comes_too_late_is_nobodys_and_one_that_never_comes_hangs_nobody() {
        let (ours, its) = pair().expect("sockets");
        let client = Client::new(ours);
        let asks = |limit| client.ask(&Request::Configuration, &[], limit);
        let late = asks(Duration::from_millis(1)).expect_err("nobody answers");
        assert!(format!("{late:?}").contains("does not answer in time"), "{late:?}");
        its.send(&encode(1, &Reply::Part(b"late".to_vec())), &[]).expect("sent");
        its.send(&encode(1, &Reply::Done(Some(1))), &[]).expect("sent");
        its.send(&encode(2, &Reply::Part(b"in time".to_vec())), &[]).expect("sent");
        its.send(&encode(2, &Reply::Done(Some(2))), &[]).expect("sent");
        let answer = asks(LIMIT).expect("an answer");
        assert_eq!((answer.bytes.as_slice(), answer.said), (&b"in time"[..], Some(2)));
        its.send(b"\x03?", &[]).expect("sent");
        assert_eq!(asks(LIMIT).expect_err("no answer"), not_understood());
        // Also where the connection has no room for further ones.
        for _ in 0..10_000 {
            assert_eq!(asks(Duration::ZERO).expect_err("nobody answers"), late);
        }
        let link = client.link.lock();
        assert_eq!(asks(Duration::from_millis(1)).expect_err("somebody else asks"), late);
        drop((link, its));
        let ended = asks(LIMIT).expect_err("it has ended");
        assert!(format!("{ended:?}").contains("cannot ask"), "{ended:?}");
        assert!(client.wait_for_end());
        client.let_go();
        assert!(!client.wait_for_end());
    }
}
