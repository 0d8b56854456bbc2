//! Lines at the end of a file.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use ebpf_process_core::explain;
use ebpf_process_delivery::{Carrier, Frame, Verdict};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// A file, opened anew for each frame: whoever rotates it need not tell us.
pub(crate) struct File {
    path: PathBuf,
}

impl File {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn append(&self, frame: &Frame) -> io::Result<()> {
        // A FIFO that nobody reads would hold us for ever.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut file = OpenOptions::new().append(true).create(true).custom_flags(flags).open(&self.path)?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(not_a_file());
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
                let error = if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) { not_a_file() } else { error };
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

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}
