//! What both formats keep and say of rows.

use ebpf_process_core::{RowView, View};

use crate::text::moment;

/// What is kept of a row.
#[derive(Debug)]
pub(crate) struct RowText(pub(crate) Box<[u8]>);

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

/// Appends what both formats say of a row's end, and of its time where that is not the batch's.
pub(crate) fn row_state(view: View<'_>, row: &RowView<'_>, line: &mut Vec<u8>) {
    line.extend_from_slice(if row.is_final() { b",\"ended\":true" } else { b",\"ended\":false" });
    if row.tick() != view.tick() {
        line.extend_from_slice(b",\"time\":");
        moment(row.tick().wall, line);
    }
}
