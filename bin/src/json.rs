//! A batch as one JSON object, for scripts.
//!
//! ```json
//! {"timestamp": 1600000001.0, "elapsed": 1.0, "samples": [{"name": "vfs.calls", "labels": {"operation": "read"},
//!  "kind": "counter", "unit": "calls", "value": 1234, "delta": 34, "rate": 34.0}]}
//! ```
//!
//! `timestamp` is seconds since the Unix epoch, `elapsed` the seconds since the batch before. A
//! counter's `value` is its total since the start, `delta` what was added since the batch before,
//! `rate` that per second. Other kinds have neither: there `delta` and `rate` are null, and a
//! histogram's `value` is `{"count", "sum", "slots"}`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use ebpf_process_core::{SeriesCache, Sink, SinkError, Value, View};
use serde::Serialize;

/// Writes one object per view, except for the first, which is what differences start from.
pub(crate) struct Json<W> {
    output: W,
    totals: SeriesCache<u64>,
    last: Option<Duration>,
}

#[derive(Serialize)]
struct Object<'a> {
    timestamp: f64,
    elapsed: f64,
    samples: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    kind: &'static str,
    unit: &'a str,
    value: Number<'a>,
    delta: Option<u64>,
    rate: Option<f64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Number<'a> {
    Total(u64),
    Level(f64),
    Distribution { count: u64, sum: u64, slots: &'a [u64] },
}

impl<W: Write> Json<W> {
    /// A sink that writes to `output`.
    pub(crate) fn new(output: W) -> Self {
        Self { output, totals: SeriesCache::default(), last: None }
    }
}

impl<W: Write + Send> Sink for Json<W> {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.totals.update(view, drop);
        let now = view.tick().boottime;
        let elapsed = self.last.replace(now).map(|last| now.saturating_sub(last).as_secs_f64());
        let mut samples = Vec::new();
        for metric in view.metrics() {
            for sample in metric.samples() {
                let mut entry = Entry {
                    name: metric.name(),
                    labels: sample.labels().chain(metric.tags()).collect(),
                    kind: metric.kind().as_str(),
                    unit: metric.descriptor().unit().as_str(),
                    value: Number::Level(0.0),
                    delta: None,
                    rate: None,
                };
                match sample.value() {
                    Value::Counter(total) => {
                        // A series that was not there before began at zero.
                        let before = std::mem::replace(self.totals.entry(sample.id(), || 0), total);
                        let delta = total.saturating_sub(before);
                        entry.value = Number::Total(total);
                        entry.delta = Some(delta);
                        entry.rate =
                            elapsed.filter(|elapsed| *elapsed > 0.0).map(|elapsed| approximate(delta) / elapsed);
                    }
                    Value::Gauge(level) => entry.value = Number::Level(level),
                    Value::Histogram(h) => {
                        entry.value = Number::Distribution { count: h.count(), sum: h.sum, slots: h.slots };
                    }
                }
                samples.push(entry);
            }
        }
        let Some(elapsed) = elapsed else { return Ok(()) };
        let object = Object { timestamp: view.tick().wall.as_secs_f64(), elapsed, samples };
        let mut text = serde_json::to_vec(&object).map_err(SinkError::failed)?;
        text.push(b'\n');
        self.output.write_all(&text)?;
        Ok(self.output.flush()?)
    }
}

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "a rate is a rounded number anyway")]
pub(crate) const fn approximate(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::{Bench, no_slots};
    use ebpf_process_core::{Descriptor, Selection, Unit};

    use super::*;

    #[test]
    fn the_second_batch_is_one_object_with_differences() {
        let calls = Descriptor::counter("demo.calls", Unit::CALLS, "Calls").labels(["operation"]).share();
        let level = Descriptor::gauge("demo.level", Unit::SECONDS, "A level").share();
        let time = Descriptor::histogram("demo.time", Unit::SECONDS, "Times").share();
        let mut bench = Bench::new();
        let (read, new) = (bench.series(&calls, &["read"]), bench.series(&calls, &["a\"b\u{202e}"]));
        let (level, time) = (bench.series(&level, &[]), bench.series(&time, &[]));
        let selection = Selection { tags: BTreeMap::from([("site".into(), "lab".into())]), ..Selection::default() };
        let mut output = Vec::new();
        let mut json = Json::new(&mut output);
        bench.tick(&selection, |recorder| recorder.counter(read, 40), |view| json.write(view)).expect("a write");
        let record = |recorder: &mut ebpf_process_core::Recorder| {
            recorder.counter(read, 100);
            recorder.counter(new, 7);
            recorder.gauge(level, 0.5);
            let mut slots = no_slots();
            slots[3] = 2;
            recorder.histogram(time, &slots, 20);
        };
        bench.tick(&selection, record, |view| json.write(view)).expect("a write");
        let text = String::from_utf8(output).expect("text");
        assert_eq!(text.lines().count(), 1, "{text}");
        let object: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(object["timestamp"], 1_600_000_001.0);
        assert_eq!(object["elapsed"], 1.0);
        assert_eq!(
            object["samples"][0],
            serde_json::json!({
                "name": "demo.calls", "labels": {"operation": "read", "site": "lab"}, "kind": "counter",
                "unit": "calls", "value": 100, "delta": 60, "rate": 60.0,
            })
        );
        assert_eq!(object["samples"][1]["labels"]["operation"], "a\"b\u{202e}");
        assert_eq!(object["samples"][1]["delta"], 7);
        assert_eq!(object["samples"][2]["value"], 0.5);
        assert!(object["samples"][2]["delta"].is_null());
        assert_eq!(object["samples"][3]["value"]["count"], 2);
        assert_eq!(object["samples"][3]["value"]["sum"], 20);
    }
}
