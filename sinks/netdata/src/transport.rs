//! The way to netdata: a stream that takes each view in one piece.

use std::io::Write;

use ebpf_process_core::SinkError;
use ebpf_process_delivery::Unread;

/// Standard output, or what stands for it in a test.
pub(crate) struct Pipe<W> {
    pub(crate) output: W,
    /// What netdata has not read.
    pub(crate) unread: Unread,
}

impl<W: Write> Pipe<W> {
    pub(crate) const fn new(output: W, unread: Unread) -> Self {
        Self { output, unread }
    }

    /// Writes lines of so many samples and flushes. An error leaves half a line behind at worst, so it is the end.
    pub(crate) fn send(&mut self, bytes: &[u8], samples: u64) -> Result<(), SinkError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.output.write_all(bytes).and_then(|()| self.output.flush()) {
            self.unread.lost();
            return Err(SinkError::closed(error));
        }
        self.unread.wrote(bytes.len(), samples);
        Ok(())
    }
}
