//! The agent's own numbers, emitted as one more probe.

use std::sync::Arc;

use serde::Deserialize;

use crate::entity::{ColumnId, Declared, EntityKind, KindId, Refused, RowId};
use crate::error::{BuildError, ProbeError};
use crate::ledger::Tally;
use crate::metric::{Column, Unit};
use crate::options::{Options, OptionsError};
use crate::probe::{Probe, ProbeContext, ProbePlugin};
use crate::recorder::{Recorder, Refusals};
use crate::vitals::{ProbeVitals, SinkVitals, Vitals};

/// The probe type `vitals`: the agent's own numbers, all named `agent.*`.
pub const VITALS: VitalsPlugin = VitalsPlugin;

/// See [`VITALS`].
#[derive(Clone, Copy, Debug)]
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

    fn catalog(&self, options: &Options) -> Result<Vec<Declared>, OptionsError> {
        options.extract::<NoOptions>()?;
        let on = |kind: EntityKind, columns: Vec<Column>| {
            columns.into_iter().map(move |column| Declared { kind: kind.clone(), column })
        };
        let all = on(EntityKind::host(), host_columns()).chain(on(probe_kind(), probe_columns()));
        Ok(all.chain(on(sink_kind(), sink_columns())).collect())
    }

    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        options.extract::<NoOptions>()?;
        Ok(Box::new(VitalsProbe::new(context.recorder, context.vitals)?))
    }
}

/// The kind of the agent's probes.
fn probe_kind() -> EntityKind {
    EntityKind::new("probe").keys(["probe"]).names_as_they_are()
}

/// The kind of the agent's sinks.
fn sink_kind() -> EntityKind {
    EntityKind::new("sink").keys(["sink"]).names_as_they_are()
}

/// What concerns the agent as a whole, in the order of [`record_host`].
fn host_columns() -> Vec<Column> {
    let refusals =
        |what| Column::counter("agent.refused", Unit::EVENTS, "What the recorder refused").labels([("what", what)]);
    vec![
        Column::counter("agent.ticks", Unit::TICKS, "Rounds of collection"),
        Column::counter("agent.overruns", Unit::TICKS, "Ticks left out because the one before was not over"),
        Column::counter("agent.clock_steps", Unit::EVENTS, "Times that the wall clock was set back"),
        Column::gauge("agent.series", Unit::SERIES, "Series known to the agent"),
        refusals("series"),
        refusals("value"),
        refusals("final"),
    ]
}

fn record_host(recorder: &mut Recorder, columns: &[ColumnId], vitals: &Vitals) {
    let [ticks, overruns, clock_steps, series, refused @ ..] = columns else { return };
    let row = recorder.host();
    recorder.counter(row, *ticks, vitals.ticks());
    recorder.counter(row, *overruns, vitals.overruns());
    recorder.counter(row, *clock_steps, vitals.clock_steps());
    recorder.gauge(row, *series, small(recorder.series() as u64));
    let Refusals { rows, values, finals } = recorder.refusals();
    for (column, total) in refused.iter().zip([rows, values, finals]) {
        recorder.counter(row, *column, total);
    }
}

fn probe_columns() -> Vec<Column> {
    vec![
        Column::gauge("agent.probe_time", Unit::SECONDS, "Time of a probe's last collection"),
        Column::counter("agent.probe_errors", Unit::EVENTS, "Collections of a probe that failed"),
        Column::counter(
            "agent.probe_skips",
            Unit::TICKS,
            "Ticks that a probe was left out of, because it had taken longer than an interval, had no numbers in time or was not there",
        ),
        Column::gauge(
            "agent.probe_state",
            Unit::ONE,
            "How a probe fares: 0 absent, 1 working, 2 failing, 3 closed; `status` says why",
        ),
    ]
}

