//! The probe: it asks, takes what was answered, and leaves the rest to a thread.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ebpf_process_core::{Opener, Probe, ProbeError, Recorder};
use ebpf_process_peer::{Owner, Restart, Target};

use crate::book::Book;
use crate::engine::{Engine, Times};
use crate::listener::Listener;
use crate::options::Settings;
use crate::question::Question;
use crate::shared::Standing;
use crate::talker::Talker;

/// Numbers of a program.
pub(crate) struct ExecProbe {
    name: String,
    settings: Settings,
    target: Target,
    opener: Arc<dyn Opener>,
    /// None before the first collection.
    talker: Option<Talker>,
    book: Book,
    /// The number of the last question.
    tick: u64,
    /// Why it is over, while its program ends.
    over: Option<String>,
}

impl ExecProbe {
    /// Of this name. Nothing is started before it is asked for numbers.
    pub(crate) fn new(name: &str, settings: Settings, target: Target, opener: Arc<dyn Opener>) -> Self {
        let book = Book::new(name, settings.rows);
        Self { name: name.to_owned(), settings, target, opener, talker: None, book, tick: 0, over: None }
    }

    fn start(&self) -> std::io::Result<Talker> {
        let Self { name, settings, target, opener, .. } = self;
        let owner = Owner::Probe(name.clone());
        let Settings { format, rows, start_timeout, reply_timeout, close_timeout, .. } = *settings;
        let times = Times { start: start_timeout, reply: reply_timeout, close: close_timeout };
        Talker::start(close_timeout, |shared, ears| {
            let restart = Restart::new(settings.retry_min, settings.retry_max);
            let listener = Listener::new(owner.clone(), format, &kind(name), settings.keys.clone(), rows);
            Engine::new(owner, (Arc::clone(opener), target.clone()), times, (shared, ears), restart, listener)
        })
    }
}

/// The kind of a program that says none: the probe's name.
fn kind(name: &str) -> String {
    name.replace('-', "_").to_ascii_lowercase()
}

/// The time that the program is told; nothing is computed with it.
#[expect(clippy::disallowed_methods, reason = "a collection is not told when it is, and nothing here depends on it")]
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// The end of the probe, as soon as dropping it would not have the collecting thread wait for the program.
fn over(reason: &str, talker: &Talker) -> ProbeError {
    if talker.has_ended() {
        ProbeError::closed(format!("{reason}; the program is not started again before a reload"))
    } else {
        ProbeError::skipped(reason.to_owned())
    }
}

impl Probe for ExecProbe {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let talker = match self.talker.take() {
            Some(talker) => talker,
            None => self.start()?,
        };
        let talker = self.talker.insert(talker);
        if let Some(reason) = &self.over {
            return Err(over(reason, talker));
        }
        self.tick += 1;
        match talker.ask(Question { tick: self.tick, time: now() }) {
            Ok(answer) => self.book.record(answer, recorder).map_err(|refused| {
                // Another probe's kind stays that one's.
                talker.end();
                let reason = self.over.insert(format!("what the program says cannot be recorded: {refused}"));
                over(reason, talker)
            }),
            Err(Standing::Starting) => Err(ProbeError::skipped("the program has just been started")),
            Err(Standing::Working) => Err(ProbeError::skipped("the program has not answered in time")),
            Err(Standing::Wrong(problem) | Standing::Down(problem)) => Err(ProbeError::skipped(problem)),
            Err(Standing::Over(problem)) => Err(over(self.over.insert(problem), talker)),
        }
    }
}

#[cfg(test)]
mod tests;
