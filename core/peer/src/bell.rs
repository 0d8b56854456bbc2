//! How a thread that waits for a program hears of everybody else.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;

/// Wakes the thread that has its [`Ears`]. May be rung from any thread, and never waits.
#[derive(Debug)]
pub struct Bell(PipeWriter);

/// What hears a [`Bell`]: a turn of a [`Peer`](crate::Peer) ends where that is rung.
#[derive(Debug)]
pub struct Ears(PipeReader);

impl Bell {
    /// A bell and its ears. An error is that there are no descriptors left.
    pub fn new() -> io::Result<(Self, Ears)> {
        let (ears, bell) = io::pipe()?;
        ioctl_fionbio(&ears, true)?;
        ioctl_fionbio(&bell, true)?;
        Ok((Self(bell), Ears(ears)))
    }

    /// Says that there is something new.
    pub fn ring(&self) {
        // Where the pipe is full it has been said.
        let _ = (&self.0).write(&[0]);
    }
}

impl Ears {
    /// Waits until the bell is rung, no longer than the limit.
    pub fn wait(&mut self, limit: Duration) {
        let limit = Timespec::try_from(limit).ok();
        // An error is no reason to wait any longer.
        if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], limit.as_ref()).is_ok_and(|ready| ready > 0) {
            self.forget();
        }
    }

    /// However often it was rung, one look is enough.
    pub(crate) fn forget(&mut self) {
        let _ = self.0.read(&mut [0; 512]);
    }
}

impl AsFd for Ears {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_often_it_is_rung_it_is_heard_once() {
        let (bell, mut ears) = Bell::new().expect("descriptors");
        let mut is_rung = |hear: fn(&mut Ears)| {
            (0..3).for_each(|_| bell.ring());
            hear(&mut ears);
            ears.0.read(&mut [0]).is_ok()
        };
        assert!(is_rung(|_| {}));
        assert!(!is_rung(|ears| ears.wait(Duration::MAX)));
        assert!(!is_rung(Ears::forget));
    }
}
