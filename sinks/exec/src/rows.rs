//! The format `rows`: a table for each kind.

use ebpf_process_core::{ColumnView, KindView, MetricKind, RowView, Value, View};

use crate::integers::Integers;
use crate::known::{KindText, RowText};
use crate::line::Line;
use crate::text::{bounds, digits, list, moment, pairs, quoted, separated, value};

/// A kind's object up to its rows.
pub(crate) fn kind<'a>(kind: &KindView<'_>, columns: impl Iterator<Item = &'a [u8]>) -> Box<[u8]> {
    let mut text = b"{\"kind\":".to_vec();
    quoted(kind.kind().name(), &mut text);
    text.extend_from_slice(b",\"keys\":");
    list(kind.kind().label_keys(), &mut text);
    text.extend_from_slice(b",\"columns\":[");
    separated(columns, &mut text, |column, text| text.extend_from_slice(column));
    text.extend_from_slice(b"],\"rows\":[");
    text.into()
}

/// A column's object.
pub(crate) fn column(column: &ColumnView<'_>, integers: Integers) -> Box<[u8]> {
    let mut text = b"{\"name\":".to_vec();
    quoted(column.name(), &mut text);
    text.extend_from_slice(b",\"labels\":{");
    pairs(column.column().own_labels().chain(column.tags()), &mut text);
    text.extend_from_slice(b"},\"type\":\"");
    text.extend_from_slice(column.column().kind().as_str().as_bytes());
    text.extend_from_slice(b"\",\"unit\":");
    quoted(column.column().unit().as_str(), &mut text);
    text.extend_from_slice(b",\"help\":");
    quoted(column.column().help(), &mut text);
    if column.column().kind() == MetricKind::Histogram {
        text.extend_from_slice(b",\"bounds\":");
        bounds(column, integers, &mut text);
    }
    text.push(b'}');
    text.into()
}

/// A row's object up to its values.
pub(crate) fn head(number: u64, row: &RowView<'_>) -> RowText {
    let mut text = b"{\"id\":".to_vec();
    digits(number, &mut text);
    text.extend_from_slice(b",\"labels\":");
    list(row.labels().map(|(_, value)| value), &mut text);
    text.extend_from_slice(b",\"start\":");
    moment(row.started(), &mut text);
    RowText::new(text, b",\"values\":[")
}

/// Appends a row; returns how many values it has.
pub(crate) fn write(
    view: View<'_>,
    kind: &KindView<'_>,
    row: &RowView<'_>,
    text: &KindText,
    known: &RowText,
    integers: Integers,
    line: &mut Line,
) -> u32 {
    known.write(view, row, line);
    let (mut next, mut cells) = (0, 0);
    for (index, cell) in row.cells() {
        let Some(Some((place, _))) = text.columns.get(index) else { continue };
        line.nulls(place - next);
        match cell {
            Value::Counter(total) => line.integer(total, integers, b','),
            other => line.other(|line| {
                value(other, kind, index, integers, line);
                line.push(b',');
            }),
        }
        next = place + 1;
        cells += 1;
    }
    line.nulls(text.selected - next);
    // There is a value, or the row is left out: the last comma goes.
    line.truncate(line.len() - 1);
    line.text(b"]}");
    cells
}
