//! The agent's own numbers, emitted as one more probe.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;

use crate::error::{BuildError, ProbeError};
use crate::ledger::{Ledger, Tally};
use crate::metric::{Descriptor, Unit};
use crate::options::{Options, OptionsError};
use crate::probe::{Probe, ProbeContext, ProbePlugin};
use crate::recorder::{Recorder, Refusals};
use crate::series::SeriesId;

/// What the agent counts about itself. Shared by everything that counts; read by [`VITALS`].
#[derive(Debug, Default)]
pub struct Vitals {
    ticks: AtomicU64,
    overruns: AtomicU64,
    clock_steps: AtomicU64,
    probes: Mutex<Vec<ProbeVitals>>,
    sinks: Mutex<Vec<(String, Arc<Ledger>)>>,
}

/// What is known of one probe.
#[derive(Clone, Debug, Default)]
pub struct ProbeVitals {
    /// The probe's name.
    pub name: String,
    /// How long its last collection took.
    pub duration: Duration,
    /// Collections that failed.
    pub errors: u64,
    /// Ticks it was left out of because the one before took too long.
    pub skips: u64,
}

impl Vitals {
    /// Rounds of collection so far.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Ticks that found the collecting thread busy and were left out.
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }

    /// Times the wall clock was found set back; the batch's timestamp was kept from going back.
    pub fn clock_steps(&self) -> u64 {
        self.clock_steps.load(Ordering::Relaxed)
    }

    /// The ledgers of all sinks by name.
    pub fn ledgers(&self) -> Vec<(String, Arc<Ledger>)> {
        self.sinks.lock().clone()
    }

    /// What is known of each probe.
    pub fn probes(&self) -> Vec<ProbeVitals> {
        self.probes.lock().clone()
    }

    pub(crate) fn count_tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_overrun(&self) {
        self.overruns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_clock_step(&self) {
        self.clock_steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_probe(&self, name: &str) {
        self.probes.lock().push(ProbeVitals { name: name.to_owned(), ..ProbeVitals::default() });
    }

    pub(crate) fn update_probe(&self, index: usize, update: impl FnOnce(&mut ProbeVitals)) {
        if let Some(probe) = self.probes.lock().get_mut(index) {
            update(probe);
        }
    }

    pub(crate) fn add_sink(&self, name: &str, ledger: &Arc<Ledger>) {
        self.sinks.lock().push((name.to_owned(), Arc::clone(ledger)));
    }
}

/// The probe type `vitals`: the agent's own numbers, all named `agent.*`.
pub static VITALS: VitalsPlugin = VitalsPlugin;

/// See [`VITALS`].
#[derive(Debug)]
pub struct VitalsPlugin;

/// The probe has no options besides being enabled.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

impl ProbePlugin for VitalsPlugin {
    fn name(&self) -> &'static str {
        "vitals"
    }

    fn summary(&self) -> &'static str {
        "the agent's own numbers: ticks, probe times, and what became of every sample"
    }

    fn catalog(&self, options: &Options) -> Result<Vec<Arc<Descriptor>>, OptionsError> {
        options.extract::<NoOptions>()?;
        Ok(Catalog::new().all())
    }

    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        options.extract::<NoOptions>()?;
        Ok(Box::new(VitalsProbe::new(context.recorder, context.vitals)))
    }
}

struct Catalog {
    ticks: Arc<Descriptor>,
    overruns: Arc<Descriptor>,
    clock_steps: Arc<Descriptor>,
    series: Arc<Descriptor>,
    refusals: Arc<Descriptor>,
    probe_seconds: Arc<Descriptor>,
    probe_errors: Arc<Descriptor>,
    probe_skips: Arc<Descriptor>,
    samples: Arc<Descriptor>,
    queued: Arc<Descriptor>,
}

impl Catalog {
    fn new() -> Self {
        let counter = Descriptor::counter;
        let gauge = Descriptor::gauge;
        Self {
            ticks: counter("agent.ticks", Unit::TICKS, "Rounds of collection").share(),
            overruns: counter("agent.overruns", Unit::TICKS, "Ticks left out because the one before was not over")
                .share(),
            clock_steps: counter("agent.clock_steps", Unit::EVENTS, "Times the wall clock was set back").share(),
            series: gauge("agent.series", Unit::SERIES, "Series known to the agent").share(),
            refusals: counter("agent.refused", Unit::EVENTS, "What the recorder refused").labels(["what"]).share(),
            probe_seconds: gauge("agent.probe_time", Unit::SECONDS, "Time of a probe's last collection")
                .labels(["probe"])
                .share(),
            probe_errors: counter("agent.probe_errors", Unit::EVENTS, "Collections of a probe that failed")
                .labels(["probe"])
                .share(),
            probe_skips: counter("agent.probe_skips", Unit::TICKS, "Ticks a probe was left out of for being slow")
                .labels(["probe"])
                .share(),
            samples: counter("agent.samples", Unit::SAMPLES, "What became of the samples meant for a sink")
                .labels(["sink", "state"])
                .share(),
            queued: gauge("agent.samples_waiting", Unit::SAMPLES, "Samples in a sink's queue, in its hands or on disk")
                .labels(["sink"])
                .share(),
        }
    }

