//! A metric as a family of the exposition formats: its names, and the lines above its samples.

use ebpf_process_core::{HISTOGRAM_SLOTS, Kind, Metric};

use crate::format::Format;
use crate::name;
use crate::number::Scale;

/// What all samples of a metric have in common.
#[derive(Debug)]
pub(crate) struct Family {
    /// The name, with the base unit and without the suffixes of samples.
    pub(crate) name: String,
    pub(crate) scale: Scale,
    kind: Kind,
    text: String,
    openmetrics: String,
    /// The bounds of a histogram's buckets but for the last, which has none.
    pub(crate) bounds: Vec<String>,
    /// The last page that it was on.
    pub(crate) page: u64,
}

impl Family {
    /// Of a metric.
    pub(crate) fn new(namespace: &str, metric: &Metric<'_>) -> Self {
        let (kind, scale) = (metric.kind(), Scale::of(metric.descriptor().unit()));
        let mut name = name::metric(namespace, metric.name());
        if kind == Kind::Counter
            && let Some(stem) = name.strip_suffix("_total").filter(|stem| !stem.is_empty())
        {
            name.truncate(stem.len());
        }
        if let Some(unit) = scale.unit
            && !name.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_'))
        {
            name = format!("{name}_{unit}");
        }
        let help = metric.descriptor().help();
        // The older format knows samples, not families.
        let sample = if kind == Kind::Counter { format!("{name}_total") } else { name.clone() };
        let text = format!("# HELP {sample} {}\n# TYPE {sample} {kind}\n", name::escape_help(help));
        let unit = scale.unit.map(|unit| format!("# UNIT {name} {unit}\n")).unwrap_or_default();
        let openmetrics = format!("# HELP {name} {}\n# TYPE {name} {kind}\n{unit}", name::escape(help));
        // The last slot holds the largest values there are: its bound is infinity.
        let slots = if kind == Kind::Histogram { HISTOGRAM_SLOTS - 1 } else { 0 };
        let bounds = (0..slots).map(|slot| scale.bound(slot)).collect();
        Self { name, scale, kind, text, openmetrics, bounds, page: 0 }
    }

    /// The lines above the samples.
    pub(crate) fn header(&self, format: Format) -> &[u8] {
        match format {
            Format::Text => self.text.as_bytes(),
            Format::OpenMetrics => self.openmetrics.as_bytes(),
        }
    }

    /// All names that no other family may have.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let suffixes: &[&str] = match self.kind {
            Kind::Counter => &["", "_total", "_created"],
            Kind::Gauge => &[""],
            Kind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
        };
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.name))
    }
}
