//! Changing an agent while it runs.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::part::Parts;

/// What an agent is told while it runs.
#[derive(Debug)]
pub(crate) enum Command {
    /// Become this, and say what was done.
    Apply(Box<Parts>, Sender<Vec<String>>),
}

/// Tells a running agent from other threads what to become.
#[derive(Clone, Debug)]
pub struct Remote(Sender<Command>);

impl Remote {
    /// Waits until the agent has become this, between two batches: what is the same as before stays as it is, with its
    /// queue, ledger, connection, attachments and totals. Returns what was done, in words; `None` where the agent has
    /// ended.
    pub fn apply(&self, parts: Parts) -> Option<Vec<String>> {
        let (done, said) = bounded(1);
        self.0.send(Command::Apply(Box::new(parts), done)).ok()?;
        said.recv().ok()
    }
}

/// The two ends of the way to an agent.
pub(crate) fn channel() -> (Remote, Receiver<Command>) {
    let (sender, receiver) = bounded(1);
    (Remote(sender), receiver)
}