    fn all(self) -> Vec<Arc<Descriptor>> {
        vec![
            self.ticks,
            self.overruns,
            self.clock_steps,
            self.series,
            self.refusals,
            self.probe_seconds,
            self.probe_errors,
            self.probe_skips,
            self.samples,
            self.queued,
        ]
    }
}

struct VitalsProbe {
    vitals: Arc<Vitals>,
    catalog: Catalog,
    fixed: Fixed,
    probes: Vec<[Option<SeriesId>; 3]>,
    sinks: Vec<SinkSeries>,
}

struct Fixed {
    ticks: Option<SeriesId>,
    overruns: Option<SeriesId>,
    clock_steps: Option<SeriesId>,
    series: Option<SeriesId>,
    refused_series: Option<SeriesId>,
    refused_values: Option<SeriesId>,
    refused_finals: Option<SeriesId>,
}

struct SinkSeries {
    states: [Option<SeriesId>; STATES.len()],
    waiting: Option<SeriesId>,
}

/// A column of the ledger as a label value.
type State = (&'static str, fn(&Tally) -> u64);

const STATES: [State; 5] = [
    ("offered", |tally| tally.offered),
    ("written", |tally| tally.written),
    ("failed", |tally| tally.failed),
    ("dropped", Tally::dropped_total),
    ("rejected", Tally::rejected_total),
];

impl VitalsProbe {
    fn new(recorder: &mut Recorder, vitals: Arc<Vitals>) -> Self {
        let catalog = Catalog::new();
        let fixed = Fixed {
            ticks: recorder.series(&catalog.ticks, &[]).ok(),
            overruns: recorder.series(&catalog.overruns, &[]).ok(),
            clock_steps: recorder.series(&catalog.clock_steps, &[]).ok(),
            series: recorder.series(&catalog.series, &[]).ok(),
            refused_series: recorder.series(&catalog.refusals, &["series"]).ok(),
            refused_values: recorder.series(&catalog.refusals, &["value"]).ok(),
            refused_finals: recorder.series(&catalog.refusals, &["final"]).ok(),
        };
        Self { vitals, catalog, fixed, probes: Vec::new(), sinks: Vec::new() }
    }
}

impl Probe for VitalsProbe {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let Refusals { series, values, finals } = recorder.refusals();
        let live = recorder.live_series();
        let mut total = |id: Option<SeriesId>, value: u64| {
            if let Some(id) = id {
                recorder.counter(id, value);
            }
        };
        total(self.fixed.ticks, self.vitals.ticks());
        total(self.fixed.overruns, self.vitals.overruns());
        total(self.fixed.clock_steps, self.vitals.clock_steps());
        total(self.fixed.refused_series, series);
        total(self.fixed.refused_values, values);
        total(self.fixed.refused_finals, finals);
        level(recorder, self.fixed.series, small(live as u64));

        let probes = self.vitals.probes.lock();
        for (index, probe) in probes.iter().enumerate() {
            // Probes and sinks are added before the first tick; their series are made when seen.
            if self.probes.len() == index {
                let Catalog { probe_seconds, probe_errors, probe_skips, .. } = &self.catalog;
                let make = |d: &Arc<Descriptor>| recorder.series(d, &[&probe.name]).ok();
                self.probes.push([probe_seconds, probe_errors, probe_skips].map(make));
            }
            let [seconds, errors, skips] = self.probes[index];
            level(recorder, seconds, probe.duration.as_secs_f64());
            for (id, value) in [(errors, probe.errors), (skips, probe.skips)] {
                if let Some(id) = id {
                    recorder.counter(id, value);
                }
            }
        }
        drop(probes);

        let sinks = self.vitals.sinks.lock();
        for (index, (name, ledger)) in sinks.iter().enumerate() {
            if self.sinks.len() == index {
                let states = STATES.map(|(state, _)| recorder.series(&self.catalog.samples, &[name, state]).ok());
                let waiting = recorder.series(&self.catalog.queued, &[name]).ok();
                self.sinks.push(SinkSeries { states, waiting });
            }
            let series = &self.sinks[index];
            ledger.read(|tally| {
                for (id, (_, read)) in series.states.iter().zip(STATES) {
                    if let Some(id) = id {
                        recorder.counter(*id, read(tally));
                    }
                }
                level(recorder, series.waiting, small(tally.queued + tally.spooled));
            });
        }
        Ok(())
    }
}

fn level(recorder: &mut Recorder, id: Option<SeriesId>, value: f64) {
    if let Some(id) = id {
        recorder.gauge(id, value);
    }
}

/// A count as a level.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53, far above any count of series or waiting samples")]
const fn small(count: u64) -> f64 {
    count as f64
}
