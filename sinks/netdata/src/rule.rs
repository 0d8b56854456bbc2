//! The chart of a metric that no table knows.

use ebpf_process_core::{Kind, Metric, Sample, Unit};

use crate::chart::{Algorithm, Spec};
use crate::charts::is_known;
use crate::words;

/// The priority of the first chart made by rule: behind all known ones.
pub(crate) const FIRST_PRIORITY: u32 = 1000;

/// Whether a metric says everything in its labels: always 1, and so no chart.
pub(crate) fn is_information(metric: &Metric<'_>) -> bool {
    let descriptor = metric.descriptor();
    let last = descriptor.name().rsplit('.').next();
    metric.kind() == Kind::Gauge && *descriptor.unit() == Unit::ONE && last == Some("info")
}

/// The first part of a metric's name.
pub(crate) fn area<'a>(metric: &Metric<'a>) -> &'a str {
    metric.name().split('.').next().unwrap_or_default()
}

/// How the dimensions of a metric behave.
pub(crate) const fn algorithm(kind: Kind) -> Algorithm {
    match kind {
        Kind::Counter | Kind::Histogram => Algorithm::Incremental,
        Kind::Gauge => Algorithm::Thousandths,
    }
}

/// The chart that a metric gets, or, for a histogram, this series of it.
pub(crate) fn spec(metric: &Metric<'_>, sample: &Sample<'_>, priority: u32, taken: impl Fn(&str) -> bool) -> Spec {
    let descriptor = metric.descriptor();
    let unit = descriptor.unit().as_str();
    let mut id = metric.name().replace('.', "_");
    let mut title = descriptor.help().to_owned();
    let (units, style) = match metric.kind() {
        Kind::Counter => (format!("{unit}/s"), "line"),
        Kind::Gauge => (unit.to_owned(), "line"),
        Kind::Histogram => {
            for (_, value) in sample.labels() {
                id.push('_');
                id.push_str(value);
                title.push_str(", ");
                title.push_str(value);
            }
            ("events/s".to_owned(), "heatmap")
        }
    };
    // The id is cut first, so that what makes it unique survives; the suffix stays far below the
    // two hundred bytes that netdata allows.
    let id = words::unique(words::id(&id), |id| is_known(id) || taken(id));
    let area = area(metric);
    Spec { id, title, units, family: capitalised(area), style, priority, module: area.to_owned() }
}

/// The name of a series' dimension: its label values, or the last part of the metric's name.
pub(crate) fn dimension(metric: &Metric<'_>, sample: &Sample<'_>) -> String {
    let mut name = String::new();
    for (index, (_, value)) in sample.labels().enumerate() {
        if index > 0 {
            name.push('_');
        }
        name.push_str(value);
    }
    if name.is_empty() {
        name.push_str(metric.name().rsplit('.').next().unwrap_or_default());
    }
    name
}

fn capitalised(area: &str) -> String {
    let mut chars = area.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
