//! The latest total of every series, read from the agent's line protocol.
//!
//! The parser is `InfluxData`'s own, so that our encoder is not checked by our own reading of it.

use crate::expect::{Expected, Layer, Metric, RELEASES};
use crate::{Failure, Outcome};
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use std::collections::{BTreeMap, BTreeSet};

type Labels = BTreeMap<String, String>;

/// What the agent says of the hook of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hook {
    /// Where it looks.
    pub layer: Layer,
    /// Events that its count may lack, since it says to have missed them; none where it says to be exact. A miss is
    /// counted before the filter is asked, so those of others may be among them.
    pub lacking: f64,
}

/// What the lines read so far say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    values: BTreeMap<(String, Labels), f64>,
    timestamps: BTreeSet<i64>,
    /// Of the line read last.
    last: Option<i64>,
}

/// By how much a clock is set back at least, if a timestamp may follow it: more than an interval.
const STEP_BACK: i64 = 1_000_000_000;

impl Totals {
    /// Takes in one line: its values replace those of the same series.
    ///
    /// # Errors
    /// The line is not line protocol, has no timestamp, is older than the one before it by less than a step of the clock
    /// that an agent follows, or carries a text where a number belongs.
    pub fn read(&mut self, line: &str) -> Outcome<()> {
        for parsed in parse_lines(line) {
            let parsed = parsed.map_err(Failure::at(format!("not line protocol: {line:?}")))?;
            let timestamp = parsed.timestamp;
            let timestamp = timestamp.ok_or_else(|| Failure::new(format!("no timestamp: {line:?}")))?;
            if self.last.replace(timestamp).is_some_and(|last| (1..STEP_BACK).contains(&(last - timestamp))) {
                return Err(Failure::new(format!("older than the line before it: {line:?}")));
            }
            self.timestamps.insert(timestamp);
            self.take(&parsed)?;
        }
        Ok(())
    }

    fn take(&mut self, line: &ParsedLine<'_>) -> Outcome<()> {
        let tags = line.series.tag_set.iter().flatten();
        let labels: Labels = tags.map(|(key, value)| (key.to_string(), value.to_string())).collect();
        for (field, value) in &line.field_set {
            let name = format!("{}.{field}", line.series.measurement);
            #[expect(clippy::cast_precision_loss, reason = "the workload's totals are far below 2^53")]
            let value = match value {
                FieldValue::I64(value) => *value as f64,
                FieldValue::U64(value) => *value as f64,
                FieldValue::F64(value) => *value,
                other => return Err(Failure::new(format!("{name} is no number: {other:?}"))),
            };
            self.values.insert((name, labels.clone()), value);
        }
        Ok(())
    }

    /// Takes in one value that came another way than as a line.
    pub fn insert(&mut self, name: String, labels: BTreeMap<String, String>, value: f64, timestamp: i64) {
        self.timestamps.insert(timestamp);
        self.values.insert((name, labels), value);
    }

    /// How many batches the lines come from.
    pub fn batches(&self) -> usize {
        self.timestamps.len()
    }

    /// When the batches were taken, the oldest first.
    pub fn times(&self) -> impl Iterator<Item = i64> {
        self.timestamps.iter().copied()
    }

    /// The latest value of a metric; labels that the metric does not name (a host) are not looked at.
    pub fn get(&self, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
        self.get_with(name, label.as_slice())
    }

    /// The latest value of the series of a metric that has all these labels.
    pub fn get_with(&self, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
        let has = |labels: &Labels, (key, value): &(&str, &str)| labels.get(*key).is_some_and(|v| v == value);
        let found = self.of(name).find(|(labels, _)| wanted.iter().all(|label| has(labels, label)));
        found.map(|(_, value)| value)
    }

    /// What counts a metric, as `hook.info` and `hook.missed` say; nothing when no hook serves it.
    pub fn hook(&self, metric: &Metric) -> Option<Hook> {
        metric.counters.iter().find_map(|&counter| {
            let says = |label, word| self.label("hook.info", ("counter", counter), label).map(|said| said == word);
            let layer = if says("layer", "syscall")? { Layer::Syscall } else { Layer::Kernel };
            let exact = says("exact", "yes").unwrap_or(false);
            let missed = self.get("hook.missed", Some(("counter", counter))).unwrap_or(0.0);
            Some(Hook { layer, lacking: if exact { 0.0 } else { missed } })
        })
    }

    /// Where a metric is counted; nothing when no hook serves it.
    pub fn layer(&self, metric: &Metric) -> Option<Layer> {
        self.hook(metric).map(|hook| hook.layer)
    }

    /// The tiers that serve the counters, each named once.
    pub fn tiers(&self) -> BTreeSet<&str> {
        self.of("hook.info").filter_map(|(labels, _)| labels.get("tier")).map(String::as_str).collect()
    }

    /// The counters whose hook missed events, with how many.
    pub fn missed(&self) -> Vec<(&str, f64)> {
        self.of("hook.missed")
            .filter(|&(_, value)| value != 0.0)
            .map(|(labels, value)| (labels.get("counter").map_or("?", String::as_str), value))
            .collect()
    }

