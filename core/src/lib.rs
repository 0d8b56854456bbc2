//! What a metric is, what a probe and a sink promise, and the loop that joins them.
//!
//! ```text
//! Probe::collect -> Recorder -> Batch -> Arc<Batch> -> Outlet (bounded queue, own thread)
//!                -> View (one sink's selection, names, tags) -> Sink::write
//! ```
//!
//! * An [`EntityKind`] says what a row is about (the host, a process, a disk), a [`Column`] what is measured for each.
//! * A [`Probe`] records the current totals of its cells, row by column, into a [`Recorder`] once per tick.
//! * A [`Batch`] holds one tick's numbers, a matrix for each kind; every sink shares it.
//! * A [`View`] is a batch through the eyes of one sink, and a [`Sink`] writes it somewhere.
//! * The [`Agent`](engine::Agent) collects on one thread and never waits for a sink. What a slow sink loses is
//!   its own, and is in its [`Ledger`].
//!
//! What a plugin needs of all this is in the [`prelude`]; what runs it is in [`engine`], and is not for plugins.
//!
//! A sink needs one method, a [`SinkType`] to build it, and a [`Registry`] to be found in:
//!
//! ```
//! use std::io::Write;
//!
//! use ebpf_process_core::testkit::{Bench, context};
//! use ebpf_process_core::*;
//!
//! /// Writes `name labels value` lines.
//! struct Lines(Vec<u8>);
//!
//! impl Sink for Lines {
//!     fn write(&mut self, view: &View<'_>) -> SinkResult {
//!         for sample in view.samples() {
//!             writeln!(self.0, "{} {} {}", sample.name(), sample.labels(), sample.value())?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct NoOptions {}
//!
//! let lines = SinkType::new("lines", "numbers as lines of text", |_: NoOptions, _| Ok(Lines(Vec::new())));
//! let registry = Registry::default().sink(lines);
//! let mut sink = registry.find_sink("lines").unwrap().build(&Options::none(), context("mine")).unwrap();
//!
//! // The agent does this once per tick; a test does it by hand.
//! let mut bench = Bench::new();
//! let calls = bench.host(Column::counter("demo.calls", Unit::CALLS, "Calls of a demonstration"));
//! bench.tick(&Selection::default(), |recorder| calls.counter(recorder, 7), |view| sink.write(view)).unwrap();
//! ```

mod access;
mod agent;
mod assistant;
mod batch;
mod cache;
mod cells;
mod clock;
mod coming;
mod condition;
mod directory;
pub mod duration;
mod edition;
pub mod engine;
mod entity;
mod error;
mod finals;
mod histogram;
mod host;
mod identity;
mod kind_vitals;
mod label;
mod last_batch;
mod ledger;
mod lens;
mod metric;
mod opener;
mod option_doc;
mod options;
mod outlet;
mod outlet_spec;
mod outlets;
mod pace;
mod part;
pub mod prelude;
mod probe;
mod probe_type;
mod reason;
mod recorder;
mod registry;
mod remote;
mod retry;
mod running;
mod secret;
mod selection;
mod sink;
mod sink_type;
pub mod size;
mod table;
#[cfg(feature = "testkit")]
pub mod testkit;
mod top;
mod trial;
mod values;
mod view;
mod vitals;
mod vitals_probe;
mod waker;
mod worker;

pub use access::{Access, explain, instance_directory};
pub use assistant::{Assistant, Message};
pub use batch::{Batch, Scaled, Tick, Value};
pub use cache::{ColumnCache, RowCache};
pub use condition::{Condition, State};
pub use directory::Directory;
pub use edition::{Before, Edition, Editions, Seen};
pub use entity::{ColumnId, Declared, EntityKind, KindId, Refused, RowId, identity_of};
pub use error::{
    BuildError, BuildErrorKind, Cause, ProbeError, ProbeErrorKind, ProbeResult, SinkError, SinkErrorKind, SinkResult,
    chain,
};
pub use histogram::{Bucket, HISTOGRAM_SLOTS, Histogram, slot_bound};
pub use host::HostName;
pub use identity::{Identity, identity};
pub use kind_vitals::KindVitals;
pub use label::{LABEL_VALUE_LIMIT, clean_label};
pub use ledger::{Ledger, Reasons, Tally};
pub use metric::{Column, MetricKind, Unit};
pub use opener::{Direct, Opener, PROGRAM_ENVIRONMENT, Program, SocketKind, Started};
pub use option_doc::OptionDoc;
pub use options::{Options, OptionsError, nearest_of};
pub use probe::{Prepared, Probe, ProbeContext, ProbePlugin};
pub use probe_type::ProbeType;
pub use recorder::{Recorder, Refusals};
pub use registry::Registry;
pub use secret::Secret;
pub use selection::Selection;
pub use sink::{Claims, Legacy, Scope, Settlement, Sink, SinkContext, SinkPlugin, Stop};
pub use sink_type::SinkType;
pub use trial::{Finding, Severity, TrialContext};
pub use values::Values;
pub use view::{ColumnView, KeptView, KindView, Labels, Metric, RowView, Sample, View};
pub use vitals::{ProbeVitals, SinkVitals, Uncounted, Vitals};
pub use vitals_probe::{VITALS, VitalsPlugin};
pub use waker::Waker;
