//! What of a line is the same each time: a text for each row and one for each column.
//!
//! ```text
//! area.  pid_7.  read.calls:  17  |c          label values in the name
//! area.calls  ,pid=7  ,operation=read:  17  |c
//! area.calls:  17  |c  |#pid:7  ,operation:read
//! column row     column     number column     (DogStatsD: the number comes second)
//! ```

use ebpf_process_core::{ColumnView, MetricKind, RowView};

use crate::dialect::Syntax;
use crate::names::{BOUND, Naming};

/// A row's labels, as they stand in each of its lines.
pub(crate) fn row_text(naming: &Naming, row: &RowView<'_>) -> String {
    let mut text = String::new();
    if naming.syntax == Syntax::Plain {
        for (_, value) in row.labels() {
            naming.push_part(&mut text, value);
            text.push('.');
        }
        return text;
    }
    let keys = naming.keys(row.labels().map(|(key, _)| key));
    for (key, (_, value)) in keys.iter().zip(row.labels()) {
        push_tag(naming, &mut text, key, value, false);
    }
    text
}

/// The text of a row whose own is in use by another one.
pub(crate) fn told_apart(naming: &Naming, text: &str, number: usize) -> String {
    match text.strip_suffix('.').filter(|_| naming.syntax == Syntax::Plain) {
        Some(parts) => format!("{parts}_{number}."),
        None => format!("{text}_{number}"),
    }
}

/// Adds a tag; `follows` says whether others stand before it that are not in this text.
fn push_tag(naming: &Naming, text: &mut String, key: &str, value: &str, follows: bool) {
    let between = match naming.syntax {
        Syntax::Plain | Syntax::Graphite => (";", "="),
        Syntax::Telegraf => (",", "="),
        Syntax::Dogstatsd if text.is_empty() && !follows => ("|#", ":"),
        Syntax::Dogstatsd => (",", ":"),
    };
    text.extend([between.0, key, between.1]);
    // The slot's bound is not known yet.
    if key != BOUND {
        naming.push_value(text, value);
    }
}

/// All of a column's lines without what is the row's, and without the numbers.
#[derive(Debug)]
pub(crate) struct ColumnText {
    text: Box<[u8]>,
    /// Whether the number stands before the row's text.
    number_first: bool,
    /// Before the first number or text that goes in between, before the second and before the third.
    cuts: [usize; 3],
}

impl ColumnText {
    pub(crate) fn new(naming: &Naming, column: &ColumnView<'_>) -> Self {
        let syntax = naming.syntax;
        let kind = column.column().kind();
        let letter = if kind == MetricKind::Gauge { "|g" } else { "|c" };
        let is_histogram = kind == MetricKind::Histogram;
        let (parts, what) = naming.parts(column.name());
        let mut text = String::new();
        let mut push = |part: &str| {
            naming.push_part(&mut text, part);
            text.push('.');
        };
        naming.dotted(&naming.namespace).for_each(|part| push(&part));
        if syntax == Syntax::Plain {
            column.tags().for_each(|(_, value)| push(value));
            parts.for_each(|part| push(&part));
            let first = text.len();
            for (_, value) in column.column().own_labels() {
                naming.push_part(&mut text, value);
                text.push('.');
            }
            naming.push_part(&mut text, &what);
            return Self::number_last(text, first, is_histogram.then_some(".le_"), letter);
        }
        parts.for_each(|part| push(&part));
        naming.push_part(&mut text, &what);
        if syntax != Syntax::Dogstatsd {
            let first = text.len();
            let bound = if syntax == Syntax::Graphite { ";le=" } else { ",le=" };
            text.push_str(&tags(naming, column));
            return Self::number_last(text, first, is_histogram.then_some(bound), letter);
        }
        // Datadog's names start with a letter; what starts with `_e` or `_sc` is not even a metric there.
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            text.insert(0, 'm');
        }
        text.push(':');
        let first = text.len();
        text.push_str(letter);
        let second = text.len();
        let mut tags = tags(naming, column);
        if is_histogram {
            push_tag(naming, &mut tags, BOUND, "", column.entity().label_keys().len() > 0);
        }
        text.push_str(&tags);
        let cuts = [first, second, text.len()];
        Self { text: text.into_bytes().into(), number_first: true, cuts }
    }

    /// From the text up to the end of the name and its tags.
    fn number_last(mut text: String, first: usize, bound: Option<&str>, letter: &str) -> Self {
        text.push_str(bound.unwrap_or_default());
        let second = if bound.is_some() { text.len() } else { text.len() + 1 };
        text.push(':');
        let third = text.len();
        text.push_str(letter);
        Self { text: text.into_bytes().into(), number_first: false, cuts: [first, second, third] }
    }

    /// Writes the line of a counter or a gauge; the number comes in two pieces. Returns where its digits are.
    #[inline]
    pub(crate) fn push(&self, bytes: &mut Vec<u8>, row: &[u8], sign: &[u8], digits: &[u8]) -> usize {
        let [first, second, _] = self.cuts;
        let (head, rest) = self.text.split_at(first);
        let (middle, tail) = rest.split_at(second - first);
        if self.number_first {
            put(bytes, [head, sign], digits, [middle, row, tail])
        } else {
            put(bytes, [head, row, middle, sign], digits, [tail])
        }
    }

    /// Writes the line of a histogram's slot. Returns where its digits are.
    pub(crate) fn push_slot(&self, bytes: &mut Vec<u8>, row: &[u8], bound: &[u8], digits: &[u8]) -> usize {
        let [first, second, third] = self.cuts;
        let text = &self.text;
        let (head, middle, next, tail) = (&text[..first], &text[first..second], &text[second..third], &text[third..]);
        if self.number_first {
            put(bytes, [head], digits, [middle, row, next, bound, tail])
        } else {
            put(bytes, [head, row, middle, bound, next], digits, [tail])
        }
    }
}

/// Writes digits between texts; returns where they are.
#[inline]
fn put<const BEFORE: usize, const AFTER: usize>(
    bytes: &mut Vec<u8>,
    before: [&[u8]; BEFORE],
    digits: &[u8],
    after: [&[u8]; AFTER],
) -> usize {
    for piece in before {
        bytes.extend_from_slice(piece);
    }
    let number = bytes.len();
    bytes.extend_from_slice(digits);
    for piece in after {
        bytes.extend_from_slice(piece);
    }
    number
}

/// A column's labels, then the sink's tags, then the host, each key once: a receiver would keep one of two.
fn tags(naming: &Naming, column: &ColumnView<'_>) -> String {
    let rows = column.entity().label_keys();
    let follows = rows.len() > 0;
    let number = rows.len();
    let mut keys = naming.keys(rows.chain(column.column().own_labels().map(|(key, _)| key)));
    let mut text = String::new();
    for (key, (_, value)) in keys[number..].iter().zip(column.column().own_labels()) {
        push_tag(naming, &mut text, key, value, follows);
    }
    for (key, value) in column.tags().chain(naming.host_tag()) {
        let key = naming.key(key);
        if !keys.contains(&key) {
            push_tag(naming, &mut text, &key, value, follows);
            keys.push(key);
        }
    }
    text
}
