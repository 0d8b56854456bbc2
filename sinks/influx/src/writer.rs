//! Lines, from their parts that stay the same and their values.

use std::time::Duration;

use ebpf_process_core::{HISTOGRAM_SLOTS, Histogram};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a counter, or a histogram's number, is written. One per sink: a database never changes the
/// type of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Integers {
    /// `7i`, at most 2^63-1: what every version takes.
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

    /// The largest total that the server can hold, which stands for all above.
    const fn largest(self) -> u64 {
        match self {
            Self::Signed => i64::MAX as u64,
            Self::Unsigned | Self::Float => u64::MAX,
        }
    }
}

/// What stands between two values of a histogram's line: the end of the one, and the name of the
/// field of the other.
#[derive(Debug)]
pub(crate) struct Fields {
    sum: Box<[u8]>,
    slots: Box<[Box<[u8]>]>,
}

impl Fields {
    /// The fields of all histograms whose own name in the line is `field`.
    pub(crate) fn new(field: &[u8], integers: Integers) -> Self {
        let between = |name: &str| [integers.suffix(), b",", field, name.as_bytes(), b"="].concat().into_boxed_slice();
        let slots = (0..HISTOGRAM_SLOTS).map(|slot| between(&format!("_le_{}", largest(slot)))).collect();
        Self { sum: between("_sum"), slots }
    }
}

/// How many slots of a histogram are looked at together.
const GROUP: usize = 8;

/// The lines so far, in a buffer that is used again.
#[derive(Default)]
pub(crate) struct Writer {
    integers: Integers,
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<usize>,
    /// The end of each line whose last value is an integer: its suffix, and the time.
    end: Vec<u8>,
    digits: itoa::Buffer,
}

impl Writer {
    pub(crate) fn new(integers: Integers) -> Self {
        Self { integers, ..Self::default() }
    }

    pub(crate) const fn integers(&self) -> Integers {
        self.integers
    }

    /// Starts again, with lines of this moment since 1970.
    pub(crate) fn begin(&mut self, wall: Duration) {
        self.bytes.clear();
        self.ends.clear();
        self.end.clear();
        // In the year 2262 nanoseconds since 1970 no longer fit the protocol's number.
        let nanoseconds = i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX);
        self.end.extend_from_slice(self.integers.suffix());
        self.end.push(b' ');
        self.end.extend_from_slice(self.digits.format(nanoseconds).as_bytes());
        self.end.push(b'\n');
    }

    /// A line of one total.
    pub(crate) fn counter(&mut self, head: &[u8], total: u64) {
        self.bytes.extend_from_slice(head);
        self.digits(total);
        self.finish(0);
    }

    /// A line of one level.
    pub(crate) fn gauge(&mut self, head: &[u8], level: f64) {
        self.bytes.extend_from_slice(head);
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
        self.finish(self.integers.suffix().len());
    }

    /// A line of a distribution: the count, the sum, and each slot that holds something.
    pub(crate) fn histogram(&mut self, head: &[u8], fields: &Fields, histogram: Histogram<'_>) {
        // Most slots are empty: they are passed over in groups.
        let (groups, _) = histogram.slots.as_chunks::<GROUP>();
        let (mut count, mut used) = (0_u64, 0_u8);
        for (n, group) in groups.iter().enumerate() {
            if group.iter().fold(0, |all, slot| all | slot) > 0 {
                count = group.iter().fold(count, |sum, slot| sum.wrapping_add(*slot));
                used |= 1 << n;
            }
        }
        self.bytes.extend_from_slice(head);
        self.digits(count);
        self.bytes.extend_from_slice(&fields.sum);
        self.digits(histogram.sum);
        for (n, (group, names)) in groups.iter().zip(fields.slots.chunks(GROUP)).enumerate() {
            if used & 1 << n == 0 {
                continue;
            }
            for (&count, name) in group.iter().zip(names).filter(|(count, _)| **count > 0) {
                self.bytes.extend_from_slice(name);
                self.digits(count);
            }
        }
        self.finish(0);
    }

    fn digits(&mut self, total: u64) {
        let total = total.min(self.integers.largest());
        self.bytes.extend_from_slice(self.digits.format(total).as_bytes());
    }

    /// The line's end, from this byte of it on.
    fn finish(&mut self, from: usize) {
        self.bytes.extend_from_slice(&self.end[from..]);
        self.ends.push(self.bytes.len());
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// The largest value that falls into a slot.
const fn largest(slot: usize) -> u64 {
    if slot >= 63 { u64::MAX } else { (1 << (slot + 1)) - 1 }
}
