//! The way to a receiver over UDP.

use std::time::{Duration, Instant};

use ebpf_process_delivery::{Datagrams, Passage};

use crate::packets::{Batch, Fate};
use crate::transport::Transport;

/// A packet is a datagram. Where the kernel cuts what it is given into datagrams, packets are filled up,
/// since all but the last have to be of one size.
pub(crate) struct Udp {
    datagrams: Datagrams,
    /// How long a name may be waited for when no address is known.
    timeout: Duration,
    problem: Option<String>,
}

impl Udp {
    pub(crate) const fn new(datagrams: Datagrams, timeout: Duration) -> Self {
        Self { datagrams, timeout, problem: None }
    }
}

impl Transport for Udp {
    fn begin(&mut self, now: Instant) {
        self.problem = self.datagrams.begin(now, self.timeout).err();
    }

    fn send(&mut self, packet: &[u8]) -> Fate {
        let passage = self.datagrams.send(packet);
        enter(passage, &mut self.problem)
    }

    fn fills(&self) -> bool {
        self.datagrams.cuts()
    }

    fn send_all(&mut self, batch: Batch<'_>, fates: &mut Vec<Fate>) {
        let Self { datagrams, problem, .. } = self;
        for run in batch.runs() {
            datagrams.send_all(run, |passage| fates.push(enter(passage, problem)));
        }
    }

    fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn try_out(&mut self, now: Instant) -> Result<(), String> {
        self.datagrams.try_out(now, self.timeout)
    }
}

/// What became of a packet; a problem is kept if it is the first.
fn enter(passage: Passage, first: &mut Option<String>) -> Fate {
    let (fate, problem) = match passage {
        Passage::Sent => return Fate::Sent,
        Passage::Late { problem } => (Fate::Late, problem),
        Passage::Lost { problem } => (Fate::Lost, problem),
        Passage::TooLarge { problem } => (Fate::Lost, format!("{problem}; lower the option max_packet")),
    };
    first.get_or_insert(problem);
    fate
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::Arc;

    use ebpf_process_delivery::Lookup;

    use super::*;

    #[test]
    fn a_packet_too_large_for_a_datagram_is_lost_with_advice() {
        let listener = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let now = Instant::now();
        let resolve = Arc::new(move |_: &str| Ok(vec![address]));
        let limit = Duration::from_secs(30);
        let mut udp = Udp::new(Datagrams::new(Lookup::new("h.example:1", "address", resolve, limit, now)), limit);
        udp.begin(now);
        assert_eq!(udp.send(&vec![b'x'; 65_508]), Fate::Lost);
        assert!(udp.problem().expect("a problem").contains("max_packet"));
        udp.begin(now);
        assert_eq!(udp.send(b"a:1|c"), Fate::Sent);
        assert_eq!(udp.problem(), None);
    }
}
