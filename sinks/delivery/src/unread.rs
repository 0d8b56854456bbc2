//! What was written to a pipe and nobody has read yet.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{Ledger, SinkContext, Stop};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ioctl_fionread};

use crate::front::pop_if;

/// After so long it is looked whether the reader has been there.
const LATER: Duration = Duration::from_millis(100);

/// How long a reader is waited for at the end.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two looks at the end.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// The samples of an output that may be a pipe, which keeps what nobody reads: they are entered as
/// written when they have been read, and as unconfirmed when the output ends before. What is
/// written elsewhere (a file, a terminal) is written at once.
///
/// A sink that has one settles itself
/// ([`Settlement::BySink`](ebpf_process_core::Settlement::BySink)), and passes its calls on: `flush`
/// to [`look`](Self::look), `due` to [`due`](Self::due), `close` to [`end`](Self::end).
#[derive(Debug)]
pub struct Unread {
    pipe: Option<OwnedFd>,
    ledger: Arc<Ledger>,
    stop: Stop,
    /// Bytes so far.
    sent: u64,
    /// Where a piece ends that may not have been read, and its samples; the oldest first.
    pieces: VecDeque<(u64, u64)>,
    look: Option<Instant>,
}

impl Unread {
    /// Watches an output.
    pub fn new(output: impl AsFd, context: &SinkContext) -> Self {
        let mut unread = Self::nowhere(context);
        unread.watch(output);
        unread
    }

    /// Has no output yet.
    pub fn nowhere(context: &SinkContext) -> Self {
        let (ledger, stop) = (Arc::clone(&context.ledger), context.stop.clone());
        Self { pipe: None, ledger, stop, sent: 0, pieces: VecDeque::new(), look: None }
    }

    /// Watches another output from now on; what nobody has read of the one before is unconfirmed.
    pub fn watch(&mut self, output: impl AsFd) {
        self.lost();
        let is_pipe = |fd| fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        let fd = output.as_fd();
        // Without a descriptor of our own nothing can be asked for: then it is as with a file.
        self.pipe = if is_pipe(fd) { fd.try_clone_to_owned().ok() } else { None };
    }

    /// So many bytes went out, and with them all of these samples.
    pub fn wrote(&mut self, bytes: usize, samples: u64) {
        if self.pipe.is_none() {
            self.ledger.written(samples);
            return;
        }
        self.sent += bytes as u64;
        if samples > 0 {
            self.pieces.push_back((self.sent, samples));
        }
        self.look();
        self.look = (!self.pieces.is_empty()).then(|| Instant::now() + LATER);
    }

    /// Enters what has been read by now.
    pub fn look(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        self.look = self.look.filter(|look| *look > Instant::now());
        let waits = ioctl_fionread(pipe).unwrap_or(0);
        let read = self.sent.saturating_sub(waits);
        while let Some((_, samples)) = pop_if(&mut self.pieces, |(end, _)| *end <= read) {
            self.ledger.written(samples);
        }
    }

    /// When to look again.
    pub const fn due(&self) -> Option<Instant> {
        self.look
    }

    /// The reader is gone, or the output is another one from now on.
    pub fn lost(&mut self) {
        self.look();
        self.look = None;
        self.ledger.unconfirmed(self.pieces.drain(..).map(|(_, samples)| samples).sum());
        self.pipe = None;
        self.sent = 0;
    }

    /// Nothing more follows: waits for the reader, half a second at most and no longer than three
    /// quarters of what is left of the agent's grace period.
    pub fn end(&mut self) {
        let until = Instant::now() + patience(self.stop.remaining());
        self.look();
        while let Some(pipe) = self.pipe.as_ref().filter(|_| !self.pieces.is_empty() && Instant::now() < until) {
            // Nothing is waited for but the end of the reader, which is always told.
            let mut fds = [PollFd::new(pipe, PollFlags::empty())];
            if !matches!(poll(&mut fds, Some(&NAP)), Ok(0) | Err(Errno::INTR)) {
                break;
            }
            self.look();
        }
        self.lost();
    }
}

/// How long a reader is waited for when so much of the grace period is left: what it left has to be counted in time.
fn patience(grace: Option<Duration>) -> Duration {
    grace.map_or(PATIENCE, |left| left.mul_f64(0.75).min(PATIENCE))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use ebpf_process_core::testkit::{context, offer};

    use super::*;

    /// (written, unconfirmed, queued)
    fn book(context: &SinkContext) -> (u64, u64, u64) {
        let tally = context.ledger.tally();
        assert!(tally.balances(), "{tally:?}");
        (tally.written, tally.unconfirmed, tally.queued)
    }

    #[test]
    fn what_nobody_reads_is_not_written() {
        let context = context("test");
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        let mut unread = Unread::new(&writer, &context);
        for samples in [3, 5] {
            offer(&context.ledger, samples);
            writer.write_all(b"12345").expect("room");
            unread.wrote(5, samples);
        }
        assert_eq!(book(&context), (0, 0, 8));
        assert!(unread.due().is_some());
        reader.read_exact(&mut [0; 7]).expect("bytes");
        unread.look();
        assert_eq!(book(&context), (3, 0, 5), "half of the second piece is not enough");
        unread.end();
        assert_eq!(book(&context), (3, 5, 0));
    }

    #[test]
    fn a_reader_that_reads_at_the_end_is_waited_for_and_one_that_goes_is_not() {
        for reads in [true, false] {
            let context = context("test");
            let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
            let mut unread = Unread::new(&writer, &context);
            offer(&context.ledger, 2);
            writer.write_all(b"12345").expect("room");
            unread.wrote(5, 2);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    if reads {
                        // Longer than one look takes.
                        std::thread::park_timeout(Duration::from_millis(20));
                        reader.read_exact(&mut [0; 5]).expect("bytes");
                    }
                });
                unread.end();
            });
            assert_eq!(book(&context), if reads { (2, 0, 0) } else { (0, 2, 0) });
        }
    }

    #[test]
    fn there_is_time_left_to_count_what_nobody_read() {
        let millis = Duration::from_millis;
        assert_eq!((patience(None), patience(Some(millis(2000)))), (PATIENCE, PATIENCE));
        assert_eq!((patience(Some(millis(400))), patience(Some(millis(0)))), (millis(300), millis(0)));
    }

    #[test]
    fn what_goes_to_a_file_is_written_at_once() {
        let context = context("test");
        let file = tempfile::tempfile().expect("a file");
        let mut unread = Unread::new(&file, &context);
        offer(&context.ledger, 2);
        unread.wrote(5, 2);
        assert_eq!((book(&context), unread.due()), ((2, 0, 0), None));
    }

    #[test]
    fn it_is_looked_again_later_as_long_as_samples_wait() {
        let context = context("test");
        let (_reader, mut writer) = std::io::pipe().expect("a pipe");
        let mut unread = Unread::new(&writer, &context);
        writer.write_all(b"12345").expect("room");
        unread.wrote(5, 0);
        assert_eq!(unread.due(), None, "nothing waits but bytes");
        offer(&context.ledger, 1);
        writer.write_all(b"12345").expect("room");
        let before = Instant::now();
        unread.wrote(5, 1);
        let due = unread.due().expect("a look");
        assert!(due >= before + LATER, "{:?}", due - before);
        unread.look = Some(due + PATIENCE);
        unread.look();
        assert_eq!(unread.due(), Some(due + PATIENCE), "not yet");
        unread.look = Some(before);
        unread.look();
        assert_eq!(unread.due(), None);
    }
}
