//! What rows cost: the agent's own memory by kind, and the series that each sink makes of them in a day.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use ebpf_process_config::{Plan, PlannedSink};
use ebpf_process_core::{Declared, EntityKind, Finding, Selection};
use serde::Serialize;

use crate::list::{plain, rendered};

/// More series in a day than a database of metrics should be given by one machine.
const MANY: u64 = 1_000_000;

/// Copies of a number that the agent keeps: what it counts on with, the newest batch, and the one that is filled next.
const COPIES: u64 = 3;

/// What a row takes beside its numbers: its text, in the agent and in what looks for it.
const ROW_BYTES: u64 = 512;

const DAY: Duration = Duration::from_hours(24);

/// The columns of kinds whose rows come and go, and of the host, as the probes of a plan make them.
pub(crate) struct Catalog(BTreeMap<String, (EntityKind, Vec<Declared>)>);

/// What one kind of rows takes.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct KindCost {
    kind: String,
    columns: u64,
    /// At one time, `other` not among them.
    most_rows: u64,
    /// Bytes of the agent's own memory with that many rows.
    most_memory: u64,
}

/// The series that a sink makes in a day.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Forecast {
    kinds: Vec<KindForecast>,
    /// All of these together, and those of the host; absent where it is not known how many rows come new.
    series_a_day: Option<u64>,
}

/// What a sink gets of one kind.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct KindForecast {
    kind: String,
    columns: u64,
    /// At one time.
    most_rows: u64,
    /// Whether it is the sink's `top` that says so.
    is_top: bool,
    /// Rows that are new in a day, at most: of processes alone, since others return under the name that they had.
    new_rows_a_day: Option<u64>,
}

impl Catalog {
    pub(crate) fn of(plan: &Plan) -> Self {
        // The plan was made from these catalogs: none is wrong.
        let planned = plan.probes.iter().filter_map(|probe| probe.plugin.catalog(&probe.options).ok());
        let mut kinds: BTreeMap<String, (EntityKind, Vec<Declared>)> = BTreeMap::new();
        for declared in planned.flatten() {
            let kind = &declared.kind;
            if kind.has_start_times() || kind.name() == EntityKind::HOST {
                // The first probe that makes a kind decides on its limit.
                kinds.entry(kind.name().to_owned()).or_insert_with(|| (kind.clone(), Vec::new())).1.push(declared);
            }
        }
        Self(kinds)
    }

    /// What each kind of rows takes, whether or not a sink wants it.
    pub(crate) fn costs(&self, sinks: &[PlannedSink]) -> Vec<KindCost> {
        let with_rows = self.0.iter().filter(|(_, (kind, _))| kind.has_start_times());
        let cost = |(name, (kind, columns)): (&String, &(EntityKind, Vec<Declared>))| {
            let (columns, most_rows) = (columns.len() as u64, kind.row_limit() as u64);
            // One with a `top` remembers what each row had.
            let tops = sinks.iter().filter(|sink| sink.spec.selection.top.contains_key(name)).count() as u64;
            let row = (COPIES + tops) * 8 * columns + ROW_BYTES;
            KindCost { kind: name.clone(), columns, most_rows, most_memory: most_rows.saturating_mul(row) }
        };
        with_rows.map(cost).collect()
    }

