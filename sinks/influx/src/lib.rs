//! The sink type `influx`: line protocol to a server of Influx 1.x, or to standard output.
//!
//! ```toml
//! [sinks.db]
//! type = "influx"
//! [sinks.db.options]
//! url = "http://127.0.0.1:8086"
//! database = "telemetry"
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `url` | `"http://127.0.0.1:8086"` | the server; a path is put before `/write`. `"stdout"` prints the lines instead, and the other keys then mean nothing |
//! | `database` | required with a server | the database, which must exist |
//! | `retention_policy` | the database's own | the retention policy to write to |
//! | `username`, `password` | none | credentials, sent as Basic authentication; the password is never printed |
//! | `timeout` | `"5s"` | how long one batch may take from connecting to the last byte of the reply |
//!
//! # Lines
//!
//! A sample is one line. The measurement is the first part of the metric's name, the rest of the
//! name, joined by `_`, the field (`value` if there is no rest):
//!
//! ```text
//! vfs,host=node1,operation=read calls=1000i 1600000000000000000
//! ```
//!
//! Tags are the series' labels, then the selection's tags, then `host` with the host's name; of
//! two with one key the first counts. A counter is an integer, at most 2^63-1; a gauge is a float
//! and always has a decimal point, so that a field never changes its type; a histogram has the
//! fields `<field>_count`, `<field>_sum` and, for each slot that was ever hit, `<field>_le_<largest
//! value>` with the number of values in this slot alone. All lines of a batch carry its timestamp.
//!
//! A backslash, a control character or what else the protocol cannot say becomes `_`. Where that
//! makes two series equal, the second is rejected and counted: it would overwrite the first.
//!
//! # What is counted when
//!
//! The server's reply decides: 204 is written; a partial write is rejected as far as the server
//! says, and written otherwise; a refusal of the content (400, 413) is rejected; anything else is
//! failed, a refused connection too. Nothing is sent again: totals make the next batch cover it.

mod encode;
mod key;
mod options;
mod reply;
mod transport;

use std::io::{Write, stdout};
use std::sync::Arc;

use ebpf_process_core::{
    BuildError, Claims, Ledger, Options, OptionsError, Settlement, Sink, SinkContext, SinkError, SinkPlugin, View,
};

pub use encode::{Encoder, Lines};
use options::Target;
use transport::Http;

/// The sink type `influx`, for a registry.
pub static PLUGIN: InfluxPlugin = InfluxPlugin;

/// See [`PLUGIN`].
///
/// Options: `url` (`"http://127.0.0.1:8086"`, or `"stdout"`), `database` (required with a server),
/// `retention_policy`, `username`, `password`, `timeout` (`"5s"`).
#[derive(Clone, Copy, Debug)]
pub struct InfluxPlugin;

impl SinkPlugin for InfluxPlugin {
    fn name(&self) -> &'static str {
        "influx"
    }

    fn summary(&self) -> &'static str {
        "InfluxDB line protocol, over HTTP or on standard output"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        let target = Target::read(options)?;
        Ok(Claims { stdout: matches!(target, Target::Stdout) })
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let encoder = Encoder::new(&context.host);
        let ledger = Arc::clone(&context.ledger);
        Ok(match Target::read(options)? {
            Target::Stdout => Box::new(StreamSink { encoder, ledger, output: stdout() }),
            Target::Http(endpoint) => Box::new(HttpSink { encoder, ledger, http: Http::new(endpoint, context.stop) }),
        })
    }

    fn confined(&self, _: &Options) -> bool {
        true
    }

    fn stdout_options(&self) -> Option<Options> {
        Some(Options::from_value([("url", options::STDOUT)].into_iter().collect::<std::collections::BTreeMap<_, _>>()))
    }
}

/// Posts one batch per view.
struct HttpSink {
    encoder: Encoder,
    ledger: Arc<Ledger>,
    http: Http,
}

impl Sink for HttpSink {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let Lines { bytes, samples, rejected } = self.encoder.encode(view);
        self.ledger.rejected(rejected, key::TWIN);
        if samples == 0 {
            return Ok(());
        }
        let verdict = self.http.post(bytes, samples);
        self.ledger.written(verdict.written);
        self.ledger.failed(verdict.failed);
        if let Some((samples, reason)) = verdict.rejected {
            self.ledger.rejected(samples, reason);
        }
        verdict.problem.map_or(Ok(()), |problem| Err(SinkError::failed(problem)))
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

/// Prints one batch per view. A failed write is the end: what follows half a line is no line.
struct StreamSink<W> {
    encoder: Encoder,
    ledger: Arc<Ledger>,
    output: W,
}

impl<W: Write + Send> Sink for StreamSink<W> {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let Lines { bytes, samples, rejected } = self.encoder.encode(view);
        self.output.write_all(bytes).and_then(|()| self.output.flush()).map_err(SinkError::closed)?;
        self.ledger.written(samples);
        self.ledger.rejected(rejected, key::TWIN);
        Ok(())
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}
