//! From a view to lines of netdata's protocol.

use std::time::Duration;

use ebpf_process_core::{Before, Editions, KindView, RowCache, RowView, Sample, Scope, Seen, Value, View};

use crate::board::{Board, Place};
use crate::catalog::Catalog;
use crate::head::labels;
use crate::rows::{Rows, Untold};
use crate::status::Status;

/// Makes the lines for each view, in a buffer that it uses again.
///
/// What it writes depends on the views it has seen and on nothing else. It declares a chart or a dimension when it
/// first sees it, says once with the next view that a row is gone, and nothing again of what netdata knows; a view in
/// which nothing comes or goes allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    rows: RowCache<Kept>,
    catalog: Catalog,
    board: Board,
    /// By kind, of those whose rows come and go.
    kinds: Vec<Rows>,
    status: Status,
    editions: Editions,
    rejected: u64,
    beyond: u64,
}

/// What is kept for a row.
#[derive(Debug)]
enum Kept {
    /// Where its cells go, by column.
    Places(Vec<Option<Place>>),
    /// Its kind, and its place among the rows of that.
    Row(usize, usize),
}

impl Encoder {
    /// An encoder for batches this far apart. Where the numbers are not the whole host's, the
    /// differences of `ebpf.process_status` are left out.
    pub fn new(interval: Duration, scope: Scope) -> Self {
        let seconds = interval.as_nanos().div_ceil(1_000_000_000).max(1);
        Self {
            bytes: Vec::new(),
            rows: RowCache::default(),
            catalog: Catalog::new(u64::try_from(seconds).unwrap_or(u64::MAX)),
            board: Board::default(),
            kinds: Vec::new(),
            status: Status::new(scope),
            editions: Editions::default(),
            rejected: 0,
            beyond: 0,
        }
    }

    /// The lines for a view: whole blocks, each ended; none where it has no values.
    pub fn encode(&mut self, view: &View<'_>) -> &[u8] {
        let Self { bytes, rows, catalog, board, kinds, status, .. } = self;
        (self.rejected, self.beyond) = (0, 0);
        bytes.clear();
        status.begin();
        let boottime = view.tick().boottime;
        rows.update(view, |kept| match kept {
            Kept::Row(kind, place) => kinds[kind].leave(place, boottime),
            Kept::Places(places) => {
                places.into_iter().flatten().for_each(|place| leave(place, board, status, bytes, catalog));
            }
        });
        if let Some(before) = self.editions.update(view) {
            self.renew(*view, &before, boottime);
        }
        view.kinds().for_each(|kind| self.take(&kind, boottime));
        let Self { bytes, board, catalog, status, .. } = self;
        status.update(board, catalog);
        board.write(bytes, boottime, catalog);
        self.kinds.iter_mut().for_each(|rows| rows.write(bytes, boottime, catalog));
        bytes
    }

    /// The selection is another one: what has no series any more, or another name or other labels, is taken from the
    /// dashboard. All else stays as it is.
    fn renew(&mut self, view: View<'_>, before: &Seen, boottime: Duration) {
        let Self { bytes, rows, catalog, board, kinds, status, .. } = self;
        let mut over = Vec::new();
        let keep = |kind: &KindView<'_>, _: &RowView<'_>, mut kept: Option<Kept>| {
            if let Some(Kept::Places(places)) = &mut kept {
                for (column, place) in places.iter_mut().enumerate() {
                    let is_same = kind.column(column).is_some_and(|column| before.of(&column) == Before::Same);
                    over.extend(place.take_if(|_| !is_same));
                }
            }
            kept
        };
        let mut gone = Vec::new();
        rows.renew(&view, keep, |kept| gone.push(kept));
        for kept in gone {
            match kept {
                Kept::Row(kind, place) => kinds[kind].leave(place, boottime),
                Kept::Places(places) => over.extend(places.into_iter().flatten()),
            }
        }
        for place in over {
            leave(place, board, status, bytes, catalog);
        }
        status.update(board, catalog);
        board.end_over(bytes, catalog);
        for (index, rows) in kinds.iter_mut().enumerate() {
            rows.renew(view.kinds().find(|kind| kind.index() == index).as_ref(), before, bytes, catalog);
        }
    }

    /// The lines for the last view.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.bytes
    }

    /// How many samples of the last view have no line, since there are too many charts.
    pub const fn rejected(&self) -> u64 {
        self.rejected
    }

    /// How many have none, since the protocol has no such number.
    pub const fn beyond(&self) -> u64 {
        self.beyond
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

    /// Takes over the values of all rows of a kind.
    fn take(&mut self, kind: &KindView<'_>, boottime: Duration) {
        let Self { rows, catalog, board, kinds, status, rejected, beyond, .. } = self;
        let index = kind.index();
        if kinds.len() <= index {
            kinds.resize_with(index + 1, Rows::default);
        }
        // What lives as long as the agent has a chart for each metric, as it always had.
        let (table, has_places) = (&mut kinds[index], !kind.kind().has_start_times());
        if !has_places {
            table.begin(kind, catalog);
        }
        for row in kind.rows() {
            let mut cells = row.cells().peekable();
            if cells.peek().is_none() {
                continue;
            }
            let make = || {
                if has_places {
                    Kept::Places(Vec::new())
                } else {
                    Kept::Row(index, table.enter(&row, boottime, catalog))
                }
            };
            match rows.entry(&row, make) {
                Kept::Row(_, place) => {
                    for (column, value) in cells {
                        match table.set(*place, column, value, catalog) {
                            Ok(()) => {}
                            Err(Untold::NoChart) => *rejected += 1,
                            Err(Untold::TooLarge) => *beyond += 1,
                        }
                    }
                }
                Kept::Places(places) => {
                    for (column, value) in cells {
                        if places.len() <= column {
                            places.resize(column + 1, None);
                        }
                        let place = &mut places[column];
                        if matches!(value, Value::Histogram(histogram) if histogram.counts().is_empty()) {
                            // There is no slot to tell yet.
                            continue;
                        }
                        if place.is_none() {
                            *place =
                                row.sample(column).and_then(|sample| found(index, &sample, board, catalog, status));
                        }
                        let Some(place) = *place else {
                            *rejected += 1;
                            continue;
                        };
                        if let (Place::Dimension { role: Some(role), .. }, Value::Counter(total)) = (place, value) {
                            status.put(role, total);
                        }
                        *beyond += u64::from(!board.put_value(place, value));
                    }
                }
            }
        }
    }
}

/// A series is gone, and with it what it had.
fn leave(place: Place, board: &mut Board, status: &mut Status, bytes: &mut Vec<u8>, catalog: &mut Catalog) {
    if let Place::Dimension { role: Some(role), .. } = place {
        status.lose(role);
    }
    board.retire(place, bytes, catalog);
}

/// The place of a series that is new.
fn found(
    kind: usize,
    sample: &Sample<'_>,
    board: &mut Board,
    catalog: &mut Catalog,
    status: &mut Status,
) -> Option<Place> {
    let place = board.place(kind, sample, catalog);
    if let Some(Place::Dimension { role: Some(role), .. }) = place {
        status.gain(role, labels(sample.column().tags()));
    }
    place
}