    /// What a sink makes of rows that come and go, if it gets any. `starts` is how many processes begin in a day.
    pub(crate) fn forecast(&self, sink: &PlannedSink, interval: Duration, starts: Option<u64>) -> Option<Forecast> {
        let mut selection = sink.spec.selection.clone();
        if !sink.plugin.takes_every_kind() {
            selection.unasked = vec![EntityKind::PROCESS.to_owned()];
        }
        let ticks = u64::try_from(DAY.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX);
        let (mut kinds, mut series) = (Vec::new(), Some(0_u64));
        for (name, (kind, columns)) in &self.0 {
            let columns = columns.iter().filter(|declared| takes(&selection, declared)).count() as u64;
            let limit = kind.row_limit() as u64;
            if columns == 0 {
                continue;
            }
            if !kind.has_start_times() {
                series = series.map(|series| series.saturating_add(columns));
                continue;
            }
            let top = selection.top.get(name).map(|top| *top as u64).filter(|top| *top < limit);
            let in_a_day = selection.most_rows(name, ticks).unwrap_or(u64::MAX).min(limit.saturating_mul(ticks));
            let is_process = name == EntityKind::PROCESS;
            let new_rows_a_day = starts.filter(|_| is_process).map(|starts| starts.min(in_a_day));
            let most_rows = top.unwrap_or(limit);
            let rows = if is_process { new_rows_a_day } else { Some(limit.min(in_a_day)) };
            series = series.zip(rows).map(|(series, rows)| series.saturating_add(rows.saturating_mul(columns)));
            let kind = name.clone();
            kinds.push(KindForecast { kind, columns, most_rows, is_top: top.is_some(), new_rows_a_day });
        }
        (!kinds.is_empty()).then_some(Forecast { kinds, series_a_day: series })
    }
}

/// Whether a sink takes a column. What its labels ask of rows nobody knows before there are rows.
fn takes(selection: &Selection, declared: &Declared) -> bool {
    let takes_labels = || declared.column.own_labels().all(|(key, value)| selection.takes_label(key, value));
    selection.takes_kind(declared.kind.name()) && selection.takes(&declared.metric_name()) && takes_labels()
}

impl Forecast {
    /// Many series for a sink that does not write to a log: a database keeps each of them for long.
    pub(crate) fn warning(&self, sink: &PlannedSink) -> Option<Finding> {
        let series = self.series_a_day.filter(|series| *series > MANY && !sink.plugin.takes_every_kind())?;
        let what = format!("about {} series a day, which is much for a database", about(series));
        let way_out = "leave kinds out (kinds, or probes.by), give few rows a place (top), or choose metrics (include)";
        Some(Finding::warning(what, way_out))
    }

    /// Whether it rests on how many processes begin.
    pub(crate) fn has_processes(&self) -> bool {
        self.kinds.iter().any(|kind| kind.new_rows_a_day.is_some())
    }

    /// For people.
    pub(crate) fn told(&self) -> String {
        let kinds = self.kinds.iter().map(|kind| {
            let top = if kind.is_top { " (top)" } else { "" };
            let new = kind.new_rows_a_day.map_or_else(String::new, |new| format!(", up to {} new a day", about(new)));
            format!("{} up to {} rows at a time{top}{new}", kind.kind, kind.most_rows)
        });
        let kinds = kinds.collect::<Vec<_>>().join("; ");
        let unknown = "how many series a day, a check without --offline says".to_owned();
        let series = self.series_a_day.map_or(unknown, |series| format!("about {} series a day", about(series)));
        format!("{kinds}: {series}")
    }
}

/// The table of what kinds take.
pub(crate) fn costs_for_people(costs: &[KindCost]) -> String {
    let mut table = plain(&["KIND", "COLUMNS", "ROWS", "MEMORY"]);
    table.add_rows(costs.iter().map(|KindCost { kind, columns, most_rows, most_memory }| {
        let memory = format!("{} KiB", most_memory.div_ceil(1024));
        [kind.clone(), columns.to_string(), format!("up to {most_rows}"), format!("up to {memory}")]
    }));
    let mut text = rendered(&table);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "Memory of the agent's own for rows: each takes some {ROW_BYTES} bytes and {} for a column, 8 more for each sink with \
         a top.",
        COPIES * 8
    );
    text
}

/// How many processes begin on this machine in a day, threads among them, by what it has started since its boot.
pub(crate) fn starts_a_day() -> Option<u64> {
    let [stat, uptime] = ["/proc/stat", "/proc/uptime"].map(std::fs::read_to_string);
    starts(&stat.ok()?, &uptime.ok()?)
}

fn starts(stat: &str, uptime: &str) -> Option<u64> {
    let started: u64 = stat.lines().find_map(|line| line.strip_prefix("processes "))?.trim().parse().ok()?;
    let up: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let up = Duration::try_from_secs_f64(up).ok()?.as_secs().max(1);
    u64::try_from(u128::from(started) * u128::from(DAY.as_secs()) / u128::from(up)).ok()
}

