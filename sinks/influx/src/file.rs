//! Lines at the end of a file.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use ebpf_process_core::explain;
use ebpf_process_delivery::{Carrier, Frame, Verdict};

/// A file, opened anew for each frame: whoever rotates it need not tell us.
pub(crate) struct File {
    path: PathBuf,
}

impl File {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn append(&self, frame: &Frame) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        file.write_all(frame.bytes()).inspect_err(|_| {
            // On a full disk half a frame is written, and all of it will be again.
            let _ = file.set_len(before.len());
        })
    }
}

impl Carrier for File {
    fn send(&mut self, frame: &Frame, _: Duration) -> Verdict {
        match self.append(frame) {
            Ok(()) => Verdict::Accepted,
            Err(error) => {
                let problem = format!("cannot write to {}: {}", self.path.display(), explain(&error));
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
