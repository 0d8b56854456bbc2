//! The sinks of an agent: their outlets by name, and those that finish.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::info;

use crate::batch::Batch;
use crate::entity::EntityKind;
use crate::error::BuildError;
use crate::ledger::Ledger;
use crate::outlet::{Beginning, Closing, Outlet};
use crate::outlet_spec::OutletSpec;
use crate::part::{Predecessor, SinkKey, SinkPart};
use crate::sink::{SinkPlugin, Stop};
use crate::vitals::Vitals;

/// Sinks an agent may have; each costs a thread and a queue.
const SINK_LIMIT: usize = 64;

/// Those that finish may be as many again.
const ENDS: usize = 4 * SINK_LIMIT;

/// The outlets of an agent.
#[derive(Debug)]
pub(crate) struct Outlets {
    open: Vec<Outlet>,
    /// Of sinks that were taken out or replaced.
    closing: Vec<Closing>,
    ends: (Sender<String>, Receiver<String>),
}

impl Default for Outlets {
    fn default() -> Self {
        Self { open: Vec::new(), closing: Vec::new(), ends: bounded(ENDS) }
    }
}

impl Outlets {
    /// Is told the name of each sink that is over by itself.
    pub(crate) const fn ends(&self) -> &Receiver<String> {
        &self.ends.1
    }

    /// Whether the agent has ended with this sink.
    pub(crate) fn is_essential(&self, name: &str) -> bool {
        self.open.iter().any(|outlet| outlet.spec().essential && outlet.spec().name == name && outlet.is_over())
    }

    pub(crate) fn are_over(&self) -> bool {
        self.open.iter().all(Outlet::is_over)
    }

    /// Starts the thread of a sink.
    pub(crate) fn push(
        &mut self,
        spec: OutletSpec,
        beginning: Beginning,
        (ledger, stop): (Arc<Ledger>, Stop),
        interval: Duration,
        vitals: &Vitals,
    ) -> Result<(), BuildError> {
        if self.open.len() >= SINK_LIMIT {
            return Err(BuildError::refused(format!("more than {SINK_LIMIT} sinks"), "leave some out"));
        }
        let name = spec.name.clone();
        let book = (Arc::clone(&ledger), stop);
        let outlet = Outlet::start(spec, beginning, book, interval, self.ends.0.clone()).map_err(|error| {
            BuildError::refused(format!("cannot start a thread for sink {name}: {error}"), "raise the limit on threads")
        })?;
        vitals.add_sink(&name, &ledger);
        self.open.push(outlet);
        Ok(())
    }

    /// Builds the sink of a part and starts its thread. One that is refused in passing is tried again on that thread; the
    /// refusal is returned all the same, and the sink is there. Whatever else is refused is not there.
    pub(crate) fn start(&mut self, part: SinkPart, interval: Duration, vitals: &Vitals) -> Result<(), BuildError> {
        let (ledger, stop, key) = (Arc::new(Ledger::default()), Stop::default(), SinkKey::of(&part));
        let SinkPart { spec, mut make, .. } = with_kinds(part);
        let (built, refusal) = match make(Arc::clone(&ledger), stop.clone()) {
            Ok(sink) => (Some(sink), None),
            Err(error) if error.is_passing() => (None, Some(error)),
            Err(error) => return Err(error),
        };
        let absent = refusal.as_ref().map(ToString::to_string);
        let beginning = Beginning { built, absent, make: Some((make, key)), predecessor: None };
        self.push(spec, beginning, (ledger, stop), interval, vitals)?;
        refusal.map_or(Ok(()), Err)
    }

    /// Hands a batch to all whose it is.
    pub(crate) fn offer(&mut self, batch: &Arc<Batch>) {
        for outlet in &mut self.open {
            outlet.offer(batch);
        }
    }

    /// How many samples of ended rows the sinks have lost since this was asked last.
    pub(crate) fn take_lost_finals(&mut self) -> u64 {
        self.open.iter_mut().map(Outlet::take_lost_finals).sum()
    }

