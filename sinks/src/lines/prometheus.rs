//! The Prometheus text format.

use ebpf_process_core::View;

use crate::exec::{LineBatches, LineForm};
use crate::prometheus::{Counts, Encoder, Piece, TWIN};

/// Writes pages: metric by metric, each with its help and its type.
#[derive(Debug)]
pub(super) struct Form(Encoder);

impl Form {
    pub(super) fn start(namespace: &str) -> Box<dyn LineForm + Send> {
        Box::new(Self(Encoder::new(namespace)))
    }
}

impl LineForm for Form {
    fn write(&mut self, view: &View<'_>, batches: &mut LineBatches) {
        let counts = self.0.encode_samples(view, |piece| match piece {
            Piece::Header(lines) => batches.heading(lines),
            Piece::Sample(lines) => batches.push(lines, 1),
        });
        let Counts { superseded, rejected, .. } = counts;
        batches.superseded(superseded);
        batches.rejected(rejected, TWIN);
    }
}