/// [`STATES`], then what waits, then the sink's state.
fn sink_columns() -> Vec<Column> {
    let samples = |(state, _): State| {
        Column::counter("agent.samples", Unit::SAMPLES, "What became of the samples meant for a sink")
            .labels([("state", state)])
    };
    let mut columns: Vec<_> = STATES.into_iter().map(samples).collect();
    columns.push(Column::gauge(
        "agent.samples_waiting",
        Unit::SAMPLES,
        "Samples in a sink's queue, in its hands or on disk",
    ));
    columns.push(Column::gauge(
        "agent.sink_state",
        Unit::ONE,
        "How a sink fares: 0 absent, 1 working, 2 failing, 3 closed; `status` says why",
    ));
    columns
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

struct VitalsProbe {
    vitals: Arc<Vitals>,
    host: Vec<ColumnId>,
    probes: Rows,
    sinks: Rows,
}

/// A kind with its columns, and the rows so far.
struct Rows {
    kind: KindId,
    columns: Vec<ColumnId>,
    /// By number of what they are about, in order.
    ids: Vec<(u64, RowId)>,
}

impl Rows {
    fn new(recorder: &mut Recorder, kind: EntityKind, columns: Vec<Column>) -> Result<Self, Refused> {
        let kind = recorder.kind(kind)?;
        Ok(Self { kind, columns: declare(recorder, kind, columns)?, ids: Vec::new() })
    }

    /// The row of a number, made when it is first asked for.
    fn row(&mut self, recorder: &mut Recorder, number: u64, name: &str) -> Option<RowId> {
        let place = match self.ids.binary_search_by_key(&number, |(known, _)| *known) {
            Ok(place) => place,
            Err(place) => {
                self.ids.insert(place, (number, recorder.row(self.kind, number, &[name]).ok()?));
                place
            }
        };
        self.ids.get(place).map(|(_, row)| *row)
    }

    /// Ends the row of a number, if it has one.
    fn end(&mut self, recorder: &mut Recorder, number: u64) {
        if let Ok(place) = self.ids.binary_search_by_key(&number, |(known, _)| *known) {
            recorder.end(self.ids.remove(place).1);
        }
    }
}

fn declare(recorder: &mut Recorder, kind: KindId, columns: Vec<Column>) -> Result<Vec<ColumnId>, Refused> {
    columns.into_iter().map(|column| recorder.column(kind, column)).collect()
}

impl VitalsProbe {
    fn new(recorder: &mut Recorder, vitals: Arc<Vitals>) -> Result<Self, Refused> {
        let host = declare(recorder, recorder.host_kind(), host_columns())?;
        let probes = Rows::new(recorder, probe_kind(), probe_columns())?;
        let sinks = Rows::new(recorder, sink_kind(), sink_columns())?;
        Ok(Self { vitals, host, probes, sinks })
    }
}

impl Probe for VitalsProbe {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let Self { vitals, host, probes, sinks } = self;
        record_host(recorder, host, vitals);
        vitals.with_probes(|known| record_probes(recorder, probes, known));
        vitals.with_sinks(|known| record_sinks(recorder, sinks, known));
        Ok(())
    }
}

fn record_probes(recorder: &mut Recorder, rows: &mut Rows, probes: &[ProbeVitals]) {
    for probe in probes {
        if probe.is_gone {
            rows.end(recorder, probe.number);
            continue;
        }
        let Some(row) = rows.row(recorder, probe.number, &probe.name) else { continue };
        let [seconds, errors, skips, state] = rows.columns[..] else { continue };
        recorder.gauge(row, seconds, probe.duration.as_secs_f64());
        recorder.counter(row, errors, probe.errors);
        recorder.counter(row, skips, probe.skips);
        recorder.gauge(row, state, probe.state().number().into());
    }
}

fn record_sinks(recorder: &mut Recorder, rows: &mut Rows, sinks: &mut [SinkVitals]) {
    for sink in sinks {
        let Some(row) = rows.row(recorder, sink.number, &sink.name) else { continue };
        let [states @ .., waiting, state] = &rows.columns[..] else { continue };
        recorder.gauge(row, *state, sink.ledger.state().number().into());
        let offered = sink.read(|tally| {
            for (column, (_, read)) in states.iter().zip(STATES).skip(1) {
                recorder.counter(row, *column, read(tally));
            }
            recorder.gauge(row, *waiting, small(tally.queued + tally.spooled));
            tally.offered
        });
        if let Some(column) = states.first() {
            recorder.counter(row, *column, sink.offered(offered));
        }
        if sink.is_gone {
            rows.end(recorder, sink.number);
        }
    }
}

/// A count as a level.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53, far above any count of series or waiting samples")]
const fn small(count: u64) -> f64 {
    count as f64
}
