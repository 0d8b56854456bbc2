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
    encodings: &'static [&'static str],
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Storage {
    /// For frames of these encodings; none where no spool is configured.
    pub(crate) fn of(
        options: &DeliveryOptions,
        context: &SinkContext,
        encodings: &'static [&'static str],
    ) -> Option<Self> {
        let directory = options.spool_of(context.instance.as_deref())?;
        let [min, max] = WAITS;
        let opener = Arc::clone(&context.opener);
        let (size, backoff) = (options.spool_size, Backoff::new(min, max));
        Some(Self { directory, opener, size, encodings, backoff, not_before: None })
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
        let opened = Spool::open_by(Arc::clone(&self.opener), &self.directory, self.size, self.encodings);
        match &opened {
            Ok(_) => self.backoff.succeeded(),
            Err(_) => self.not_before = Some(now + self.backoff.failed(None)),
        }
        opened
    }

    /// Opens it for a successor that that takes frames of these encodings and empties it: nothing in it has to make room.
    pub(crate) fn open_former(&self, encodings: &'static [&'static str]) -> Result<Spool, SpoolError> {
        Spool::open_by(Arc::clone(&self.opener), &self.directory, u64::MAX, encodings).map(|(spool, _)| spool)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::net::{SocketAddr, TcpListener};
    use std::os::fd::OwnedFd;
    use std::process::ExitStatus;

    use ebpf_process_core::{Directory, Program, SocketKind, Started};

    use super::*;

    /// Answers whatever it is asked for with its one refusal.
    #[derive(Debug)]
    struct Refusing;

    fn refused<T>() -> io::Result<T> {
        Err(io::Error::other("the opener was asked"))
    }

    impl Opener for Refusing {
        fn read(&self, _: &Path) -> io::Result<File> {
            refused()
        }

        fn append(&self, _: &Path) -> io::Result<File> {
            refused()
        }

        fn directory(&self, _: &Path) -> io::Result<Directory> {
            refused()
        }

        fn connect(&self, _: &Path, _: SocketKind, _: Option<Duration>) -> io::Result<OwnedFd> {
            refused()
        }

        fn listen(&self, _: SocketAddr) -> io::Result<TcpListener> {
            refused()
        }

        fn start(&self, _: &Program) -> io::Result<Started> {
            refused()
        }

        fn terminate(&self, _: u32) -> io::Result<()> {
            refused()
        }

        fn end(&self, _: u32) -> io::Result<ExitStatus> {
            refused()
        }

        fn ended(&self, _: u32) -> io::Result<Option<ExitStatus>> {
            refused()
        }
    }

    #[test]
    fn a_spool_is_opened_by_the_opener_for_a_successor_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut storage = Storage {
            directory: folder.path().to_owned(),
            opener: Arc::new(Refusing),
            size: 1 << 20,
            encodings: &[""],
            backoff: Backoff::new(WAITS[0], WAITS[1]),
            not_before: None,
        };
        for refused in [storage.open(Instant::now()).map(|(spool, _)| spool), storage.open_former(&[""])] {
            assert!(format!("{:?}", refused.expect_err("refused")).contains("the opener was asked"));
        }
    }

    #[test]
    fn after_a_failure_it_is_tried_again_when_it_is_due() {
        let (mut wait, now) = (Backoff::new(WAITS[0], WAITS[1]), Instant::now());
        wait.reseed(7);
        let due = now + wait.failed(None);
        let mut storage = Storage {
            directory: "/nowhere".into(),
            opener: Arc::new(Refusing),
            size: 1 << 20,
            encodings: &[""],
            backoff: Backoff::new(WAITS[0], WAITS[1]),
            not_before: None,
        };
        storage.reseed(7);
        assert!(storage.is_due(now));
        assert!(storage.open(now).is_err());
        assert_eq!((storage.not_before, storage.is_due(now), storage.is_due(due)), (Some(due), false, true));
    }
}
