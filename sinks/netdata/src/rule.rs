//! The chart of a metric that no table knows.

use ebpf_process_core::{ColumnView, MetricKind, Sample, Unit};

use crate::catalog::Catalog;
use crate::head::Spec;
use crate::words;

/// Whether a metric says everything in its labels: always 1, and so no chart.
pub(crate) fn is_information(column: &ColumnView<'_>) -> bool {
    let column = column.column();
    let last = column.name().rsplit('.').next();
    column.kind() == MetricKind::Gauge && *column.unit() == Unit::ONE && last == Some("info")
}

/// The first part of a metric's name.
pub(crate) fn area(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// The chart of a metric, with a dimension for each series. `None` when there are too many charts.
pub(crate) fn metric(column: &ColumnView<'_>, catalog: &mut Catalog) -> Option<Spec> {
    let (name, unit) = (column.name(), column.column().unit().as_str());
    let id = catalog.take(&name.replace('.', "_"))?;
    let units = if column.column().kind() == MetricKind::Gauge { unit.to_owned() } else { format!("{unit}/s") };
    Some(spec(id, column.column().help().to_owned(), units, capitalised(area(name)), "line", name, catalog))
}

/// The chart of one histogram, with a dimension for each slot. `None` when there are too many charts.
pub(crate) fn heatmap(sample: &Sample<'_>, catalog: &mut Catalog) -> Option<Spec> {
    let (mut id, mut title) = (sample.name().replace('.', "_"), sample.column().column().help().to_owned());
    for (_, value) in sample.own_labels() {
        id.push('_');
        id.push_str(value);
        title.push_str(", ");
        title.push_str(value);
    }
    let (id, family) = (catalog.take(&id)?, capitalised(area(sample.name())));
    Some(spec(id, title, "events/s".to_owned(), family, "heatmap", sample.name(), catalog))
}

fn spec(
    id: String,
    title: String,
    units: String,
    family: String,
    style: &'static str,
    name: &str,
    catalog: &mut Catalog,
) -> Spec {
    let (context, module) = (id.clone(), area(name).to_owned());
    Spec { id, context, title, units, family, style, priority: catalog.next_priority(), module }
}

/// The charts of one column, which belong to a kind whose rows come and go: a dimension for each row. Their ids begin
/// with this one. Of a histogram it is this part.
pub(crate) fn column(column: &ColumnView<'_>, part: Option<Part>, catalog: &mut Catalog) -> Spec {
    let name = column.name();
    let (mut id, mut title) = (name.replace('.', "_"), column.column().help().to_owned());
    let fixed = column.column().own_labels().map(|(_, value)| value);
    for word in fixed.chain(part.map(Part::as_str)) {
        id.push('_');
        id.push_str(word);
        title.push_str(", ");
        title.push_str(word);
    }
    let unit = column.column().unit().as_str();
    let units = match (part, column.column().kind()) {
        (Some(Part::Count), _) => "events/s".to_owned(),
        (None, MetricKind::Gauge) => unit.to_owned(),
        _ => format!("{unit}/s"),
    };
    // `process.vfs.calls` has its place beside `process.vfs.bytes`.
    let parts = name.rsplit_once('.').map_or(name, |(parts, _)| parts);
    spec(words::id(&id), title, units, capitalised(&parts.replace('.', " ")), "line", name, catalog)
}

/// What is told of a row's histogram: a row for each slot would be more than netdata takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Count,
    Sum,
}

impl Part {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
        }
    }
}

/// The name of a series' dimension: its label values, or the last part of the metric's name.
pub(crate) fn dimension(sample: &Sample<'_>) -> String {
    let name = joined(sample.own_labels());
    if name.is_empty() { sample.name().rsplit('.').next().unwrap_or_default().to_owned() } else { name }
}

/// The values of labels as one word.
pub(crate) fn joined<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut name = String::new();
    for (index, (_, value)) in labels.enumerate() {
        if index > 0 {
            name.push('_');
        }
        name.push_str(value);
    }
    name
}

fn capitalised(area: &str) -> String {
    let mut chars = area.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
