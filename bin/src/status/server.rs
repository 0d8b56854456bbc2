//! The socket where a running agent is asked: one line is the question, `status` or `reload`, one JSON object the answer.
//! Who asks nothing is told the status.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use tracing::debug;

use crate::exit::Exit;
use crate::meeting_place::MeetingPlace;
use crate::reloads::Reloads;
use crate::status::question::{Answer, Question};
use crate::status::report::Source;

/// How long a write to somebody who asked may take: an answer fits into the socket's buffer.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long somebody who asks may take to say what. Who only connects, as programs did that know of no other question, is
/// told the status then.
const SILENCE: Duration = Duration::from_millis(50);

/// No question is longer.
const LONGEST_QUESTION: usize = 16;

/// Until the next attempt when the system has no room for another connection.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A thread that answers; dropping it ends the thread and removes the socket.
pub(crate) struct Server {
    path: PathBuf,
    /// Which file the socket is: another agent may have replaced it.
    identity: (u64, u64),
    /// Goes after the socket in it.
    _place: Option<MeetingPlace>,
    hang_up: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Makes the socket, in the place of one that a dead agent left, and starts the thread.
    ///
    /// An error says in words why there is no status; the agent runs without it.
    pub(crate) fn start(path: &Path, source: Source, asking: Reloads) -> io::Result<Self> {
        let mut place = path.parent().map(MeetingPlace::at).transpose()?;
        make_room(path)?;
        let listener = match &mut place {
            Some(place) => place.put(|_| UnixListener::bind(path))?,
            None => UnixListener::bind(path)?,
        };
        let identity = identity(path)?;
        let mut server = Self { path: path.to_owned(), identity, _place: place, hang_up: None, thread: None };
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let (ended, hang_up) = io::pipe()?;
        server.hang_up = Some(hang_up);
        let serve = move || serve(&listener, &ended, &source, &asking);
        server.thread = Some(thread::Builder::new().name("status".to_owned()).spawn(serve)?);
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hang_up = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // What cannot be removed is replaced by the next agent.
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            let _ = fs::remove_file(&self.path);
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
