//! What the lines so far have said of a row.

use crate::text::RowText;

/// What is kept per row.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) text: RowText,
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

/// What has counted since nobody knows when: what it has in its first line was not added since the line before.
const UNTOLD: u64 = u64::MAX;

impl Known {
    pub(crate) const fn new(text: RowText) -> Self {
        Self { text, totals: Vec::new(), line: 0 }
    }

    /// What a column has in its next line was counted at any time before.
    pub(crate) fn is_untold(&mut self, column: usize) {
        if self.totals.len() <= column {
            self.totals.resize(column + 1, Total::default());
        }
        self.totals[column] = Total { base: UNTOLD, newest: UNTOLD };
    }

    /// The row is in a line: what the one before said has arrived, or was taken back.
    pub(crate) fn begin(&mut self, line: u64, columns: usize) {
        self.line = line;
        self.totals.iter_mut().for_each(|total| total.base = total.newest);
        if self.totals.len() < columns {
            self.totals.resize(columns, Total::default());
        }
    }

    /// Takes in a counter's total, and returns what was added since the line before, if that is known.
    #[inline]
    pub(crate) fn added(&mut self, column: usize, newest: u64) -> Option<u64> {
        let Some(total) = self.totals.get_mut(column) else { return Some(newest) };
        total.newest = newest;
        (total.base != UNTOLD).then(|| newest.saturating_sub(total.base))
    }

    /// A line did not arrive.
    pub(crate) fn lost(&mut self, line: u64) {
        if self.line == line {
            self.totals.iter_mut().for_each(|total| total.newest = total.base);
        }
    }
}
