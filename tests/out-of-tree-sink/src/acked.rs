//! A sink whose receiver answers later, and in any order. An asynchronous runtime with a thread of its own takes frames to it
//! over TCP, each behind a line `frame NUMBER BYTES`, and settles a frame's ticket when it has read `ok NUMBER`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Error, ErrorKind};
use std::time::Duration;

use ebpf_process_core::prelude::*;
use ebpf_process_delivery::{Delivery, DeliveryOptions, Frame, Items, Limits, PackedSink, Submit, Ticket, Verdict};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};

/// How many frames may be unanswered.
const WINDOW: usize = 8;

/// For a connection, for sending one frame, and for the next answer.
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

pub fn build(options: Options, context: SinkContext) -> Result<impl Sink, BuildError> {
    let delivery = Delivery::new(Away::new(options.address)?, &options.delivery, &context)?;
    Ok(PackedSink::new(Lines::default(), Limits::new(1000, 64 << 10), delivery))
}

/// The lines of a view, in memory that is used again.
#[derive(Default)]
struct Lines(String);

impl Items for Lines {
    fn encode(&mut self, view: &View<'_>, take: &mut dyn FnMut(&[u8], u32)) {
        let Self(line) = self;
        for sample in view.samples() {
            line.clear();
            // Writing to a string cannot fail.
            let _ = writeln!(line, "{}{{{}}} {}", sample.name(), sample.labels(), sample.value());
            take(line.as_bytes(), 1);
        }
    }
}

/// A frame's ticket and its bytes, on the way to the runtime.
type Parcel = (Ticket, Vec<u8>);

/// The runtime; what runs there ends with this.
struct Away {
    parcels: Sender<Parcel>,
    _runtime: Runtime,
}

impl Away {
    fn new(address: String) -> Result<Self, BuildError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (parcels, received) = channel(WINDOW);
        runtime.spawn(deliver(address, received));
        Ok(Self { parcels, _runtime: runtime })
    }
}

impl Submit for Away {
    fn submit(&mut self, ticket: Ticket, frame: &Frame, _: Duration) {
        // There is room for as many as the window lets go; where there is nobody, the ticket comes back and says so.
        if let Err(refused) = self.parcels.try_send((ticket, frame.bytes().to_owned())) {
            let problem = refused.to_string();
            refused.into_inner().0.settle(Verdict::Retry { after: None, problem });
        }
    }

    fn window(&self) -> usize {
        WINDOW
    }

    /// A receiver keeps the newest total of a series.
    fn overwrites(&self) -> bool {
        true
    }

    fn encodings(&self) -> &'static [&'static str] {
        &["acked-lines"]
    }
}

/// One connection after the other, each for a frame that waits. What one left unanswered is to be sent again.
async fn deliver(address: String, mut parcels: Receiver<Parcel>) {
    while let Some(first) = parcels.recv().await {
        let mut unanswered = BTreeMap::new();
        if let Err(error) = talk(&address, first, &mut parcels, &mut unanswered).await {
            let problem = format!("cannot send to {address}: {error}");
            for ticket in unanswered.into_values() {
                ticket.settle(Verdict::Retry { after: None, problem: problem.clone() });
            }
        }
    }
}

/// Sends frames and settles those that are answered, until there are no more or something is wrong with the connection.
async fn talk(
    address: &str,
    first: Parcel,
    parcels: &mut Receiver<Parcel>,
    unanswered: &mut BTreeMap<u64, Ticket>,
) -> Result<(), Error> {
    let (ticket, bytes) = first;
    unanswered.insert(0, ticket);
    let (answers, mut connection) = timeout(PATIENCE, TcpStream::connect(address)).await??.into_split();
    let mut answers = BufReader::new(answers).lines();
    let (mut number, mut next) = (0, Some(bytes));
    loop {
        if let Some(bytes) = next.take() {
            let mut text = format!("frame {number} {}\n", bytes.len()).into_bytes();
            text.extend(bytes);
            timeout(PATIENCE, connection.write_all(&text)).await??;
        }
        tokio::select! {
            parcel = parcels.recv() => {
                let Some((ticket, bytes)) = parcel else { return Ok(()) };
                number += 1;
                unanswered.insert(number, ticket);
                next = Some(bytes);
            }
            answer = answers.next_line() => {
                let answer = answer?.ok_or(ErrorKind::UnexpectedEof)?;
                let settled = answer.strip_prefix("ok ").and_then(|number| unanswered.remove(&number.parse().ok()?));
                let ticket = settled.ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("it answers {answer:?}")))?;
                ticket.settle(Verdict::Accepted);
            }
            () = sleep(PATIENCE), if !unanswered.is_empty() => return Err(ErrorKind::TimedOut.into()),
        }
    }
}
