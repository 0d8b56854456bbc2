//! What is kept for each row: its text and how much of its totals has been sent.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::{RowId, RowView};

use crate::names::Naming;
use crate::text::{row_text, told_apart};

/// What is kept for a row.
#[derive(Debug)]
pub(crate) struct RowState {
    id: RowId,
    text: Arc<str>,
    /// The row's kind, while no other row of it may have this text.
    holds: Option<usize>,
    /// By column: a counter's total that was sent, where a histogram's are, or whether a gauge's name is its own.
    cells: Vec<u64>,
    histograms: Vec<Slots>,
    /// The names of its gauges that no other row may have.
    gauges: Vec<u64>,
}

/// The totals of a histogram's slots that were sent.
#[derive(Debug)]
struct Slots {
    first: usize,
    sent: Vec<u64>,
    /// Nobody knows what was sent.
    is_untold: bool,
}

/// A gauge whose name is its own, and one whose name another one has: at the receiver the last one would win.
const OWN: u64 = 1;
const TWIN: u64 = 2;

/// Nobody knows what was sent: the next total is where it begins.
const UNTOLD: u64 = u64::MAX;

impl InUse {
    /// The names of gauges are others from now on.
    pub(crate) fn forget_gauges(&mut self) {
        self.gauges.clear();
    }
}

/// What no two rows may share at the receiver.
#[derive(Debug, Default)]
pub(crate) struct InUse {
    /// By kind, the rows' texts.
    texts: Vec<HashMap<Arc<str>, Holder>>,
    /// Fingerprints of gauges' names.
    gauges: HashSet<u64>,
}

/// Who has a text.
#[derive(Debug)]
struct Holder {
    row: RowId,
    /// A fingerprint of its labels as they were.
    labels: u64,
    /// The time of the batch in which it ended.
    ended: Option<Duration>,
}

impl RowState {
    /// One that lives takes the text of one that had ended when it began, or that has the same labels; one that has
    /// ended shares that of who has the same labels.
    pub(crate) fn new(naming: &Naming, row: &RowView<'_>, kind: usize, in_use: &mut InUse) -> Self {
        let (id, given) = (row.id(), row_text(naming, row));
        let mut state = Self {
            id,
            text: given.as_str().into(),
            holds: None,
            cells: Vec::new(),
            histograms: Vec::new(),
            gauges: Vec::new(),
        };
        if given.is_empty() {
            return state;
        }
        if in_use.texts.len() <= kind {
            in_use.texts.resize_with(kind + 1, HashMap::new);
        }
        let mut hasher = DefaultHasher::new();
        row.labels().for_each(|(_, value)| value.hash(&mut hasher));
        let (texts, labels, mut number) = (&mut in_use.texts[kind], hasher.finish(), 2);
        loop {
            match texts.get(&state.text) {
                Some(other) if other.labels == labels && row.is_final() => return state,
                Some(other) if other.labels != labels && other.ended.is_none_or(|ended| row.started() < ended) => {
                    state.text = told_apart(naming, &given, number).into();
                    number += 1;
                }
                _ => break,
            }
        }
        texts.insert(
            Arc::clone(&state.text),
            Holder { row: id, labels, ended: row.is_final().then_some(row.tick().wall) },
        );
        state.holds = Some(kind);
        state
    }

    /// The row has ended in the batch of this time: one that begins then may have its text.
    pub(crate) fn end(&mut self, ended: Duration, in_use: &mut InUse) {
        if let Some(holder) = self.holder(in_use) {
            holder.ended = Some(ended);
        }
        self.leave_gauges(in_use);
    }

    /// The row is gone: another one may have its text.
    pub(crate) fn let_go(&mut self, in_use: &mut InUse) {
        if self.holder(in_use).is_some()
            && let Some(texts) = self.holds.and_then(|kind| in_use.texts.get_mut(kind))
        {
            texts.remove(&self.text);
        }
        self.leave_gauges(in_use);
    }

