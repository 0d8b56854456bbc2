//! How a plugin opens what it has named: by itself, or through a process that may more.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, prlimit, waitid};
use serde::{Deserialize, Serialize};

use crate::directory::Directory;

/// Opens what a plugin has named in [`SinkPlugin::opens`](crate::SinkPlugin::opens), and nothing that it has not.
///
/// The agent gives up its rights after the start; what its user may not open then is opened for it by a process that
/// has kept them. A plugin need not know: it asks its [`SinkContext::opener`](crate::SinkContext::opener) whenever it
/// opens something, for the first time or anew. An error is what the kernel says, or a refusal in words
/// ([`PermissionDenied`](io::ErrorKind::PermissionDenied) without a number). May be asked from any thread.
pub trait Opener: Send + Sync + Debug {
    /// Opens a file for reading: [`Access::Read`](crate::Access::Read).
    fn read(&self, path: &Path) -> io::Result<File>;

    /// Opens a file for appending, and for reading where it is a regular one, which is made if it is missing:
    /// [`Access::Write`](crate::Access::Write). Never waits: a FIFO that nobody reads is an error (`ENXIO`), and writing
    /// to it does not wait either.
    fn append(&self, path: &Path) -> io::Result<File>;

    /// Opens a directory, which is made if it is missing, such that the calling process can make and remove files in it:
    /// [`Access::Directory`](crate::Access::Directory).
    fn directory(&self, path: &Path) -> io::Result<Directory>;

    /// Connects to a Unix socket: [`Access::Connect`](crate::Access::Connect). Where a listener has no room it is waited
    /// for, no longer than the limit ([`WouldBlock`](io::ErrorKind::WouldBlock)); with a limit of zero not at all.
    /// Operations on the socket wait.
    fn connect(&self, path: &Path, kind: SocketKind, limit: Option<Duration>) -> io::Result<OwnedFd>;

    /// Listens at exactly this address over TCP: [`Access::Listen`](crate::Access::Listen).
    fn listen(&self, address: SocketAddr) -> io::Result<TcpListener>;

    /// Starts a program, without a shell: [`Access::Program`](crate::Access::Program). It ends with the agent at the
    /// latest.
    fn start(&self, program: &Program) -> io::Result<Started>;

    /// Asks a program that was started, and what it has started in its process group, to end (`SIGTERM`). Never waits.
    fn terminate(&self, number: u32) -> io::Result<()>;

    /// Kills a program that was started, with its process group, and waits for its end; its number is then nobody's.
    fn end(&self, number: u32) -> io::Result<ExitStatus>;

    /// How a program has ended, if it has: then its number is nobody's any more, and what it has left in its process
    /// group is killed. Never waits for it.
    fn ended(&self, number: u32) -> io::Result<Option<ExitStatus>>;
}

/// What goes over a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// Bytes.
    Stream,
    /// Messages.
    Datagram,
}

/// A program that a plugin starts, with everything that decides what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program, by its absolute path.
    pub path: PathBuf,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// Its environment beside [`PROGRAM_ENVIRONMENT`], of which it may change what is there; there is no other.
    pub environment: Vec<(OsString, OsString)>,
    /// The directory that it starts in; `/` where there is none.
    pub directory: Option<PathBuf>,
    /// As whom it runs, by name or number, and in which group, if not as the agent's user. That takes an opener with
    /// root's rights.
    pub user: Option<String>,
    /// The group, by name or number, if not that of its user.
    pub group: Option<String>,
    /// The memory that it may have for data, in bytes (`RLIMIT_DATA`).
    pub memory: Option<u64>,
}

/// A program that runs, in a process group of its own.
#[derive(Debug)]
pub struct Started {
    /// Where its standard input comes from.
    pub input: OwnedFd,
    /// Where its standard output goes to.
    pub output: OwnedFd,
    /// Where its standard error goes to.
    pub errors: OwnedFd,
    /// By which it is [ended](Opener::end).
    pub number: u32,
}

/// What every started program finds in its environment unless its own is another.
pub const PROGRAM_ENVIRONMENT: [(&str, &str); 2] = [("PATH", "/usr/bin:/bin"), ("LANG", "C.UTF-8")];

impl Program {
    /// The command that runs it in its directory, with nothing but its own environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear().envs(PROGRAM_ENVIRONMENT);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.directory.as_deref().unwrap_or(Path::new("/")));
        command
    }
}

/// Opens with the rights of this process: what an [`Opener`] is where nobody has more of them.
#[derive(Debug, Default)]
pub struct Direct {
    started: Mutex<BTreeMap<u32, Child>>,
}

impl Opener for Direct {
    fn read(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    fn append(&self, path: &Path) -> io::Result<File> {
        let is_fifo = fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo());
        let mut options = OpenOptions::new();
        // Opening a FIFO would wait for its reader, and whoever opens it for reading too is its reader.
        #[allow(clippy::cast_possible_wrap, reason = "flags are single bits; `cast_signed` is of Rust 1.87")]
        options.append(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
        if !is_fifo {
            options.read(true).create(true);
        }
        options.open(path)
    }

    fn directory(&self, path: &Path) -> io::Result<Directory> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Directory::open(path)
    }

    fn connect(&self, path: &Path, kind: SocketKind, limit: Option<Duration>) -> io::Result<OwnedFd> {
        let kind = match kind {
            SocketKind::Stream => SocketType::STREAM,
            SocketKind::Datagram => SocketType::DGRAM,
        };
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        let at_once = limit.is_some_and(|limit| limit.is_zero());
        if at_once {
            ioctl_fionbio(&socket, true)?;
        } else {
            set_socket_timeout(&socket, Timeout::Send, limit)?;
        }
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        if at_once {
            ioctl_fionbio(&socket, false)?;
        } else {
            set_socket_timeout(&socket, Timeout::Send, None)?;
        }
        Ok(socket)
    }

    fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address)
    }

    fn start(&self, program: &Program) -> io::Result<Started> {
        if program.user.is_some() || program.group.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a program runs as another user only where root starts the agent and the agent gives its rights up",
            ));
        }
        let mut command = program.command();
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(io::Error::other("it has no pipes"));
        };
        let number = child.id();
        let limited = program.memory.map_or(Ok(()), |memory| limit_data(pid_of(&child)?, memory));
        self.started.lock().insert(number, child);
        if let Err(error) = limited {
            self.end(number)?;
            return Err(error);
        }
        Ok(Started { input: input.into(), output: output.into(), errors: errors.into(), number })
    }

    fn terminate(&self, number: u32) -> io::Result<()> {
        let started = self.started.lock();
        signal_group(pid_of(started.get(&number).ok_or_else(not_started)?)?, Signal::TERM)
    }

    fn end(&self, number: u32) -> io::Result<ExitStatus> {
        let mut child = self.started.lock().remove(&number).ok_or_else(not_started)?;
        signal_group(pid_of(&child)?, Signal::KILL)?;
        child.wait()
    }

    fn ended(&self, number: u32) -> io::Result<Option<ExitStatus>> {
        let mut started = self.started.lock();
        let child = started.get_mut(&number).ok_or_else(not_started)?;
        if !is_over(pid_of(child)?)? {
            return Ok(None);
        }
        // As long as nobody has asked how it ended, its number is nobody else's.
        signal_group(pid_of(child)?, Signal::KILL)?;
        let ended = child.wait()?;
        started.remove(&number);
        Ok(Some(ended))
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        for child in self.started.get_mut().values_mut() {
            // One that has ended by itself needs no more than to be waited for.
            let _ = pid_of(child).and_then(|pid| signal_group(pid, Signal::KILL));
            let _ = child.wait();
        }
    }
}

fn pid_of(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(not_started)
}

/// Whether a child has ended, which stays to be waited for.
fn is_over(pid: Pid) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(pid), options)?.is_some())
}

/// Sends a signal to a process group, of which nobody may be left.
fn signal_group(pid: Pid, signal: Signal) -> io::Result<()> {
    match kill_process_group(pid, signal) {
        Err(Errno::SRCH) => Ok(()),
        sent => Ok(sent?),
    }
}

fn limit_data(pid: Pid, bytes: u64) -> io::Result<()> {
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    Ok(prlimit(Some(pid), Resource::Data, limit).map(drop)?)
}

fn not_started() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no program of this number was started, or its end was told")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_program_runs_in_pipes_with_its_own_environment_and_is_ended() {
        let opener = Direct::default();
        let program = |script: &str| Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("WORD".into(), "two words".into()), ("LANG".into(), "C".into())],
            directory: Some("/usr".into()),
            memory: Some(64 << 20),
            ..Program::default()
        };
        let says = "read line; echo \"$line $WORD $PATH $LANG $CARGO $(pwd)\"; ulimit -d >&2";
        let echo = opener.start(&program(says)).expect("a program");
        File::from(echo.input).write_all(b"one\n").expect("a line");
        let mut said = String::new();
        File::from(echo.output).read_to_string(&mut said).expect("text");
        File::from(echo.errors).read_to_string(&mut said).expect("text");
        assert_eq!(said, "one two words /usr/bin:/bin C  /usr\n65536\n");
        let sleeper = opener.start(&program("exec sleep 1000")).expect("a program");
        assert_eq!(opener.ended(sleeper.number).expect("it is ours"), None);
        assert!(!opener.end(sleeper.number).expect("ended").success());
        assert!(opener.end(sleeper.number).is_err(), "its number is nobody's");
        let other = Program { user: Some("nobody".into()), ..program("") };
        assert!(opener.start(&other).is_err(), "it has no right to be somebody else");
    }

    #[test]
    fn what_a_program_leaves_behind_ends_with_it_and_one_that_is_asked_to_may_end_by_itself() {
        let opener = Direct::default();
        let program = |script: &str| Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            ..Program::default()
        };
        let leaves = opener.start(&program("sleep 1000 & exit 3")).expect("a program");
        let ended = loop {
            if let Some(ended) = opener.ended(leaves.number).expect("it was started") {
                break ended;
            }
            std::thread::yield_now();
        };
        assert_eq!(ended.code(), Some(3));
        // It held the pipe.
        assert_eq!(File::from(leaves.output).read(&mut [0]).expect("its end"), 0);
        let asked = opener.start(&program("trap 'echo asked; exit 4' TERM; echo ready; read line")).expect("a program");
        let mut output = File::from(asked.output);
        output.read_exact(&mut [0; 6]).expect("it is ready");
        opener.terminate(asked.number).expect("asked");
        let mut said = String::new();
        output.read_to_string(&mut said).expect("text");
        assert_eq!(said, "asked\n");
        assert_eq!(opener.end(asked.number).expect("ended").code(), Some(4));
        assert!(opener.terminate(asked.number).is_err(), "its number is nobody's");
    }

    #[test]
    fn a_listener_without_room_is_waited_for_no_longer_than_the_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let _listener = UnixListener::bind(&path).expect("a listener");
        let opener = Direct::default();
        let connect = |limit| opener.connect(&path, SocketKind::Stream, Some(limit));
        let connected: Vec<_> = (0..10_000).map_while(|_| connect(Duration::ZERO).ok()).collect();
        assert!(connected.len() < 10_000);
        let refused = connect(Duration::from_millis(1)).expect_err("no room");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
