//! The process of known numbers: started, moved from stop to stop, reaped; killed when it is dropped.

use crate::{Failure, Outcome, wait};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The executable itself, so that a test can put it where it likes. Empty where there is none (not `x86_64`).
pub const EXECUTABLE: &[u8] = include_bytes!(env!("WORKLOAD"));

/// How often, and with how many bytes: the constants of `workload/counts.h`.
pub mod counts {
    include!(concat!(env!("OUT_DIR"), "/counts.rs"));
}

/// A folder on a tmpfs for the processes of one test, and their executable.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
    // Elsewhere: a container's /dev/shm may forbid to execute what lies there.
    programs: TempDir,
}

impl Place {
    /// Makes the folder in `/dev/shm`: on a stacked file system one unlink would count twice.
    ///
    /// # Errors
    /// No executable for this machine, or `/dev/shm` or the temporary folder cannot be written.
    pub fn new() -> Outcome<Self> {
        if EXECUTABLE.is_empty() {
            return Err(Failure::new("the workload exists for x86_64 only"));
        }
        let mut named = tempfile::Builder::new();
        let named = named.prefix("ebpf-process-");
        let place = Self {
            folder: named.tempdir_in("/dev/shm").map_err(Failure::at("a folder in /dev/shm"))?,
            programs: named.tempdir().map_err(Failure::at("a temporary folder"))?,
        };
        fs::write(place.executable(), EXECUTABLE).map_err(Failure::at("writing the workload"))?;
        fs::set_permissions(place.executable(), Permissions::from_mode(0o755))
            .map_err(Failure::at("making the workload executable"))?;
        Ok(place)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The executable, under the name by which it is started.
    pub(crate) fn executable(&self) -> PathBuf {
        self.programs.path().join("workload")
    }

    /// Starts the whole workload of [`counts`], in a fresh folder of its own.
    ///
    /// # Errors
    /// The process does not start, or does not reach its first stop.
    pub fn all(&self, int80: bool) -> Outcome<Workload> {
        let own = tempfile::tempdir_in(self.path()).map_err(Failure::at("the workload's folder"))?;
        // It is deleted with the place, after the process that works in it.
        let own = own.keep();
        let mut arguments = vec![own.to_string_lossy().into_owned()];
        if !int80 {
            arguments.push("no-int80".into());
        }
        self.start(&arguments)
    }

    /// Starts a process that will read one byte `count` times.
    ///
    /// # Errors
    /// As [`Place::all`].
    pub fn reads(&self, count: u64) -> Outcome<Workload> {
        self.start(&["read".into(), count.to_string()])
    }

    /// Starts a process that will make and delete a file `count` times, in a fresh folder of its own.
    ///
    /// # Errors
    /// As [`Place::all`].
    pub fn deletes(&self, count: u64) -> Outcome<Workload> {
        let own = tempfile::tempdir_in(self.path()).map_err(Failure::at("the workload's folder"))?.keep();
        self.start(&["delete".into(), own.to_string_lossy().into_owned(), count.to_string()])
    }

    /// Starts a process with `count` children, all of them blocked in a read when this returns.
    ///
    /// # Errors
    /// As [`Place::all`].
    pub fn blocked(&self, count: u64) -> Outcome<Workload> {
        self.start(&["blocked".into(), count.to_string()])
    }

    /// Starts a process that will start another one under this number, which must be free then and reads `count` times.
    /// Linux 5.5.
    ///
    /// # Errors
    /// As [`Place::all`].
    pub fn reborn(&self, pid: u32, count: u64) -> Outcome<Workload> {
        self.start(&["reborn".into(), pid.to_string(), count.to_string()])
    }

    /// Starts a process that makes symbolic links and executes itself; see [`Launch`].
    ///
    /// # Errors
    /// As [`Place::all`].
    pub fn launch(&self, launch: &Launch) -> Outcome<Workload> {
        let own = tempfile::tempdir_in(self.path()).map_err(Failure::at("the workload's folder"))?.keep();
        let Launch { made, existing, refused, programs } = launch;
        let numbers = [made, existing, refused, programs].map(ToString::to_string);
        let mode = ["launch".to_owned(), own.to_string_lossy().into_owned()];
        self.start(&[&mode[..], &numbers].concat())
    }

    /// Starts a process that will live beside `count` children, which read one byte every `every` or once, and are there
    /// when this returns.
    ///
    /// # Errors
    /// As [`Place::all`].
    pub fn population(&self, count: usize, every: Option<Duration>) -> Outcome<Workload> {
        let every = every.map_or(0, |every| every.as_millis());
        self.start(&["population".into(), count.to_string(), every.to_string()])
    }

    /// Starts a process that does nothing.
    ///
    /// # Errors
    /// As [`Place::all`].
    pub fn idle(&self) -> Outcome<Workload> {
        self.start(&["idle".into()])
    }

    /// Starts a process that does each of these operations `times` times, the first when it is continued, with a stop
    /// after each. `stacked` is a folder on a stacked file system, or `-`.
    ///
    /// # Errors
    /// As [`Place::all`].
    pub fn operations(&self, stacked: &Path, times: u64, names: &[&str]) -> Outcome<Workload> {
        let own = tempfile::tempdir_in(self.path()).map_err(Failure::at("the workload's folder"))?.keep();
        let own = [own.as_path(), stacked].map(|path| path.to_string_lossy().into_owned());
        let mut arguments = vec!["operations".to_owned()];
        arguments.extend(own);
        arguments.push(times.to_string());
        arguments.extend(names.iter().map(|&name| name.to_owned()));
        self.start(&arguments)
    }

    fn start(&self, arguments: &[String]) -> Outcome<Workload> {
        let mut command = Command::new(self.executable());
        command.args(arguments);
        Workload::start(command)
    }
}

/// What a process of the mode `launch` does.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    /// Symbolic links made, by symlink(2) and symlinkat(2) in turn.
    pub made: u64,
    /// Symbolic links of a name that is taken, which never come to the file system.
    pub existing: u64,
    /// Symbolic links where the file system has none: in sysfs, which has to be writable.
    pub refused: u64,
    /// How often the process executes itself, with 2 + `programs` arguments at first and with 3 at last.
    pub programs: u64,
}

