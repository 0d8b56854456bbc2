//! A kernel probe that counts.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ebpf_process_core::{Assistant, ColumnId, Probe, ProbeError, Recorder, Refused, RowId};
use tracing::{debug, info, warn};

use crate::assist;
use crate::attach::Loss;
use crate::attachment::Attachment;
use crate::built::Chosen;
use crate::by_whom::ByWhom;
use crate::candidate::Candidate;
use crate::catalog::HookColumns;
use crate::counter::{OPERATIONS, Output};
use crate::doubt::Doubt;
use crate::exactness::{Facts, doubts, fires_anywhere};
use crate::hook::{Attach, HookReport};
use crate::kernel::Kernel;
use crate::maps::Maps;
use crate::options::{Mode, ProbeOptions};
use crate::preemption::Preemption;
use crate::reader::Reader;
use crate::selftest::Trial;
use crate::standing::Standing;
use crate::vigil::{Duty, HOOKS, Vigil, demand};

/// Reads the totals once per tick.
pub(crate) struct CountingProbe {
    name: &'static str,
    attachment: Attachment,
    options: ProbeOptions,
    /// Of the machine, as found now.
    facts: Facts,
    looked: Instant,
    started: Instant,
    letting_go: Option<JoinHandle<()>>,
    /// Who attaches again what has stopped firing, where this process cannot.
    assistant: Option<Arc<dyn Assistant>>,
    host: RowId,
    hooks: HookColumns,
    /// By chosen counter.
    series: Vec<CounterSeries>,
    /// Of maps of the probe's own.
    reader: Option<(Box<dyn Reader>, Maps)>,
    /// Rows of those who did it.
    by_whom: Option<ByWhom>,
    settled: bool,
}

/// What one counter feeds.
struct CounterSeries {
    /// On the kind of hooks.
    row: RowId,
    info: ColumnId,
    standing: Standing,
    vigil: Vigil,
    duty: Duty,
    /// The host's columns.
    outputs: Vec<(&'static Output, ColumnId)>,
}

impl CountingProbe {
    pub(crate) fn new(
        name: &'static str,
        attachment: Attachment,
        options: ProbeOptions,
        reader: Option<(Box<dyn Reader>, Maps)>,
        assistant: Option<Arc<dyn Assistant>>,
        recorder: &mut Recorder,
    ) -> Result<Self, Refused> {
        let hooks = HookColumns::declare(recorder)?;
        let chosen = attachment.chosen.iter();
        let series = chosen.map(|chosen| CounterSeries::new(chosen, options.mode, &hooks, recorder));
        let series = series.collect::<Result<Vec<_>, _>>()?;
        let facts = attachment.facts;
        let (looked, started) = (Instant::now(), Instant::now());
        let by_whom = options.who().map(|who| ByWhom::new(&who, &attachment.chosen, options.mode, recorder));
        let by_whom = by_whom.transpose()?;
        Ok(Self {
            name,
            attachment,
            options,
            facts,
            looked,
            started,
            letting_go: None,
            assistant,
            host: recorder.host(),
            hooks,
            series,
            reader,
            by_whom,
            settled: false,
        })
    }

    /// Records what one counter has counted since the baseline.
    fn count(&mut self, index: usize, now: Duration, recorder: &mut Recorder) -> io::Result<()> {
        let missed = self.attachment.missed(index)?;
        let (Some(series), Some(chosen)) = (self.series.get_mut(index), self.attachment.chosen.get(index)) else {
            return Ok(());
        };
        let missed = missed.wrapping_sub(chosen.missed_base);
        let (counted, missed) = if chosen.misses_are_calls { (missed, 0) } else { (0, missed) };
        let mut calls = 0_u64;
        for part in 0..chosen.candidate.parts.len() {
            let mut record = self.attachment.since_baseline(index, part)?;
            calls = calls.wrapping_add(record.calls);
            record.calls = record.calls.wrapping_add(counted);
            for (output, column) in series.outputs.iter().filter(|(output, _)| output.part == part) {
                recorder.counter(self.host, *column, output.field.of(record));
            }
        }
        if let Some(by_whom) = &mut self.by_whom {
            by_whom.record_missed(index, counted, recorder).map_err(io::Error::other)?;
        }
        recorder.gauge(series.row, series.info, 1.0);
        recorder.counter(series.row, self.hooks.missed, missed);
        if missed > 0 {
            series.standing.update(Doubt::Missed, true);
        }
        series.duty = series.vigil.look(now, calls);
        Ok(())
    }

