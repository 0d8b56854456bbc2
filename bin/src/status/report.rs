//! What a status says, as an object and as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::Table;
use ebpf_process_core::engine::{Clock, LastBatch};
use ebpf_process_core::{
    Condition, KindVitals, SinkVitals, State, Tally, Uncounted, Value, View, Vitals, duration, identity,
};
use ebpf_process_probes::{Doubt, Feed};
use serde::{Deserialize, Serialize};

use crate::confinement::Confinement;
use crate::exit::Refusal;
use crate::status::described::{Described, Reload};
use crate::{configuration, list};

/// Where a running agent's status comes from.
pub(crate) struct Source {
    pub(crate) clock: Arc<dyn Clock>,
    /// The boot time of the start.
    pub(crate) started: Duration,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) last_batch: Arc<LastBatch>,
    pub(crate) described: Arc<Described>,
    /// What the agent has given up; none where it keeps its rights.
    pub(crate) confinement: Option<Confinement>,
}

/// The answer to one question. Times are in seconds; `missed` and `counted` are totals since the start.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Report {
    version: String,
    pid: u32,
    uptime: f64,
    interval: f64,
    ticks: u64,
    overruns: u64,
    clock_steps: u64,
    last_batch: Option<Batch>,
    /// What `only` names, by probe; nothing where everything counts.
    targets: Vec<Only>,
    counters: Vec<Counter>,
    /// What the configuration asks for and this machine does not count, each with the reason.
    uncounted: BTreeMap<String, String>,
    /// The kinds whose rows come and go.
    #[serde(default)]
    kinds: Vec<Kind>,
    #[serde(default)]
    probes: Vec<Probe>,
    sinks: Vec<Sink>,
    /// What the agent has given up; absent where it keeps its rights.
    #[serde(default)]
    confinement: Option<Confinement>,
    /// What came of the last reload, if there was one.
    #[serde(default)]
    reload: Option<Reload>,
}

/// A probe, and how it fares.
#[derive(Debug, Deserialize, Serialize)]
struct Probe {
    name: String,
    /// `absent`, `working`, `failing` or `closed`.
    state: String,
    /// Why it does not work.
    reason: Option<String>,
    /// For how many seconds it has been so.
    since: f64,
}

/// The newest batch.
#[derive(Debug, Deserialize, Serialize)]
struct Batch {
    number: u64,
    timestamp: f64,
    age: f64,
    samples: usize,
}

/// What alone counts for a probe, and whether it is there.
#[derive(Debug, Deserialize, Serialize)]
struct Only {
    probe: String,
    target: String,
    present: bool,
}

/// A counter, its hook, and its events: counted and missed together are what happened.
#[derive(Debug, Deserialize, Serialize)]
struct Counter {
    name: String,
    tier: String,
    function: String,
    /// As found now: `yes` or `no`.
    exact: String,
    /// Whether its hooks fire, as found now.
    firing: bool,
    /// Why not exact, by the words of `hook.doubt`.
    doubts: Vec<String>,
    /// None for a counter that only sees failures.
    counted: Option<u64>,
    missed: u64,
    /// Whether it lacks that many at most: others' events are among the missed.
    missed_is_bound: bool,
}

/// The rows of a kind.
#[derive(Debug, Deserialize, Serialize)]
struct Kind {
    name: String,
    /// Those that there are, `other` not among them.
    rows: usize,
    limit: usize,
    /// Since the start.
    began: u64,
    ended: u64,
    /// Those that had no place when they came first, and were counted in `other`.
    refused: u64,
    series: usize,
}

impl Kind {
    fn of(vitals: KindVitals) -> Self {
        let KindVitals { kind: name, rows, limit, began, ended, refused, series } = vitals;
        Self { name, rows, limit, began, ended, refused, series }
    }
}

