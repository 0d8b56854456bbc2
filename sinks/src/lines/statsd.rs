//! StatsD's lines: what counters have grown by.

use ebpf_process_core::{HostName, View};

use crate::exec::{FormContext, LineBatches, LineForm};
use crate::statsd::{Encoder, Settled, Syntax, TOO_LONG, TWIN};

/// A line has no limit of its own: the batch has one.
const LONGEST: usize = usize::MAX / 2;

/// Writes the lines of each sample that has grown, or is a level.
#[derive(Debug)]
pub(super) struct Form {
    encoder: Encoder,
    host: HostName,
}

impl Form {
    pub(super) fn start(namespace: &str, context: &FormContext) -> Box<dyn LineForm + Send> {
        let host = context.host.clone();
        let encoder = Encoder::new(Syntax::Plain, namespace, LONGEST).with_host(&host.now(), false);
        Box::new(Self { encoder: if context.joins { encoder.joining() } else { encoder }, host })
    }
}

impl LineForm for Form {
    fn write(&mut self, view: &View<'_>, batches: &mut LineBatches) {
        self.encoder.set_host(&self.host.now());
        let mut said = 0;
        let settled = self.encoder.encode_samples(view, &mut |lines| {
            batches.push(lines, 1);
            said += 1;
        });
        let Settled { written, failed: _, too_long, twins } = settled;
        batches.unchanged(written - said);
        batches.rejected(too_long, TOO_LONG);
        batches.rejected(twins, TWIN);
    }
}
