//! The format `samples`: an object for each value.

use ebpf_process_core::{ColumnView, KindView, MetricKind, RowView, Value, View};

use crate::integers::Integers;
use crate::known::{KindText, RowText};
use crate::line::Line;
use crate::text::{bounds, digits, moment, pairs, quoted, value};

/// A sample's object up to the labels of its row.
pub(crate) fn column(place: usize, column: &ColumnView<'_>, integers: Integers) -> Box<[u8]> {
    let mut text = b"{\"name\":".to_vec();
    quoted(column.name(), &mut text);
    text.extend_from_slice(b",\"type\":\"");
    text.extend_from_slice(column.column().kind().as_str().as_bytes());
    text.extend_from_slice(b"\",\"unit\":");
    quoted(column.column().unit().as_str(), &mut text);
    if column.column().kind() == MetricKind::Histogram {
        text.extend_from_slice(b",\"bounds\":");
        bounds(column, integers, &mut text);
    }
    text.extend_from_slice(b",\"kind\":");
    quoted(column.entity().name(), &mut text);
    text.extend_from_slice(b",\"column\":");
    digits(place as u64, &mut text);
    text.extend_from_slice(b",\"labels\":{");
    let start = text.len();
    pairs(column.column().own_labels().chain(column.tags()), &mut text);
    if text.len() > start && column.entity().label_keys().len() > 0 {
        text.push(b',');
    }
    text.into()
}

/// The same from there on, up to the value.
pub(crate) fn row(number: u64, row: &RowView<'_>) -> RowText {
    let mut text = Vec::new();
    pairs(row.labels(), &mut text);
    text.extend_from_slice(b"},\"row\":");
    digits(number, &mut text);
    text.extend_from_slice(b",\"start\":");
    moment(row.started(), &mut text);
    RowText::new(text, b",\"value\":")
}

/// Appends the samples of a row; returns how many there are.
pub(crate) fn write(
    view: View<'_>,
    kind: &KindView<'_>,
    row: &RowView<'_>,
    text: &KindText,
    known: &RowText,
    integers: Integers,
    line: &mut Line,
) -> u32 {
    let mut cells = 0;
    for (index, cell) in row.cells() {
        let Some(Some((_, head))) = text.columns.get(index) else { continue };
        if cells > 0 {
            line.text(b",");
        }
        line.text(head);
        known.write(view, row, line);
        match cell {
            Value::Counter(total) => line.integer(total, integers, b'}'),
            other => line.other(|line| {
                value(other, kind, index, integers, line);
                line.push(b'}');
            }),
        }
        cells += 1;
    }
    cells
}
