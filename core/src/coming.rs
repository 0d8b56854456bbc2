//! Probes that come while the agent runs: what takes time of them is done away from the collecting thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error};

use crate::assistant::Assistant;
use crate::error::BuildError;
use crate::part::ProbePart;
use crate::probe::Prepared;

/// What is to be prepared before an agent becomes another one.
pub(crate) struct Wanted {
    /// Those that are not there as they are to be, each with whether one of its name counts.
    pub(crate) parts: Vec<(ProbePart, bool)>,
    pub(crate) assistant: Option<Arc<dyn Assistant>>,
}

/// Nothing where all of it is done when it begins; an error where there will be no such probe.
pub(crate) type Preparation = Result<Option<Box<dyn Prepared>>, BuildError>;

/// A probe that is to begin, and what was prepared of it.
pub(crate) struct Coming {
    pub(crate) name: Arc<str>,
    prepared: Preparation,
    took: Duration,
    /// Whether one of its name counts.
    replaces: bool,
}

impl Wanted {
    /// Prepares one after another, on this thread.
    pub(crate) fn prepare(self) -> impl Iterator<Item = Coming> {
        let Self { parts, assistant } = self;
        parts.into_iter().map(move |(part, replaces)| Coming { replaces, ..Coming::prepare(&part, assistant.as_ref()) })
    }
}

impl Coming {
    /// Has the plugin prepare a probe. A panic is a refusal that may pass, as that of a probe that counts.
    pub(crate) fn prepare(part: &ProbePart, assistant: Option<&Arc<dyn Assistant>>) -> Self {
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| part.plugin.prepare(&part.options, assistant)));
        let prepared = outcome.unwrap_or_else(|_| {
            error!(probe = %part.name, "the probe panicked while it was prepared");
            Err(BuildError::refused("it panicked while it was prepared", "see the log").passing(true))
        });
        Self { name: Arc::clone(&part.name), prepared, took: started.elapsed(), replaces: false }
    }

    /// Why a probe that counts would be given up for one that cannot be had, if that is so.
    pub(crate) fn refusal(&self) -> Option<&BuildError> {
        let error = self.prepared.as_ref().err().filter(|_| self.replaces)?;
        (!error.is_passing()).then_some(error)
    }

    /// Has it count from here on, and its predecessor asked for the last time, once.
    pub(crate) fn take_over(&mut self, mut ask_predecessor: impl FnMut()) {
        let mut asked = false;
        if let Ok(Some(prepared)) = &mut self.prepared {
            let started = Instant::now();
            let outcome = prepared.take_over(&mut || {
                if !std::mem::replace(&mut asked, true) {
                    ask_predecessor();
                }
            });
            let microseconds = started.elapsed().as_micros();
            debug!(probe = %self.name, microseconds, "it takes over");
            if let Err(error) = outcome {
                self.prepared = Err(error);
            }
        }
        if !asked {
            ask_predecessor();
        }
    }

    /// What was prepared, and how long that took.
    pub(crate) fn into_parts(self) -> (Preparation, Duration) {
        (self.prepared, self.took)
    }

    /// Whether it is begun only when its predecessor is gone.
    pub(crate) const fn waits(&self) -> bool {
        matches!(self.prepared, Ok(None))
    }
}
