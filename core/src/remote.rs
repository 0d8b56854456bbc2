//! Changing an agent while it runs.

use std::fmt;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::coming::{Coming, Wanted};
use crate::part::{Parts, ProbePart};
use crate::running::Gone;

/// What an agent is told while it runs.
pub(crate) enum Command {
    /// Say which of these probes have to be prepared.
    Compare(Vec<ProbePart>, Sender<Wanted>),
    /// Become this, with these probes that were prepared; say what was done, and hand over what is to be detached.
    Apply(Box<Parts>, Vec<Coming>, Sender<(Vec<String>, Gone)>),
}

/// Why an agent has not become what it was to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotApplied {
    /// It has ended.
    Ended,
    /// A probe that counts would be replaced by one that cannot be had, for this reason. Nothing has changed.
    Refused(String),
}

impl fmt::Display for NotApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the agent is ending"),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for NotApplied {}

/// Tells a running agent from other threads what to become.
#[derive(Clone, Debug)]
pub struct Remote(Sender<Command>);

impl Remote {
    /// Waits until the agent has become this, between two batches: what is the same as before stays as it is, with its
    /// queue, ledger, connection, attachments and totals. Returns what was done, in words.
    ///
    /// Probes are [prepared](crate::ProbePlugin::prepare) before that, and those that are replaced or taken out dropped
    /// after it, on the calling thread: the agent collects meanwhile, and waits only while one takes over from the other.
    pub fn apply(&self, parts: Parts) -> Result<Vec<String>, NotApplied> {
        let wanted = self.ask(|answer| Command::Compare(parts.probes.clone(), answer))?;
        let mut prepared = Vec::new();
        for coming in wanted.prepare() {
            if let Some(error) = coming.refusal() {
                let name = &coming.name;
                return Err(NotApplied::Refused(format!("probe {name} cannot be had with its new options: {error}")));
            }
            prepared.push(coming);
        }
        let (said, gone) = self.ask(|answer| Command::Apply(Box::new(parts), prepared, answer))?;
        gone.detach();
        Ok(said)
    }

    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, NotApplied> {
        let (answer, answered) = bounded(1);
        self.0.send(command(answer)).map_err(|_| NotApplied::Ended)?;
        answered.recv().map_err(|_| NotApplied::Ended)
    }
}

/// The two ends of the way to an agent.
pub(crate) fn channel() -> (Remote, Receiver<Command>) {
    let (sender, receiver) = bounded(1);
    (Remote(sender), receiver)
}
