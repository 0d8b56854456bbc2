//! What both formats keep and say of rows.

use ebpf_process_core::{RowView, View};

use crate::line::Line;
use crate::text::moment;

/// What is kept of a row: its text up to its values.
#[derive(Debug)]
pub(crate) struct RowText {
    /// As long as it lives.
    living: Box<[u8]>,
    /// How much of it stays when it has ended.
    stays: usize,
    /// What stands before the values.
    values: &'static [u8],
}

impl RowText {
    /// Of what a row begins with, and of what stands before its values.
    pub(crate) fn new(mut text: Vec<u8>, values: &'static [u8]) -> Self {
        let stays = text.len();
        text.extend_from_slice(b",\"ended\":false");
        text.extend_from_slice(values);
        Self { living: text.into(), stays, values }
    }

    /// Appends it as the row is in a view.
    pub(crate) fn write(&self, view: View<'_>, row: &RowView<'_>, line: &mut Line) {
        if !row.is_final() {
            line.text(&self.living);
            return;
        }
        line.text(&self.living[..self.stays]);
        line.text(b",\"ended\":true");
        // It may have ended before.
        if row.tick() != view.tick() {
            line.text(b",\"time\":");
            line.other(|line| moment(row.tick().wall, line));
        }
        line.text(self.values);
    }
}

/// What is kept of the columns of a kind.
#[derive(Debug, Default)]
pub(crate) struct KindText {
    /// How many columns the kind has, selected or not.
    pub(crate) width: usize,
    /// By column: its place among the selected ones, and its text.
    pub(crate) columns: Vec<Option<(usize, Box<[u8]>)>>,
    /// How many are selected.
    pub(crate) selected: usize,
    /// What stands before the rows.
    pub(crate) head: Box<[u8]>,
}
