//! Whether a sink does what it promises: a table of checks, each seen from outside.
//!
//! The kit runs a real agent with the sink under test, gives it batches that it has made up from a seed, and judges by what
//! can be **read back** at the receiver: whatever the sink's [`Ledger`](crate::Ledger) says is written must be there, and
//! nothing else. How the sink goes about it is its own affair: it may batch, settle later, drop or reject and say so, send
//! totals or gains, keep all numbers of a series or the newest.
//!
//! ```
//! use ebpf_process_core::testkit::conformance::{Kit, Reading};
//! # use std::sync::{Arc, Mutex, PoisonError};
//! # use ebpf_process_core::*;
//! # struct Memory(Stored);
//! # type Stored = Arc<Mutex<Vec<(String, u64)>>>;
//! # impl Sink for Memory {
//! #     fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
//! #         for sample in view.samples() {
//! #             if let Value::Counter(total) = sample.value() {
//! #                 let text = format!("{}{{{}}}", sample.name(), sample.labels());
//! #                 self.0.lock().unwrap_or_else(PoisonError::into_inner).push((text, total));
//! #             }
//! #         }
//! #         Ok(())
//! #     }
//! # }
//! # struct Plugin(Stored);
//! # impl SinkPlugin for Plugin {
//! #     fn name(&self) -> &'static str { "memory" }
//! #     fn summary(&self) -> &'static str { "counters in memory" }
//! #     fn check(&self, _: &Options) -> Result<Claims, OptionsError> { Ok(Claims::default()) }
//! #     fn build(&self, _: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
//! #         Ok(Box::new(Memory(Arc::clone(&self.0))))
//! #     }
//! # }
//! # let stored = Stored::default();
//! # let plugin = Plugin(Arc::clone(&stored));
//! // `plugin` is the sink's type; `stored` is what a receiver in this process has.
//! let report = Kit::new(plugin, Options::none())
//!     .read_back(move || {
//!         let stored = stored.lock().unwrap_or_else(PoisonError::into_inner);
//!         stored.iter().map(|(text, total)| Reading::new(text, *total)).collect()
//!     })
//!     .seed(7)
//! #   .rows(50).rebuilds(20)
//!     .run();
//! report.assert_passed();
//! ```

mod checks;
mod kit;
mod player;
mod reading;
mod report;
mod row;
mod run;
mod stage;
mod steering;
mod usage;
mod watch;
mod words;
mod world;

pub use kit::Kit;
pub use reading::{Number, Reading};
pub use report::{Finding, Outcome, Report};
pub use row::Row;
pub use run::Peer;
pub use steering::Steering;
