//! Another tracing tool at work beside the agent: a child process that writes what it sees.

use crate::agent::lines_of;
use crate::{Failure, Outcome, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How long an interrupted tool may take before it is interrupted again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tool, and the lines of its stdout until now. Killed when it is dropped.
#[derive(Debug)]
pub struct Observer {
    child: Child,
    pipe: Receiver<String>,
    lines: Vec<String>,
}

impl Observer {
    /// Starts it, and returns when `sees` holds for the lines that it has written.
    ///
    /// # Errors
    /// It cannot be started, ends, or sees nothing.
    pub fn start(command: &mut Command, sees: impl Fn(&[String]) -> bool) -> Outcome<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = child.map_err(Failure::at(format!("starting {name}")))?;
        let pipe = lines_of("observer", child.stdout.take())?;
        let mut observer = Self { child, pipe, lines: Vec::new() };
        wait::until(&format!("what {name} sees"), wait::LIMIT, || {
            let ended = observer.child.try_wait().map_err(Failure::at(&name))?;
            observer.lines.extend(observer.pipe.try_iter());
            match ended {
                Some(status) => Err(Failure::new(format!("{name} ended with {status}"))),
                None => Ok(sees(&observer.lines).then_some(())),
            }
        })?;
        Ok(observer)
    }

    /// Interrupts it as Ctrl-C does, and returns all its lines: such tools write their last numbers then.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(mut self) -> Outcome<Vec<String>> {
        let mut interrupted: Option<Instant> = None;
        wait::until("the observer's end", wait::LIMIT, || {
            let ended = self.child.try_wait().map_err(Failure::at("the observer's state"))?;
            // bpftrace heeds it only while it waits for events, and it may be busy with one.
            if ended.is_none() && interrupted.is_none_or(|at| at.elapsed() > PATIENCE) {
                kill_process(Pid::from_child(&self.child), Signal::INT)
                    .map_err(Failure::at("interrupting the observer"))?;
                interrupted = Some(Instant::now());
            }
            Ok(ended)
        })?;
        // The reader hangs up at the end of the pipe: everything written is in the channel by then.
        self.lines.extend(self.pipe.iter());
        Ok(std::mem::take(&mut self.lines))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
