//! A metric as a family of the exposition formats: its names, and the lines above its samples.

use std::collections::HashSet;

use ebpf_process_core::{ColumnView, MetricKind};

use crate::format::Format;
use crate::name;
use crate::number::base_of;

/// What all samples of a metric have in common.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// The name, with the base unit and without the suffixes of samples.
    pub(crate) name: String,
    kind: MetricKind,
    text: String,
    openmetrics: String,
    /// The columns whose samples are on the page, in the order in which they came.
    pub(crate) columns: Vec<u32>,
    /// The columns' labels, sorted.
    labels: HashSet<Vec<(String, String)>>,
}

impl Family {
    /// Of a metric, by one of its columns.
    pub(crate) fn new(namespace: &str, column: &ColumnView<'_>) -> Self {
        let (kind, unit) = (column.column().kind(), base_of(column.column().unit()).0);
        let mut name = name::metric(namespace, column.name());
        if kind == MetricKind::Counter
            && let Some(stem) = name.strip_suffix("_total").filter(|stem| !stem.is_empty())
        {
            name.truncate(stem.len());
        }
        if let Some(unit) = unit
            && !name.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_'))
        {
            name = format!("{name}_{unit}");
        }
        let help = column.column().help();
        // The older format knows samples, not families.
        let sample = if kind == MetricKind::Counter { format!("{name}_total") } else { name.clone() };
        let text = format!("# HELP {sample} {}\n# TYPE {sample} {kind}\n", name::escape_help(help));
        let unit = unit.map(|unit| format!("# UNIT {name} {unit}\n")).unwrap_or_default();
        let openmetrics = format!("# HELP {name} {}\n# TYPE {name} {kind}\n{unit}", name::escape(help));
        Self { name, kind, text, openmetrics, columns: Vec::new(), labels: HashSet::new() }
    }

    /// Adds a column with labels that no other column of the family has: `false` if one has them.
    pub(crate) fn add(&mut self, column: u32, labels: &[(String, String)]) -> bool {
        let mut labels = labels.to_vec();
        labels.sort();
        let is_new = self.labels.insert(labels);
        if is_new {
            self.columns.push(column);
        }
        is_new
    }

    /// The lines above the samples.
    pub(crate) fn header(&self, format: Format) -> &[u8] {
        match format {
            Format::Text => self.text.as_bytes(),
            Format::OpenMetrics => self.openmetrics.as_bytes(),
        }
    }

    /// Whether this is the family's name, or that of samples of it.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        name.strip_prefix(&*self.name).is_some_and(|suffix| self.suffixes().contains(&suffix))
    }

    /// All names that no other family may have.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.suffixes().iter().map(|suffix| format!("{}{suffix}", self.name))
    }

    const fn suffixes(&self) -> &'static [&'static str] {
        match self.kind {
            MetricKind::Counter => &["", "_total", "_created"],
            MetricKind::Gauge => &[""],
            MetricKind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
        }
    }
}
