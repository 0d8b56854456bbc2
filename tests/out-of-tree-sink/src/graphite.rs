//! A sink for Graphite over TCP: a line `name;label=value total time` for each number.
//!
//! Graphite acknowledges nothing, so what a connection took before it was gone may be lost, and is counted as unconfirmed.
//! A value that is sent again overwrites itself. While there is nobody to send to, lines wait in memory or in a spool.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use ebpf_process_core::prelude::*;
use ebpf_process_delivery::{
    Carrier, Delivery, DeliveryOptions, Frame, Items, Limits, PackedSink, Peer, Verdict, look_for_close,
};

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

/// Lines of at most that many in a frame, which the delivery keeps until they were sent.
pub fn build(options: Options, context: SinkContext) -> Result<impl Sink, BuildError> {
    let connection = Connection { address: options.address, stream: None, was_lost: false };
    let delivery = Delivery::new(connection, &options.delivery, &context)?;
    Ok(PackedSink::new(Lines::default(), LIMITS, delivery))
}

/// The lines of a view, in memory that is used again.
#[derive(Default)]
struct Lines(String);

impl Items for Lines {
    fn encode(&mut self, view: &View<'_>, take: &mut dyn FnMut(&[u8], u32)) {
        let Self(line) = self;
        for sample in view.samples() {
            line.clear();
            escape(line, sample.name());
            for (key, value) in sample.labels() {
                line.push(';');
                escape(line, key);
                line.push('=');
                escape(line, value);
            }
            // Writing to a string cannot fail.
            let _ = writeln!(line, " {} {}", sample.value(), sample.row().tick().wall.as_secs());
            take(line.as_bytes(), 1);
        }
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

/// The connection, once there is one.
struct Connection {
    address: String,
    stream: Option<TcpStream>,
    /// Whether one that had taken lines is gone.
    was_lost: bool,
}

impl Connection {
    fn look(&mut self) {
        self.was_lost |= self.stream.take_if(|it| look_for_close(&*it).is_err()).is_some();
    }

    fn connected(&mut self) -> std::io::Result<&mut TcpStream> {
        if self.stream.is_none() {
            self.stream = Some(TcpStream::connect(&self.address)?);
        }
        self.stream.as_mut().ok_or_else(|| std::io::ErrorKind::NotConnected.into())
    }
}

impl Carrier for Connection {
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
                self.was_lost |= self.stream.take().is_some();
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
