//! What is kept per row: its labels as attributes. No two rows of a kind have the same: core tells them apart.

use ebpf_process_core::RowView;

use crate::attributes::{OF_HISTOGRAMS, OF_NUMBERS, of_row};

/// A row's labels as attributes.
#[derive(Debug)]
pub(crate) struct Row {
    /// As they stand in a data point of a number.
    of_numbers: Box<[u8]>,
    /// As they stand in one of a histogram; nothing before there is one.
    of_histograms: Option<Box<[u8]>>,
}

impl Row {
    pub(crate) fn new(row: &RowView<'_>) -> Self {
        Self { of_numbers: attributes(row, OF_NUMBERS), of_histograms: None }
    }

    /// Its attributes in a data point of a number.
    #[inline]
    pub(crate) fn of_numbers(&self) -> &[u8] {
        &self.of_numbers
    }

    /// Its attributes in a data point of a histogram.
    pub(crate) fn of_histograms(&mut self, row: &RowView<'_>) -> &[u8] {
        self.of_histograms.get_or_insert_with(|| attributes(row, OF_HISTOGRAMS))
    }
}

fn attributes(row: &RowView<'_>, field: u8) -> Box<[u8]> {
    let mut written = Vec::new();
    for (key, value) in row.labels() {
        of_row(&mut written, field, key, value);
    }
    written.into()
}
