//! A sink for Graphite over TCP: a line `name;label=value total time` for each number.
//!
//! Graphite acknowledges nothing, so what a connection took before it was gone may be lost, and is counted as unconfirmed.
//! A value that is sent again overwrites itself. While there is nobody to send to, lines wait in memory or in a spool.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ebpf_process_core::prelude::*;
use ebpf_process_core::{Legacy, Settlement};
use ebpf_process_delivery::{Carrier, Delivery, DeliveryOptions, Frame, Limits, Packer, Peer, Verdict, look_for_close};

/// What a request would be elsewhere.
const LIMITS: Limits = Limits::new(1000, 64 << 10);

/// For sending one frame.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    address: String,
    #[serde(default)]
    delivery: DeliveryOptions,
}

impl Options {
    /// The spool, which an agent without root's rights may not open by itself.
    pub fn opens(&self) -> Option<Access> {
        self.delivery.spool.clone().map(Access::Directory)
    }
}

pub struct Graphite {
    delivery: Delivery<Lines>,
    packer: Packer,
    line: String,
}

impl Graphite {
    pub fn build(options: Options, context: SinkContext) -> Result<Self, BuildError> {
        let lines = Lines { address: options.address, connection: None, was_lost: false };
        let delivery = Delivery::new(lines, &options.delivery, &context)?;
        Ok(Self { delivery, packer: Packer::new(LIMITS), line: String::new() })
    }
}

impl Sink for Graphite {
    fn write(&mut self, view: &View<'_>) -> SinkResult {
        for sample in view.samples() {
            self.line.clear();
            escape(&mut self.line, sample.name());
            for (key, value) in sample.labels() {
                self.line.push(';');
                escape(&mut self.line, key);
                self.line.push('=');
                escape(&mut self.line, value);
            }
            writeln!(self.line, " {} {}", sample.value(), sample.row().tick().wall.as_secs())?;
            let full = self.packer.push(self.line.as_bytes(), 1, Instant::now());
            full.into_iter().for_each(|frame| self.delivery.offer(frame));
        }
        self.packer.take().into_iter().for_each(|frame| self.delivery.offer(frame));
        Ok(())
    }

    fn flush(&mut self) -> SinkResult {
        self.delivery.work();
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        self.delivery.due()
    }

    fn close(&mut self) -> SinkResult {
        self.delivery.close();
        Ok(())
    }

    /// Whoever takes this one's place at a reload sends what it has not.
    fn bequeath(&mut self) -> Option<Legacy> {
        let undelivered = self.delivery.bequeath();
        Some(Legacy::new(undelivered.samples(), undelivered))
    }

    fn inherit(&mut self, legacy: Legacy) {
        if let Ok(undelivered) = legacy.content.downcast() {
            self.delivery.inherit(*undelivered);
        }
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

/// What has a meaning in a line, or none in a name, stands as its code: two texts stay two.
fn escape(line: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => line.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(line, "%{byte:02X}")),
        }
    }
}

/// The connection.
struct Lines {
    address: String,
    connection: Option<TcpStream>,
    /// Whether one that had taken lines is gone.
    was_lost: bool,
}

impl Lines {
    fn look(&mut self) {
        self.was_lost |= self.connection.take_if(|it| look_for_close(&*it).is_err()).is_some();
    }

    fn connected(&mut self) -> std::io::Result<&mut TcpStream> {
        if self.connection.is_none() {
            self.connection = Some(TcpStream::connect(&self.address)?);
        }
        self.connection.as_mut().ok_or_else(|| std::io::ErrorKind::NotConnected.into())
    }
}

impl Carrier for Lines {
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        self.look();
        let limit = limit.min(PATIENCE);
        let sent = self.connected().and_then(|it| {
            it.set_write_timeout(Some(limit))?;
            it.write_all(frame.bytes())
        });
        match sent {
            Ok(()) => Verdict::Sent,
            Err(error) => {
                self.was_lost |= self.connection.take().is_some();
                Verdict::Retry { after: None, problem: format!("cannot send to {}: {error}", self.address) }
            }
        }
    }

    fn overwrites(&self) -> bool {
        true
    }

    fn encodings(&self) -> &'static [&'static str] {
        &["graphite-lines"]
    }

    fn peer(&mut self) -> Peer {
        self.look();
        if std::mem::take(&mut self.was_lost) { Peer::Gone } else { Peer::Here }
    }
}
