//! From a view to one JSON object on one line.

use std::io;
use std::time::Duration;

use ebpf_process_core::{Before, Editions, KindView, RowCache, RowView, Scaled, Seen, Value, View};

use crate::known::Known;
use crate::number::{digits, distribution, float, rate};
use crate::rates::Rates;
use crate::table::{TableText, row_head};
use crate::text::{KindText, RowText};

/// A piece of a long line, in bytes: what a processor's cache still holds when it is written.
const PIECE: usize = 128 << 10;

/// The end of a sample without a delta.
const NO_DELTA: &[u8] = b",\"delta\":null,\"rate\":null}";

/// Makes the line for each view, in a buffer that it uses again.
///
/// What it writes depends on the views it has seen and on nothing else. What stays the same of a row and of a column is
/// rendered once each; a view in which nothing comes or goes allocates nothing.
#[derive(Debug, Default)]
pub struct Encoder {
    line: Vec<u8>,
    rows: RowCache<Known>,
    /// By kind: of those whose samples stand one by one, and of those that are tables.
    kinds: Vec<KindText>,
    tables: Vec<TableText>,
    editions: Editions,
    /// Whether others have had lines of the same counters before the first one.
    joins: bool,
    /// What a row has added, until its values are written.
    deltas: Vec<u8>,
    rates: Rates,
    /// How many lines were made.
    lines: u64,
    /// The boot times of the newest view whose line arrived, or was not said to be lost yet, and of the one before.
    newest: Option<Duration>,
    last: Option<Duration>,
}

impl Encoder {
    /// For totals that count from a baseline, a time since boot: the first line's `elapsed` is since then.
    pub fn since(baseline: Duration) -> Self {
        Self { newest: Some(baseline), ..Self::default() }
    }

    /// For totals that have counted for longer: what they have in the first line was not added then.
    pub fn joining() -> Self {
        Self { joins: true, ..Self::default() }
    }

    /// The line for a view, its end included. The first one's `elapsed` is 0, unless there is a
    /// [baseline](Self::since). Where numbers are missing, `left_out` names their probes. A line counts as arrived
    /// unless [`lost`](Self::lost) is called before the next one.
    ///
    /// An error is a bug: everything that a view holds can be said in JSON.
    pub fn encode(&mut self, view: &View<'_>) -> serde_json::Result<&[u8]> {
        self.render::<serde_json::Error>(*view, |_| Ok(()))?;
        Ok(&self.line)
    }

    /// The same line in pieces, so that a long one is never in memory as a whole. An error of `write` is the error.
    pub fn encode_pieces(&mut self, view: &View<'_>, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.render(*view, |line| {
            if line.len() < PIECE {
                return Ok(());
            }
            write(line)?;
            line.clear();
            io::Result::Ok(())
        })?;
        write(&self.line)
    }

    /// Renders the line. After each sample, or row of a table, `look` may take what there is of it by then.
    fn render<E: From<serde_json::Error>>(
        &mut self,
        view: View<'_>,
        mut look: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.lines += 1;
        self.rows.update(&view, drop);
        if let Some(before) = self.editions.update(&view) {
            self.renew(view, &before);
        } else if std::mem::take(&mut self.joins) {
            self.rows.renew(&view, |kind, row, _| Some(untold(kind, row)), drop);
        }
        let now = view.tick().boottime;
        self.last = self.newest.replace(now);
        let elapsed = self.last.map_or(0.0, |last| now.saturating_sub(last).as_secs_f64());
        self.rates.begin(elapsed, view.len());
        let line = &mut self.line;
        line.clear();
        line.extend_from_slice(b"{\"timestamp\":");
        float(view.tick().wall.as_secs_f64(), line)?;
        line.extend_from_slice(b",\"elapsed\":");
        float(elapsed, line)?;
        if view.left_out().len() > 0 {
            line.extend_from_slice(b",\"left_out\":");
            serde_json::to_writer(&mut *line, &view.left_out().collect::<Vec<_>>())?;
        }
        line.extend_from_slice(b",\"samples\":[");
        let (mut is_first_sample, mut is_first_table) = (true, true);
        for kind in view.kinds().filter(|kind| !is_table(kind)) {
            self.samples(&kind, &mut is_first_sample, &mut look)?;
        }
        self.line.push(b']');
        for kind in view.kinds().filter(is_table) {
            self.table(&kind, &mut is_first_table, &mut look)?;
        }
        self.line.extend_from_slice(if is_first_table { b"}\n" } else { b"]}\n" });
        Ok(())
    }

    /// The names may be others from this view on. What was selected before goes on from the line before.
    fn renew(&mut self, view: View<'_>, before: &Seen) {
        self.kinds.clear();
        self.tables.clear();
        let keep = |kind: &KindView<'_>, row: &RowView<'_>, known: Option<Known>| {
            let Some(mut known) = known else { return before.was_there(row).then(|| untold(kind, row)) };
            let new = kind.columns().filter(|column| before.of(column) == Before::Unselected);
            new.for_each(|column| known.is_untold(column.index()));
            Some(known)
        };
        self.rows.renew(&view, keep, drop);
    }

    /// Appends the samples of a kind, one by one.
    fn samples<E: From<serde_json::Error>>(
        &mut self,
        kind: &KindView<'_>,
        is_first: &mut bool,
        look: &mut impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let text = at(&mut self.kinds, kind.index());
        text.update(kind);
        for row in kind.rows() {
            let known = self.rows.entry(&row, || known(kind, &row));
            known.begin(self.lines, text.width);
            write_row(&mut self.line, is_first, &row, known, text, &mut self.rates, look)?;
        }
        Ok(())
    }

    /// Appends the table of a kind, if it has a row with a value, or one that has ended.
    fn table<E: From<serde_json::Error>>(
        &mut self,
        kind: &KindView<'_>,
        is_first: &mut bool,
        look: &mut impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let text = at(&mut self.tables, kind.index());
        text.update(kind);
        let line = &mut self.line;
        let mut is_empty = true;
        for row in kind.rows().filter(|row| row.is_final() || row.cells().next().is_some()) {
            if std::mem::take(&mut is_empty) {
                line.extend_from_slice(if std::mem::take(is_first) { b",\"tables\":[" } else { b"," });
                line.extend_from_slice(text.head());
            } else {
                line.push(b',');
            }
            let known = self.rows.entry(&row, || known(kind, &row));
            known.begin(self.lines, text.columns());
            text.append(&row, known, &mut self.deltas, line)?;
            look(line)?;
        }
        if !is_empty {
            line.extend_from_slice(b"]}");
        }
        Ok(())
    }

    /// The newest line did not arrive: the next one's differences start from the line before it.
    pub fn lost(&mut self) {
        self.newest = self.last;
        self.rows.values_mut().for_each(|row| row.lost(self.lines));
    }
}

