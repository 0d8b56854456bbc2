//! The sink type `statsd`: the plain protocol of etsy's daemon, over UDP or on standard output.
//!
//! ```toml
//! [sinks.lan]
//! type = "statsd"
//! [sinks.lan.options]
//! address = "udp://127.0.0.1:8125"
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | `"udp://127.0.0.1:8125"` | the receiver, `udp://HOST:PORT`; the name is resolved once, at the start. `"stdout"` prints the lines instead |
//! | `max_packet` | `1432` | the largest datagram in bytes, from 64 to 65507; 1432 fits an Ethernet frame, 512 the Internet, 8932 a jumbo frame |
//! | `namespace` | `"ebpf_process"` | the first part of every name, with dots for more parts; may be empty |
//!
//! # Names
//!
//! The dialect has no tags, so everything is in the name, part by part:
//!
//! ```text
//! namespace . values of the selection's tags . area . label values . what
//! ebpf_process.vfs.read.calls:17|c
//! ebpf_process.task.exits:3|c
//! ```
//!
//! `what` is the last part of the metric's name and `area` what stands before it. A character of a
//! part that is no letter, digit, `_` or `-` becomes `_`. Counters that get one name by that add up
//! at the receiver, as their sum; of gauges with one name only the first is sent, the others are
//! rejected and counted.
//!
//! # Numbers
//!
//! A counter is sent as what it has grown by since the last datagram that took it along, from 0 at
//! the agent's baseline; one that has not grown is not sent. A batch that a full queue loses is
//! covered by the next one. A gauge is sent with every batch, rounded to nine decimals; a negative
//! one is set to 0 first, for a sign means a change in this dialect. A histogram is one counter per
//! slot, `<name>.le_<largest value>`.
//!
//! Lines are packed into datagrams and never split. A line longer than `max_packet` cannot be sent:
//! its sample is rejected.
//!
//! # What is counted when
//!
//! UDP has no receipt. A datagram's samples are **written** when the kernel took it and knows of no
//! refusal, and **failed** when sending it failed or when a refusal is known:
//!
//! * From a receiver on this host a refusal (nobody listens) is there as soon as the datagram is
//!   sent. It is this datagram's: it did not arrive, so what its counters have grown by stays due,
//!   and goes with the next batch that has the series. A receiver that starts late gets everything
//!   since the baseline but for series that are over by then.
//! * From another host a refusal comes later, and does not say for which datagram; so it does here
//!   when the kernel is so busy that it postpones it. The next datagram is counted as failed in the
//!   place of the refused one. It is not known which counters that one carried, so nothing is sent
//!   again: no receiver ever gets an event twice.
//!
//! A sample with several lines is failed if one of its datagrams is. What only the network loses
//! is not known to anybody.

mod address;
mod dispatch;
mod encode;
mod name;
mod packet;
mod transport;

use std::io::{Write, stdout};
use std::sync::Arc;

use ebpf_process_core::{
    BuildError, Claims, Ledger, Options, OptionsError, Settlement, Sink, SinkContext, SinkError, SinkPlugin, View,
};
use serde::Deserialize;

use address::Address;
pub use dispatch::Settled;
pub use encode::Encoder;
pub use packet::Fate;
use transport::Udp;

/// The sink type `statsd`, for a registry.
pub static PLUGIN: StatsdPlugin = StatsdPlugin;

/// See [`PLUGIN`].
///
/// Options: `address` (`"udp://127.0.0.1:8125"`, or `"stdout"`), `max_packet` (1432),
/// `namespace` (`"ebpf_process"`).
#[derive(Clone, Copy, Debug)]
pub struct StatsdPlugin;

/// Why a sample with a line that fits no datagram is rejected.
const TOO_LONG: &str = "too long";

/// Why the second of two gauges under one name is rejected.
const TWIN: &str = "same name as another series";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    address: String,
    max_packet: usize,
    namespace: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { address: "udp://127.0.0.1:8125".to_owned(), max_packet: 1432, namespace: "ebpf_process".to_owned() }
    }
}