/// One process of known numbers. It stands still whenever none of the methods runs.
#[derive(Debug)]
pub struct Workload {
    child: Child,
    pid: Pid,
    reaped: bool,
}

impl Workload {
    /// Starts what is a workload, in its own words, and returns when it has stopped itself.
    pub(crate) fn start(mut command: Command) -> Outcome<Self> {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        // Busy while another thread's new child still holds the descriptor it was written through.
        let child = wait::until("the workload's executable", wait::LIMIT, || match command.spawn() {
            Err(cause) if cause.kind() == ErrorKind::ExecutableFileBusy => Ok(None),
            started => started.map(Some).map_err(Failure::at("starting the workload")),
        })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new("the workload's process number does not fit"))?;
        let mut workload = Self { child, pid, reaped: false };
        workload.wait_for_stop()?;
        Ok(workload)
    }

    /// Its process number, which is its thread group's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pipe that its standard output is, once, where it was started with one.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Lets it go on, and returns when it stops itself again.
    ///
    /// # Errors
    /// It ended instead (with its own words), or takes too long.
    pub fn run_to_next_stop(&mut self) -> Outcome<()> {
        self.resume()?;
        self.wait_for_stop()
    }

    /// Lets it go on to its end, and reaps it.
    ///
    /// # Errors
    /// It does not end with 0 (with its own words), or takes too long.
    pub fn run_to_end(&mut self) -> Outcome<()> {
        self.resume()?;
        self.wait_for_end()
    }

    /// Reaps it at its end.
    ///
    /// # Errors
    /// As [`Workload::run_to_end`].
    pub fn wait_for_end(&mut self) -> Outcome<()> {
        match self.wait("the end of the workload")? {
            status if status.exit_status() == Some(0) => Ok(()),
            status => Err(self.unexpected("its end", status)),
        }
    }

    /// Whether it has come to its end by now; reaps it then.
    ///
    /// # Errors
    /// It has not ended with 0 (with its own words).
    pub fn has_ended(&mut self) -> Outcome<bool> {
        let status = waitpid(Some(self.pid), WaitOptions::NOHANG).map_err(Failure::at("waiting for the workload"))?;
        let Some((_, status)) = status else { return Ok(false) };
        self.reaped = true;
        if status.exit_status() == Some(0) { Ok(true) } else { Err(self.unexpected("its end", status)) }
    }

    /// Lets it go on, and returns at once.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resume(&self) -> Outcome<()> {
        kill_process(self.pid, Signal::CONT).map_err(Failure::at("continuing the workload"))
    }

    /// Returns when it has stopped itself.
    ///
    /// # Errors
    /// It ended instead (with its own words), or takes too long.
    pub fn wait_for_stop(&mut self) -> Outcome<()> {
        match self.wait("a stop of the workload")? {
            status if status.stopped() => Ok(()),
            status => Err(self.unexpected("a stop", status)),
        }
    }

    /// Whether it has stopped itself by now, which is told once.
    ///
    /// # Errors
    /// It ended instead (with its own words).
    pub fn has_stopped(&mut self) -> Outcome<bool> {
        let status = waitpid(Some(self.pid), WaitOptions::UNTRACED | WaitOptions::NOHANG)
            .map_err(Failure::at("waiting for the workload"))?;
        match status {
            None => Ok(false),
            Some((_, status)) if status.stopped() => Ok(true),
            Some((_, status)) => {
                self.reaped = true;
                Err(self.unexpected("a stop", status))
            }
        }
    }

    fn wait(&mut self, what: &str) -> Outcome<WaitStatus> {
        let (_, status) = wait::until(what, wait::LIMIT, || {
            waitpid(Some(self.pid), WaitOptions::UNTRACED | WaitOptions::NOHANG)
                .map_err(Failure::at("waiting for the workload"))
        })?;
        self.reaped = !status.stopped();
        Ok(status)
    }

    fn unexpected(&mut self, wanted: &str, got: WaitStatus) -> Failure {
        let mut words = String::new();
        if self.reaped
            && let Some(stderr) = &mut self.child.stderr
        {
            // What cannot be read is missing from the message, which stays true without it.
            let _ = stderr.read_to_string(&mut words);
        }
        Failure::new(format!("instead of {wanted} of the workload: {got:?} {}", words.trim_end()))
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        if !self.reaped {
            // Both fail only when it is gone already, which is what they are for.
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

/// Whether this kernel takes 32-bit calls (int80) from a 64-bit process.
///
/// Tried, not read from a configuration: a boot parameter can switch it off.
///
/// # Errors
/// As [`Place::all`].
pub fn int80_works(place: &Place) -> Outcome<bool> {
    let mut workload = place.all(true)?;
    Ok(workload.run_to_next_stop().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_workload_runs_to_its_end() {
        let place = Place::new().unwrap();
        let int80 = int80_works(&place).unwrap();
        let mut workload = place.all(int80).unwrap();
        workload.run_to_next_stop().unwrap();
        workload.run_to_end().unwrap();
    }

    #[test]
    fn without_int80_the_same_work_goes_the_ordinary_way() {
        let place = Place::new().unwrap();
        let mut workload = place.all(false).unwrap();
        workload.run_to_next_stop().unwrap();
        workload.run_to_end().unwrap();
    }

    #[test]
    fn an_unexpected_end_carries_the_words_of_the_process() {
        let place = Place::new().unwrap();
        let failure = place.start(&["nonsense".into()]).unwrap_err();
        assert!(failure.to_string().contains("usage: workload"), "{failure}");
    }

    #[test]
    fn blocked_readers_end_with_their_parent() {
        let place = Place::new().unwrap();
        let mut readers = place.blocked(64).unwrap();
        readers.run_to_end().unwrap();
    }
}