/// A sink and its ledger, in samples.
#[derive(Debug, Deserialize, Serialize)]
struct Sink {
    name: String,
    r#type: String,
    /// `absent`, `working`, `failing` or `closed`.
    state: String,
    /// Why it does not work.
    reason: Option<String>,
    /// For how many seconds it has been so.
    #[serde(default)]
    since: f64,
    destination: Option<String>,
    offered: u64,
    written: u64,
    unconfirmed: u64,
    superseded: u64,
    failed: u64,
    spooled: u64,
    queued: u64,
    dropped: BTreeMap<String, u64>,
    rejected: BTreeMap<String, u64>,
    /// Not 0 only by a mistake in the sink's code: the columns then say so much too much.
    mis_settled: u64,
}

impl Sink {
    /// Whether it has what it needs on this host, and is of this type and goes there.
    fn runs(&self, kind: &str, destination: Option<&str>) -> bool {
        let is_over = [State::Absent, State::Closed].iter().any(|state| self.state == state.as_str());
        !is_over && self.r#type == kind && self.destination.as_deref() == destination
    }
}

impl Source {
    /// The status of this moment.
    pub(crate) fn report(&self) -> Report {
        let now = self.clock.now();
        let last_batch = self.last_batch.look(|view| Batch {
            number: view.tick().seq,
            timestamp: view.tick().wall.as_secs_f64(),
            age: now.boottime.saturating_sub(view.tick().boottime).as_secs_f64(),
            samples: view.len(),
        });
        let sinks = self.vitals.sinks().into_iter().map(|sink| self.sink(sink));
        let probes = self.vitals.probes().into_iter().map(|probe| {
            let Condition { state, reason, since, .. } = probe.condition();
            let since = since.elapsed().as_secs_f64();
            Probe { name: probe.name, state: state.as_str().to_owned(), reason, since }
        });
        Report {
            version: identity().version().to_owned(),
            pid: std::process::id(),
            uptime: now.boottime.saturating_sub(self.started).as_secs_f64(),
            interval: self.described.interval().as_secs_f64(),
            ticks: self.vitals.ticks(),
            overruns: self.vitals.overruns(),
            clock_steps: self.vitals.clock_steps(),
            last_batch,
            targets: self.last_batch.look(|view| targets(*view)).unwrap_or_default(),
            counters: self.last_batch.look(|view| counters(*view, &self.described.feeds())).unwrap_or_default(),
            uncounted: self
                .vitals
                .uncounted()
                .into_iter()
                .map(|Uncounted { what, reason, .. }| (what, reason))
                .collect(),
            kinds: self.vitals.kinds().into_iter().map(Kind::of).collect(),
            probes: probes.collect(),
            sinks: sinks.collect(),
            reload: self.described.last_reload(),
            confinement: self.confinement.clone(),
        }
    }

    fn sink(&self, vitals: SinkVitals) -> Sink {
        let tally = vitals.tally();
        let Condition { state, reason, since, .. } = vitals.ledger.condition();
        let name = vitals.name;
        let Tally {
            offered,
            written,
            unconfirmed,
            superseded,
            failed,
            spooled,
            queued,
            dropped,
            rejected,
            mis_settled,
        } = tally;
        let by_reason = |reasons: Vec<(&'static str, u64)>| {
            reasons.into_iter().map(|(reason, samples)| (reason.to_owned(), samples)).collect()
        };
        let (dropped, rejected) = (by_reason(dropped), by_reason(rejected));
        let planned = self.described.sink(&name);
        let (kind, destination) = planned.map_or_else(Default::default, |planned| (planned.kind, planned.destination));
        Sink {
            r#type: kind,
            state: state.as_str().to_owned(),
            reason,
            since: since.elapsed().as_secs_f64(),
            destination,
            name,
            offered,
            written,
            unconfirmed,
            superseded,
            failed,
            spooled,
            queued,
            dropped,
            rejected,
            mis_settled,
        }
    }
}

