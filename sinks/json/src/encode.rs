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
    /// How many lines were made.
    lines: u64,
    /// The newest line that arrived: 0 is none.
    arrived: u64,
    /// Whether the newest line is lost.
    lost: bool,
    /// The boot times of the newest line's view and of the newest one that arrived.
    newest: Option<Duration>,
    last: Option<Duration>,
}

/// What is kept per series.
#[derive(Debug)]
struct Entry {
    /// The sample's object up to its value.
    head: Box<[u8]>,
    /// A counter's total as of the lines that arrived; one that was in none began at zero.
    base: u64,
    /// Its total in this line, which may be lost.
    total: u64,
    line: u64,
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
    /// For totals that count from a baseline, a time since boot: the first line's `elapsed` is since then.
    pub fn since(baseline: Duration) -> Self {
        Self { newest: Some(baseline), ..Self::default() }
    }

    /// The line for a view, its end included. The first one's `elapsed` is 0, unless there is a
    /// [baseline](Self::since). Where numbers are missing, `left_out` names their probes. A line counts as arrived
    /// unless [`lost`](Self::lost) is called before the next one.
    ///
    /// An error is a bug: everything that a view holds can be said in JSON.
    pub fn encode(&mut self, view: &View<'_>) -> serde_json::Result<&[u8]> {
        if !std::mem::take(&mut self.lost) {
            (self.arrived, self.last) = (self.lines, self.newest);
        }
        self.lines += 1;
        let Self { line, series, lines, arrived, newest, last, .. } = self;
        series.update(view, drop);
        let now = view.tick().boottime;
        *newest = Some(now);
        let elapsed = last.map_or(0.0, |last| now.saturating_sub(last).as_secs_f64());
        line.clear();
        line.extend_from_slice(b"{\"timestamp\":");
        serde_json::to_writer(&mut *line, &view.tick().wall.as_secs_f64())?;
        line.extend_from_slice(b",\"elapsed\":");
        serde_json::to_writer(&mut *line, &elapsed)?;
        if view.left_out().len() > 0 {
            line.extend_from_slice(b",\"left_out\":");
            serde_json::to_writer(&mut *line, &view.left_out().collect::<Vec<_>>())?;
        }
        line.extend_from_slice(b",\"samples\":[");
        let empty = line.len();
        for metric in view.metrics() {
            for sample in metric.samples() {
                if line.len() > empty {
                    line.push(b',');
                }
                let make = || Entry { head: head(&metric, &sample), base: 0, total: 0, line: 0 };
                let entry = series.entry(sample.id(), make);
                if entry.line <= *arrived {
                    entry.base = entry.total;
                }
                if let Value::Counter(total) = sample.value() {
                    (entry.total, entry.line) = (total, *lines);
                }
                line.extend_from_slice(&entry.head);
                number(sample.value(), entry.base, elapsed, line)?;
            }
        }
        line.extend_from_slice(b"]}\n");
        Ok(line)
    }

    /// The newest line did not arrive: the next one's differences start from the line before it.
    pub const fn lost(&mut self) {
        self.lost = true;
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
fn number(value: Value<'_>, base: u64, elapsed: f64, line: &mut Vec<u8>) -> serde_json::Result<()> {
    match value {
        Value::Counter(total) => {
            let delta = total.saturating_sub(base);
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
