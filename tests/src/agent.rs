//! The agent under test: the release binary as a child process, its output read as it comes.

use crate::totals::Totals;
use crate::{Failure, Outcome, built, receivers, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::env;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The release binary: `AGENT_UNDER_TEST`, whatever that is, else the one beside this test's own build.
///
/// # Errors
/// There is none; the message says how to get it.
pub fn binary() -> Outcome<PathBuf> {
    if let Some(path) = env::var_os("AGENT_UNDER_TEST") {
        return Ok(path.into());
    }
    built::find("release/ebpf-process", "cargo build --release")
}

/// Copies it. By another process: a descriptor of ours that may write to the copy would be inherited by whatever other
/// tests start meanwhile, and nobody could execute it.
///
/// # Errors
/// There is no such binary, no `cp`, or no room.
pub fn copy_to(path: &Path) -> Outcome<()> {
    let copied = Command::new("cp").arg(binary()?).arg(path).stdin(Stdio::null()).output();
    let copied = copied.map_err(Failure::at("cp"))?;
    let words = String::from_utf8_lossy(&copied.stderr);
    if copied.status.success() { Ok(()) } else { Err(Failure::new(format!("copying the agent: {}", words.trim_end()))) }
}

/// A command for the agent with nothing in its environment that configures it.
///
/// # Errors
/// As [`binary`].
pub fn command() -> Outcome<Command> {
    Ok(command_of(&binary()?))
}

/// The same by another program, which becomes the agent: in namespaces of its own, for example.
///
/// # Errors
/// There is no agent, or no such program; the message names the package that has it.
pub fn command_by(starter: &str, package: &str, arguments: &[&str]) -> Outcome<Command> {
    let mut command = command_of(&receivers::program(starter, package)?);
    command.args(arguments).arg(binary()?);
    Ok(command)
}

fn command_of(program: &Path) -> Command {
    let mut command = Command::new(program);
    let kept: Vec<(OsString, OsString)> =
        env::vars_os().filter(|(key, _)| !key.as_encoded_bytes().starts_with(b"EBPF_PROCESS_")).collect();
    command.env_clear().envs(kept).stdin(Stdio::null());
    command
}

/// Whom root's agent becomes once its probes are attached: the number of the user that it has on this machine, or the one
/// that owns nothing.
pub fn user() -> u32 {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = |line: &str| line.strip_prefix("ebpf-process:")?.split(':').nth(1)?.parse().ok();
    users.lines().find_map(number).unwrap_or(65534)
}

/// A folder of that user's, in which the agent opens files without any right to open others'.
///
/// # Errors
/// It cannot be made, or given away.
pub fn folder() -> Outcome<TempDir> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    chown(folder.path(), Some(user()), Some(user())).map_err(Failure::at("the folder's owner"))?;
    Ok(folder)
}

/// Whether the agent can count anything on this machine, by its own `check`.
///
/// # Errors
/// Why not.
pub fn can_run() -> Outcome<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("loading kernel programs needs root"));
    }
    let output = command()?.arg("check").output().map_err(Failure::at("running `ebpf-process check`"))?;
    if output.status.success() {
        return Ok(());
    }
    let words =
        String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr }).into_owned();
    let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Err(Failure::new(format!("`ebpf-process check` ends with {}: {last}", output.status)))
}

/// A running agent that writes line protocol to its stdout. Killed when it is dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    lines: Receiver<String>,
    words: Receiver<String>,
    totals: Totals,
    log: String,
}

impl Agent {
    /// Starts `run` with these settings (`key=value`, as for `--set`) and an influx sink on stdout.
    ///
    /// # Errors
    /// There is no binary, or it cannot be started.
    pub fn start(settings: &[String]) -> Outcome<Self> {
        Self::start_program(&binary()?, settings)
    }

