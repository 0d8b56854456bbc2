//! Line protocol, with all integers that there are.

use ebpf_process_core::{HostName, View};

use crate::exec::{FormContext, LineBatches, LineForm};
use crate::influx::{Encoder, Integers, Lines, TOO_LARGE, TWIN};

/// Writes one line for all numbers of a row with the same measurement and tags.
#[derive(Debug)]
pub(super) struct Form {
    encoder: Encoder,
    host: HostName,
}

impl Form {
    pub(super) fn start(context: &FormContext) -> Box<dyn LineForm + Send> {
        let host = context.host.clone();
        Box::new(Self { encoder: Encoder::new(&host.now()).with_integers(Integers::Unsigned), host })
    }
}

impl LineForm for Form {
    fn write(&mut self, view: &View<'_>, batches: &mut LineBatches) {
        self.encoder.set_host(&self.host.now());
        let lines = self.encoder.encode(view);
        for (line, samples) in lines.iter() {
            batches.push(line, samples);
        }
        let Lines { rejected, too_large, .. } = lines;
        batches.rejected(rejected, TWIN);
        batches.rejected(too_large, TOO_LARGE);
    }
}
