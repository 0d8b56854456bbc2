//! A sink that looks over another sink's shoulder, and can be held or made to fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::world::World;
use crate::error::SinkError;
use crate::ledger::Ledger;
use crate::sink::{Legacy, Settlement, Sink};
use crate::view::View;

/// What the next call of [`Sink::write`] does beside writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    /// Nothing.
    #[default]
    Plain,
    /// It waits before the view is shown to the sink.
    Held,
    /// It waits after the sink has returned.
    HeldAfter,
    /// The view is lost before the sink has seen it.
    Lost,
    /// It panics before the sink has seen the view.
    Panics,
}

/// What is known of a sink's thread.
#[derive(Debug, Default)]
struct State {
    mood: Mood,
    /// Views that the sink's thread has taken out of the queue, and those that it is through with.
    begun: u64,
    done: u64,
    /// It has nothing to do but to wait for the next view.
    is_idle: bool,
    /// It waits because of its mood.
    is_held: bool,
    /// Which call of the sink has not returned yet.
    call: Option<&'static str>,
    /// Which call was refused last, and why.
    refused: Option<String>,
    /// Which call has panicked.
    panicked: Option<&'static str>,
    settles_itself: bool,
}

/// Both ends of the looking: the kit's thread has one, the sink's the other.
#[derive(Debug, Default)]
pub(super) struct Watch {
    state: Mutex<State>,
    turn: Condvar,
    pub(super) world: Mutex<World>,
}

impl Watch {
    /// Says what the sink's thread is to do at its next view; one that waits goes on if it is to wait no more.
    pub(super) fn be(&self, mood: Mood) {
        self.state.lock().mood = mood;
        self.turn.notify_all();
    }

    /// Waits until the sink is through with so many views and idle. An error names the call that it is in.
    pub(super) fn idle(&self, views: u64, limit: Duration) -> Result<(), String> {
        self.until(limit, |state| state.done >= views && state.is_idle)
    }

    /// Waits until the sink is held.
    pub(super) fn held(&self, limit: Duration) -> Result<(), String> {
        self.until(limit, |state| state.is_held)
    }

    /// Why the sink has refused a call, since this was asked last.
    pub(super) fn take_refused(&self) -> Option<String> {
        self.state.lock().refused.take()
    }

    /// The call in which the sink has panicked, if it has.
    pub(super) fn panicked(&self) -> Option<&'static str> {
        self.state.lock().panicked
    }

    /// Whether the sink enters in the ledger what becomes of its samples.
    pub(super) fn settles_itself(&self) -> bool {
        self.state.lock().settles_itself
    }

    /// Lets a moment pass.
    pub(super) fn pause(&self) {
        let mut state = self.state.lock();
        self.turn.wait_for(&mut state, Duration::from_millis(2));
    }

    fn until(&self, limit: Duration, holds: impl Fn(&State) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        while !holds(&state) {
            if self.turn.wait_until(&mut state, deadline).timed_out() {
                let call =
                    state.call.map_or_else(|| "the sink takes no view".to_owned(), |c| format!("{c} has not returned"));
                return if holds(&state) { Ok(()) } else { Err(call) };
            }
        }
        Ok(())
    }

    fn set(&self, set: impl FnOnce(&mut State)) {
        set(&mut self.state.lock());
        self.turn.notify_all();
    }

    /// Calls the sink.
    fn call<R>(&self, name: &'static str, call: impl FnOnce() -> R) -> R {
        self.set(|state| state.call = Some(name));
        let _end = Call { watch: self, name };
        call()
    }

    fn note(&self, name: &str, result: &Result<(), SinkError>) {
        if let Err(error) = result {
            let refused = format!("{name}: {error}");
            self.set(|state| state.refused = Some(refused));
        }
    }

    fn wait_while(&self, mood: Mood) {
        let mut state = self.state.lock();
        state.is_held = state.mood == mood;
        self.turn.notify_all();
        while state.mood == mood {
            self.turn.wait(&mut state);
        }
        state.is_held = false;
    }
}

/// A call of the sink, until it ends in whatever way.
struct Call<'a> {
    watch: &'a Watch,
    name: &'static str,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.watch.set(|state| {
            state.call = None;
            if std::thread::panicking() {
                state.panicked.get_or_insert(self.name);
            }
        });
    }
}

/// The sink.
pub(super) struct Watched {
    inner: Box<dyn Sink>,
    watch: Arc<Watch>,
    ledger: Arc<Ledger>,
}

impl Watched {
    pub(super) fn new(inner: Box<dyn Sink>, watch: &Arc<Watch>, ledger: &Arc<Ledger>) -> Self {
        let settles_itself = inner.settles() == Settlement::BySink;
        watch.set(|state| state.settles_itself = settles_itself);
        Self { inner, watch: Arc::clone(watch), ledger: Arc::clone(ledger) }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let sink = std::mem::replace(&mut self.inner, Box::new(Gone));
        // While a panic unwinds, one more would end the process.
        if std::thread::panicking() {
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(sink))));
        } else {
            self.watch.call("drop", || drop(sink));
        }
    }
}

/// What stands where a sink was.
struct Gone;

impl Sink for Gone {
    fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Sink for Watched {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.watch.set(|state| {
            state.begun += 1;
            state.is_idle = false;
        });
        self.watch.wait_while(Mood::Held);
        let mood = self.watch.state.lock().mood;
        let result = match mood {
            Mood::Lost => {
                self.watch.be(Mood::Plain);
                if self.inner.settles() == Settlement::BySink {
                    self.ledger.failed(u64::try_from(view.len()).unwrap_or(u64::MAX));
                }
                Err(SinkError::failed("the kit has lost this view on purpose"))
            }
            Mood::Panics => {
                self.watch.be(Mood::Plain);
                std::panic::resume_unwind(Box::new("the kit ends this sink on purpose"));
            }
            Mood::Plain | Mood::Held | Mood::HeldAfter => {
                self.watch.world.lock().give(*view);
                let result = self.watch.call("write", || self.inner.write(view));
                self.watch.note("write", &result);
                result
            }
        };
        self.watch.wait_while(Mood::HeldAfter);
        self.watch.set(|state| state.done += 1);
        result
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let result = self.watch.call("flush", || self.inner.flush());
        self.watch.note("flush", &result);
        result
    }

    fn due(&self) -> Option<Instant> {
        let due = self.watch.call("due", || self.inner.due());
        // Also where something is due: a sink may always have something due.
        self.watch.set(|state| state.is_idle = true);
        due
    }

    fn close(&mut self) -> Result<(), SinkError> {
        let result = self.watch.call("close", || self.inner.close());
        self.watch.note("close", &result);
        result
    }

    fn bequeath(&mut self) -> Option<Legacy> {
        self.watch.call("bequeath", || self.inner.bequeath())
    }

    fn inherit(&mut self, legacy: Legacy) {
        self.watch.call("inherit", || self.inner.inherit(legacy));
    }

    fn settles(&self) -> Settlement {
        self.inner.settles()
    }
}