    /// The same with an agent that somebody else has built.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_program(program: &Path, settings: &[String]) -> Outcome<Self> {
        let mut command = command_of(program);
        command.arg("run");
        let sink = ["interval=\"100ms\"", "sinks.out.type=influx", "sinks.out.options.url=stdout"];
        for setting in sink.into_iter().chain(settings.iter().map(String::as_str)) {
            command.args(["--set", setting]);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Failure::at("starting the agent"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let agent = Self {
            lines: lines_of("agent-stdout", stdout)?,
            words: lines_of("agent-stderr", stderr)?,
            child,
            totals: Totals::default(),
            log: String::new(),
        };
        Ok(agent)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The totals of everything it has written until now.
    ///
    /// # Errors
    /// It wrote something that is not line protocol.
    pub fn totals(&mut self) -> Outcome<&Totals> {
        for word in self.words.try_iter() {
            self.log.push_str(&word);
            self.log.push('\n');
        }
        for line in self.lines.try_iter() {
            self.totals.read(&line)?;
        }
        Ok(&self.totals)
    }

    /// What it has logged until now.
    ///
    /// # Errors
    /// As [`Agent::totals`].
    pub fn log(&mut self) -> Outcome<&str> {
        self.totals()?;
        Ok(&self.log)
    }

    /// Returns when the first batch comes: from then on it counts. Of its lines some may be on their way.
    ///
    /// # Errors
    /// It ended, or takes too long; the message carries what it logged.
    pub fn wait_for_first_batch(&mut self) -> Outcome<()> {
        self.wait_for_batches(1)
    }

    /// Returns when all lines of the first batch are there, since the second one comes: a tick later.
    ///
    /// # Errors
    /// As [`Agent::wait_for_first_batch`].
    pub fn wait_for_whole_batch(&mut self) -> Outcome<()> {
        self.wait_for_batches(2)
    }

    fn wait_for_batches(&mut self, batches: usize) -> Outcome<()> {
        let first = wait::until("the agent's first batch", wait::LIMIT, || {
            let ended = self.child.try_wait().map_err(Failure::at("the agent's state"))?;
            if self.totals()?.batches() >= batches {
                return Ok(Some(()));
            }
            ended.map_or(Ok(None), |status| {
                Err(Failure::new(format!("the agent ended before its first batch: {status}")))
            })
        });
        first.map_err(|failure| self.with_log(&failure))
    }

    /// Returns when `holds` does for the totals, or after `limit`; says whether it did.
    ///
    /// # Errors
    /// The agent wrote something that is not line protocol.
    pub fn watch(&mut self, limit: Duration, mut holds: impl FnMut(&Totals) -> bool) -> Outcome<bool> {
        let mut broken = None;
        let held = wait::until("the totals", limit, || match self.totals() {
            Ok(totals) => Ok(holds(totals).then_some(())),
            Err(failure) => {
                broken = Some(failure.clone());
                Err(failure)
            }
        });
        broken.map_or(Ok(held.is_ok()), Err)
    }

    /// Asks it to end with SIGTERM, and returns its exit status and its last totals.
    ///
    /// # Errors
    /// It does not end in time, or wrote something that is not line protocol.
    pub fn stop(mut self) -> Outcome<(ExitStatus, Totals)> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new("the agent's process number does not fit"))?;
        kill_process(pid, Signal::TERM).map_err(Failure::at("stopping the agent"))?;
        let status = wait::until("the agent's end", wait::LIMIT, || {
            // Read on, so that a full pipe does not keep it from ending.
            self.totals()?;
            self.child.try_wait().map_err(Failure::at("waiting for the agent"))
        });
        let status = status.map_err(|failure| self.with_log(&failure))?;
        // The readers hang up at the end of the pipes: everything written is in the channel by then.
        while let Ok(line) = self.lines.recv() {
            self.totals.read(&line)?;
        }
        Ok((status, self.totals.clone()))
    }

    fn with_log(&mut self, failure: &Failure) -> Failure {
        // A line that is not line protocol is a failure of its own; here the log matters.
        let _ = self.totals();
        Failure::new(format!("{failure}; its log:\n{}", self.log.trim_end()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A channel with the lines of a pipe, fed by a thread of its own; it hangs up at the end of the pipe.
pub(crate) fn lines_of<R: Read + Send + 'static>(name: &str, pipe: Option<R>) -> Outcome<Receiver<String>> {
    let (sender, receiver): (Sender<String>, _) = channel();
    let pipe = pipe.ok_or_else(|| Failure::new(format!("{name}: no pipe")))?;
    let feed = move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    };
    thread::Builder::new().name(name.into()).spawn(feed).map_err(Failure::at(format!("a thread for {name}")))?;
    Ok(receiver)
}
