//! Requests to read the configuration again, from whoever may ask, and what comes of them.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tracing::info;

use crate::exit::Exit;

/// What came of a reload: what was done, or why nothing was.
pub(crate) type Outcome = Result<Vec<String>, Refused>;

/// Why a reload changed nothing.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: String,
    /// Whether the configuration is to blame.
    pub(crate) exit: Exit,
}

/// Asks for a reload.
#[derive(Clone)]
pub(crate) struct Reloads(Sender<Option<Sender<Outcome>>>);

/// The requests, for the thread that does them: where somebody waits, each has a way to tell him.
pub(crate) type Requests = Receiver<Option<Sender<Outcome>>>;

/// The two ends of the way to the thread that reloads.
pub(crate) fn channel() -> (Reloads, Requests) {
    // One may wait while one is being done: it will see whatever was written before it was asked for.
    let (sender, receiver) = bounded(1);
    (Reloads(sender), receiver)
}

impl Reloads {
    /// Asks for one and waits for nothing.
    pub(crate) fn ask(&self) {
        // Full: one that has not begun yet does for this one as well.
        if let Err(TrySendError::Disconnected(_)) = self.0.try_send(None) {
            info!("nothing can be reloaded at this moment");
        }
    }

    /// Asks for one and waits for what comes of it; `None` where the agent is ending.
    pub(crate) fn wait(&self) -> Option<Outcome> {
        let (done, outcome) = bounded(1);
        self.0.send(Some(done)).ok()?;
        outcome.recv().ok()
    }
}