    /// Whether the hooks still fire. What the agent does for that is done after the totals were read, and counted with
    /// the next.
    fn watch(&mut self) {
        let now = self.started.elapsed();
        for (tier, fires) in self.attachment.switches.look() {
            if fires {
                info!(%tier, "its hooks are switched on again");
            }
            let hooked = self.attachment.chosen.iter().zip(&mut self.series);
            for (_, series) in hooked.filter(|(chosen, _)| chosen.candidate.tier == tier) {
                series.standing.fires(fires);
                if !fires {
                    series.vigil.found_silent();
                }
            }
        }
        // A filter lets nothing through that is ours.
        if self.options.only.is_none() {
            for index in 0..self.series.len() {
                self.keep_vigil(index, now);
            }
        }
    }

    fn keep_vigil(&mut self, index: usize, now: Duration) {
        let (Some(series), Some(chosen)) = (self.series.get_mut(index), self.attachment.chosen.get(index)) else {
            return;
        };
        let (counter, candidate) = (chosen.counter, &chosen.candidate);
        let known_off = self.attachment.switches.silences(candidate.tier);
        let duty = std::mem::replace(&mut series.duty, Duty::Nothing);
        let fires = match duty {
            Duty::Nothing => return,
            _ if known_off => return series.vigil.asked(now, None),
            Duty::Ask => {
                let before = self.attachment.seen(index).ok();
                let done = (0..OPERATIONS).try_for_each(|_| (counter.exercise)(&mut |_| Ok(())));
                return series.vigil.asked(now, before.filter(|_| done.is_ok()));
            }
            Duty::Back => true,
            Duty::Judge => {
                // What cannot be read is no verdict: it is due again at the next look.
                let demands = demands(&chosen.candidate);
                let Ok(after) = self.attachment.seen(index) else { return };
                series.vigil.judge(now, after, demands)
            }
        };
        let (name, was_firing) = (counter.name, series.standing.is_firing());
        series.standing.fires(fires);
        if fires {
            if !was_firing {
                info!(counter = name, "its hooks fire again");
            }
            return;
        }
        warn!(
            counter = name,
            "its hooks do not fire: of {OPERATIONS} operations of the agent's own not all were counted, and what happens \
             meanwhile is in no number"
        );
        self.attach_again(index, now);
    }

    /// Attaches the hooks of a silent counter again, and with them those of every counter that stands on the same: unless
    /// one of these moves, for then they fire, and to let go of them would cost it events.
    fn attach_again(&mut self, index: usize, now: Duration) {
        let Some(silent) = self.attachment.chosen.get(index) else { return };
        let (name, candidate) = (silent.counter.name, silent.candidate.clone());
        let shared = |other: &Chosen| other.counter.name != name && other.candidate.shares_a_hook_with(&candidate);
        let hooked = || self.attachment.chosen.iter().zip(&self.series);
        if let Some((mover, _)) = hooked().find(|(other, series)| shared(other) && series.vigil.moves(now)) {
            let mover = mover.counter.name;
            warn!(counter = name, "its hooks are not attached again: they count for {mover}, which would lose events");
            return;
        }
        let Some(series) = self.series.get_mut(index) else { return };
        if !series.vigil.attach_again(now) {
            return;
        }
        if !self.attachment.can_attach_again(&candidate) {
            warn!(counter = name, "this kernel attaches a trampoline once (Linux 5.10 to 5.13); restart the agent");
            return;
        }
        let (probe, possible_cpus) = (self.name, self.attachment.possible_cpus);
        let helper = &self.assistant;
        let mut attach = |losses: &[Loss<'_>]| match helper {
            Some(assistant) => assist::attach_again(probe, assistant, losses),
            None => losses.iter().map(|loss| loss.attach(possible_cpus)).collect(),
        };
        match self.attachment.attach_again(index, &mut attach) {
            Ok(true) => info!(counter = name, "its hooks were attached again"),
            Ok(false) => {
                warn!(
                    counter = name,
                    "its hooks are not attached again: they count for others, which would lose events"
                );
                return;
            }
            Err(error) => warn!(counter = name, "its hooks cannot be attached again: {error}; restart the agent"),
        }
        let hooked = self.attachment.chosen.iter().zip(&mut self.series);
        for (other, series) in hooked.filter(|(other, _)| shared(other)) {
            warn!(
                counter = other.counter.name,
                "its hooks are those of {name}, which did not fire: what they missed is lost"
            );
            series.standing.fires(false);
            series.vigil.attached_with_another(now);
            series.duty = Duty::Nothing;
        }
    }

