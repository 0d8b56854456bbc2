//! The probe's side of the conversation.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::answer::Answer;
use crate::engine::Engine;
use crate::question::Question;
use crate::shared::{Shared, Standing};

/// A program that is talked to by a thread. Dropping it ends both, within the time to close and a second or two.
#[derive(Debug)]
pub(crate) struct Talker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    close: Duration,
}

impl Talker {
    /// Starts the thread, which starts the program.
    pub(crate) fn start(
        close: Duration,
        engine: impl FnOnce(Arc<Shared>, ebpf_process_peer::Ears) -> Engine,
    ) -> io::Result<Self> {
        let (shared, ears) = Shared::new()?;
        let shared = Arc::new(shared);
        let engine = engine(Arc::clone(&shared), ears);
        let thread = thread::Builder::new().name("exec".to_owned()).spawn(move || engine.run())?;
        Ok(Self { shared, thread: Some(thread), close })
    }

    /// Asks; takes the answer to this question or the one before, or says how the program fares. Never waits.
    pub(crate) fn ask(&self, question: Question) -> Result<Answer, Standing> {
        let has_ended = self.has_ended();
        match self.shared.ask(question) {
            // Of a panic nobody else says anything.
            Err(standing) if has_ended && !matches!(standing, Standing::Over(_)) => {
                Err(Standing::Over("the thread that talks to the program has panicked".to_owned()))
            }
            asked => asked,
        }
    }

    /// What the thread knows too.
    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Has the program ended, without waiting for that.
    pub(crate) fn end(&self) {
        self.shared.end(self.close);
    }

    /// Whether the program and the thread have ended, so that dropping this waits for nothing.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.end();
        if let Some(thread) = self.thread.take() {
            // It ends in time; if it has panicked there is nothing to be done about it.
            let _ = thread.join();
        }
    }
}
