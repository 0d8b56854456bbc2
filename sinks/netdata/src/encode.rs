//! From a view to lines of netdata's protocol.

use std::time::Duration;

use ebpf_process_core::{KindView, RowCache, Scope, Value, View};

use crate::board::{Board, Place};
use crate::catalog::Catalog;
use crate::rows::Rows;
use crate::status::Status;

/// Makes the lines for each view, in a buffer that it uses again.
///
/// What it writes depends on the views it has seen and on nothing else. It declares a chart or a dimension when it
/// first sees it, says once with the next view that a row is gone, and nothing again of what netdata knows; a view in
/// which nothing comes or goes allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    /// Number of the view in hand, from 1: marks what has a value in it.
    view: u64,
    rows: RowCache<Kept>,
    catalog: Catalog,
    board: Board,
    /// By kind, of those whose rows come and go.
    kinds: Vec<Rows>,
    status: Status,
    rejected: u64,
}

/// What is kept for a row.
#[derive(Debug)]
enum Kept {
    /// Where its cells go, by column.
    Places(Vec<Option<Place>>),
    /// Its place among the rows of its kind.
    Row { kind: usize, place: usize },
}

impl Encoder {
    /// An encoder for batches this far apart. Where the numbers are not the whole host's, the
    /// differences of `ebpf.process_status` are left out.
    pub fn new(interval: Duration, scope: Scope) -> Self {
        let seconds = interval.as_nanos().div_ceil(1_000_000_000).max(1);
        Self {
            bytes: Vec::new(),
            view: 0,
            rows: RowCache::default(),
            catalog: Catalog::new(u64::try_from(seconds).unwrap_or(u64::MAX)),
            board: Board::default(),
            kinds: Vec::new(),
            status: Status::new(scope),
            rejected: 0,
        }
    }

    /// The lines for a view: whole blocks, each ended; none where it has no values.
    pub fn encode(&mut self, view: &View<'_>) -> &[u8] {
        let Self { bytes, rows, catalog, board, kinds, status, .. } = self;
        self.view += 1;
        self.rejected = 0;
        bytes.clear();
        status.begin();
        rows.update(view, |kept| match kept {
            Kept::Row { kind, place } => kinds[kind].leave(place),
            Kept::Places(places) => places.into_iter().flatten().for_each(|place| {
                if let Place::Dimension { role: Some(role), .. } = place {
                    status.lose(role);
                }
                board.retire(place, bytes, catalog);
            }),
        });
        for kind in view.kinds() {
            // What lives as long as the agent has a chart for each metric, as it always had.
            if kind.kind().has_start_times() { self.rows_of(&kind) } else { self.metrics_of(&kind) }
        }
        let Self { bytes, board, catalog, status, .. } = self;
        let boottime = view.tick().boottime;
        status.update(board, catalog, self.view);
        board.write(bytes, self.view, boottime, catalog);
        self.kinds.iter_mut().for_each(|rows| rows.write(bytes, boottime, catalog));
        bytes
    }

    /// The lines for the last view.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.bytes
    }

    /// How many samples of the last view have no line, since there are too many charts.
    pub const fn rejected(&self) -> u64 {
        self.rejected
    }

    /// The lines that take every chart from the dashboard. The next view starts anew.
    pub fn retire_all(&mut self) -> &[u8] {
        self.bytes.clear();
        self.rows.clear();
        self.board.clear(&mut self.bytes);
        self.kinds.drain(..).for_each(|rows| rows.retire(&mut self.bytes));
        self.catalog.clear();
        self.status.clear();
        &self.bytes
    }

    fn metrics_of(&mut self, kind: &KindView<'_>) {
        let Self { view, rows, catalog, board, status, rejected, .. } = self;
        for sample in kind.metrics().flat_map(|metric| metric.samples()) {
            let column = sample.column();
            let Kept::Places(places) = rows.entry(&sample.row(), || Kept::Places(Vec::new())) else { continue };
            if places.len() <= column.index() {
                places.resize(column.index() + 1, None);
            }
            let place = &mut places[column.index()];
            if place.is_none() {
                *place = board.place(kind.index(), &sample, catalog);
                if let Some(Place::Dimension { role: Some(role), .. }) = place {
                    status.gain(*role, crate::head::labels(column.tags()));
                }
            }
            let Some(place) = *place else {
                *rejected += 1;
                continue;
            };
            let value = sample.value();
            if let (Place::Dimension { role: Some(role), .. }, Value::Counter(total)) = (place, value) {
                status.put(role, total);
            }
            board.put_value(place, value, *view);
        }
    }

    fn rows_of(&mut self, kind: &KindView<'_>) {
        let Self { rows, catalog, kinds, rejected, .. } = self;
        let index = kind.index();
        if kinds.len() <= index {
            kinds.resize_with(index + 1, Rows::default);
        }
        let table = &mut kinds[index];
        table.widen(kind, catalog);
        for row in kind.rows() {
            let mut cells = row.cells().peekable();
            if cells.peek().is_none() {
                continue;
            }
            let kept = rows.entry(&row, || Kept::Row { kind: index, place: table.enter(&row) });
            let Kept::Row { place, .. } = *kept else { continue };
            for (column, value) in cells {
                *rejected += u64::from(!table.set(place, column, value, catalog));
            }
        }
    }
}