impl Settings {
    fn read(options: &Options) -> Result<(Self, Address), OptionsError> {
        let settings: Self = options.extract()?;
        let address = Address::parse(&settings.address).map_err(|problem| options.refuse("address", problem))?;
        if !(64..=65_507).contains(&settings.max_packet) {
            return Err(options.refuse("max_packet", "expected a number of bytes from 64 to 65507"));
        }
        Ok((settings, address))
    }
}

impl SinkPlugin for StatsdPlugin {
    fn name(&self) -> &'static str {
        "statsd"
    }

    fn summary(&self) -> &'static str {
        "counters and gauges for StatsD, over UDP or on standard output"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        let (_, address) = Settings::read(options)?;
        Ok(Claims { stdout: matches!(address, Address::Stdout) })
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let (settings, address) = Settings::read(options)?;
        let encoder = Encoder::new(&settings.namespace, settings.max_packet);
        let ledger = context.ledger;
        Ok(match address {
            Address::Stdout => Box::new(StreamSink { encoder, ledger, lines: Vec::new(), output: stdout() }),
            Address::Udp(receiver) => Box::new(UdpSink { encoder, ledger, udp: Udp::connect(&receiver)? }),
        })
    }

    fn confined(&self, _: &Options) -> bool {
        true
    }

    fn stdout_options(&self) -> Option<Options> {
        let options = [("address", address::STDOUT)];
        Some(Options::from_value(options.into_iter().collect::<std::collections::BTreeMap<_, _>>()))
    }
}

/// Enters what became of a view's samples.
fn settle(ledger: &Ledger, settled: Settled) {
    ledger.written(settled.written);
    ledger.failed(settled.failed);
    ledger.rejected(settled.too_long, TOO_LONG);
    ledger.rejected(settled.twins, TWIN);
}

/// Sends each view as datagrams.
struct UdpSink {
    encoder: Encoder,
    ledger: Arc<Ledger>,
    udp: Udp,
}

impl Sink for UdpSink {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let udp = &self.udp;
        let mut problem = None;
        let settled = self.encoder.encode(view, &mut |datagram| {
            let (fate, error) = udp.send(datagram);
            problem = problem.take().or(error);
            fate
        });
        settle(&self.ledger, settled);
        problem.map_or(Ok(()), |error| Err(SinkError::failed(udp.explain(&error))))
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

/// Prints each view. A failed write is the end: what follows half a line is no line.
struct StreamSink<W> {
    encoder: Encoder,
    ledger: Arc<Ledger>,
    lines: Vec<u8>,
    output: W,
}

impl<W: Write + Send> Sink for StreamSink<W> {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let lines = &mut self.lines;
        lines.clear();
        let settled = self.encoder.encode(view, &mut |datagram| {
            lines.extend_from_slice(datagram);
            lines.push(b'\n');
            Fate::Sent
        });
        self.output.write_all(lines).and_then(|()| self.output.flush()).map_err(SinkError::closed)?;
        settle(&self.ledger, settled);
        Ok(())
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_wrong_option_names_its_key() {
        let text = |key: &'static str, value: &str| Options::from_value(BTreeMap::from([(key, value.to_owned())]));
        let number = |value: u64| Options::from_value(BTreeMap::from([("max_packet", value)]));
        for (options, key) in [
            (text("address", "tcp://h:1"), "options.address"),
            (text("adress", "udp://h:1"), "options.adress"),
            (number(63), "options.max_packet"),
            (number(65_508), "options.max_packet"),
        ] {
            assert_eq!(PLUGIN.check(&options).expect_err(key).key, key);
        }
        assert!(!PLUGIN.check(&Options::none()).expect("defaults").stdout);
        let printing = PLUGIN.stdout_options().expect("a format");
        assert!(PLUGIN.check(&printing).expect("right options").stdout);
    }
}
