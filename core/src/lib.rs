//! What a metric is, what a probe and a sink promise, and the loop that joins them.
//!
//! ```text
//! Probe::collect -> Recorder -> Batch -> Arc<Batch> -> Outlet (bounded queue, own thread)
//!                -> View (one sink's selection, names, tags) -> Sink::write
//! ```
//!
//! * A [`Descriptor`] says what is measured; a series is a descriptor with label values.
//! * A [`Probe`] records the current totals into a [`Recorder`] once per tick.
//! * A [`Batch`] holds one tick's numbers; every sink shares it.
//! * A [`View`] is a batch through the eyes of one sink, and a [`Sink`] writes it somewhere.
//! * The [`Agent`] collects on one thread and never waits for a sink. What a slow sink loses is
//!   its own, and is in its [`Ledger`].
//!
//! A sink needs one method, a plugin to build it, and a [`Registry`] to be found in:
//!
//! ```
//! use ebpf_process_core::testkit::{Bench, context};
//! use ebpf_process_core::*;
//!
//! /// Writes `name total` lines.
//! struct Lines(Vec<String>);
//!
//! impl Sink for Lines {
//!     fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
//!         for metric in view.metrics() {
//!             for sample in metric.samples() {
//!                 if let Value::Counter(total) = sample.value() {
//!                     self.0.push(format!("{} {total}", metric.name()));
//!                 }
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! struct LinesPlugin;
//!
//! impl SinkPlugin for LinesPlugin {
//!     fn name(&self) -> &'static str { "lines" }
//!     fn summary(&self) -> &'static str { "counters as lines of text" }
//!     fn check(&self, _: &Options) -> Result<Claims, OptionsError> { Ok(Claims::default()) }
//!     fn build(&self, _: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
//!         Ok(Box::new(Lines(Vec::new())))
//!     }
//! }
//!
//! let registry = Registry::default().sink(&LinesPlugin);
//! let mut sink = registry.find_sink("lines").unwrap().build(&Options::none(), context("mine")).unwrap();
//!
//! // The agent does this once per tick; a test does it by hand.
//! let calls = Descriptor::counter("demo.calls", Unit::CALLS, "Calls of a demonstration").share();
//! let mut bench = Bench::new();
//! let id = bench.series(&calls, &[]);
//! bench.tick(&Selection::default(), |recorder| recorder.counter(id, 7), |view| sink.write(view)).unwrap();
//! ```

mod access;
mod agent;
mod batch;
mod clock;
mod condition;
pub mod duration;
mod error;
mod finals;
mod host;
mod last_batch;
mod ledger;
mod metric;
mod option_doc;
mod options;
mod outlet;
mod pace;
mod probe;
mod recorder;
mod registry;
mod selection;
mod series;
mod sink;
pub mod size;
#[cfg(feature = "testkit")]
pub mod testkit;
mod trial;
mod view;
mod vitals;
mod vitals_probe;
mod worker;

pub use access::{Access, explain};
pub use agent::{Agent, Closed, Ended};
pub use batch::{Batch, HISTOGRAM_SLOTS, Histogram, Tick, Value};
pub use clock::{Clock, Moment, SystemClock, Ticker};
pub use condition::SinkState;
pub use error::{BuildError, Cause, ProbeError, SinkError, chain};
pub use host::HostName;
pub use last_batch::LastBatch;
pub use ledger::{Ledger, Reasons, Tally};
pub use metric::{Descriptor, Kind, Unit};
pub use option_doc::OptionDoc;
pub use options::{Options, OptionsError, nearest_of};
pub use outlet::{OutletSpec, WhenFull};
pub use probe::{Probe, ProbeContext, ProbePlugin};
pub use recorder::{Recorder, Refusals};
pub use registry::Registry;
pub use selection::Selection;
pub use series::{LABEL_VALUE_LIMIT, SeriesId, SeriesRefused, clean_label};
pub use sink::{Claims, Scope, Settlement, Sink, SinkContext, SinkPlugin, Stop};
pub use trial::{Finding, Severity, TrialContext};
pub use view::{Metric, Sample, SeriesCache, View};
pub use vitals::{AbsentSink, ProbeVitals, Uncounted, Vitals};
pub use vitals_probe::{VITALS, VitalsPlugin};

/// What plugins need of figment to make [`Options`] from a configuration of their own.
pub use figment::Figment;
