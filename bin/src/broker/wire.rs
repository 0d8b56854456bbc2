//! Messages with descriptors over a pair of sockets that keeps messages apart.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Bytes of a message at most: what is asked of an assistant, and what stands around it.
pub(crate) const LONGEST: usize = (64 << 10) + 1024;

/// Descriptors of a message at most; the kernel's own limit is 253.
pub(crate) const MOST_DESCRIPTORS: usize = 250;

/// One end.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// What has arrived.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A message in one piece: its length in the buffer, and its descriptors.
    Message(usize, Vec<OwnedFd>),
    /// One with more bytes or descriptors than there may be; what there is of it is thrown away.
    TooLarge,
    /// The other end is closed.
    End,
}

/// The two ends.
pub(crate) fn pair() -> io::Result<(Socket, Socket)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((Socket(one), Socket(other)))
}

impl From<OwnedFd> for Socket {
    fn from(end: OwnedFd) -> Self {
        Self(end)
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.0
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    /// Sends a message. Waits for room.
    pub(crate) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(bytes, descriptors, SendFlags::empty())
    }

    /// The same, with a wait for room until the deadline and no longer.
    pub(crate) fn send_before(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> io::Result<()> {
        loop {
            match self.send_with(bytes, descriptors, SendFlags::DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for(PollFlags::OUT, deadline)?,
                sent => return sent,
            }
        }
    }

    fn send_with(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for a message"));
        }
        rustix::io::retry_on_intr(|| {
            sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, flags | SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    /// Waits for a message with at most so many descriptors.
    pub(crate) fn receive(&self, buffer: &mut [u8], most: usize) -> io::Result<Arrival> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received =
            rustix::io::retry_on_intr(|| recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut control, flags))?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || descriptors.len() > most {
            return Ok(Arrival::TooLarge);
        }
        // An empty message looks like the end.
        if received.bytes == 0 && self.is_closed()? {
            return Ok(Arrival::End);
        }
        Ok(Arrival::Message(received.bytes, descriptors))
    }

    /// Waits until there is a message or the end, no longer than until the deadline.
    pub(crate) fn wait(&self, deadline: Instant) -> io::Result<()> {
        self.wait_for(PollFlags::IN, deadline)
    }

    fn wait_for(&self, what: PollFlags, deadline: Instant) -> io::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.0, what)], Some(&limit)) {
                Ok(0) if left.is_zero() => return Err(io::ErrorKind::TimedOut.into()),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the other end is closed.
    pub(crate) fn is_closed(&self) -> io::Result<bool> {
        hung_up(self, Some(Duration::ZERO))
    }

    /// Waits until the other end is closed.
    pub(crate) fn wait_for_end(&self) -> io::Result<()> {
        while !hung_up(self, None)? {}
        Ok(())
    }
}

fn hung_up(socket: &Socket, limit: Option<Duration>) -> io::Result<bool> {
    let limit = limit.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
    // No event but the end: that is told without being asked for.
    let mut watched = [PollFd::new(socket, PollFlags::empty())];
    match poll(&mut watched, limit.as_ref()) {
        Ok(_) => Ok(watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
