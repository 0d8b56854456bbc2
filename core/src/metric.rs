//! What can be measured: columns, their kinds and units.
//!
//! A column is declared once, by the plugin that records it, and shared by everything that mentions it. It
//! says nothing about values.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use crate::histogram::{HISTOGRAM_SLOTS, slot_bound};
use crate::label::clean_label;

/// How the numbers of a metric behave over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// A total since its row began, or since the agent's baseline, that never falls: `u64`.
    Counter,
    /// A level that may rise and fall: `f64`, finite.
    Gauge,
    /// A distribution in powers of two: slots, count and sum, each a total like a counter's.
    Histogram,
}

impl MetricKind {
    /// The lower-case word used in output and documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The unit of a metric, in the plural, without a rate: `calls`, `bytes`.
///
/// The usual ones are constants; a plugin may name its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unit(Cow<'static, str>);

impl Unit {
    /// Function or system calls.
    pub const CALLS: Self = Self(Cow::Borrowed("calls"));
    /// Bytes.
    pub const BYTES: Self = Self(Cow::Borrowed("bytes"));
    /// Processes and threads.
    pub const TASKS: Self = Self(Cow::Borrowed("tasks"));
    /// Kernel events, whatever they are.
    pub const EVENTS: Self = Self(Cow::Borrowed("events"));
    /// Samples in the agent's own bookkeeping.
    pub const SAMPLES: Self = Self(Cow::Borrowed("samples"));
    /// Rounds of collection.
    pub const TICKS: Self = Self(Cow::Borrowed("ticks"));
    /// Series known to the agent: a row's cell is one.
    pub const SERIES: Self = Self(Cow::Borrowed("series"));
    /// Seconds.
    pub const SECONDS: Self = Self(Cow::Borrowed("seconds"));
    /// A number without a unit, such as an information gauge that is always 1.
    pub const ONE: Self = Self(Cow::Borrowed("1"));

    /// A unit of the plugin's own; characters that could break a protocol become `_`.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(clean_with(name.into(), |c| c.is_ascii_alphanumeric() || "_/%-".contains(c)))
    }

    /// The unit as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A metric with its fixed labels: one number for each row of an [`EntityKind`](crate::EntityKind).
///
/// Columns of one kind that have the same name are one metric, told apart by their labels. Names are
/// lower-case, in parts separated by dots (`area.noun`), without the unit. Text that breaks the rule is
/// cleaned, not refused: a name is a programmer's constant, and a metric under a slightly different name is
/// better than none.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    name: Cow<'static, str>,
    help: Cow<'static, str>,
    unit: Unit,
    kind: MetricKind,
    labels: Vec<(Cow<'static, str>, Box<str>)>,
    slots: (u8, u8),
    scale: f64,
}

impl Column {
    /// A counter: a `u64` total.
    pub fn counter(name: impl Into<Cow<'static, str>>, unit: Unit, help: impl Into<Cow<'static, str>>) -> Self {
        Self::new(MetricKind::Counter, name.into(), unit, help.into())
    }

    /// A gauge: a finite `f64` level.
    pub fn gauge(name: impl Into<Cow<'static, str>>, unit: Unit, help: impl Into<Cow<'static, str>>) -> Self {
        Self::new(MetricKind::Gauge, name.into(), unit, help.into())
    }

    /// A histogram of power-of-two slots, all 64 unless [`slots`](Self::slots) says otherwise.
    pub fn histogram(name: impl Into<Cow<'static, str>>, unit: Unit, help: impl Into<Cow<'static, str>>) -> Self {
        Self::new(MetricKind::Histogram, name.into(), unit, help.into())
    }

    fn new(kind: MetricKind, name: Cow<'static, str>, unit: Unit, help: Cow<'static, str>) -> Self {
        Self {
            name: clean_with(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.'),
            help: clean_with(help, |c| !c.is_control()),
            unit,
            kind,
            labels: Vec::new(),
            slots: (0, LAST_SLOT),
            scale: 1.0,
        }
    }

    /// Sets the column's own labels. A key may be none of the kind's on which it is declared.
    #[must_use]
    pub fn labels<K: Into<Cow<'static, str>>, V: AsRef<str>>(
        mut self,
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let labels = labels.into_iter().map(|(key, value)| (clean_key(key.into()), clean_label(value.as_ref())));
        self.labels = labels.collect();
        self
    }

