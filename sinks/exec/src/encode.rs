//! From a view to batches.

use ebpf_process_core::{Edition, KindView, RowCache, View};
use ebpf_process_delivery::Frame;

use crate::encoded::Encoded;
use crate::encoding::{Encoding, Format};
use crate::head::{self, HEAD};
use crate::known::{KindText, RowText};
use crate::line::Line;
use crate::memory::Memory;
use crate::words::Words;
use crate::{reason, rows, samples};

/// Makes the batches of each view. What stays the same of a row and of a column is rendered once.
#[derive(Debug)]
pub struct Encoder {
    encoding: Encoding,
    /// Bytes of a batch at most.
    limit: usize,
    rows: RowCache<RowText>,
    /// By kind.
    kinds: Vec<KindText>,
    edition: Edition,
    /// How many rows had a number so far.
    numbered: u64,
    /// Bytes of the largest batch of the view before.
    largest: usize,
    memory: Memory,
}

impl Encoder {
    /// For batches of at most so many bytes.
    pub fn new(encoding: Encoding, limit: usize) -> Self {
        Self {
            encoding,
            limit,
            rows: RowCache::default(),
            kinds: Vec::new(),
            edition: Edition::default(),
            numbered: 0,
            largest: 0,
            memory: Memory::default(),
        }
    }

    /// How it encodes.
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The batches of a view. One without a value has none.
    pub fn encode(&mut self, view: &View<'_>) -> Encoded {
        self.rows.update(view, drop);
        if self.edition.is_another(view) {
            self.rows.clear();
            self.kinds.clear();
        }
        for kind in view.kinds() {
            self.learn(&kind);
        }
        let mut batch = Batch::new(*view, self.encoding, self.limit, self.largest, &self.memory);
        for kind in view.kinds() {
            let Some(text) = self.kinds.get(kind.index()) else { continue };
            batch.begin_kind(&text.head);
            for row in kind.rows() {
                let numbered = &mut self.numbered;
                let known = self.rows.entry(&row, || {
                    *numbered += 1;
                    match self.encoding.format {
                        Format::Rows => rows::head(*numbered, &row),
                        Format::Samples => samples::row(*numbered, &row),
                    }
                });
                batch.row(|line| match self.encoding.format {
                    Format::Rows => rows::write(*view, &kind, &row, text, known, self.encoding.integers, line),
                    Format::Samples => samples::write(*view, &kind, &row, text, known, self.encoding.integers, line),
                });
            }
            batch.end_kind();
        }
        let encoded = batch.end();
        self.largest = encoded.frames.iter().map(Frame::size).max().unwrap_or(self.largest);
        encoded
    }

    /// Learns the columns that are new.
    fn learn(&mut self, kind: &KindView<'_>) {
        if self.kinds.len() <= kind.index() {
            self.kinds.resize_with(kind.index() + 1, KindText::default);
        }
        let text = &mut self.kinds[kind.index()];
        if text.width == kind.width() {
            return;
        }
        text.width = kind.width();
        text.columns.resize_with(kind.width(), || None);
        text.selected = 0;
        for (place, column) in kind.columns().enumerate() {
            let own = match self.encoding.format {
                Format::Rows => rows::column(&column, self.encoding.integers),
                Format::Samples => samples::column(place, &column, self.encoding.integers),
            };
            text.columns[column.index()] = Some((place, own));
            text.selected = place + 1;
        }
        let columns = text.columns.iter().flatten().map(|(_, own)| &**own);
        text.head = match self.encoding.format {
            Format::Rows => rows::kind(kind, columns),
            Format::Samples => Box::default(),
        };
    }
}

/// A batch that grows, and those before it that are full.
struct Batch<'a> {
    limit: usize,
    /// How large it will be, as far as that is known.
    size: usize,
    line: Line,
    /// What each batch of the view begins with.
    head: Vec<u8>,
    /// The head of the kind whose rows come, and whether it is in the batch.
    kind: &'a [u8],
    kind_is_open: bool,
    /// Whether something is in the batch, and in the kind.
    is_empty: bool,
    kind_is_empty: bool,
    cells: u32,
    memory: &'a Memory,
    encoded: Encoded,
}