/// What `only` names.
fn targets(view: View<'_>) -> Vec<Only> {
    let metrics = view.metrics().filter(|metric| metric.name() == "target.present");
    let targets = metrics.flat_map(|metric| metric.samples()).map(|sample| {
        let label =
            |key| sample.own_labels().find(|(known, _)| *known == key).map_or("", |(_, value)| value).to_owned();
        let present = matches!(sample.value(), Value::Gauge(level) if level > 0.0);
        Only { probe: label("probe"), target: label("target"), present }
    });
    targets.collect()
}

/// The counters that have a hook, in the order of the batch.
fn counters(view: View<'_>, feeds: &[Feed]) -> Vec<Counter> {
    // A missing label is as good as an empty one.
    let samples = |name: &'static str| {
        let metrics = view.metrics().filter(move |metric| metric.name() == name);
        metrics
            .flat_map(|metric| metric.samples())
            .map(|sample| (sample.own_labels().collect::<BTreeMap<_, _>>(), sample.value()))
    };
    let of = |name: &'static str, counter: &str| {
        samples(name).filter(|(labels, _)| labels.get("counter") == Some(&counter)).collect::<Vec<_>>()
    };
    let holds = |value: &Value<'_>| matches!(value, Value::Gauge(level) if *level > 0.0);
    let counters = samples("hook.info").map(|(labels, _)| {
        let label = |key| labels.get(key).copied().unwrap_or_default().to_owned();
        let name = label("counter");
        let missed = of("hook.missed", &name).first().map_or(0, |(_, value)| match value {
            Value::Counter(total) => *total,
            _ => 0,
        });
        let doubts = of("hook.doubt", &name).into_iter().filter(|(_, value)| holds(value));
        let now = of("hook.exact", &name).first().map(|(_, value)| if holds(value) { "yes" } else { "no" });
        let totals: Vec<u64> = feeds
            .iter()
            .filter(|feed| feed.counter == name)
            .filter_map(|feed| total(view, &feed.metric, feed.label))
            .collect();
        Counter {
            tier: label("tier"),
            function: label("function"),
            exact: now.map_or_else(|| label("exact"), ToOwned::to_owned),
            firing: !of("hook.firing", &name).iter().any(|(_, value)| !holds(value)),
            doubts: doubts.filter_map(|(labels, _)| labels.get("reason").map(|reason| (*reason).to_owned())).collect(),
            counted: (!totals.is_empty()).then(|| totals.iter().sum()),
            missed,
            missed_is_bound: of("hook.missed_is_bound", &name).iter().any(|(_, value)| holds(value)),
            name,
        }
    });
    counters.collect()
}

/// The value of a counter's series.
fn total(view: View<'_>, metric: &str, label: Option<&str>) -> Option<u64> {
    let metric = view.metrics().find(|known| known.name() == metric)?;
    let sample = metric.samples().find(|sample| sample.own_labels().map(|(_, value)| value).next() == label)?;
    if let Value::Counter(total) = sample.value() { Some(total) } else { None }
}

