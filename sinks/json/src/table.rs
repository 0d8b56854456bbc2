//! A kind's rows as a table: what they have in common is said once per line.

use ebpf_process_core::{KindView, RowView, Scaled, Value};

use crate::known::Known;
use crate::number::{digits, distribution, float, nulls};
use crate::text::{own_labels, pair, quoted};

/// What stays the same of a kind's table.
#[derive(Debug, Default)]
pub(crate) struct TableText {
    /// Up to the first row.
    head: Vec<u8>,
    /// By column: its place among those of the table, which has so many.
    places: Vec<usize>,
    width: usize,
}

impl TableText {
    /// Learns the columns that are new; there are never fewer, and the new ones come last.
    pub(crate) fn update(&mut self, kind: &KindView<'_>) {
        if self.places.len() == kind.width() {
            return;
        }
        let Self { head, places, width } = self;
        places.resize(kind.width(), 0);
        head.clear();
        head.extend_from_slice(b"{\"kind\":");
        quoted(kind.kind().name(), head);
        head.extend_from_slice(b",\"labels\":[");
        separated(kind.kind().label_keys(), head, quoted);
        head.extend_from_slice(b"],\"columns\":[");
        for (place, column) in kind.columns().enumerate() {
            places[column.index()] = place;
            *width = place + 1;
        }
        separated(kind.columns(), head, |column, head| {
            head.extend_from_slice(b"{\"name\":");
            quoted(column.name(), head);
            head.extend_from_slice(b",\"labels\":{");
            separated(own_labels(&column), head, |(key, value), head| pair(key, value, head));
            head.extend_from_slice(b"},\"kind\":\"");
            head.extend_from_slice(column.column().kind().as_str().as_bytes());
            head.extend_from_slice(b"\",\"unit\":");
            quoted(column.column().unit().as_str(), head);
            head.push(b'}');
        });
        head.extend_from_slice(b"],\"rows\":[");
    }

    /// Up to the first row.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// How many columns the kind has, taken or not.
    pub(crate) fn columns(&self) -> usize {
        self.places.len()
    }

    /// Appends a row. `deltas` is for what the row's columns have added; it is used again.
    pub(crate) fn append(
        &self,
        row: &RowView<'_>,
        known: &mut Known,
        deltas: &mut Vec<u8>,
        line: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        line.extend_from_slice(known.text.head());
        deltas.clear();
        let mut next = 0;
        for (column, value) in row.cells() {
            let Some(&place) = self.places.get(column) else { continue };
            nulls(place - next, line);
            nulls(place - next, deltas);
            next = place + 1;
            match value {
                Value::Counter(newest) => {
                    digits(newest, line);
                    line.push(b',');
                    match known.added(column, newest) {
                        Some(delta) => {
                            digits(delta, deltas);
                            deltas.push(b',');
                        }
                        None => nulls(1, deltas),
                    }
                }
                Value::Scaled(Scaled { total: newest, scale }) => {
                    float(Scaled { total: newest, scale }.in_unit(), line)?;
                    line.push(b',');
                    match known.added(column, newest) {
                        Some(total) => {
                            float(Scaled { total, scale }.in_unit(), deltas)?;
                            deltas.push(b',');
                        }
                        None => nulls(1, deltas),
                    }
                }
                Value::Gauge(level) => {
                    float(level, line)?;
                    line.push(b',');
                    nulls(1, deltas);
                }
                Value::Histogram(histogram) => {
                    distribution(&histogram, line)?;
                    line.push(b',');
                    nulls(1, deltas);
                }
            }
        }
        nulls(self.width - next, line);
        nulls(self.width - next, deltas);
        // The commas behind the last ones.
        line.pop();
        deltas.pop();
        line.extend_from_slice(b"],\"deltas\":[");
        line.extend_from_slice(deltas);
        line.extend_from_slice(if row.is_final() { b"],\"ended\":true}" } else { b"]}" });
        Ok(())
    }
}

/// The beginning of a row's object, up to its values.
pub(crate) fn row_head(row: &RowView<'_>) -> Vec<u8> {
    let mut text = b"{\"labels\":[".to_vec();
    separated(row.labels().map(|(_, value)| value), &mut text, quoted);
    text.extend_from_slice(b"],\"created\":");
    // A number, into memory: nothing here can fail.
    let _ = float(row.started().as_secs_f64(), &mut text);
    text.extend_from_slice(b",\"values\":[");
    text
}

/// Appends all, with a comma between two.
fn separated<T>(items: impl Iterator<Item = T>, text: &mut Vec<u8>, mut append: impl FnMut(T, &mut Vec<u8>)) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        append(item, text);
    }
}
