//! The socket where a running agent is asked: one line is the question, `status` or `reload`, one JSON object the answer.
//! Who asks nothing is told the status.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use rustix::thread::CapabilitySet;
use tracing::debug;

use crate::confinement::user::{self, User};
use crate::exit::Exit;
use crate::meeting_place::MeetingPlace;
use crate::reloads::Reloads;
use crate::status::question::{Answer, Question};
use crate::status::report::Source;

/// How long a write to somebody who asked may take: an answer fits into the socket's buffer.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long somebody who asks may take to say what: on a busy machine he may have to wait for a processor in between. Who
/// only connects, as programs did that know of no other question, is told the status then.
const SILENCE: Duration = Duration::from_secs(1);

/// No question is longer.
const LONGEST_QUESTION: usize = 16;

/// Until the next attempt when the system has no room for another connection.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The socket, before anybody answers there; dropping it removes it.
pub(crate) struct Socket {
    listener: UnixListener,
    place: Place,
}

impl Socket {
    /// Makes the socket, in the place of one that a dead agent left, for whom the agent becomes and for root. Whoever asks
    /// from now on is answered when the [`Server`] starts.
    ///
    /// An error says in words why there is no status; the agent runs without it.
    pub(crate) fn bind(path: &Path, user: Option<&User>) -> io::Result<Self> {
        let mut directory_in_use = path.parent().map(|directory| MeetingPlace::at(directory, user)).transpose()?;
        make_room(path)?;
        let listener = match &mut directory_in_use {
            Some(place) => place.put(|directory| bind_for(path, directory, user))?,
            None => bind(path)?,
        };
        let place = Place { path: path.to_owned(), identity: identity(path)?, _directory: directory_in_use };
        listener.set_nonblocking(true)?;
        Ok(Self { listener, place })
    }
}

/// Where the socket is.
struct Place {
    path: PathBuf,
    /// Which file it is: another agent may have replaced it.
    identity: (u64, u64),
    /// Goes after the socket in it.
    _directory: Option<MeetingPlace>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is replaced by the next agent.
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket of an agent that has ended and could not do that itself: its directory may be root's. What is
/// somebody else's, or is answered at, stays.
pub(crate) fn remove_dead(path: &Path) {
    // The next agent would replace it.
    let _ = make_room(path);
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// In a directory of the user's as that user, who could put a link in the socket's place before root changes its mode or
/// its owner; elsewhere as who we are.
fn bind_for(path: &Path, directory: &Path, user: Option<&User>) -> io::Result<UnixListener> {
    let Some(user) = user else { return bind(path) };
    if directory.metadata()?.uid() != user.uid.as_raw() {
        let listener = bind(path)?;
        lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        return Ok(listener);
    }
    // By its descriptor: the way to the directory may be closed to the user.
    let opened = File::open(directory)?;
    let own = Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string());
    let own = own.join(path.file_name().ok_or_else(|| io::Error::other("it has no name"))?);
    let bound = user::acting_as(Some(user), CapabilitySet::empty(), || bind(&own));
    bound.ok_or_else(|| io::Error::other("no thread can be had to make it"))?
}

/// A thread that answers; dropping it ends the thread and removes the socket.
pub(crate) struct Server {
    hang_up: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
    /// Goes when nobody answers any more.
    _place: Place,
}

impl Server {
    /// Starts the thread.
    pub(crate) fn start(socket: Socket, source: Source, asking: Reloads) -> io::Result<Self> {
        let Socket { listener, place } = socket;
        let (ended, hang_up) = io::pipe()?;
        let serve = move || serve(&listener, &ended, &source, &asking);
        let thread = thread::Builder::new().name("status".to_owned()).spawn(serve)?;
        Ok(Self { hang_up: Some(hang_up), thread: Some(thread), _place: place })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hang_up = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Removes the socket of an agent that is dead; refuses to take the place of anything else.
fn make_room(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(io::Error::other("it is there and no socket")),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(stream) => {
            let pid = socket_peercred(&stream)?.pid;
            Err(io::Error::other(format!("the agent with process number {pid} answers there")))
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

fn serve(listener: &UnixListener, ended: &PipeReader, source: &Source, asking: &Reloads) {
    loop {
        let mut fds = [PollFd::new(ended, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        if !fds[0].revents().is_empty() {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                // Who asks and goes away is nobody's loss.
                let answered = answer(stream, source, asking);
                debug!(?answered, "somebody asked");
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // No room for another connection: it would be the same at once, and the end wakes us.
            Err(_) => drop(poll(&mut fds[..1], Some(&PAUSE))),
        }
    }
}

fn answer(mut stream: UnixStream, source: &Source, asking: &Reloads) -> io::Result<()> {
    let peer = socket_peercred(&stream)?.uid;
    if !peer.is_root() && peer != geteuid() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answer = if question(&mut stream) == Question::Reload.line().as_bytes() {
        // Others who ask meanwhile wait.
        serde_json::to_vec(&match asking.wait() {
            Some(Ok(changes)) => Answer::Done { changes },
            Some(Err(refused)) => Answer::Refused { error: refused.reason, usage: refused.exit == Exit::Usage },
            None => Answer::Refused { error: "the agent is ending".to_owned(), usage: false },
        })?
    } else {
        serde_json::to_vec(&source.report())?
    };
    answer.push(b'\n');
    stream.write_all(&answer)
}

/// The line that somebody says, if he does so soon.
fn question(stream: &mut UnixStream) -> Vec<u8> {
    let mut line = Vec::new();
    let _ = stream.set_read_timeout(Some(SILENCE));
    let mut byte = [0];
    while line.len() < LONGEST_QUESTION && line.last() != Some(&b'\n') && stream.read_exact(&mut byte).is_ok() {
        line.push(byte[0]);
    }
    line
}