/// A column of the ledger: its heading, and the number of a sink.
type Column = (&'static str, fn(&Sink) -> u64);

const LEDGER: [Column; 9] = [
    ("OFFERED", |sink| sink.offered),
    ("WRITTEN", |sink| sink.written),
    ("UNCONFIRMED", |sink| sink.unconfirmed),
    ("SUPERSEDED", |sink| sink.superseded),
    ("FAILED", |sink| sink.failed),
    ("DROPPED", |sink| sink.dropped.values().sum()),
    ("REJECTED", |sink| sink.rejected.values().sum()),
    ("SPOOLED", |sink| sink.spooled),
    ("QUEUED", |sink| sink.queued),
];

/// What a word of `hook.doubt` means; a newer agent may say one that is not known here.
fn explained(reason: &str) -> &str {
    Doubt::of_word(reason).map_or("see docs/metrics.md", Doubt::explained)
}

impl Report {
    /// Why counters are not exact: each reason once, with the counters that it concerns.
    fn reasons(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for counter in &self.counters {
            for doubt in &counter.doubts {
                reasons.entry(doubt).or_default().push(&counter.name);
            }
        }
        reasons
    }

    /// The answer of the agent at this socket.
    pub(crate) fn read(path: &Path, answer: &str) -> Result<Self, Refusal> {
        serde_json::from_str(answer).map_err(|error| {
            let path = path.display();
            Refusal::lasting(format!("{path} does not answer as an agent of this version: {error}; ask with its own"))
        })
    }

    /// The process number of the agent.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the agent runs this sink: equal in name, type and destination.
    pub(crate) fn has(&self, name: &str, kind: &str, destination: Option<&str>) -> bool {
        self.sinks.iter().any(|sink| sink.name == name && sink.runs(kind, destination))
    }

    /// Whether the agent runs a sink of this type with this destination, whatever its name is.
    pub(crate) fn serves(&self, kind: &str, destination: &str) -> bool {
        self.sinks.iter().any(|sink| sink.runs(kind, Some(destination)))
    }

    /// The same for people.
    pub(crate) fn table(&self) -> String {
        let seconds = |seconds: f64| {
            let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            duration::show(Duration::from_millis(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX)))
        };
        let up = seconds(self.uptime.floor());
        let mut text = format!(
            "{} {}, process {}, up {up}, interval {}\n",
            identity().name(),
            self.version,
            self.pid,
            seconds(self.interval)
        );
        // Writing to a string cannot fail.
        let _ = match &self.last_batch {
            Some(batch) => writeln!(
                text,
                "last batch: number {}, {} samples, {} ago; {} ticks, {} overruns, {} clock steps",
                batch.number,
                batch.samples,
                seconds(batch.age),
                self.ticks,
                self.overruns,
                self.clock_steps
            ),
            None => writeln!(text, "no batch yet"),
        };
        for Only { probe, target, present } in &self.targets {
            let gone = if *present { "" } else { ", which is not there any more" };
            let _ = writeln!(text, "{probe} counts only {target}{gone}");
        }
        if let Some(confinement) = &self.confinement {
            text.push_str(&confinement.for_people("It is"));
        }
        if !self.counters.is_empty() {
            let mut table = list::plain(&["COUNTER", "TIER", "FUNCTION", "EXACT", "COUNTED", "MISSED"]);
            table.add_rows(self.counters.iter().map(|counter| {
                let counted = counter.counted.map_or_else(|| "-".to_owned(), |counted| counted.to_string());
                let Counter { name, tier, function, exact, missed, .. } = counter;
                let missed = match (*missed, counter.missed_is_bound) {
                    (missed @ 1.., true) => format!("at most {missed}"),
                    (missed, _) => missed.to_string(),
                };
                [name.clone(), tier.clone(), function.clone(), exact.clone(), counted, missed]
            }));
            text = format!("{text}\n{}", list::rendered(&table));
            let silent: Vec<&str> = self.counters.iter().filter(|c| !c.firing).map(|counter| &*counter.name).collect();
            if !silent.is_empty() {
                let _ = writeln!(text, "Its hooks do not fire now: {}.", silent.join(", "));
            }
            for (reason, counters) in self.reasons() {
                let _ = writeln!(text, "Not exact: {} ({reason}): {}.", counters.join(", "), explained(reason));
            }
        }
        for Probe { name, state, reason, since } in &self.probes {
            if let Some(reason) = reason {
                let _ = writeln!(text, "probe {name}: {state} for {}: {reason}", seconds(since.floor()));
            }
        }
        for (what, reason) in &self.uncounted {
            let _ = writeln!(text, "NOT COUNTED: {what} ({reason})");
        }
        if !self.kinds.is_empty() {
            let mut table = list::plain(&["KIND", "ROWS", "LIMIT", "NEW", "ENDED", "IN OTHER", "SERIES"]);
            table.add_rows(self.kinds.iter().map(|kind| {
                let Kind { name, rows, limit, began, ended, refused, series } = kind;
                let numbers = [*rows as u64, *limit as u64, *began, *ended, *refused, *series as u64];
                [name.clone()].into_iter().chain(numbers.map(|number| number.to_string()))
            }));
            text = format!("{text}\n{}", list::rendered(&table));
        }
        for Kind { name, refused, .. } in self.kinds.iter().filter(|kind| kind.refused > 0) {
            let _ = writeln!(
                text,
                "{name}: {refused} had no place, and count in the row other; probes.rows sets the limit of process, app and cgroup"
            );
        }
        if let Some(Reload { age, error: Some(error), .. }) = &self.reload {
            let _ = writeln!(text, "the reload of {} ago was refused: {error}", seconds(age.floor()));
        }
        if self.sinks.is_empty() {
            let _ = writeln!(text, "\nno sink is configured: {}", configuration::to_configure());
            return text;
        }
        let all = self.sink_table(|_| true);
        // On a narrow terminal what nothing is in needs no column.
        let told = |column: fn(&Sink) -> u64| self.sinks.iter().any(|sink| column(sink) > 0);
        let table = if list::fits(&all) { all } else { self.sink_table(told) };
        text = format!("{text}\n{}", list::rendered(&table));
        for sink in &self.sinks {
            if let Some(reason) = &sink.reason {
                let _ = writeln!(text, "{}: {} for {}: {reason}", sink.name, sink.state, seconds(sink.since.floor()));
            }
            for (what, reasons) in [("dropped", &sink.dropped), ("rejected", &sink.rejected)] {
                for (reason, samples) in reasons {
                    let _ = writeln!(text, "{}: {samples} {what}: {reason}", sink.name);
                }
            }
            if sink.mis_settled > 0 {
                let _ = writeln!(text, "{}: {} samples too many: a fault in this sink", sink.name, sink.mis_settled);
            }
        }
        text
    }

    /// The sinks with their states and these columns of their ledgers.
    fn sink_table(&self, shown: impl Fn(fn(&Sink) -> u64) -> bool) -> Table {
        let columns: Vec<Column> = LEDGER.into_iter().filter(|(_, column)| shown(*column)).collect();
        let header: Vec<&str> =
            ["SINK", "TYPE", "STATE"].into_iter().chain(columns.iter().map(|(name, _)| *name)).collect();
        let mut table = list::plain(&header);
        table.add_rows(self.sinks.iter().map(|sink| {
            let numbers = columns.iter().map(|(_, column)| column(sink).to_string());
            [&sink.name, &sink.r#type, &sink.state].map(String::clone).into_iter().chain(numbers)
        }));
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_kind_of_rows_has_is_told_and_what_has_no_place() {
        let kinds = r#"[
            {"name": "app", "rows": 7, "limit": 1024, "began": 9, "ended": 2, "refused": 0, "series": 140},
            {"name": "process", "rows": 10, "limit": 10, "began": 310, "ended": 300, "refused": 42, "series": 200}
        ]"#;
        let text = r#"{"version": "1", "pid": 1, "uptime": 1.0, "interval": 1.0, "ticks": 1, "overruns": 0,
            "clock_steps": 0, "last_batch": null, "targets": [], "counters": [], "uncounted": {}, "sinks": []"#;
        let report: Report = serde_json::from_str(&format!("{text}, \"kinds\": {kinds}}}")).expect("a report");
        let table = report.table();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let line = table.lines().map(words).find(|line| line.first().is_some_and(|word| word == "process"));
        assert_eq!(line, Some(words("process 10 10 310 300 42 200")), "{table}");
        assert!(table.contains("process: 42 had no place") && !table.contains("app: "), "{table}");
        // An agent that is older says nothing of them.
        let older: Report = serde_json::from_str(&format!("{text}}}")).expect("a report");
        assert!(!older.table().contains("KIND"), "{}", older.table());
    }
}
