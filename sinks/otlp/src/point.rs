//! Data points: a number, or a histogram, of a row at a time.

use std::time::Duration;

use ebpf_process_core::{Column, Histogram, MetricKind, Scaled};

use crate::attributes::{OF_HISTOGRAMS, OF_NUMBERS, text as attribute};
use crate::wire::{self, eight};

/// The field of a data point in its metric.
const POINT: u8 = 1;
/// The fields of both times, in points of all kinds.
const START: u8 = 2;
const TIME: u8 = 3;

/// What is the same in all data points of a column: places in the text of its kind, so that many columns are close
/// together in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Its labels and the sink's tags.
    attributes: (u32, u32),
    /// Of a histogram: the bounds between its slots, as they are written.
    bounds: (u32, u32),
    /// The first and the last slot that it can have.
    slots: (u8, u8),
}

impl Form {
    /// That of a column with these labels, at the end of a text.
    pub(crate) fn new(column: &Column, labels: &[(&str, &str)], text: &mut Vec<u8>) -> Self {
        /// The field of the bounds in a data point.
        const BOUNDS: u8 = 7;
        let end = |text: &Vec<u8>| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let is_histogram = column.kind() == MetricKind::Histogram;
        let field = if is_histogram { OF_HISTOGRAMS } else { OF_NUMBERS };
        let start = end(text);
        for (key, value) in labels {
            attribute(text, field, key, value);
        }
        let middle = end(text);
        let (first, last) = column.slot_range();
        if is_histogram {
            // The largest number of a slot is its bound, which belongs to it there as well; the last slot has none.
            wire::head(text, BOUNDS, usize::from(last - first) * size_of::<f64>());
            for slot in first..last {
                let total = column.slot_bound(usize::from(slot));
                let bound = Scaled { total, scale: column.factor() }.in_unit();
                text.extend_from_slice(&bound.to_le_bytes());
            }
        }
        Self { attributes: (start, middle), bounds: (middle, end(text)), slots: (first, last) }
    }
}

/// A part of a text.
#[inline]
fn part(text: &[u8], (start, end): (u32, u32)) -> &[u8] {
    text.get(start as usize..end as usize).unwrap_or_default()
}

/// When a row began and when its values were read, as they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times([u8; 18]);

impl Times {
    /// Since 1970. Where the clock was set back behind the beginning, a row began when it was read.
    pub(crate) fn new(start: Duration, time: Duration) -> Self {
        // In the year 2554 nanoseconds since 1970 no longer fit the protocol's number.
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut both = [0; 18];
        both[..9].copy_from_slice(&eight(START, nanoseconds(start.min(time))));
        both[9..].copy_from_slice(&eight(TIME, nanoseconds(time)));
        Self(both)
    }

    /// Both, of what is counted from a beginning on.
    pub(crate) const fn both(&self) -> &[u8] {
        &self.0
    }

    /// The second one alone: a level has no beginning.
    pub(crate) fn time(&self) -> &[u8] {
        &self.0[9..]
    }
}

/// The number of a data point, as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number([u8; 9]);

impl Number {
    /// A total: a whole number as long as the protocol has one for it, and above that one with a fraction, as near as
    /// it comes.
    #[expect(clippy::cast_precision_loss, reason = "a total above 2^63 is rounded")]
    pub(crate) fn total(total: u64) -> Self {
        /// The field of a whole number with a sign.
        const INTEGER: u8 = 6;
        if i64::try_from(total).is_ok() { Self(eight(INTEGER, total)) } else { Self::level(total as f64) }
    }

    /// A number with a fraction.
    pub(crate) const fn level(level: f64) -> Self {
        /// Its field.
        const DOUBLE: u8 = 4;
        Self(eight(DOUBLE, level.to_bits()))
    }
}

/// Writes a number of a row: a total with the time when it began, a level without.
#[inline]
pub(crate) fn number(points: &mut Vec<u8>, row: &[u8], (form, text): (Form, &[u8]), times: &[u8], number: Number) {
    let column = part(text, form.attributes);
    wire::head(points, POINT, row.len() + column.len() + times.len() + number.0.len());
    for part in [row, column, times, &number.0] {
        points.extend_from_slice(part);
    }
}

/// Writes a distribution of a row: the slots that the column can have, hit or not, so that the bounds stay what they are.
pub(crate) fn histogram(
    points: &mut Vec<u8>,
    row: &[u8],
    (form, text): (Form, &[u8]),
    times: &[u8],
    values: Histogram<'_>,
) {
    /// The fields of the number of values, of their sum and of the slots.
    const COUNT: u8 = 4;
    const SUM: u8 = 5;
    const SLOTS: u8 = 6;
    let count = eight(COUNT, values.count());
    let sum = eight(SUM, Scaled { total: values.sum(), scale: values.scale() }.in_unit().to_bits());
    let (first, last) = (usize::from(form.slots.0), usize::from(form.slots.1));
    let (all, size) = (last - first + 1, size_of::<u64>());
    let fixed = [row, part(text, form.attributes), times, &count, &sum, part(text, form.bounds)];
    let length = fixed.iter().map(|part| part.len()).sum::<usize>() + wire::framed_size(all * size);
    wire::head(points, POINT, length);
    for part in fixed {
        points.extend_from_slice(part);
    }
    wire::head(points, SLOTS, all * size);
    let (before, end) = (values.first().saturating_sub(first).min(all), points.len() + all * size);
    points.resize(points.len() + before * size, 0);
    for count in values.counts().iter().take(all - before) {
        points.extend_from_slice(&count.to_le_bytes());
    }
    points.resize(end, 0);
}
