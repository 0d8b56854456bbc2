//! Lines at the end of a file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::Opener;
use ebpf_process_delivery::{Carrier, Frame, LineFile, Verdict};

/// A regular file, which may be rotated.
pub(crate) struct File(LineFile);

impl File {
    pub(crate) fn new(path: &Path, opener: &Arc<dyn Opener>) -> Self {
        Self(LineFile::regular(path, opener))
    }
}

impl Carrier for File {
    fn send(&mut self, frame: &Frame, _: Duration) -> Verdict {
        match self.0.append(frame.bytes(), frame.samples()) {
            Ok(()) => Verdict::Accepted,
            Err(error) => {
                let problem = self.0.explain(&error);
                match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        Verdict::Retry { after: None, problem }
                    }
                    _ => Verdict::Misconfigured { problem },
                }
            }
        }
    }
}