    /// Sets which slots a histogram has: slot *k* holds the values from 2^k to 2^(k+1)-1, slot 0 also 0. What
    /// is recorded outside of them is counted in the first or the last, which therefore has no bound.
    #[must_use]
    pub fn slots(mut self, slots: RangeInclusive<u8>) -> Self {
        let last = (*slots.end()).min(LAST_SLOT);
        self.slots = ((*slots.start()).min(last), last);
        self
    }

    /// Says what one of the recorded numbers is in the metric's unit, as `1e-9` for nanoseconds of a metric in
    /// seconds: of a counter's total, of a histogram's values. A gauge is recorded in its unit. What is not
    /// above 0 and finite is taken for 1.
    #[must_use]
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = if scale.is_finite() && scale > 0.0 { scale } else { 1.0 };
        self
    }

    /// The metric's name without the kind, for example `vfs.calls`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One sentence on what is counted.
    pub fn help(&self) -> &str {
        &self.help
    }

    /// The unit of the values.
    pub const fn unit(&self) -> &Unit {
        &self.unit
    }

    /// How the values behave.
    pub const fn kind(&self) -> MetricKind {
        self.kind
    }

    /// What one of the recorded numbers is in the unit.
    pub const fn factor(&self) -> f64 {
        self.scale
    }

    /// The first and the last slot of a histogram.
    pub const fn slot_range(&self) -> (u8, u8) {
        self.slots
    }

    /// The largest recorded number that falls into a histogram's slot, inclusive.
    pub const fn slot_bound(&self, slot: usize) -> u64 {
        if slot >= self.slots.1 as usize { u64::MAX } else { slot_bound(slot) }
    }

    /// The column's own labels, cleaned.
    pub fn own_labels(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.labels.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether this is the same metric with the same labels.
    pub(crate) fn is_twin_of(&self, other: &Self) -> bool {
        self.name == other.name && self.labels == other.labels
    }

    /// Whether what is recorded for the one can be read as the other's.
    #[expect(clippy::float_cmp, reason = "whether both were declared with the same")]
    pub(crate) fn counts_like(&self, other: &Self) -> bool {
        self.factor() == other.factor() && self.slot_range() == other.slot_range()
    }
}

/// The last slot that a histogram can have.
#[expect(clippy::cast_possible_truncation, reason = "63")]
const LAST_SLOT: u8 = (HISTOGRAM_SLOTS - 1) as u8;

/// A label's key: lower-case letters, digits and `_`.
pub(crate) fn clean_key(key: Cow<'static, str>) -> Cow<'static, str> {
    clean_with(key, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Replaces what `allowed` refuses by `_`, without copying text that is fine already.
pub(crate) fn clean_with(text: Cow<'static, str>, allowed: impl Fn(char) -> bool) -> Cow<'static, str> {
    if text.is_empty() {
        Cow::Borrowed("_")
    } else if text.chars().all(&allowed) {
        text
    } else {
        Cow::Owned(text.chars().map(|c| if allowed(c) { c } else { '_' }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_break_a_protocol_is_cleaned() {
        let cases = [("vfs.calls", "vfs.calls"), ("Vfs Calls", "_fs__alls"), ("a:b|c\nd", "a_b_c_d"), ("", "_")];
        for (given, expected) in cases {
            assert_eq!(Column::counter(given, Unit::CALLS, "help").name(), expected);
        }
    }

    #[test]
    fn a_range_of_slots_is_one_that_a_histogram_can_have() {
        let range = |slots| Column::histogram("a.b", Unit::BYTES, "B").slots(slots).slot_range();
        assert_eq!(range(3..=20), (3, 20));
        assert_eq!(range(0..=200), (0, 63));
        #[expect(clippy::reversed_empty_ranges, reason = "what somebody else may write")]
        let reversed = range(9..=4);
        assert_eq!(reversed, (4, 4));
    }
}
