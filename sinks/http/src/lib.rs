//! Frames over HTTP: what a network sink builds on where its protocol is HTTP.
//!
//! A [`Server`] is an address and the way there: TLS, a proxy, a Unix socket. A sink says with a [`Protocol`] which
//! [`Request`] carries a frame and what a [`Reply`] means, and gets an [`HttpCarrier`], which a
//! [`Delivery`](ebpf_process_delivery::Delivery) drives. What is the same for every protocol is done here:
//!
//! * one connection that stays open, and one more try where the server had given it up;
//! * names that are asked for beside the sink's thread, and followed where they move;
//! * bodies that are compressed where that is worth it;
//! * secrets and certificates that are read again where the server, its certificate or the proxy refuses us: what was
//!   replaced meanwhile is used at once;
//! * messages that name the option to look at, and repeat no secret;
//! * an end of all waiting when the agent stops.
//!
//! A whole sink, which posts a line for each sample and takes its options from a table:
//!
//! ```
//! use std::time::Instant;
//!
//! use ebpf_process_core::{BuildError, Opener, Options, Secret, Settlement, Sink, SinkContext, SinkError, View};
//! use ebpf_process_delivery::{Delivery, DeliveryOptions, Frame, Verdict};
//! use ebpf_process_http::{HttpCarrier, Protocol, Reply, Request, Server};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Table {
//!     url: String,
//!     token: Option<Secret>,
//!     #[serde(default)]
//!     delivery: DeliveryOptions,
//! }
//!
//! struct Lines {
//!     server: Server,
//!     token: Option<Secret>,
//! }
//!
//! impl Protocol for Lines {
//!     fn request(&self, opener: &dyn Opener) -> Result<Request, BuildError> {
//!         let request = Request::to(&self.server, "/lines", "text/plain");
//!         Ok(match &self.token {
//!             Some(token) => request.bearer(&token.reveal("token", opener)?),
//!             None => request,
//!         })
//!     }
//!
//!     fn verdict(&self, reply: &Reply<'_>, _: &Frame) -> Verdict {
//!         match reply.status {
//!             200..=299 => Verdict::Accepted,
//!             413 => Verdict::TooLarge { problem: reply.describe("raise the server's limit") },
//!             429 | 500..=599 => Verdict::Retry { after: reply.retry_after, problem: reply.describe("see its log") },
//!             _ => Verdict::Misconfigured { problem: reply.describe("check the options url and token") },
//!         }
//!     }
//!
//!     fn deed(&self) -> String {
//!         "takes lines".to_owned()
//!     }
//! }
//!
//! struct LineSink(Delivery<HttpCarrier<Lines>>);
//!
//! impl LineSink {
//!     fn build(options: &Options, context: &SinkContext) -> Result<Self, BuildError> {
//!         let Table { url, token, delivery } = options.extract()?;
//!         delivery.check(options)?;
//!         let server = Server::at(&url).map_err(|error| options.refuse("url", error.to_string()))?;
//!         let carrier = HttpCarrier::new(server.clone(), Lines { server, token }, context)?;
//!         Ok(Self(Delivery::new(carrier, &delivery, context)?))
//!     }
//! }
//!
//! impl Sink for LineSink {
//!     fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
//!         let mut frame = Frame::default();
//!         for sample in view.samples() {
//!             let (name, labels, value) = (sample.name(), sample.labels(), sample.value());
//!             frame.push(format!("{name}{{{labels}}} {value}\n").as_bytes(), 1);
//!         }
//!         self.0.offer(frame);
//!         Ok(())
//!     }
//!
//!     fn flush(&mut self) -> Result<(), SinkError> {
//!         self.0.work();
//!         Ok(())
//!     }
//!
//!     fn due(&self) -> Option<Instant> {
//!         self.0.due()
//!     }
//!
//!     fn close(&mut self) -> Result<(), SinkError> {
//!         self.0.close();
//!         Ok(())
//!     }
//!
//!     fn settles(&self) -> Settlement {
//!         Settlement::BySink
//!     }
//! }
//! #
//! # let options = Options::from_value(std::collections::BTreeMap::from([("url", "http://127.0.0.1:9")]));
//! # LineSink::build(&options, &ebpf_process_core::testkit::context("mine"))?;
//! # Ok::<(), BuildError>(())
//! ```

mod address;
mod admission;
mod carrier;
mod client;
mod front;
mod given;
mod names;
mod patience;
mod protocol;
mod reply;
mod request;
mod server;
mod silence;
mod tls;
mod trial;
mod unix;

pub use address::AddressError;
pub use carrier::HttpCarrier;
pub use protocol::{Errand, Protocol};
pub use reply::Reply;
pub use request::{Request, percent};
pub use server::{ClientFiles, Server};
pub use trial::try_out;
