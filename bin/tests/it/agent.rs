//! The binary under test as a child process.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Far more than anything here takes; only a broken agent gets near it.
const LIMIT: Duration = Duration::from_secs(60);

/// A configuration with which an agent runs anywhere.
pub(crate) const VITALS_ONLY: &str = "[probes.process]\nenabled = false\n[probes.file]\nenabled = false\n";

/// Signals that end nothing.
pub(crate) const HARMLESS: [Signal; 12] = [
    Signal::HUP,
    Signal::PIPE,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::STKFLT,
    Signal::POWER,
    Signal::XCPU,
    Signal::XFSZ,
];

/// The binary, with an environment that says nothing to it.
pub(crate) fn command(arguments: &[&str]) -> Command {
    program(env!("CARGO_BIN_EXE_ebpf-process"), arguments)
}

/// The same of another program that has the agent in it.
pub(crate) fn program(path: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (key, _) in std::env::vars_os() {
        let key_bytes = key.as_encoded_bytes();
        if key_bytes.starts_with(b"EBPF_PROCESS_") || key_bytes.starts_with(b"NETDATA_") || key == "JOURNAL_STREAM" {
            command.env_remove(key);
        }
    }
    command
}

/// The same in a session of its own, without a controlling terminal: whoever runs the tests may have one.
pub(crate) fn without_terminal(arguments: &[&str]) -> Command {
    in_session(&[], arguments)
}

/// The same in a session of its own, whose controlling terminal is its standard input; started by these programs in turn.
pub(crate) fn with_terminal(through: &[&str], arguments: &[&str]) -> Command {
    in_session(&[&["--ctty"], through].concat(), arguments)
}

fn in_session(options: &[&str], arguments: &[&str]) -> Command {
    let agent = command(arguments);
    let mut session = Command::new("setsid");
    session.args(options).arg(agent.get_program()).args(agent.get_args());
    session.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (key, _) in agent.get_envs() {
        session.env_remove(key);
    }
    session
}

/// The same under netdata's name, without netdata's directories.
pub(crate) fn plugin(arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.arg0("/usr/libexec/netdata/plugins.d/ebpf_process.plugin");
    command.env("NETDATA_USER_CONFIG_DIR", "/nonexistent").env("NETDATA_STOCK_CONFIG_DIR", "/nonexistent");
    command
}

/// Says that a test cannot run here.
pub(crate) fn skip(test: &str, reason: &str) {
    // Not eprintln: the test harness would keep it to itself as long as the test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// A folder with a file in it.
pub(crate) fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).expect("a file");
    (folder, path)
}

/// What a finished agent left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The exit code; a death by signal has none.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Finished {
    Running::start(command).finish()
}

/// A running agent; killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Receiver<String>,
    seen: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = child.stderr.take().map_or_else(|| channel().1, lines);
        Self { child, stdout, stderr, seen: String::new() }
    }

    /// The next line on stdout; empty at its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().expect("stdout is read").read_line(&mut line).expect("text");
        line
    }

    /// Nobody reads stdout any more.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Waits for a line on stderr that contains these words.
    pub(crate) fn wait_for_log(&mut self, words: &str) {
        while !self.seen.contains(words) {
            let line = self.stderr.recv_timeout(LIMIT);
            self.seen += &line.unwrap_or_else(|_| panic!("no {words:?} in the log: {}", self.seen));
            self.seen.push('\n');
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a signal");
    }

    /// Waits until none of these signals would be the end by itself.
    pub(crate) fn wait_until_caught(&self, signals: &[Signal]) {
        let status = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let wanted = signals.iter().fold(0_u64, |mask, signal| mask | 1 << (signal.as_raw() - 1));
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(&status).expect("the process runs");
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a set of signals");
            if u64::from_str_radix(caught.trim(), 16).expect("a number") & wanted == wanted {
                return;
            }
            assert!(start.elapsed() < LIMIT, "it never catches {signals:?}");
            thread::yield_now();
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Finished {
        let stdout = self.stdout.take().map(|mut stdout| {
            let (sender, receiver) = channel();
            spawn("stdout", move || {
                let mut text = Vec::new();
                // What was read before an error is what there is.
                let _ = stdout.read_to_end(&mut text);
                let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
            });
            receiver
        });
        let stdout = stdout.map_or_else(String::new, |text| text.recv_timeout(LIMIT).expect("the agent ends"));
        // The log ends with the process, so that waiting for it takes a limit and waiting for the process none.
        loop {
            match self.stderr.recv_timeout(LIMIT) {
                Ok(line) => self.seen.extend([line.as_str(), "\n"]),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("the agent does not end: {error}; its log: {}", self.seen),
            }
        }
        let status = self.child.wait().expect("an exit status");
        Finished { status, stdout, stderr: std::mem::take(&mut self.seen) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    spawn("stderr", move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread");
}
