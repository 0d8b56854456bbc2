//! An agent that runs by a configuration file which changes while it runs.

use crate::{Failure, Outcome, agent, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// What the log says once a reload is over, whatever came of it.
const READ_AGAIN: [&str; 2] = ["the configuration was read again", "the configuration was not taken over"];

/// The agent and its files. Killed when it is dropped.
#[derive(Debug)]
pub struct Configured {
    child: Child,
    config: PathBuf,
    log: PathBuf,
}

impl Configured {
    /// Writes the configuration and starts `run` with it.
    ///
    /// # Errors
    /// There is no agent, or it cannot be started.
    pub fn start(config: &Path, text: &str) -> Outcome<Self> {
        Self::start_by(agent::command()?, config, text)
    }

    /// The same by a command that starts the agent in a way of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_by(mut command: Command, config: &Path, text: &str) -> Outcome<Self> {
        command.arg("run").arg("--config").arg(config);
        Self::spawn(command, config, text)
    }

    /// The same by a command that is whole, and by which the agent finds the configuration.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(mut command: Command, config: &Path, text: &str) -> Outcome<Self> {
        fs::write(config, text).map_err(Failure::at("the configuration"))?;
        let log = config.with_extension("log");
        let stderr = File::create(&log).map_err(Failure::at("a file for the log"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let child = child.map_err(Failure::at("starting the agent"))?;
        Ok(Self { child, config: config.to_owned(), log })
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged until now.
    ///
    /// # Errors
    /// The file is gone.
    pub fn log(&self) -> Outcome<String> {
        fs::read_to_string(&self.log).map_err(Failure::at("the agent's log"))
    }

    fn ask(&self, command: &str, more: &[&str]) -> Outcome<Output> {
        let mut asked = agent::command()?;
        asked.arg(command).arg("--config").arg(&self.config).args(more);
        asked.output().map_err(Failure::at("asking the agent"))
    }

    /// What it tells of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Outcome<Value> {
        let output = self.ask("status", &["--format", "json"])?;
        serde_json::from_slice(&output.stdout).map_err(Failure::at("the status"))
    }

    /// Returns when it has made a batch.
    ///
    /// # Errors
    /// It makes none, or has ended.
    pub fn wait_for_batch(&mut self) -> Outcome<()> {
        self.wait("a batch", |this| Ok(this.status().ok().filter(|status| status["last_batch"].is_object()).map(drop)))
    }

    /// Waits as long as the agent runs.
    ///
    /// # Errors
    /// As `look`, or it has ended, or it takes too long; the message has the log.
    pub fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Outcome<Option<T>>) -> Outcome<T> {
        let found = wait::until(what, wait::LIMIT, || match self.child.try_wait() {
            Ok(None) => look(self),
            ended => Err(Failure::new(format!("the agent has ended: {ended:?}"))),
        });
        found.map_err(|failure| Failure::new(format!("{failure}; its log:\n{}", self.log().unwrap_or_default())))
    }

    /// Writes another configuration and asks for a reload by the status socket.
    ///
    /// # Errors
    /// The question cannot be asked.
    pub fn reload(&self, text: &str) -> Outcome<Output> {
        fs::write(&self.config, text).map_err(Failure::at("the configuration"))?;
        self.ask("reload", &[])
    }

    /// The same, where it has to be taken over; what has changed comes back.
    ///
    /// # Errors
    /// It is refused.
    pub fn becomes(&self, text: &str) -> Outcome<String> {
        let output = self.reload(text)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Failure::new(format!("reload: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))))
    }

    /// Writes another configuration and asks by a signal. Returns what the log says of it, in a line.
    ///
    /// # Errors
    /// It ends, or says nothing.
    pub fn reload_by_signal(&mut self, text: &str) -> Outcome<String> {
        fs::write(&self.config, text).map_err(Failure::at("the configuration"))?;
        let told = |log: &str| {
            let lines = log.lines().filter(|line| READ_AGAIN.iter().any(|words| line.contains(words)));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = told(&self.log()?).len();
        self.signal(Signal::HUP)?;
        self.wait("what comes of the reload", |this| Ok(told(&this.log()?).into_iter().nth(before)))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or_else(|| Failure::new("no process number"))?, signal).map_err(Failure::at("a signal"))
    }

    /// Asks it to end, and returns what it has logged.
    ///
    /// # Errors
    /// It does not end in time, or with a failure.
    pub fn stop(mut self) -> Outcome<String> {
        self.signal(Signal::TERM)?;
        let status = wait::until("the agent's end", wait::LIMIT, || {
            self.child.try_wait().map_err(Failure::at("the agent's state"))
        })?;
        let log = self.log()?;
        if status.success() { Ok(log) } else { Err(Failure::new(format!("the agent ended with {status}: {log}"))) }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The newest number of a metric with a label in a file of the sink json, host's samples alone; none as long as there is
/// no such number.
///
/// # Errors
/// A whole line is not JSON.
pub fn newest(lines: &Path, name: &str, label: (&str, &str)) -> Outcome<Option<u64>> {
    // It may not have been made yet; and the last line may be on its way.
    let text = fs::read_to_string(lines).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines().rev() {
        let object: Value = serde_json::from_str(line).map_err(Failure::at("a line"))?;
        let mut samples = object["samples"].as_array().into_iter().flatten();
        let found = samples.find(|sample| sample["name"] == name && sample["labels"][label.0] == label.1);
        if let Some(value) = found.and_then(|sample| sample["value"].as_u64()) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}