/// A number with two digits that say something.
pub(crate) fn about(number: u64) -> String {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    let rounded = (number + unit / 2) / unit * unit;
    let digits = rounded.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use ebpf_process_config::Sources;

    use super::*;

    fn plan(settings: &[&str]) -> Plan {
        let registry = crate::registry();
        let settings = settings.iter().map(|setting| (*setting).to_owned());
        let loaded = Sources::built_in().set(settings).load(&registry).expect("a configuration");
        Plan::new(&loaded, &registry).expect("a plan")
    }

    fn forecast(starts: Option<u64>, settings: &[&str]) -> Option<(Forecast, Option<Finding>)> {
        let plan = plan(&[&["sinks.db.type=prometheus", "probes.by=[\"process\", \"app\"]"], settings].concat());
        let sink = &plan.sinks[0];
        let forecast = Catalog::of(&plan).forecast(sink, plan.interval, starts)?;
        let warning = forecast.warning(sink);
        Some((forecast, warning))
    }

    #[test]
    fn a_process_is_a_new_row_each_time_and_an_app_returns() {
        let of_calls = "sinks.db.include=[\"*.vfs.calls\"]";
        let (apps, warning) = forecast(Some(48_123), &[of_calls]).expect("apps");
        let columns = apps.kinds[0].columns;
        assert!(columns > 1 && warning.is_none(), "{apps:?}");
        assert_eq!(apps.told(), format!("app up to 1024 rows at a time: about {} series a day", about(1024 * columns)));
        let processes = "sinks.db.kinds=[\"process\"]";
        let (all, warning) = forecast(Some(2_000_000), &[of_calls, processes]).expect("processes");
        assert_eq!(all.series_a_day, Some(2_000_000 * columns));
        assert!(warning.is_some_and(|warning| warning.what.starts_with("about ")));
        // A place changes hands once in ten ticks.
        let top = ["sinks.db.top={process=20}", "interval=1m", of_calls, processes];
        let (top, warning) = forecast(Some(2_000_000), &top).expect("processes");
        assert_eq!((top.series_a_day, warning), (Some(20 * 145 * columns), None));
        assert!(
            top.told().starts_with("process up to 20 rows at a time (top), up to 2,900 new a day: about "),
            "{top:?}"
        );
        let (offline, _) = forecast(None, &[processes]).expect("processes");
        assert_eq!(offline.series_a_day, None);
        assert_eq!(forecast(Some(1), &["sinks.db.kinds=[\"host\"]"]), None);
    }

    #[test]
    fn a_log_may_have_as_many_series_as_there_are() {
        let settings = ["sinks.db.type=json", "interval=100ms"];
        let (forecast, warning) = forecast(Some(10_000_000), &settings).expect("processes");
        assert!(forecast.series_a_day > Some(MANY) && warning.is_none(), "{forecast:?}");
    }

    #[test]
    fn what_a_kind_takes_grows_with_its_rows_columns_and_tops() {
        let costs = |settings: &[&str]| {
            let plan = plan(&[&["sinks.db.type=prometheus", "probes.by=[\"app\"]"], settings].concat());
            Catalog::of(&plan).costs(&plan.sinks)
        };
        let [usual] = &costs(&[])[..] else { panic!("one kind") };
        assert_eq!(
            (&*usual.kind, usual.most_rows, usual.most_memory),
            ("app", 1024, 1024 * (24 * usual.columns + 512))
        );
        let [other] = &costs(&["probes.rows=10", "sinks.db.top={app=5}"])[..] else { panic!("one kind") };
        assert_eq!((other.most_rows, other.most_memory), (10, 10 * (32 * usual.columns + 512)));
    }

    #[test]
    fn starts_are_those_of_a_day() {
        assert_eq!(starts("cpu 1\nbtime 7\nprocesses 500\nprocs_running 1\n", "43200.55 1.0\n"), Some(1000));
        assert_eq!((starts("processes x", "1"), starts("", "1"), starts("processes 1", "")), (None, None, None));
        assert_eq!(["99", "1,000", "48,000", "820,000"], [99, 1004, 48_123, 819_999].map(about));
    }
}
