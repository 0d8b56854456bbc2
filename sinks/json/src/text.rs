//! What stays the same of a sample: one text for its row, one for its column.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use ebpf_process_core::{ColumnView, KindView, RowView};

/// Longer than the text of most columns.
const CHUNK: usize = 128;

/// A row's labels, by key: `"comm":"sh","pid":"7",`.
#[derive(Debug)]
pub(crate) struct RowText {
    text: Box<[u8]>,
    /// Where each begins, and the end of the last.
    starts: Box<[usize]>,
}

impl RowText {
    pub(crate) fn new(row: &RowView<'_>) -> Self {
        let mut labels: Vec<_> = row.labels().collect();
        labels.sort_by_key(|(key, _)| *key);
        let (mut text, mut starts) = (Vec::new(), vec![0]);
        for (key, value) in labels {
            pair(key, value, &mut text);
            text.push(b',');
            starts.push(text.len());
        }
        Self { text: text.into(), starts: starts.into() }
    }

    /// For a row of a table: the beginning of its object.
    pub(crate) fn of_table(head: Vec<u8>) -> Self {
        Self { text: head.into(), starts: Box::default() }
    }

    /// All of it.
    pub(crate) fn head(&self) -> &[u8] {
        &self.text
    }

    /// The labels from one to before another, without the comma behind them.
    fn labels(&self, from: usize, to: usize) -> &[u8] {
        let (Some(start), Some(end)) = (self.starts.get(from), self.starts.get(to)) else { return &[] };
        self.text.get(*start..end.saturating_sub(1)).unwrap_or_default()
    }
}

/// The columns of a kind in the order of its metrics, with their texts one behind the other.
#[derive(Debug, Default)]
pub(crate) struct KindText {
    pub(crate) columns: Vec<ColumnText>,
    /// How many columns the kind has, taken or not.
    pub(crate) width: usize,
    text: Vec<u8>,
    pieces: Vec<Piece>,
}

/// Where the object of a column's samples is, up to the value.
#[derive(Clone, Debug)]
pub(crate) struct ColumnText {
    /// The column's place.
    pub(crate) index: usize,
    /// Its metric's first column.
    metric: usize,
    start: usize,
    pieces: Range<usize>,
}

/// A part of a column's text. Between two of them labels of the row stand, since labels are written in the order of their
/// keys, whoever has them.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// How many of the row's labels come before it.
    labels: usize,
    end: usize,
}

impl KindText {
    /// Learns the columns that are new; there are never fewer.
    pub(crate) fn update(&mut self, kind: &KindView<'_>) {
        if self.width == kind.width() {
            return;
        }
        self.width = kind.width();
        let known: HashSet<usize> = self.columns.iter().map(|column| column.index).collect();
        let mut metrics = HashMap::new();
        for column in kind.columns() {
            let metric = *metrics.entry(column.column().name()).or_insert(column.index());
            if known.contains(&column.index()) {
                continue;
            }
            let (start, first) = (self.text.len(), self.pieces.len());
            self.add(&column);
            self.columns.push(ColumnText { index: column.index(), metric, start, pieces: first..self.pieces.len() });
        }
        self.columns.sort_by_key(|column| (column.metric, column.index));
    }

    fn add(&mut self, column: &ColumnView<'_>) {
        let Self { text, pieces, .. } = self;
        let of_row = column.entity().label_keys().map(|key| (key, None));
        let own = own_labels(column).map(|(key, value)| (key, Some(value)));
        let mut labels: Vec<_> = of_row.chain(own).collect();
        labels.sort_by_key(|(key, _)| *key);
        text.extend_from_slice(b"{\"name\":");
        quoted(column.name(), text);
        text.extend_from_slice(b",\"labels\":{");
        let (mut before, mut of_row) = (0, 0);
        for (index, (key, value)) in labels.into_iter().enumerate() {
            if index > 0 && (value.is_some() || before == of_row) {
                // Between two labels of the row there is one already.
                if value.is_some() && before < of_row {
                    pieces.push(Piece { labels: before, end: text.len() });
                    before = of_row;
                }
                text.push(b',');
            }
            match value {
                Some(value) => pair(key, value, text),
                None => of_row += 1,
            }
        }
        if before < of_row {
            pieces.push(Piece { labels: before, end: text.len() });
        }
        text.extend_from_slice(b"},\"kind\":\"");
        text.extend_from_slice(column.column().kind().as_str().as_bytes());
        text.extend_from_slice(b"\",\"unit\":");
        quoted(column.column().unit().as_str(), text);
        text.extend_from_slice(b",\"value\":");
        pieces.push(Piece { labels: of_row, end: text.len() });
    }

    /// Appends a part of the text. What is copied has a fixed length and is cut: that takes less time than copying as much
    /// as is there.
    #[inline]
    fn copy(&self, part: Range<usize>, line: &mut Vec<u8>) {
        match self.text[part.start..].first_chunk::<CHUNK>() {
            Some(chunk) if part.len() <= CHUNK => {
                line.extend_from_slice(chunk);
                line.truncate(line.len() - (CHUNK - part.len()));
            }
            _ => line.extend_from_slice(&self.text[part]),
        }
    }

    /// Appends the text of the sample that a row has in a column.
    #[inline]
    pub(crate) fn append(&self, column: &ColumnText, row: &RowText, line: &mut Vec<u8>) {
        let (mut start, mut written) = (column.start, 0);
        for Piece { labels, end } in &self.pieces[column.pieces.clone()] {
            if *labels > written {
                line.extend_from_slice(row.labels(written, *labels));
                written = *labels;
            }
            self.copy(start..*end, line);
            start = *end;
        }
    }
}

pub(crate) fn pair(key: &str, value: &str, text: &mut Vec<u8>) {
    quoted(key, text);
    text.push(b':');
    quoted(value, text);
}

/// A column's labels and the sink's tags, by key.
pub(crate) fn own_labels<'a>(column: &ColumnView<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let mut labels: Vec<_> = column.column().own_labels().chain(column.tags()).collect();
    labels.sort_by_key(|(key, _)| *key);
    labels.into_iter()
}

pub(crate) fn quoted(word: &str, text: &mut Vec<u8>) {
    // Text, into memory: nothing here can fail.
    let _ = serde_json::to_writer(text, word);
}
