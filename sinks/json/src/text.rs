//! What stays the same of a sample: one text for its row, one for its column.

use ebpf_process_core::{ColumnView, RowView};

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

    /// The labels from one to before another, without the comma behind them.
    fn labels(&self, from: usize, to: usize) -> &[u8] {
        let (Some(start), Some(end)) = (self.starts.get(from), self.starts.get(to)) else { return &[] };
        self.text.get(*start..end.saturating_sub(1)).unwrap_or_default()
    }
}

/// The object of a sample up to its value, in pieces between which the row's labels stand: labels are written in the
/// order of their keys, whoever has them.
#[derive(Debug)]
pub(crate) struct ColumnText(Vec<Piece>);

#[derive(Debug)]
struct Piece {
    /// How many of the row's labels come before it.
    labels: usize,
    text: Vec<u8>,
}

impl ColumnText {
    pub(crate) fn new(column: &ColumnView<'_>) -> Self {
        let of_row = column.entity().label_keys().map(|key| (key, None));
        let own = column.column().own_labels().chain(column.tags()).map(|(key, value)| (key, Some(value)));
        let mut labels: Vec<_> = of_row.chain(own).collect();
        labels.sort_by_key(|(key, _)| *key);
        let mut text = b"{\"name\":".to_vec();
        quoted(column.name(), &mut text);
        text.extend_from_slice(b",\"labels\":{");
        let mut pieces = vec![Piece { labels: 0, text }];
        let mut of_row = 0;
        for (index, (key, value)) in labels.into_iter().enumerate() {
            if let Some(value) = value {
                let text = behind(&mut pieces, of_row);
                if index > 0 {
                    text.push(b',');
                }
                pair(key, value, text);
                continue;
            }
            if let Some(piece) = pieces.last_mut().filter(|piece| piece.labels == of_row && index > 0) {
                piece.text.push(b',');
            }
            of_row += 1;
        }
        let text = behind(&mut pieces, of_row);
        text.extend_from_slice(b"},\"kind\":\"");
        text.extend_from_slice(column.column().kind().as_str().as_bytes());
        text.extend_from_slice(b"\",\"unit\":");
        quoted(column.column().unit().as_str(), text);
        text.extend_from_slice(b",\"value\":");
        Self(pieces)
    }

    /// Appends the text of the sample that the row has in this column.
    pub(crate) fn append(&self, row: &RowText, line: &mut Vec<u8>) {
        let mut written = 0;
        for Piece { labels, text } in &self.0 {
            if *labels > written {
                line.extend_from_slice(row.labels(written, *labels));
                written = *labels;
            }
            line.extend_from_slice(text);
        }
    }
}

/// The end of the pieces where so many of the row's labels come before.
fn behind(pieces: &mut Vec<Piece>, labels: usize) -> &mut Vec<u8> {
    if pieces.last().is_none_or(|piece| piece.labels != labels) {
        pieces.push(Piece { labels, text: Vec::new() });
    }
    let last = pieces.len() - 1;
    &mut pieces[last].text
}

fn pair(key: &str, value: &str, text: &mut Vec<u8>) {
    quoted(key, text);
    text.push(b':');
    quoted(value, text);
}

fn quoted(word: &str, text: &mut Vec<u8>) {
    // Text, into memory: nothing here can fail.
    let _ = serde_json::to_writer(text, word);
}