    /// What became of the samples meant for a sink, by state (`offered`, `written`, ...).
    pub fn samples(&self, sink: &str) -> BTreeMap<&str, f64> {
        let of_sink = self.of("agent.samples").filter(|(labels, _)| labels.get("sink").is_some_and(|s| s == sink));
        of_sink.filter_map(|(labels, value)| Some((labels.get("state")?.as_str(), value))).collect()
    }

    /// A label of the series of a metric that has another label of this value.
    pub fn label(&self, name: &str, (key, value): (&str, &str), wanted: &str) -> Option<&str> {
        let (labels, _) = self.of(name).find(|(labels, _)| labels.get(key).is_some_and(|v| v == value))?;
        labels.get(wanted).map(String::as_str)
    }

    /// Every series: its metric, its labels, its latest value.
    pub fn series(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>, f64)> {
        self.values.iter().map(|((name, labels), value)| (name.as_str(), labels, *value))
    }

    fn of(&self, name: &str) -> impl Iterator<Item = (&Labels, f64)> {
        self.series().filter(move |(n, ..)| *n == name).map(|(_, labels, value)| (labels, value))
    }
}

impl Expected {
    /// What a receiver must hold of an agent that says `totals` itself. Of releases it is what that agent counted: the
    /// kernel may hide some from it ([`crate::hidden`]).
    pub fn received(&self, totals: &Totals) -> f64 {
        if self.metric.name == RELEASES {
            return totals.get(self.metric.name, self.metric.label).unwrap_or_default();
        }
        #[expect(clippy::cast_precision_loss, reason = "the workload's totals are far below 2^53")]
        let value = self.at(totals.layer(&self.metric).unwrap_or(Layer::Syscall)) as f64;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect;

    fn totals(lines: &[&str]) -> Totals {
        let mut totals = Totals::default();
        for line in lines {
            totals.read(line).unwrap();
        }
        totals
    }

    #[test]
    fn a_later_line_replaces_an_earlier_one() {
        let totals = totals(&["file,operation=open calls=12i 100", "file,operation=open calls=13i 200"]);
        assert_eq!(totals.get("file.calls", Some(("operation", "open"))), Some(13.0));
        assert_eq!(totals.get("file.calls", Some(("operation", "close"))), None);
        assert_eq!(totals.batches(), 2);
    }

    #[test]
    fn a_timestamp_that_goes_back_is_refused_unless_the_clock_was_set() {
        let mut totals = totals(&["file,operation=open calls=12i 200", "file,operation=close calls=12i 200"]);
        assert!(totals.read("file,operation=open calls=13i 199").is_err());
        let hour = 3_600_000_000_000_i64;
        totals.read(&format!("file,operation=open calls=13i {hour}")).unwrap();
        totals.read("file,operation=open calls=14i 300").unwrap();
        assert_eq!(totals.get("file.calls", Some(("operation", "open"))), Some(14.0), "the clock was set back");
    }

    #[test]
    fn several_fields_of_a_line_are_several_metrics() {
        let totals = totals(&["task,host=a exits=3i,releases=4i 100"]);
        assert_eq!(totals.get("task.exits", None), Some(3.0));
        assert_eq!(totals.get("task.releases", None), Some(4.0));
    }

    #[test]
    fn layer_and_misses_come_from_the_hook_of_the_counter() {
        let totals = totals(&[
            "hook,counter=vfs.read,tier=tracepoint,layer=syscall,function=sys_exit,exact=yes info=1 100",
            "hook,counter=task.start,tier=tracepoint,layer=task,function=task_newtask,exact=yes info=1 100",
            "hook,counter=vfs.read missed=7i 100",
            "hook,counter=task.start missed=0i 100",
            "hook,counter=file.open,tier=fentry,layer=function,exact=no info=1 100",
            "hook,counter=file.open missed=2i 100",
        ]);
        let hook = |name: &str| {
            let expected = expect::nothing();
            totals.hook(&expected.iter().find(|e| e.metric.name == name).unwrap().metric)
        };
        assert_eq!(hook("vfs.bytes"), Some(Hook { layer: Layer::Syscall, lacking: 0.0 }));
        assert_eq!(hook("task.started"), Some(Hook { layer: Layer::Kernel, lacking: 0.0 }));
        assert_eq!(hook("file.calls"), Some(Hook { layer: Layer::Kernel, lacking: 2.0 }));
        assert_eq!(hook("task.exits"), None);
        assert_eq!(totals.missed(), [("file.open", 2.0), ("vfs.read", 7.0)]);
        assert_eq!(totals.tiers().into_iter().collect::<Vec<_>>(), ["fentry", "tracepoint"]);
    }

    #[test]
    fn a_line_of_another_kind_is_refused() {
        for line in ["hello", "file calls=1i", "file calls=\"many\" 100"] {
            assert!(Totals::default().read(line).is_err(), "{line}");
        }
    }
}
