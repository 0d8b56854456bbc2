//! Lines, from their parts that stay the same and their values.

use std::time::Duration;

use ebpf_process_core::{Histogram, Scaled, Value};
use lexical_core::BUFFER_SIZE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::group::{HistogramNames, Names, Part};
use crate::row::Row;

/// How many digits the largest total has.
const DIGITS: usize = 20;

/// Why a total is rejected that is above what the option `integers` lets the server have.
pub const TOO_LARGE: &str = "above 2^63-1, the most with integers = i";

/// How a counter, or a histogram's number, is written. One per sink: a database never changes the
/// type of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Integers {
    /// `7i`, at most 2^63-1, above which a sample is rejected: what every version takes.
    #[default]
    #[serde(rename = "i")]
    Signed,
    /// `7u`, up to 2^64-1: for versions 2 and 3.
    #[serde(rename = "u")]
    Unsigned,
    /// `7.0`, exact up to 2^53.
    #[serde(rename = "float")]
    Float,
}

impl Integers {
    /// What stands behind the digits.
    const fn suffix(self) -> &'static [u8] {
        match self {
            Self::Signed => b"i",
            Self::Unsigned => b"u",
            Self::Float => b".0",
        }
    }

    /// The largest total that a field can have.
    const fn largest(self) -> u64 {
        match self {
            Self::Signed => i64::MAX as u64,
            Self::Unsigned | Self::Float => u64::MAX,
        }
    }
}

/// Where a line ends, and how many samples it carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) at: usize,
    pub(crate) samples: u32,
}

/// The lines so far, in a buffer that is used again.
pub(crate) struct Writer {
    integers: Integers,
    /// The most bytes of a line with more than one sample.
    longest: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<End>,
    /// Of all lines.
    pub(crate) samples: u64,
    /// Where the line begins, and where its fields do.
    start: usize,
    fields: usize,
    /// How many samples the line has so far.
    line_samples: u32,
    /// The moment of the line, and the end of it that says so.
    wall: Option<Duration>,
    end: Vec<u8>,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            integers: Integers::default(),
            longest: usize::MAX,
            bytes: Vec::new(),
            ends: Vec::new(),
            samples: 0,
            start: 0,
            fields: 0,
            line_samples: 0,
            wall: None,
            end: Vec::new(),
        }
    }
}

impl Writer {
    pub(crate) const fn set_integers(&mut self, integers: Integers) {
        self.integers = integers;
    }

    pub(crate) const fn set_longest(&mut self, longest: usize) {
        self.longest = longest;
    }

    /// Starts again.
    pub(crate) fn begin(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.samples = 0;
    }

    /// The lines that follow are of this moment since 1970.
    pub(crate) fn at(&mut self, wall: Duration) {
        if self.wall.replace(wall) == Some(wall) {
            return;
        }
        // In the year 2262 nanoseconds since 1970 no longer fit the protocol's number.
        let nanoseconds = i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX);
        self.end.clear();
        self.end.push(b' ');
        self.end.extend_from_slice(lexical_core::write(nanoseconds, &mut [0; BUFFER_SIZE]));
        self.end.push(b'\n');
    }

    /// Begins a line of a row.
    pub(crate) fn open(&mut self, parts: &[Part], text: &[u8], row: &Row) {
        self.start = self.bytes.len();
        let mut done = 0;
        for part in parts {
            self.bytes.extend_from_slice(part.text.of(text));
            if part.tags > done {
                self.bytes.extend_from_slice(row.tags(done, part.tags));
                done = part.tags;
            }
        }
        self.fields = self.bytes.len();
        self.line_samples = 0;
    }

    /// Whether all whole numbers of a sample fit the server's.
    #[inline]
    pub(crate) fn can_say(&self, value: Value<'_>) -> bool {
        let largest = self.integers.largest();
        match value {
            Value::Counter(total) => total <= largest,
            Value::Scaled(_) | Value::Gauge(_) => true,
            Value::Histogram(histogram) => {
                let fits = |total: &u64| *total <= largest;
                fits(&histogram.count())
                    && (!is_whole(&histogram) || fits(&histogram.sum()))
                    && histogram.counts().iter().all(fits)
            }
        }
    }

    /// Adds a sample to the line, which it [can say](Self::can_say).
    #[inline]
    pub(crate) fn field(&mut self, names: &Names, text: &[u8], value: Value<'_>) {
        let before = self.bytes.len();
        match (names, value) {
            (Names::One(name), Value::Counter(total)) => self.total(name.of(text), total),
            (Names::One(name), Value::Scaled(scaled)) => self.level(name.of(text), scaled.in_unit()),
            (Names::One(name), Value::Gauge(level)) => self.level(name.of(text), level),
            (Names::Histogram(names), Value::Histogram(histogram)) => self.histogram(names, histogram),
            // A column's values are all of its kind.
            (Names::One(_), Value::Histogram(_)) | (Names::Histogram(_), _) => return,
        }
        if self.bytes.len() + self.end.len() > self.longest.saturating_add(self.start) && before > self.fields {
            let field = self.bytes.split_off(before);
            let head = self.start..self.fields;
            self.close();
            self.start = self.bytes.len();
            self.bytes.extend_from_within(head);
            self.fields = self.bytes.len();
            self.bytes.extend_from_slice(&field);
            self.line_samples = 0;
        }
        self.line_samples += 1;
    }

    /// Ends the line.
    pub(crate) fn close(&mut self) {
        // Each field begins with a comma, the first one with a space.
        if let Some(first) = self.bytes.get_mut(self.fields) {
            *first = b' ';
        }
        self.bytes.extend_from_slice(&self.end);
        self.ends.push(End { at: self.bytes.len(), samples: self.line_samples });
        self.samples += u64::from(self.line_samples);
    }

    fn total(&mut self, name: &[u8], total: u64) {
        self.bytes.extend_from_slice(name);
        let start = self.bytes.len();
        self.bytes.resize(start + DIGITS, 0);
        let len = lexical_core::write(total, &mut self.bytes[start..]).len();
        self.bytes.truncate(start + len);
        self.bytes.extend_from_slice(self.integers.suffix());
    }

    fn level(&mut self, name: &[u8], level: f64) {
        self.bytes.extend_from_slice(name);
        let mut decimals = ryu::Buffer::new();
        let text = decimals.format(level);
        match text.split_once('e') {
            // "1e16" becomes "1.0e16": a number without a point may pass for an integer.
            Some((digits, exponent)) if !digits.contains('.') => {
                for part in [digits, ".0e", exponent] {
                    self.bytes.extend_from_slice(part.as_bytes());
                }
            }
            _ => self.bytes.extend_from_slice(text.as_bytes()),
        }
    }

    /// The count, the sum, and each slot that holds something.
    fn histogram(&mut self, names: &HistogramNames, histogram: Histogram<'_>) {
        self.total(&names.count, histogram.count());
        let (total, scale) = (histogram.sum(), histogram.scale());
        if is_whole(&histogram) {
            self.total(&names.sum, total);
        } else {
            self.level(&names.sum, Scaled { total, scale }.in_unit());
        }
        let slots = names.slots.get(histogram.first().saturating_sub(names.first)..).unwrap_or_default();
        for (name, count) in slots.iter().zip(histogram.counts()).filter(|(_, count)| **count > 0) {
            self.total(name, *count);
        }
    }
}

/// Whether a histogram's sum is an integer: it was counted in its own unit.
#[expect(clippy::float_cmp, reason = "1 is what it is unless it was set")]
fn is_whole(histogram: &Histogram<'_>) -> bool {
    histogram.scale() == 1.0
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}