/// What is kept for a row that is new.
fn known(kind: &KindView<'_>, row: &RowView<'_>) -> Known {
    Known::new(if is_table(kind) { RowText::of_table(row_head(row)) } else { RowText::new(row) })
}

/// What is kept for a row that was there before, and in no line.
fn untold(kind: &KindView<'_>, row: &RowView<'_>) -> Known {
    let mut known = known(kind, row);
    (0..kind.width()).rev().for_each(|column| known.is_untold(column));
    known
}

/// Whether a kind's rows come and go: its name stands in front of its metrics' names, and they are a table.
fn is_table(kind: &KindView<'_>) -> bool {
    kind.kind().has_start_times()
}

/// What is kept at a place, made if there is nothing.
fn at<T: Default>(kept: &mut Vec<T>, place: usize) -> &mut T {
    if kept.len() <= place {
        kept.resize_with(place + 1, T::default);
    }
    &mut kept[place]
}

/// Appends the samples of a row, and has each looked at.
fn write_row<E: From<serde_json::Error>>(
    line: &mut Vec<u8>,
    is_first: &mut bool,
    row: &RowView<'_>,
    known: &mut Known,
    text: &KindText,
    rates: &mut Rates,
    look: &mut impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    for column in &text.columns {
        let Some(value) = row.value(column.index) else { continue };
        if !std::mem::take(is_first) {
            line.push(b',');
        }
        text.append(column, &known.text, line);
        match value {
            Value::Counter(newest) => {
                digits(newest, line);
                let Some(delta) = known.added(column.index, newest) else {
                    line.extend_from_slice(NO_DELTA);
                    look(line)?;
                    continue;
                };
                line.extend_from_slice(b",\"delta\":");
                digits(delta, line);
                line.extend_from_slice(b",\"rate\":");
                rates.append(delta, line)?;
            }
            Value::Scaled(Scaled { total: newest, scale }) => {
                float(Scaled { total: newest, scale }.in_unit(), line)?;
                let Some(total) = known.added(column.index, newest) else {
                    line.extend_from_slice(NO_DELTA);
                    look(line)?;
                    continue;
                };
                let delta = Scaled { total, scale }.in_unit();
                line.extend_from_slice(b",\"delta\":");
                float(delta, line)?;
                line.extend_from_slice(b",\"rate\":");
                rate(delta, rates.elapsed, line)?;
            }
            Value::Gauge(level) => {
                float(level, line)?;
                line.extend_from_slice(NO_DELTA);
            }
            Value::Histogram(histogram) => {
                distribution(&histogram, line)?;
                line.extend_from_slice(NO_DELTA);
            }
        }
        look(line)?;
    }
    Ok(())
}
