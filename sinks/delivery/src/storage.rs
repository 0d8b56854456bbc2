//! Where a spool is to be, and when it is tried again while it cannot be used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{Opener, SinkContext};

use crate::backoff::Backoff;
use crate::options::DeliveryOptions;
use crate::spool::{Recovery, Spool, SpoolError};

/// The longest waits after the first failure, and at all.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// The directory of a spool.
#[derive(Debug)]
pub(crate) struct Storage {
    directory: PathBuf,
    opener: Arc<dyn Opener>,
    size: u64,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Storage {
    /// None where no spool is configured.
    pub(crate) fn of(options: &DeliveryOptions, context: &SinkContext) -> Option<Self> {
        let directory = options.spool_of(context.instance.as_deref())?;
        let [min, max] = WAITS;
        let opener = Arc::clone(&context.opener);
        Some(Self { directory, opener, size: options.spool_size, backoff: Backoff::new(min, max), not_before: None })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// From now on the waits depend on this seed alone.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.backoff.reseed(seed);
    }

    /// Whether it is time for an attempt.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|moment| moment <= now)
    }

    /// Opens it.
    pub(crate) fn open(&mut self, now: Instant) -> Result<(Spool, Recovery), SpoolError> {
        let opened = Spool::open_by(Arc::clone(&self.opener), &self.directory, self.size);
        match &opened {
            Ok(_) => self.backoff.succeeded(),
            Err(_) => self.not_before = Some(now + self.backoff.failed(None)),
        }
        opened
    }

    /// Opens the one of a predecessor, in which nothing has to make room.
    pub(crate) fn open_former(directory: &Path) -> Result<Spool, SpoolError> {
        Spool::open(directory, u64::MAX).map(|(spool, _)| spool)
    }
}