impl<'a> Batch<'a> {
    fn new(view: View<'_>, encoding: Encoding, limit: usize, size: usize, memory: &'a Memory) -> Self {
        let mut head = Words::Json(encoding).mark();
        head::of_view(view, &mut head);
        head.extend_from_slice(match encoding.format {
            Format::Rows => b",\"kinds\":[",
            Format::Samples => b",\"samples\":[",
        });
        let mut batch = Self {
            limit: limit.saturating_sub(HEAD),
            size,
            line: Line::default(),
            head,
            kind: &[],
            kind_is_open: false,
            is_empty: true,
            kind_is_empty: true,
            cells: 0,
            memory,
            encoded: Encoded::default(),
        };
        batch.begin();
        batch
    }

    /// Begins a batch, in memory that goes with it.
    fn begin(&mut self) {
        self.line.begin(self.memory.buffer(self.size));
        self.line.text(&self.head);
        self.is_empty = true;
    }

    fn begin_kind(&mut self, head: &'a [u8]) {
        (self.kind, self.kind_is_open) = (head, false);
    }

    /// Appends a row with as many values as `write` returns; one without values is left out.
    fn row(&mut self, write: impl FnOnce(&mut Line) -> u32) {
        let mut before = self.line.len();
        let was_open = self.kind_is_open;
        if !was_open {
            if !self.is_empty && !self.kind.is_empty() {
                self.line.text(b",");
            }
            self.line.text(self.kind);
            (self.kind_is_open, self.kind_is_empty) = (true, true);
        }
        // Samples of all kinds stand in one array.
        if !(if self.kind.is_empty() { self.is_empty } else { self.kind_is_empty }) {
            self.line.text(b",");
        }
        let start = self.line.len();
        let cells = write(&mut self.line);
        if cells == 0 {
            self.line.truncate(before);
            self.kind_is_open = was_open;
            return;
        }
        if self.line.len() + CLOSING.len() > self.limit && !self.is_empty {
            let row = self.line.split_off(start);
            self.line.truncate(before);
            self.kind_is_open = was_open;
            self.finish();
            self.begin();
            before = self.line.len();
            self.line.text(self.kind);
            self.line.text(&row);
            self.kind_is_open = true;
        }
        if self.line.len() + CLOSING.len() > self.limit {
            self.line.truncate(before);
            self.kind_is_open = false;
            self.encoded.rejected.push((cells.into(), reason::TOO_LARGE));
            return;
        }
        (self.is_empty, self.kind_is_empty) = (false, false);
        self.cells += cells;
    }

    fn end_kind(&mut self) {
        if std::mem::take(&mut self.kind_is_open) && !self.kind.is_empty() {
            self.line.text(b"]}");
        }
    }

    /// The batch is full.
    fn finish(&mut self) {
        self.end_kind();
        self.line.text(b"]}\n");
        let (buffer, length) = self.line.finish();
        self.encoded.frames.push(Frame::of(self.memory.lend(buffer, length), std::mem::take(&mut self.cells)));
    }

    fn end(mut self) -> Encoded {
        if !self.is_empty {
            self.finish();
        }
        self.encoded
    }
}

/// What may have to follow a row.
const CLOSING: &[u8] = b"]}]}\n";

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Column, EntityKind, Selection, Unit};

    use super::*;
    use crate::integers::Integers;

    #[test]
    fn a_batch_has_as_many_bytes_as_it_may_and_no_more() {
        let mut bench = Bench::new();
        let kind = EntityKind::new("disk").keys(["disk"]);
        let cells = ["a", "b"].map(|disk| bench.cell(&kind, &[disk], Column::counter("io", Unit::CALLS, "calls")));
        let record = |recorder: &mut ebpf_process_core::Recorder| cells.iter().for_each(|it| it.counter(recorder, 1));
        bench.tick(&Selection::default(), record, |view| {
            let encoding = Encoding { format: Format::Rows, integers: Integers::Numbers };
            // The bytes of the batches, and what is rejected.
            let batches = |limit: usize| {
                let Encoded { frames, rejected, .. } = Encoder::new(encoding, limit + HEAD).encode(view);
                (frames.iter().map(|frame| frame.bytes().len()).collect::<Vec<_>>(), rejected)
            };
            let both = batches(10_000).0[0];
            let one = batches(both - 1).0[0];
            assert_eq!(batches(both), (vec![both], vec![]));
            assert_eq!(batches(both - 1), (vec![one, one], vec![]));
            assert_eq!(batches(one), (vec![one, one], vec![]));
            assert_eq!(batches(one - 1), (vec![], vec![(1, reason::TOO_LARGE); 2]));
        });
    }
}