    /// Becomes these sinks. What stays the same keeps its sink, queue and ledger; another selection or pace is taken over;
    /// for anything else a new sink takes the place, once the one before has finished. Returns what was done, in words.
    pub(crate) fn change_to(
        &mut self,
        parts: Vec<SinkPart>,
        (interval, grace): (Duration, Duration),
        vitals: &Vitals,
    ) -> Vec<String> {
        let mut said = Vec::new();
        let is_configured = |outlet: &Outlet| outlet.key().is_some();
        let stays = |outlet: &Outlet| parts.iter().any(|part| part.spec.name == outlet.spec().name);
        let (gone, open): (Vec<_>, Vec<_>) =
            mem::take(&mut self.open).into_iter().partition(|outlet| is_configured(outlet) && !stays(outlet));
        self.open = open;
        for outlet in gone {
            say(&mut said, format!("sink {} is taken out", outlet.spec().name));
            self.closing.push(outlet.hang_up(grace, None));
        }
        for part in parts {
            let name = part.spec.name.clone();
            let place = self.open.iter().position(|outlet| outlet.spec().name == name);
            let known = place.map(|place| &self.open[place]);
            let is_same = |outlet: &Outlet| {
                let fits =
                    outlet.spec().queue == part.spec.queue && outlet.spec().finals_bytes == part.spec.finals_bytes;
                fits && !outlet.is_over() && outlet.key().is_some_and(|key| key.is(&part))
            };
            if let (Some(place), true) = (place, known.is_some_and(is_same)) {
                if self.open[place].respecify(with_kinds(part).spec, interval) {
                    say(&mut said, format!("sink {name} has another selection or pace"));
                }
                continue;
            }
            let (mut predecessor, mut left) = (None, Vec::new());
            if let Some(place) = place {
                let mut former = self.open.remove(place);
                let (heir, legacy) = bounded(0);
                let inherits = former.key().is_some_and(|key| {
                    key.plugin == part.plugin.name()
                        && key.setting == part.setting
                        && part.plugin.succeeds(&key.options, &part.options)
                });
                if inherits || former.is_absent() {
                    left = former.take_waiting();
                }
                let closing = former.hang_up(grace, inherits.then_some(heir));
                predecessor = Some(Predecessor { legacy, ended: closing.ended(), deadline: closing.deadline() });
                self.closing.push(closing);
                say(&mut said, format!("sink {name} is another one"));
            } else {
                say(&mut said, format!("sink {name} is new"));
            }
            let (ledger, stop, key) = (Arc::new(Ledger::default()), Stop::default(), SinkKey::of(&part));
            let SinkPart { spec, make, .. } = with_kinds(part);
            let beginning = Beginning { built: None, absent: None, make: Some((make, key)), predecessor };
            if let Err(error) = self.push(spec, beginning, (ledger, stop), interval, vitals) {
                say(&mut said, format!("sink {name} is left out: {error}"));
            } else if let Some(outlet) = self.open.last_mut() {
                outlet.take_over(left);
            }
        }
        said
    }

    /// Lets go of those that have finished.
    pub(crate) fn settle(&mut self, vitals: &Vitals) {
        let (due, closing): (Vec<_>, Vec<_>) = mem::take(&mut self.closing).into_iter().partition(Closing::is_due);
        self.closing = closing;
        for mut closing in due {
            closing.wait();
            vitals.retire_sink(&closing.name, &closing.ledger);
        }
    }

    /// Hangs up on all: each has this long.
    pub(crate) fn hang_up(&mut self, grace: Duration) -> Vec<Closing> {
        let closing = self.open.drain(..).map(|outlet| outlet.hang_up(grace, None));
        self.closing.drain(..).chain(closing).collect()
    }
}

fn say(said: &mut Vec<String>, what: String) {
    info!("{what}");
    said.push(what);
}

/// A sink gets those kinds that one of its type gets without asking, where its selection names none.
fn with_kinds(part: SinkPart) -> SinkPart {
    let SinkPart { mut spec, plugin, options, setting, make } = part;
    spec.selection.unasked = unasked(&*plugin);
    SinkPart { spec, plugin, options, setting, make }
}

/// The kinds that a sink of this type gets only where it asks for them.
pub(crate) fn unasked(plugin: &dyn SinkPlugin) -> Vec<String> {
    if plugin.takes_every_kind() { Vec::new() } else { vec![EntityKind::PROCESS.to_owned()] }
}
