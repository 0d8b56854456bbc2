//! The end of a program, in the order that is promised: its input is closed, it is asked, it is killed.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use ebpf_process_core::Opener;

use crate::bell::Ears;
use crate::complaints::Complaints;
use crate::peer::{Event, Peer};

/// Between being asked to end and being killed.
pub const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How often it is looked whether a program has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Ends a program, or leaves one behind a socket, and hears what it still says: [`turn`](Self::turn) is to be called until it
/// says that it is over.
#[derive(Debug)]
pub struct Ending {
    /// The program's number; none where somebody else has started it.
    number: Option<u32>,
    /// When it is asked to end, and when it is killed.
    asked: Instant,
    killed: Instant,
    is_asked: bool,
    /// How it has ended, where that is known.
    ended: Option<ExitStatus>,
}

/// What has become of a program, once its end is over.
#[derive(Debug)]
pub struct End {
    /// How it ended, where somebody knows.
    pub status: Option<ExitStatus>,
    /// Why it could not be ended.
    pub problem: Option<String>,
}

impl Ending {
    /// Closes its input. Until `asked` it may end by itself, until `killed` as it was asked to; a program whose end was told
    /// has `ended` and is heard out.
    pub fn new(
        peer: &mut Peer,
        number: Option<u32>,
        ended: Option<ExitStatus>,
        (asked, killed): (Instant, Instant),
    ) -> Self {
        peer.close_input();
        Self { number, asked, killed, is_asked: false, ended }
    }

    /// Waits for a moment at most and puts what has happened behind `events`. Something where it is over: what was said by
    /// then is among the events.
    pub fn turn(
        &mut self,
        (peer, ears): (&mut Peer, &mut Ears),
        opener: &dyn Opener,
        complaints: &mut Complaints,
        events: &mut Vec<Event>,
    ) -> Option<End> {
        let now = Instant::now();
        let is_over = match self.number {
            None => peer.has_closed() || now >= self.asked,
            Some(number) => {
                // Whoever cannot say how it ended does not know it any more.
                self.ended = self.ended.or_else(|| opener.ended(number).unwrap_or_default());
                self.ended.is_some()
            }
        };
        if is_over {
            peer.drain(complaints, events);
            return Some(End { status: self.ended, problem: None });
        }
        let failed = |error: std::io::Error| Some(End { status: None, problem: Some(error.to_string()) });
        if let Some(number) = self.number {
            if self.is_asked && now >= self.killed {
                peer.drain(complaints, events);
                return match opener.end(number) {
                    Ok(status) => Some(End { status: Some(status), problem: None }),
                    Err(error) => failed(error),
                };
            }
            if !self.is_asked && now >= self.asked {
                self.is_asked = true;
                if let Err(error) = opener.terminate(number) {
                    peer.drain(complaints, events);
                    return failed(error);
                }
            }
        }
        let until = if self.is_asked { self.killed } else { self.asked };
        // Where it cannot be waited for, the next look does what is due.
        let _ = peer.turn(ears, until.min(now + LOOK), complaints, events);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use ebpf_process_core::Direct;

    use super::*;
    use crate::bell::Bell;
    use crate::owner::Owner;

    /// A program behind a socket that is to be left at this moment, and its end of the socket, from which a line comes.
    struct Left(Peer, Ending, UnixStream);

    impl Left {
        fn at(asked: Instant) -> Self {
            let (here, mut there) = UnixStream::pair().expect("a pair");
            let mut peer = Peer::socket(here.into()).expect("a peer");
            let ending = Ending::new(&mut peer, None, None, (asked, asked));
            there.write_all(b"last\n").expect("room");
            Self(peer, ending, there)
        }

        fn turn(&mut self) -> (bool, Vec<Event>) {
            let (_bell, mut ears) = Bell::new().expect("descriptors");
            let mut complaints = Complaints::new(Owner::Sink("db".to_owned()));
            let (mut events, opener) = (Vec::new(), Direct::default());
            let end = self.1.turn((&mut self.0, &mut ears), &opener, &mut complaints, &mut events);
            if let Some(End { status, problem }) = &end {
                assert_eq!((status, problem), (&None, &None));
            }
            (end.is_some(), events)
        }
    }

    #[test]
    fn who_is_behind_a_socket_is_left_when_he_closes_it_or_his_time_is_over() {
        let line = || vec![Event::Line(b"last".to_vec())];
        let mut left = Left::at(Instant::now());
        assert_eq!(left.turn(), (true, line()));

        let asked = Instant::now() + Duration::from_secs(60);
        let mut left = Left::at(asked);
        assert_eq!(left.turn(), (false, line()));
        left.2.shutdown(std::net::Shutdown::Both).expect("an end");
        while !left.turn().0 {}
        assert!(Instant::now() < asked);
    }
}
