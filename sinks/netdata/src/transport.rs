//! The way to netdata: a stream that takes each view in one piece.

use std::io::Write;

use ebpf_process_core::SinkError;

/// Standard output, or what stands for it in a test.
pub(crate) struct Pipe<W> {
    pub(crate) output: W,
}

impl<W: Write> Pipe<W> {
    pub(crate) const fn new(output: W) -> Self {
        Self { output }
    }

    /// Writes and flushes. An error leaves half a line behind at worst, so it is the end.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.output.write_all(bytes).and_then(|()| self.output.flush()).map_err(SinkError::closed)
    }
}
