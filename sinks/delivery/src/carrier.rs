//! The way to one receiver.

use std::time::Duration;

use crate::doubt::Peer;
use crate::frame::Frame;
use crate::verdict::Verdict;

/// Takes frames to a receiver: the part of a sink that does the I/O.
///
/// # Without an acknowledgement
///
/// Many protocols over TCP have none. A socket takes data long after its peer has closed it, and what
/// it took is lost then, without an error. Such a carrier
///
/// * looks for the peer's close before it sends ([`look_for_close`](crate::look_for_close)), and connects
///   anew after one: what was not handed over is not lost;
/// * answers [`Verdict::Sent`], not [`Verdict::Accepted`]: the delivery then asks for the
///   [`peer`](Self::peer) a tenth of a second later, before the next frame and at the end, and enters the
///   samples as written if it is still there, else as unconfirmed. They are not sent again: some of
///   them may have arrived.
///
/// ```
/// use std::io::Write as _;
/// use std::net::TcpStream;
/// use std::time::Duration;
///
/// use ebpf_process_delivery::{Carrier, Frame, Peer, Verdict, look_for_close};
///
/// struct Lines {
///     address: String,
///     connection: Option<TcpStream>,
///     /// Whether a connection that had taken frames is gone.
///     lost: bool,
/// }
///
/// impl Carrier for Lines {
///     fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
///         self.lost |= self.connection.take_if(|it| look_for_close(&*it).is_err()).is_some();
///         let sent = match &mut self.connection {
///             Some(connection) => connection.set_write_timeout(Some(limit)).and_then(|()| connection.write_all(frame.bytes())),
///             none => TcpStream::connect(&self.address).and_then(|it| none.insert(it).write_all(frame.bytes())),
///         };
///         match sent {
///             Ok(()) => Verdict::Sent,
///             Err(error) => {
///                 self.lost |= self.connection.take().is_some();
///                 Verdict::Retry { after: None, problem: format!("cannot send to {}: {error}", self.address) }
///             }
///         }
///     }
///
///     fn peer(&mut self) -> Peer {
///         self.lost |= self.connection.take_if(|it| look_for_close(&*it).is_err()).is_some();
///         if std::mem::take(&mut self.lost) { Peer::Gone } else { Peer::Here }
///     }
/// }
/// ```
pub trait Carrier: Send {
    /// Sends one frame and waits for what becomes of it, no longer than `limit` (nor than the
    /// carrier's own time limit); it is longer than nothing. Called on the sink's thread, one frame at a time, oldest first.
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict;

    /// Whether a frame that is sent again overwrites itself at the receiver, so that nothing is
    /// counted twice.
    fn overwrites(&self) -> bool {
        false
    }

    /// As [`Submit::encodings`](crate::Submit::encodings).
    fn encodings(&self) -> &'static [&'static str] {
        &[""]
    }

    /// Whether the connection that took the frames since the last call is still there; asked only after
    /// [`Verdict::Sent`]. Never waits.
    fn peer(&mut self) -> Peer {
        Peer::Here
    }
}

impl<C: Carrier + ?Sized> Carrier for Box<C> {
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        (**self).send(frame, limit)
    }

    fn overwrites(&self) -> bool {
        (**self).overwrites()
    }

    fn encodings(&self) -> &'static [&'static str] {
        (**self).encodings()
    }

    fn peer(&mut self) -> Peer {
        (**self).peer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Carrier for Plain {
        fn send(&mut self, _: &Frame, _: Duration) -> Verdict {
            Verdict::Accepted
        }
    }

    struct Special;

    impl Carrier for Special {
        fn send(&mut self, _: &Frame, _: Duration) -> Verdict {
            Verdict::Sent
        }

        fn overwrites(&self) -> bool {
            true
        }

        fn encodings(&self) -> &'static [&'static str] {
            &["rows/2", "rows/1"]
        }

        fn peer(&mut self) -> Peer {
            Peer::Gone
        }
    }

    #[test]
    fn a_box_is_the_carrier_in_it() {
        let said = |mut carrier: Box<dyn Carrier>| {
            let is_sent = matches!(Carrier::send(&mut carrier, &Frame::default(), Duration::MAX), Verdict::Sent);
            (is_sent, Carrier::overwrites(&carrier), Carrier::encodings(&carrier), Carrier::peer(&mut carrier))
        };
        assert_eq!(said(Box::new(Plain)), (false, false, &[""][..], Peer::Here));
        assert_eq!(said(Box::new(Special)), (true, true, &["rows/2", "rows/1"][..], Peer::Gone));
    }
}
