//! The kit's own receivers: `--receive`.

mod exec;
mod format;
mod http;
mod shared;
mod stored;
mod tcp;
mod udp;

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use ebpf_process_core::testkit::conformance::{Kit, Peer};
use tracing::error;

use crate::exit::Refusal;
use crate::sink_test::receive::exec::Folder;
use crate::sink_test::receive::format::Format;
use crate::sink_test::receive::shared::Shared;

/// What stands in an option of the sink for where the receiver is.
pub(crate) const PLACE: &str = "{receiver}";

/// What is received: how it comes, and how its bytes are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receive {
    Tcp(Format),
    Udp(Format),
    Http(Format),
    /// The protocol of the sink `exec`, behind a Unix socket.
    Exec,
}

const fn with(format: Format) -> [Receive; 3] {
    [Receive::Tcp(format), Receive::Udp(format), Receive::Http(format)]
}

impl ValueEnum for Receive {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [[Receive; 3]; 5] = [
            with(Format::Lines),
            with(Format::Influx),
            with(Format::Statsd),
            with(Format::Graphite),
            with(Format::Prometheus),
        ];
        const FLAT: [Receive; 16] = {
            let mut flat = [Receive::Exec; 16];
            let mut place = 0;
            while place < 15 {
                flat[place] = ALL[place % 5][place / 5];
                place += 1;
            }
            flat
        };
        &FLAT
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.to_string()))
    }
}

impl Receive {
    /// How an option may say where the receiver is.
    pub(crate) const fn example(self) -> &'static str {
        match self {
            Self::Tcp(_) => "--set address=tcp://{receiver}",
            Self::Udp(_) => "--set address=udp://{receiver}",
            Self::Http(_) => "--set url=http://{receiver}/write",
            Self::Exec => "--set address=unix:{receiver}",
        }
    }
}

impl fmt::Display for Receive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(format) => write!(f, "tcp:{}", format.name()),
            Self::Udp(format) => write!(f, "udp:{}", format.name()),
            Self::Http(format) => write!(f, "http:{}", format.name()),
            Self::Exec => f.write_str("exec"),
        }
    }
}

/// A receiver on this machine, which keeps what comes and behaves as the kit says.
#[derive(Debug)]
pub(crate) struct Receiver {
    receive: Receive,
    /// Where it is: an address and a port, or the path of a socket.
    place: String,
    shared: Shared,
    /// The port of one whose kernel may have no room for what comes.
    datagrams: Option<u16>,
    /// What goes with it.
    _folder: Option<Folder>,
}

impl Receiver {
    /// Begins to listen.
    pub(crate) fn start(receive: Receive) -> Result<Self, Refusal> {
        let shared = Shared::default();
        let cannot = |error: std::io::Error| {
            Refusal::Usage(format!("--receive {receive}: cannot listen on this machine: {error}"))
        };
        let loopback = (Ipv4Addr::LOCALHOST, 0);
        let (place, datagrams, folder) = match receive {
            Receive::Tcp(format) => (tcp::listen(loopback, format, &shared).map_err(cannot)?.to_string(), None, None),
            Receive::Http(format) => (http::listen(loopback, format, &shared).map_err(cannot)?.to_string(), None, None),
            Receive::Udp(format) => {
                let address = udp::listen(loopback, format, &shared).map_err(cannot)?;
                (address.to_string(), Some(address.port()), None)
            }
            Receive::Exec => {
                let (path, folder) = exec::listen(&shared).map_err(cannot)?;
                (path, None, Some(folder))
            }
        };
        Ok(Self { receive, place, shared, datagrams, _folder: folder })
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Has the kit read back what comes here, and say how this receiver is to behave.
    pub(crate) fn equip(&self, kit: Kit) -> Kit {
        let Shared { stored, steering, refusals } = &self.shared;
        let stored = Arc::clone(stored);
        let kit = kit.read_back(move || stored.lock().readings());
        let (mut steer, refusals) = (steering.steer(), Arc::clone(refusals));
        let tell = move |peer| {
            if peer == Peer::Refusing {
                refusals.fetch_add(1, Ordering::AcqRel);
            }
            steer(peer)
        };
        match self.receive {
            Receive::Http(_) => kit.peer(tell).refusals(http::REFUSALS),
            Receive::Exec => kit.peer(tell).refusals(exec::REFUSALS),
            Receive::Tcp(_) => kit.peer(tell).not_applicable(Peer::Refusing, "lines over TCP have no answer"),
            Receive::Udp(_) => {
                let why = "a datagram has no answer";
                let all = [Peer::Slow, Peer::Refusing, Peer::Away];
                all.into_iter().fold(kit, |kit, peer| kit.not_applicable(peer, why))
            }
        }
    }

    /// Says what has not come here though it was sent: whose fault a failure is should be known.
    pub(crate) fn tell_losses(&self) {
        let lost = self.datagrams.map_or(0, udp::lost);
        if lost > 0 {
            error!(
                "--receive {}: the kernel had no room for {lost} datagrams, which may be all that is missing; raise \
                 net.core.rmem_max, or leave this machine less to do meanwhile",
                self.receive
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_carrier_goes_with_each_format() {
        let names: Vec<_> = Receive::value_variants().iter().map(ToString::to_string).collect();
        let formats = ["lines", "influx", "statsd", "graphite", "prometheus"];
        let expected = ["tcp", "udp", "http"].into_iter().flat_map(|how| formats.map(|what| format!("{how}:{what}")));
        assert_eq!(names, expected.chain(["exec".to_owned()]).collect::<Vec<_>>());
    }
}
