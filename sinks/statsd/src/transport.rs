//! What the ways to a receiver have in common.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use ebpf_process_delivery::Peer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::packets::{Batch, Fate};

/// A way to a receiver. Nothing here is fatal: what cannot be reached now is tried again later.
pub(crate) trait Transport: Send {
    /// Gets ready for a view: whatever is due by `now` is looked up and connected again.
    fn begin(&mut self, now: Instant);

    /// Sends a packet.
    fn send(&mut self, packet: &[u8]) -> Fate;

    /// Whether packets that are filled up cost less: asked after `begin`, for one view.
    fn fills(&self) -> bool {
        false
    }

    /// Sends several packets, and says what became of each.
    fn send_all(&mut self, batch: Batch<'_>, fates: &mut Vec<Fate>) {
        fates.extend(batch.iter().map(|packet| self.send(packet)));
    }

    /// Whether the connection is still there that took packets since the last call; `None` where there is
    /// none that could be closed.
    fn peer(&mut self) -> Option<Peer> {
        None
    }

    /// What went wrong first since `begin`, for a person.
    fn problem(&self) -> Option<&str>;

    /// Looks whether the receiver is there, without sending it a number. The error is for a person.
    fn try_out(&mut self, now: Instant) -> Result<(), String> {
        self.begin(now);
        self.problem().map_or(Ok(()), |problem| Err(problem.to_owned()))
    }
}

/// Sends a datagram, or as much of a piece of a stream as there is room for. Waits for room until
/// the deadline; then it is [`io::ErrorKind::TimedOut`].
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
    loop {
        match rustix::net::send(&socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => wait_for_room(&socket, deadline)?,
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

fn wait_for_room(socket: impl AsFd, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    // Asking a socket without waiting could go on for ever: room for something is not room for this.
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    // No limit is as long as what does not fit one.
    let limit = Timespec::try_from(left).ok();
    match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a datagram is larger than the way to the receiver takes.
pub(crate) fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
}
