//! What can be measured: descriptors, kinds and units.
//!
//! A descriptor is made once, by the plugin that emits the metric, and shared by everything that
//! mentions it. It says nothing about values.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// How the numbers of a metric behave over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A total since the agent's baseline that never falls: `u64`.
    Counter,
    /// A level that may rise and fall: `f64`, finite.
    Gauge,
    /// A distribution in powers of two: slots, count and sum, each a total since the baseline.
    Histogram,
}

impl Kind {
    /// The lower-case word used in output and documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl fmt::Display for Kind {
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
    /// Series known to the agent.
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

/// What a metric is: its name, meaning, unit, kind and label keys.
///
/// Names are lower-case, in parts separated by dots (`area.noun`), without the unit. Text that
/// breaks the rule is cleaned, not refused: a name is a programmer's constant, and a metric under
/// a slightly different name is better than none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    name: Cow<'static, str>,
    help: Cow<'static, str>,
    unit: Unit,
    kind: Kind,
    labels: Vec<Cow<'static, str>>,
    series_limit: usize,
}

impl Descriptor {
    /// Series a metric may have unless [`series_limit`](Self::series_limit) says otherwise.
    pub const DEFAULT_SERIES_LIMIT: usize = 1024;

    /// A counter: a `u64` total since the baseline.
    pub fn counter(name: impl Into<Cow<'static, str>>, unit: Unit, help: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Counter, name.into(), unit, help.into())
    }

    /// A gauge: a finite `f64` level.
    pub fn gauge(name: impl Into<Cow<'static, str>>, unit: Unit, help: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Gauge, name.into(), unit, help.into())
    }

    /// A histogram of power-of-two slots.
    pub fn histogram(name: impl Into<Cow<'static, str>>, unit: Unit, help: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Histogram, name.into(), unit, help.into())
    }

    fn new(kind: Kind, name: Cow<'static, str>, unit: Unit, help: Cow<'static, str>) -> Self {
        Self {
            name: clean_with(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.'),
            help: clean_with(help, |c| !c.is_control()),
            unit,
            kind,
            labels: Vec::new(),
            series_limit: Self::DEFAULT_SERIES_LIMIT,
        }
    }

    /// Sets the label keys; each series gives one value per key, in this order.
    #[must_use]
    pub fn labels<K: Into<Cow<'static, str>>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        self.labels = keys.into_iter().map(|key| clean_with(key.into(), is_key)).collect();
        self
    }

    /// Sets how many series this metric may have at once; more are refused and counted.
    #[must_use]
    pub const fn series_limit(mut self, limit: usize) -> Self {
        self.series_limit = limit;
        self
    }

    /// Shares the finished descriptor.
    pub fn share(self) -> Arc<Self> {
        Arc::new(self)
    }

    /// The public name, for example `vfs.calls`.
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
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The label keys, in the order in which values are given.
    pub fn label_keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.labels.iter().map(AsRef::as_ref)
    }

    pub(crate) fn labels_slice(&self) -> &[Cow<'static, str>] {
        &self.labels
    }

    /// The most series this metric may have at once.
    pub const fn limit(&self) -> usize {
        self.series_limit
    }
}

/// Replaces what `allowed` refuses by `_`, without copying text that is fine already.
fn clean_with(text: Cow<'static, str>, allowed: impl Fn(char) -> bool) -> Cow<'static, str> {
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
            assert_eq!(Descriptor::counter(given, Unit::CALLS, "help").name(), expected);
        }
    }
}
