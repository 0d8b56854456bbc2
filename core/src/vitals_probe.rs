//! The agent's own numbers, emitted as one more probe.

use std::sync::Arc;

use serde::Deserialize;

use crate::condition::SinkState;
use crate::error::{BuildError, ProbeError};
use crate::ledger::{Ledger, Tally};
use crate::metric::{Descriptor, Unit};
use crate::options::{Options, OptionsError};
use crate::probe::{Probe, ProbeContext, ProbePlugin};
use crate::recorder::{Recorder, Refusals};
use crate::series::SeriesId;
use crate::vitals::{ProbeVitals, Vitals};

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
    sink_state: Arc<Descriptor>,
}

impl Catalog {
    fn new() -> Self {
        let counter = Descriptor::counter;
        let gauge = Descriptor::gauge;
        Self {
            ticks: counter("agent.ticks", Unit::TICKS, "Rounds of collection").share(),
            overruns: counter("agent.overruns", Unit::TICKS, "Ticks left out because the one before was not over")
                .share(),
            clock_steps: counter("agent.clock_steps", Unit::EVENTS, "Times that the wall clock was set back").share(),
            series: gauge("agent.series", Unit::SERIES, "Series known to the agent").share(),
            refusals: counter("agent.refused", Unit::EVENTS, "What the recorder refused").labels(["what"]).share(),
            probe_seconds: gauge("agent.probe_time", Unit::SECONDS, "Time of a probe's last collection")
                .labels(["probe"])
                .share(),
            probe_errors: counter("agent.probe_errors", Unit::EVENTS, "Collections of a probe that failed")
                .labels(["probe"])
                .share(),
            probe_skips: counter(
                "agent.probe_skips",
                Unit::TICKS,
                "Ticks that a probe was left out of, because it had taken longer than an interval or has panicked",
            )
            .labels(["probe"])
            .share(),
            samples: counter("agent.samples", Unit::SAMPLES, "What became of the samples meant for a sink")
                .labels(["sink", "state"])
                .share(),
            queued: gauge("agent.samples_waiting", Unit::SAMPLES, "Samples in a sink's queue, in its hands or on disk")
                .labels(["sink"])
                .share(),
            sink_state: gauge(
                "agent.sink_state",
                Unit::ONE,
                "How a sink fares: 0 absent, 1 working, 2 failing, 3 closed; `status` says why",
            )
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
            self.sink_state,
        ]
    }
}

struct VitalsProbe {
    vitals: Arc<Vitals>,
    catalog: Catalog,
    fixed: Fixed,
    probes: Vec<[Option<SeriesId>; 3]>,
    sinks: Vec<SinkSeries>,
    absent: Vec<Option<SeriesId>>,
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
    state: Option<SeriesId>,
}

/// A column of the ledger as a label value.
type State = (&'static str, fn(&Tally) -> u64);

const STATES: [State; 7] = [
    ("offered", |tally| tally.offered),
    ("written", |tally| tally.written),
    ("unconfirmed", |tally| tally.unconfirmed),
    ("superseded", |tally| tally.superseded),
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
        Self { vitals, catalog, fixed, probes: Vec::new(), sinks: Vec::new(), absent: Vec::new() }
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

        let Self { vitals, catalog, probes: known_probes, sinks: known_sinks, absent: known_absent, .. } = self;
        vitals.with_probes(|probes| record_probes(recorder, catalog, known_probes, probes));
        vitals.with_ledgers(|sinks| record_sinks(recorder, catalog, known_sinks, sinks));
        vitals.with_absent(|sinks| {
            for (index, sink) in sinks.iter().enumerate() {
                if known_absent.len() == index {
                    known_absent.push(recorder.series(&catalog.sink_state, &[&sink.name]).ok());
                }
                level(recorder, known_absent[index], SinkState::Absent.number().into());
            }
        });
        Ok(())
    }
}

/// Probes and sinks are added before the first tick; their series are made when they are seen.
fn record_probes(
    recorder: &mut Recorder,
    catalog: &Catalog,
    known: &mut Vec<[Option<SeriesId>; 3]>,
    probes: &[ProbeVitals],
) {
    for (index, probe) in probes.iter().enumerate() {
        if known.len() == index {
            let Catalog { probe_seconds, probe_errors, probe_skips, .. } = catalog;
            let make = |d: &Arc<Descriptor>| recorder.series(d, &[&probe.name]).ok();
            known.push([probe_seconds, probe_errors, probe_skips].map(make));
        }
        let [seconds, errors, skips] = known[index];
        level(recorder, seconds, probe.duration.as_secs_f64());
        for (id, value) in [(errors, probe.errors), (skips, probe.skips)] {
            if let Some(id) = id {
                recorder.counter(id, value);
            }
        }
    }
}

fn record_sinks(
    recorder: &mut Recorder,
    catalog: &Catalog,
    known: &mut Vec<SinkSeries>,
    sinks: &[(String, Arc<Ledger>)],
) {
    for (index, (name, ledger)) in sinks.iter().enumerate() {
        if known.len() == index {
            let states = STATES.map(|(state, _)| recorder.series(&catalog.samples, &[name, state]).ok());
            let waiting = recorder.series(&catalog.queued, &[name]).ok();
            let state = recorder.series(&catalog.sink_state, &[name]).ok();
            known.push(SinkSeries { states, waiting, state });
        }
        let series = &known[index];
        level(recorder, series.state, ledger.state().number().into());
        ledger.read(|tally| {
            for (id, (_, read)) in series.states.iter().zip(STATES) {
                if let Some(id) = id {
                    recorder.counter(*id, read(tally));
                }
            }
            level(recorder, series.waiting, small(tally.queued + tally.spooled));
        });
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
