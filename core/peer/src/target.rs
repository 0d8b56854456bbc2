//! What is talked to.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebpf_process_core::{Access, Opener, Program, SocketKind, Started, explain};
use rustix::pipe::fcntl_setpipe_size;

use crate::peer::Peer;

/// A program that is started, or a socket that is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Its standard input and output are the connection.
    Program(Program),
    /// Somebody listens there.
    Socket(PathBuf),
}

/// What stands in the way of it, and the way out.
#[derive(Debug)]
pub struct Obstacle {
    /// What is wrong, and where.
    pub problem: String,
    /// What to do about it.
    pub way_out: String,
}

/// Bytes that a program's input holds: most of what it is told as a whole, so that it and this agent wake each other but once. The
/// kernel gives that to everybody (`/proc/sys/fs/pipe-max-size`).
const ROOM: usize = 1 << 20;

/// The permission bits of a group and of everybody else to write.
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;
const ANYBODY_EXECUTES: u32 = 0o111;

impl Target {
    /// What the agent has to be able to open.
    pub fn access(&self) -> Access {
        match self {
            Self::Program(program) => Access::Program(program.clone()),
            Self::Socket(path) => Access::Connect(path.clone()),
        }
    }

    /// Starts it, or connects to it within the limit; with the number by which a program is ended. An error is what is wrong,
    /// in words.
    pub fn open(&self, opener: &dyn Opener, limit: Duration) -> Result<(Peer, Option<u32>), String> {
        match self {
            Self::Program(program) => {
                let shown = program.path.display();
                if let Err(Obstacle { problem, way_out }) = examine_program(&program.path) {
                    return Err(format!("{problem}; {way_out}"));
                }
                let Started { input, output, errors, number } = opener.start(program).map_err(|error| {
                    if error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()) {
                        format!(
                            "cannot start {shown}: {error}; an agent that was not started by root starts no program once \
                             it has given up its rights: let the program listen and use address, or set capabilities = \
                             \"keep\""
                        )
                    } else {
                        format!("cannot start {shown}: {error}")
                    }
                })?;
                // Where the kernel gives no more, its usual room is enough.
                let _ = fcntl_setpipe_size(&input, ROOM);
                let peer = Peer::program(input, output, errors);
                Ok((peer.map_err(|error| format!("cannot talk to {shown}: {error}"))?, Some(number)))
            }
            Self::Socket(path) => {
                let connected = opener.connect(path, SocketKind::Stream, Some(limit)).and_then(Peer::socket);
                let peer = connected.map_err(|error| {
                    format!(
                        "cannot connect to {}: {}; is the program behind it running?",
                        path.display(),
                        explain(&error)
                    )
                })?;
                Ok((peer, None))
            }
        }
    }

    /// Looks whether it is there and as it has to be, without starting or connecting to anything: what was found, in words.
    pub fn examine(&self) -> Result<String, Obstacle> {
        match self {
            Self::Program(program) => {
                examine_program(&program.path)?;
                Ok(format!("{} can be started", program.path.display()))
            }
            Self::Socket(path) => examine_socket(path),
        }
    }
}

fn examine_program(path: &Path) -> Result<(), Obstacle> {
    let shown = path.display();
    let obstacle = |problem: String, way_out: &str| Err(Obstacle { problem, way_out: way_out.to_owned() });
    let found = match fs::metadata(path) {
        Ok(found) => found,
        // Who may not look there may be able to start it all the same: the start tells.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return obstacle(format!("cannot find {shown}: {error}"), "install it, or change program"),
    };
    let mode = found.permissions().mode();
    if !found.is_file() || mode & ANYBODY_EXECUTES == 0 {
        return obstacle(
            format!("{shown} is no file that can be executed"),
            "make it one (chmod +x), or change program",
        );
    }
    let own = rustix::process::geteuid().as_raw();
    let strangers = ![0, own].contains(&found.uid());
    if strangers || mode & ALL_WRITE != 0 || (mode & GROUP_WRITES != 0 && found.gid() != 0) {
        let problem = format!("{shown} can be changed by others than root and the agent's user");
        return obstacle(problem, "give it to root and let nobody else write to it (chown root, chmod go-w)");
    }
    Ok(())
}

fn examine_socket(path: &Path) -> Result<String, Obstacle> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(format!("there is a socket at {shown}")),
        Ok(_) => {
            let way_out = "change address, or remove what is there".to_owned();
            Err(Obstacle { problem: format!("{shown} is no socket"), way_out })
        }
        Err(error) => {
            let way_out = "start the program that listens there, or change address".to_owned();
            Err(Obstacle { problem: format!("cannot find the socket {shown}: {}", explain(&error)), way_out })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn a_program_is_a_file_that_nobody_else_writes_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("program");
        let problem = || examine_program(&path).map_err(|obstacle| obstacle.problem);
        assert!(problem().expect_err("there is none").contains("cannot find"));
        fs::write(&path, "").expect("a file");
        for (mode, wrong) in
            [(0o644, Some("no file that can be executed")), (0o755, None), (0o700, None), (0o757, Some("by others"))]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            match (problem(), wrong) {
                (Ok(()), None) => {}
                (Err(problem), Some(wrong)) => assert!(problem.contains(wrong), "{problem}"),
                (found, wrong) => panic!("{mode:o}: {found:?}, {wrong:?}"),
            }
        }
        // What a group writes to is the group's, unless that is root's.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o775)).expect("a mode");
        let is_roots = fs::metadata(&path).expect("a file").gid() == 0;
        assert_eq!(problem().is_ok(), is_roots);
        if chown(&path, None, Some(1)).is_ok() {
            assert!(problem().expect_err("the group writes").contains("by others"));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
            assert_eq!(problem(), Ok(()), "a group that does not");
        }
        assert!(examine_program(folder.path()).is_err(), "a directory");
        assert!(examine_socket(&path).expect_err("a file").problem.contains("no socket"));
        let socket = folder.path().join("socket");
        assert!(examine_socket(&socket).expect_err("nothing").problem.contains("cannot find"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a listener");
        assert!(examine_socket(&socket).is_ok());
    }
}
