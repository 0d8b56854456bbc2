//! What JSON is made of.

use ebpf_process_core::{ColumnView, Histogram, KindView, Scaled, Value};

use crate::integers::Integers;

/// Appends a string.
pub(crate) fn quoted(word: &str, line: &mut Vec<u8>) {
    // Text, into memory: nothing here can fail.
    let _ = serde_json::to_writer(line, word);
}

/// Appends an array of strings.
pub(crate) fn list<'a>(words: impl Iterator<Item = &'a str>, line: &mut Vec<u8>) {
    line.push(b'[');
    separated(words, line, quoted);
    line.push(b']');
}

/// Appends the pairs of an object, without its braces.
pub(crate) fn pairs<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, line: &mut Vec<u8>) {
    separated(labels, line, |(key, value), line| {
        quoted(key, line);
        line.push(b':');
        quoted(value, line);
    });
}

/// Appends items with commas between them.
pub(crate) fn separated<T>(items: impl Iterator<Item = T>, line: &mut Vec<u8>, write: impl Fn(T, &mut Vec<u8>)) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            line.push(b',');
        }
        write(item, line);
    }
}

/// Appends a moment: seconds and nanoseconds since the epoch.
pub(crate) fn moment(time: std::time::Duration, line: &mut Vec<u8>) {
    line.push(b'[');
    digits(time.as_secs(), line);
    line.push(b',');
    digits(time.subsec_nanos().into(), line);
    line.push(b']');
}

/// How many digits the largest number has.
const DIGITS: usize = 20;

/// Appends a number that is never beyond 2^53.
pub(crate) fn digits(number: u64, line: &mut Vec<u8>) {
    let start = line.len();
    line.resize(start + DIGITS, 0);
    let len = lexical_core::write(number, &mut line[start..]).len();
    line.truncate(start + len);
}

/// Appends a number that may be.
#[inline]
pub(crate) fn integer(number: u64, integers: Integers, line: &mut Vec<u8>) {
    match integers {
        Integers::Numbers => digits(number, line),
        Integers::Text => {
            line.push(b'"');
            digits(number, line);
            line.push(b'"');
        }
    }
}

/// Appends a number that need not be whole. Those that are not finite, which nothing records, are null.
pub(crate) fn float(number: f64, line: &mut Vec<u8>) {
    if number.is_finite() {
        line.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
    } else {
        line.extend_from_slice(b"null");
    }
}

/// Appends the value in a column of a kind.
#[inline]
pub(crate) fn value(value: Value<'_>, kind: &KindView<'_>, column: usize, integers: Integers, line: &mut Vec<u8>) {
    match value {
        Value::Counter(total) => integer(total, integers, line),
        Value::Scaled(scaled) => float(scaled.in_unit(), line),
        Value::Gauge(level) => float(level, line),
        Value::Histogram(histogram) => {
            if let Some(column) = kind.column(column) {
                distribution(&histogram, &column, integers, line);
            }
        }
    }
}

/// Appends a histogram: as many slots as its column has bounds.
fn distribution(histogram: &Histogram<'_>, column: &ColumnView<'_>, integers: Integers, line: &mut Vec<u8>) {
    line.extend_from_slice(b"{\"count\":");
    integer(histogram.count(), integers, line);
    line.extend_from_slice(b",\"sum\":");
    in_unit(histogram.sum(), histogram.scale(), integers, line);
    line.extend_from_slice(b",\"slots\":[");
    let (first, last) = column.column().slot_range();
    let counts = (usize::from(first)..=usize::from(last)).map(|slot| {
        let place = slot.checked_sub(histogram.first());
        place.and_then(|place| histogram.counts().get(place)).copied().unwrap_or(0)
    });
    separated(counts, line, |count, line| integer(count, integers, line));
    line.extend_from_slice(b"]}");
}

/// Appends the largest value of each slot of a column's histograms, inclusive; null for the last, which has no bound.
pub(crate) fn bounds(column: &ColumnView<'_>, integers: Integers, line: &mut Vec<u8>) {
    let column = column.column();
    let (first, last) = column.slot_range();
    line.push(b'[');
    for slot in first..last {
        in_unit(column.slot_bound(usize::from(slot)), column.factor(), integers, line);
        line.push(b',');
    }
    line.extend_from_slice(b"null]");
}

/// Appends a recorded number in the metric's unit: exact where the two are the same.
fn in_unit(total: u64, scale: f64, integers: Integers, line: &mut Vec<u8>) {
    #[expect(clippy::float_cmp, reason = "1 is what it is unless it was set")]
    if scale == 1.0 { integer(total, integers, line) } else { float(Scaled { total, scale }.in_unit(), line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_begin_with_digits() {
        let mut line = Vec::new();
        digits(u64::MAX, &mut line);
        assert_eq!(line, b"18446744073709551615");
    }
}