    /// The entry of its text, if nobody else has that by now.
    fn holder<'a>(&self, in_use: &'a mut InUse) -> Option<&'a mut Holder> {
        in_use.texts.get_mut(self.holds?)?.get_mut(&self.text).filter(|holder| holder.row == self.id)
    }

    fn leave_gauges(&mut self, in_use: &mut InUse) {
        for gauge in self.gauges.drain(..) {
            in_use.gauges.remove(&gauge);
        }
    }

    /// The names of its gauges may be others from now on.
    pub(crate) fn rename_gauge(&mut self, column: usize) {
        if let Some(cell) = self.cells.get_mut(column) {
            *cell = 0;
        }
        self.gauges.clear();
    }

    /// A counter or histogram begins with what it has next: that is not sent.
    pub(crate) fn is_untold(&mut self, column: usize, is_histogram: bool) {
        if is_histogram {
            let place = self.place(column, 0);
            let slots = &mut self.histograms[place];
            slots.is_untold = true;
        } else {
            *self.cell(column).1 = UNTOLD;
        }
    }

    /// Whether a counter begins with this total: then there is nothing to send.
    #[inline]
    pub(crate) fn begins(sent: &mut u64, total: u64) -> bool {
        let begins = *sent == UNTOLD;
        if begins {
            *sent = total;
        }
        begins
    }

    /// What is kept for a column, 0 at first; with the row's text.
    #[inline]
    pub(crate) fn cell(&mut self, column: usize) -> (&[u8], &mut u64) {
        if self.cells.len() <= column {
            self.cells.resize(column + 1, 0);
        }
        (self.text.as_bytes(), &mut self.cells[column])
    }

    /// The totals of a histogram's slots, so many from the first one on; with the row's text. Where it begins with these
    /// counts, that is what was sent.
    pub(crate) fn slots(&mut self, column: usize, first: usize, counts: &[u64]) -> (&[u8], &mut [u64]) {
        let place = self.place(column, first);
        let slots = &mut self.histograms[place];
        if let Some(missing) = slots.first.checked_sub(first).filter(|missing| *missing > 0) {
            slots.sent.splice(..0, std::iter::repeat_n(0, missing));
            slots.first = first;
        }
        let from = first - slots.first;
        if slots.sent.len() < from + counts.len() {
            slots.sent.resize(from + counts.len(), 0);
        }
        let sent = &mut slots.sent[from..from + counts.len()];
        if std::mem::take(&mut slots.is_untold) {
            sent.copy_from_slice(counts);
        }
        (self.text.as_bytes(), sent)
    }

    /// Where the slots of a column's histogram are.
    fn place(&mut self, column: usize, first: usize) -> usize {
        let known = self.histograms.len() as u64;
        let (_, cell) = self.cell(column);
        if *cell == 0 {
            *cell = known + 1;
            self.histograms.push(Slots { first, sent: Vec::new(), is_untold: false });
        }
        usize::try_from(self.cells[column] - 1).unwrap_or(usize::MAX)
    }

    /// Whether a gauge's name, without its number, is the row's own; it stays so. One that has ended has it once more.
    pub(crate) fn owns_gauge(&mut self, column: usize, is_final: bool, name: &[u8], in_use: &mut InUse) -> bool {
        let (_, cell) = self.cell(column);
        if *cell == 0 {
            let mut hasher = DefaultHasher::new();
            hasher.write(name);
            let print = hasher.finish();
            let is_own = is_final || in_use.gauges.insert(print);
            *cell = if is_own { OWN } else { TWIN };
            if is_own && !is_final {
                self.gauges.push(print);
            }
        }
        self.cells[column] == OWN
    }

    /// Whether it is known whether a gauge's name is the row's own.
    pub(crate) fn knows_gauge(&self, column: usize) -> bool {
        self.cells.get(column).is_some_and(|cell| *cell != 0)
    }

    /// What was sent did not arrive: the total that was sent before it is the newest again.
    pub(crate) fn restore(&mut self, column: usize, slot: Option<u8>, before: u64) {
        let Some(cell) = self.cells.get_mut(column) else { return };
        let Some(slot) = slot else {
            *cell = before;
            return;
        };
        let place = cell.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        if let Some(slots) = place.and_then(|place| self.histograms.get_mut(place))
            && let Some(sent) = usize::from(slot).checked_sub(slots.first).and_then(|at| slots.sent.get_mut(at))
        {
            *sent = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Column, EntityKind, Selection, Unit};

    use super::*;
    use crate::dialect::Syntax;

    #[test]
    fn a_row_that_has_ended_leaves_its_text_and_its_gauges_to_the_next_one() {
        let naming = Naming { syntax: Syntax::Plain, namespace: String::new(), host: None, host_is_tag: false };
        let (mut bench, mut in_use) = (Bench::new(), InUse::default());
        let kind = EntityKind::new("process").keys(["comm"]);
        let load = || Column::gauge("load", Unit::ONE, "Load");
        // Their texts are equal, their labels are not.
        let first = bench.cell(&kind, &["a.b"], load());
        let (mut first, ended) = bench.tick(
            &Selection::default(),
            |recorder| first.gauge(recorder, 1.0),
            |view| {
                let kind = view.kinds().find(|kind| kind.rows().next().is_some()).expect("the kind");
                let row = kind.rows().next().expect("the row");
                (RowState::new(&naming, &row, kind.index(), &mut in_use), row.tick().wall)
            },
        );
        assert!(first.owns_gauge(0, false, b"load", &mut in_use));
        let others = ["a_b", "a-b"].map(|comm| bench.cell(&kind, &[comm], load()));
        let mut second = bench.tick(
            &Selection::default(),
            |recorder| others.iter().for_each(|cell| cell.gauge(recorder, 1.0)),
            |view| {
                let kind = view.kinds().find(|kind| kind.rows().next().is_some()).expect("the kind");
                let row = kind.rows().find(|row| row.labels().any(|(_, value)| value == "a_b")).expect("the row");
                let mut next = RowState::new(&naming, &row, kind.index(), &mut in_use);
                assert_ne!(next.text, first.text, "the first one has not ended");
                next.let_go(&mut in_use);
                first.end(ended, &mut in_use);
                RowState::new(&naming, &row, kind.index(), &mut in_use)
            },
        );
        assert_eq!(second.text, first.text);
        assert!(second.owns_gauge(0, false, b"load", &mut in_use));
        // The text is the second one's by now.
        first.let_go(&mut in_use);
        assert_eq!(in_use.texts.iter().map(HashMap::len).sum::<usize>(), 1);
        second.let_go(&mut in_use);
        assert_eq!((in_use.texts.iter().map(HashMap::len).sum::<usize>(), in_use.gauges.len()), (0, 0));
    }
}
