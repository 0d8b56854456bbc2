//! From a view to one JSON object on one line.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use ebpf_process_core::{Metric, Sample, SeriesCache, Value, View};
use serde::Serialize;

/// Makes the line for each view, in a buffer that it uses again.
///
/// What it writes depends on the views it has seen and on nothing else. What stays the same of a
/// sample is rendered once; a view in which nothing comes or goes allocates nothing.
#[derive(Debug, Default)]
pub struct Encoder {
    line: Vec<u8>,
    series: SeriesCache<Entry>,
    /// The boot time of the view before.
    last: Option<Duration>,
}

/// What is kept per series.
#[derive(Debug)]
struct Entry {
    /// The sample's object up to its value.
    head: Box<[u8]>,
    /// A counter's total in the view before; one that was not there before began at zero.
    total: u64,
}

/// The part of a sample that stays the same.
#[derive(Serialize)]
struct Head<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    kind: &'static str,
    unit: &'a str,
}

impl Encoder {
    /// The line for a view, its end included. The first one's `elapsed` is 0.
    ///
    /// An error is a bug: everything that a view holds can be said in JSON.
    pub fn encode(&mut self, view: &View<'_>) -> serde_json::Result<&[u8]> {
        let Self { line, series, last } = self;
        series.update(view, drop);
        let now = view.tick().boottime;
        let elapsed = last.replace(now).map_or(0.0, |last| now.saturating_sub(last).as_secs_f64());
        line.clear();
        line.extend_from_slice(b"{\"timestamp\":");
        serde_json::to_writer(&mut *line, &view.tick().wall.as_secs_f64())?;
        line.extend_from_slice(b",\"elapsed\":");
        serde_json::to_writer(&mut *line, &elapsed)?;
        line.extend_from_slice(b",\"samples\":[");
        let empty = line.len();
        for metric in view.metrics() {
            for sample in metric.samples() {
                if line.len() > empty {
                    line.push(b',');
                }
                let entry = series.entry(sample.id(), || Entry { head: head(&metric, &sample), total: 0 });
                line.extend_from_slice(&entry.head);
                number(sample.value(), &mut entry.total, elapsed, line)?;
            }
        }
        line.extend_from_slice(b"]}\n");
        Ok(line)
    }
}

fn head(metric: &Metric<'_>, sample: &Sample<'_>) -> Box<[u8]> {
    let head = Head {
        name: metric.name(),
        labels: sample.labels().chain(metric.tags()).collect(),
        kind: metric.kind().as_str(),
        unit: metric.descriptor().unit().as_str(),
    };
    // Text in a map of text: nothing here can fail to be JSON.
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
    bytes.pop();
    bytes.extend_from_slice(b",\"value\":");
    bytes.into()
}

/// The value and what follows it.
fn number(value: Value<'_>, last: &mut u64, elapsed: f64, line: &mut Vec<u8>) -> serde_json::Result<()> {
    match value {
        Value::Counter(total) => {
            let delta = total.saturating_sub(std::mem::replace(last, total));
            let rate = (elapsed > 0.0).then(|| approximate(delta) / elapsed);
            let mut digits = itoa::Buffer::new();
            line.extend_from_slice(digits.format(total).as_bytes());
            line.extend_from_slice(b",\"delta\":");
            line.extend_from_slice(digits.format(delta).as_bytes());
            line.extend_from_slice(b",\"rate\":");
            serde_json::to_writer(&mut *line, &rate)?;
            line.push(b'}');
            return Ok(());
        }
        Value::Gauge(level) => serde_json::to_writer(&mut *line, &level)?,
        Value::Histogram(histogram) => {
            let (count, sum) = (histogram.count(), histogram.sum);
            write!(line, "{{\"count\":{count},\"sum\":{sum},\"slots\":").map_err(serde_json::Error::io)?;
            serde_json::to_writer(&mut *line, histogram.slots)?;
            line.push(b'}');
        }
    }
    line.extend_from_slice(b",\"delta\":null,\"rate\":null}");
    Ok(())
}

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "a rate is a rounded number anyway")]
const fn approximate(count: u64) -> f64 {
    count as f64
}
