//! Lines at the end of a file.

use std::io;
use std::path::Path;
use std::time::Duration;

use ebpf_process_delivery::{Carrier, Frame, LineFile, Verdict};

/// A regular file, which may be rotated.
pub(crate) struct File(LineFile);

impl File {
    pub(crate) fn new(path: &Path) -> Self {
        Self(LineFile::regular(path))
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