    /// The preemption model may be chosen anew at any time: looked at once a minute.
    fn look_again(&mut self) {
        if self.looked.elapsed() < LOOK_AGAIN {
            return;
        }
        self.looked = Instant::now();
        let Some(preemption) =
            self.attachment.in_force.read().filter(|_| self.facts.preemption != Preemption::RealTime)
        else {
            return;
        };
        self.facts.preemption = preemption;
        for (chosen, series) in self.attachment.chosen.iter().zip(&mut self.series) {
            let found = doubts(&self.facts, &chosen.candidate, &self.options);
            // Only what preemption decides can have changed.
            for doubt in [Doubt::OtherPrograms, Doubt::PreemptionUnknown, Doubt::Preempted] {
                series.standing.update(doubt, found.contains(&doubt));
            }
        }
    }
}

impl CounterSeries {
    fn new(chosen: &Chosen, mode: Mode, hooks: &HookColumns, recorder: &mut Recorder) -> Result<Self, Refused> {
        let HookReport { tier, layer, function, exact, doubts, .. } = &chosen.hook;
        let exact = if *exact { "yes" } else { "no" };
        let counter = chosen.counter.name;
        let row = hooks.row(recorder, counter)?;
        let host = recorder.host_kind();
        let outputs = chosen
            .counter
            .outputs_in(mode)
            .map(|output| Ok((output, recorder.column(host, output.metric.column(output.label))?)));
        let outputs = outputs.collect::<Result<_, Refused>>()?;
        Ok(Self {
            row,
            info: hooks.info(recorder, [tier.as_str(), layer.as_str(), function, exact])?,
            standing: Standing::new(counter, row, hooks, doubts, chosen.misses_are_a_bound),
            vigil: Vigil::new(Duration::ZERO),
            duty: Duty::Nothing,
            outputs,
        })
    }
}

/// How often the preemption model is looked at.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Lets go of the programs of the self-test by a thread of its own: on Linux 6.1 to 6.12 each trampoline can take 0.15 s,
/// and where only the starts of calls are counted nobody has to wait for that.
fn let_go(trial: Option<Trial>) -> Option<JoinHandle<()>> {
    let trial = trial?;
    let started = Instant::now();
    let work = move || {
        drop(trial);
        debug!(milliseconds = started.elapsed().as_millis(), "let go of the programs of the self-test");
    };
    // Where no thread can be had they are let go here and now.
    thread::Builder::new().name("let-go".into()).spawn(work).ok()
}

impl Drop for CountingProbe {
    /// What is left of a test would outlive us in tracefs.
    fn drop(&mut self) {
        if let Some(thread) = self.letting_go.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

/// How many operations of the agent's own each hook of a candidate must see.
fn demands(candidate: &Candidate) -> [u64; HOOKS] {
    let mut demands = [0; HOOKS];
    for (demanded, hook) in demands.iter_mut().zip(candidate.proofs()) {
        *demanded = demand(fires_anywhere(hook));
    }
    demands
}

impl Probe for CountingProbe {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        if !std::mem::replace(&mut self.settled, true) {
            Kernel::forget();
            let trial = self.attachment.trial.take();
            let mut candidates = self.attachment.chosen.iter().map(|chosen| &chosen.candidate);
            if candidates.any(|candidate| candidate.has(|attach| matches!(attach, Attach::Fexit(..)))) {
                // When a trampoline changes, calls that are under way in it end without its programs, which nobody counts
                // (`bpf_tramp_image_put`): it has to be over before the first batch.
                drop(trial);
            } else {
                self.letting_go = let_go(trial);
            }
        }
        self.look_again();
        let now = self.started.elapsed();
        let watch = &mut self.attachment.watch;
        let watched = watch.as_mut().map_or(Ok(()), |watch| watch.look(recorder, self.name));
        // Nothing makes up for what another probe's look of a moment ago lacks.
        let looked =
            if recorder.is_last() { self.attachment.look() } else { self.attachment.refresh(self.options.patience) };
        looked?;
        for index in 0..self.series.len() {
            self.count(index, now, recorder)?;
        }
        if let Some(by_whom) = &mut self.by_whom {
            by_whom.record(&self.attachment.inboxes, recorder)?;
        }
        self.watch();
        for series in &self.series {
            series.standing.record(recorder);
        }
        self.reader.as_mut().map_or(Ok(()), |(reader, maps)| reader.read(maps, recorder))?;
        watched
    }
}
