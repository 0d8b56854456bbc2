//! Operations: what is counted of each, and what it is called.

use ebpf_process_core::{Column, MetricKind, Scaled, Unit, Value};

use super::text::clean;
use super::units;

/// One row: an operation and what is known of it, by [`Aspect`].
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) cells: Cells,
}

/// What is known of an operation, by [`Aspect`].
pub(super) type Cells = [Option<Figure>; 3];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) total: u64,
    pub(super) rate: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aspect {
    Calls,
    Errors,
    Bytes,
}

pub(super) const ASPECTS: [(Aspect, &str); 3] =
    [(Aspect::Calls, "CALLS"), (Aspect::Errors, "ERRORS"), (Aspect::Bytes, "BYTES")];

impl Aspect {
    /// An operation's rate as text.
    pub(super) fn rate(self, cells: &Cells) -> String {
        let figure = cells[self as usize];
        let rate = figure.and_then(|figure| figure.rate);
        rate.map_or_else(
            || if figure.is_some() { "-".to_owned() } else { String::new() },
            |rate| if self == Self::Bytes { units::bytes(rate) } else { units::count_rate(rate) },
        )
    }

    /// An operation's total as text.
    pub(super) fn total(self, cells: &Cells) -> String {
        cells[self as usize].map_or_else(String::new, |Figure { total, .. }| {
            if self == Self::Bytes { units::bytes(units::approximate(total)) } else { units::total(total) }
        })
    }
}

/// Where a counter stands: the operation's name and the aspect. `vfs.errors {read}` is the errors of
/// `vfs read`; a counter that is no such aspect of an operation is an operation itself.
pub(super) fn place(name: &str, unit: &Unit, labels: &[&str]) -> (String, Aspect) {
    let (area, aspect) = name.rsplit_once('.').unwrap_or(("", name));
    let (verb, kind) = match aspect {
        "calls" => ("", Aspect::Calls),
        "errors" => ("", Aspect::Errors),
        "bytes" => ("", Aspect::Bytes),
        "started" => ("start", Aspect::Calls),
        "start_errors" => ("start", Aspect::Errors),
        "exits" => ("exit", Aspect::Calls),
        "releases" => ("release", Aspect::Calls),
        other if *unit == Unit::BYTES => (other, Aspect::Bytes),
        other => (other, Aspect::Calls),
    };
    let words = [area, verb].into_iter().chain(labels.iter().copied()).filter(|word| !word.is_empty());
    (clean(&words.collect::<Vec<_>>().join(" ")), kind)
}

/// The operation whose interrupted calls this metric counts, if it does.
pub(super) fn interrupted(name: &str, labels: &[&str]) -> Option<String> {
    let (area, aspect) = name.rsplit_once('.')?;
    let verb = match aspect {
        "interrupted" => "",
        "start_interrupted" => "start",
        _ => return None,
    };
    let words = [area, verb].into_iter().chain(labels.iter().copied()).filter(|word| !word.is_empty());
    Some(clean(&words.collect::<Vec<_>>().join(" ")))
}

/// What a column of numbers is called over a table, and where it stands.
pub(super) struct Title {
    /// The operation, and what of it where that is not its calls: `vfs read`, `vfs read errors`.
    pub(super) text: String,
    /// By aspect: calls first, what is seldom or no operation last.
    pub(super) rank: usize,
}

/// The title of a column; none where its values are no single numbers.
pub(super) fn title(column: &Column) -> Option<Title> {
    let labels: Vec<&str> = column.own_labels().map(|(_, value)| value).collect();
    #[expect(clippy::float_cmp, reason = "1 is what it is unless it was set")]
    let is_count = column.kind() == MetricKind::Counter && column.factor() == 1.0;
    let (operation, word, rank) = match (column.kind(), interrupted(column.name(), &labels)) {
        (MetricKind::Histogram, _) => return None,
        (_, Some(operation)) => (operation, "interrupted", ASPECTS.len()),
        _ => match place(column.name(), column.unit(), &labels) {
            (operation, Aspect::Calls) if is_count => (operation, "", Aspect::Calls as usize),
            (operation, Aspect::Errors) => (operation, "errors", Aspect::Errors as usize),
            (operation, Aspect::Bytes) => (operation, "bytes", Aspect::Bytes as usize),
            (operation, Aspect::Calls) if *column.unit() == Unit::ONE => (operation, "", ASPECTS.len() + 1),
            (operation, Aspect::Calls) => (operation, column.unit().as_str(), ASPECTS.len() + 1),
        },
    };
    let text = if word.is_empty() { operation } else { format!("{operation} {}", clean(word)) };
    Some(Title { text, rank })
}

/// A metric's name with the values of its labels.
pub(super) fn named(name: &str, labels: &[&str]) -> String {
    clean(&std::iter::once(name).chain(labels.iter().copied()).collect::<Vec<_>>().join(" "))
}

/// What is no counter of calls or bytes, in words.
pub(super) fn remark(name: &str, unit: &Unit, value: Value<'_>) -> String {
    let unit = if *unit == Unit::ONE { String::new() } else { clean(unit.as_str()) };
    match value {
        Value::Counter(total) => format!("{name}: {} {unit}", units::total(total)),
        Value::Scaled(scaled) => format!("{name}: {} {unit}", units::level(scaled.in_unit())),
        Value::Gauge(level) => format!("{name}: {} {unit}", units::level(level)),
        Value::Histogram(histogram) => {
            let (count, scale) = (histogram.count(), histogram.scale());
            let sum = Scaled { total: histogram.sum(), scale }.in_unit();
            let mean = if count == 0 { 0.0 } else { sum / units::approximate(count) };
            format!("{name}: {} values, mean {} {unit}", units::total(count), units::level(mean))
        }
    }
}
