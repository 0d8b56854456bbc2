//! From a view to batches of lines.

use std::fmt;

use ebpf_process_core::View;

use crate::encoded::Encoded;
use crate::form::{FormContext, LineForm, LineFormat};
use crate::head;
use crate::line_batches::{LineBatches, Room};
use crate::words::Words;

/// Makes the batches of each view in a format of lines.
pub struct LineEncoder {
    format: LineFormat,
    form: Box<dyn LineForm + Send>,
    /// Bytes of a batch at most.
    limit: usize,
    room: Room,
}

impl LineEncoder {
    /// For batches of at most so many bytes.
    pub fn new(format: LineFormat, context: &FormContext, limit: usize) -> Self {
        Self { format, form: (format.form)(context), limit, room: Room::default() }
    }

    /// The format that it encodes.
    pub const fn format(&self) -> LineFormat {
        self.format
    }

    /// The batches of a view. One without a line has none.
    pub fn encode(&mut self, view: &View<'_>) -> Encoded {
        let mut head = Vec::new();
        head::of_view(*view, &mut head);
        let limit = self.limit.saturating_sub(head::HEAD);
        let mut batches =
            LineBatches::new(Words::Lines(self.format).mark(), head, limit, std::mem::take(&mut self.room));
        self.form.write(view, &mut batches);
        let (encoded, room) = batches.end();
        self.room = room;
        encoded
    }
}

impl fmt::Debug for LineEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineEncoder").field("form", &self.form).finish_non_exhaustive()
    }
}
