//! From a view to one JSON object on one line.

use std::io;
use std::time::Duration;

use ebpf_process_core::{Histogram, RowCache, RowView, Scaled, Value, View};

use crate::text::{KindText, RowText};

/// A piece of a long line, in bytes: what a processor's cache still holds when it is written.
const PIECE: usize = 128 << 10;

/// Makes the line for each view, in a buffer that it uses again.
///
/// What it writes depends on the views it has seen and on nothing else. What stays the same of a row and of a column is
/// rendered once each; a view in which nothing comes or goes allocates nothing.
#[derive(Debug, Default)]
pub struct Encoder {
    line: Vec<u8>,
    rows: RowCache<Known>,
    /// By kind.
    kinds: Vec<KindText>,
    /// How many lines were made.
    lines: u64,
    /// The boot times of the newest view whose line arrived, or was not said to be lost yet, and of the one before.
    newest: Option<Duration>,
    last: Option<Duration>,
}

/// What is kept per row.
#[derive(Debug)]
struct Known {
    text: RowText,
    /// Counters by column; one that was in no line that arrived began at zero.
    totals: Vec<Total>,
    /// The newest line that has the row.
    line: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Total {
    /// As of the lines before that line.
    base: u64,
    /// As of that line.
    newest: u64,
}

impl Known {
    /// The row is in a line: what the one before said has arrived, or was taken back.
    fn begin(&mut self, line: u64, columns: usize) {
        self.line = line;
        self.totals.iter_mut().for_each(|total| total.base = total.newest);
        if self.totals.len() < columns {
            self.totals.resize(columns, Total::default());
        }
    }
}

impl Encoder {
    /// For totals that count from a baseline, a time since boot: the first line's `elapsed` is since then.
    pub fn since(baseline: Duration) -> Self {
        Self { newest: Some(baseline), ..Self::default() }
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

    /// Renders the line. After each sample `look` may take what there is of it by then.
    fn render<E: From<serde_json::Error>>(
        &mut self,
        view: View<'_>,
        mut look: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { line, rows, kinds, lines, newest, last } = self;
        *lines += 1;
        rows.update(&view, drop);
        let now = view.tick().boottime;
        *last = newest.replace(now);
        let elapsed = last.map_or(0.0, |last| now.saturating_sub(last).as_secs_f64());
        line.clear();
        line.extend_from_slice(b"{\"timestamp\":");
        serde_json::to_writer(&mut *line, &view.tick().wall.as_secs_f64())?;
        line.extend_from_slice(b",\"elapsed\":");
        serde_json::to_writer(&mut *line, &elapsed)?;
        if view.left_out().len() > 0 {
            line.extend_from_slice(b",\"left_out\":");
            serde_json::to_writer(&mut *line, &view.left_out().collect::<Vec<_>>())?;
        }
        line.extend_from_slice(b",\"samples\":[");
        let mut is_first = true;
        for kind in view.kinds() {
            if kinds.len() <= kind.index() {
                kinds.resize_with(kind.index() + 1, KindText::default);
            }
            let text = &mut kinds[kind.index()];
            text.update(&kind);
            let width = text.columns.iter().map(|column| column.index + 1).max().unwrap_or(0);
            for row in kind.rows() {
                let known = rows.entry(&row, || Known { text: RowText::new(&row), totals: Vec::new(), line: 0 });
                known.begin(*lines, width);
                write_row(line, &mut is_first, &row, known, text, elapsed, &mut look)?;
            }
        }
        line.extend_from_slice(b"]}\n");
        Ok(())
    }

    /// The newest line did not arrive: the next one's differences start from the line before it.
    pub fn lost(&mut self) {
        self.newest = self.last;
        let of_it = self.rows.values_mut().filter(|row| row.line == self.lines);
        of_it.flat_map(|row| &mut row.totals).for_each(|total| total.newest = total.base);
    }
}

/// Appends the samples of a row, and has each looked at.
fn write_row<E: From<serde_json::Error>>(
    line: &mut Vec<u8>,
    is_first: &mut bool,
    row: &RowView<'_>,
    known: &mut Known,
    text: &KindText,
    elapsed: f64,
    look: &mut impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    for column in &text.columns {
        let Some(value) = row.value(column.index) else { continue };
        if !std::mem::take(is_first) {
            line.push(b',');
        }
        text.append(column, &known.text, line);
        let total = &mut known.totals[column.index];
        match value {
            Value::Counter(newest) => {
                total.newest = newest;
                counter(newest, newest.saturating_sub(total.base), elapsed, line)?;
            }
            Value::Scaled(Scaled { total: newest, scale }) => {
                total.newest = newest;
                let delta = Scaled { total: newest.saturating_sub(total.base), scale }.in_unit();
                serde_json::to_writer(&mut *line, &Scaled { total: newest, scale }.in_unit())?;
                line.extend_from_slice(b",\"delta\":");
                serde_json::to_writer(&mut *line, &delta)?;
                rate(delta, elapsed, line)?;
            }
            Value::Gauge(level) => {
                serde_json::to_writer(&mut *line, &level)?;
                line.extend_from_slice(b",\"delta\":null,\"rate\":null}");
            }
            Value::Histogram(histogram) => {
                distribution(&histogram, line)?;
                line.extend_from_slice(b",\"delta\":null,\"rate\":null}");
            }
        }
        look(line)?;
    }
    Ok(())
}

fn counter(total: u64, delta: u64, elapsed: f64, line: &mut Vec<u8>) -> serde_json::Result<()> {
    digits(total, line);
    line.extend_from_slice(b",\"delta\":");
    digits(delta, line);
    rate(approximate(delta), elapsed, line)
}

/// The end of a counter's object.
fn rate(delta: f64, elapsed: f64, line: &mut Vec<u8>) -> serde_json::Result<()> {
    line.extend_from_slice(b",\"rate\":");
    let rate = delta / elapsed;
    if elapsed <= 0.0 {
        line.extend_from_slice(b"null}");
        return Ok(());
    }
    if rate < WHOLE && rate.fract() == 0.0 {
        // Of most of what is counted, which stands still, and at whole seconds.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 0 to 2^53")]
        digits(rate as u64, line);
        line.extend_from_slice(b".0}");
        return Ok(());
    }
    serde_json::to_writer(&mut *line, &rate)?;
    line.push(b'}');
    Ok(())
}

/// Slot *k* is at index *k*; the empty ones at the end are left away.
fn distribution(histogram: &Histogram<'_>, line: &mut Vec<u8>) -> serde_json::Result<()> {
    line.extend_from_slice(b"{\"count\":");
    digits(histogram.count(), line);
    line.extend_from_slice(b",\"sum\":");
    let scale = histogram.scale();
    #[expect(clippy::float_cmp, reason = "1 is what it is unless it was set")]
    if scale == 1.0 {
        digits(histogram.sum(), line);
    } else {
        serde_json::to_writer(&mut *line, &Scaled { total: histogram.sum(), scale }.in_unit())?;
        line.extend_from_slice(b",\"scale\":");
        serde_json::to_writer(&mut *line, &scale)?;
    }
    line.extend_from_slice(b",\"slots\":[");
    let below = if histogram.counts().is_empty() { 0 } else { histogram.first() };
    for (index, count) in std::iter::repeat_n(&0, below).chain(histogram.counts()).enumerate() {
        if index > 0 {
            line.push(b',');
        }
        digits(*count, line);
    }
    line.extend_from_slice(b"]}");
    Ok(())
}

/// Two digits for each number below 100.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        #[expect(clippy::cast_possible_truncation, reason = "below 100")]
        let small = number as u8;
        pairs[number] = [b'0' + small / 10, b'0' + small % 10];
        number += 1;
    }
    pairs
};

/// The most digits that a number has, and a little more.
const ROOM: usize = 32;

/// Below this a whole number is written with all its digits.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// Appends a number. What is copied has a fixed length and is cut: that takes less time than asking how long it is.
fn digits(mut number: u64, line: &mut Vec<u8>) {
    let mut text = [0; 2 * ROOM];
    let mut at = ROOM;
    while number >= 10 {
        at -= 2;
        text[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    if number > 0 || at == ROOM {
        at -= 1;
        #[expect(clippy::cast_possible_truncation, reason = "one digit")]
        let digit = number as u8;
        text[at] = b'0' + digit;
    }
    let Some(copied) = text[at..].first_chunk::<ROOM>() else { return };
    line.extend_from_slice(copied);
    line.truncate(line.len() - at);
}

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "a rate is a rounded number anyway")]
const fn approximate(count: u64) -> f64 {
    count as f64
}
