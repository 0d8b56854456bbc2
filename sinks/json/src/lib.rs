//! The sink type `json`: one JSON object per batch, a line each, to a file or standard output.
//!
//! ```toml
//! [sinks.lines]
//! type = "json"
//! [sinks.lines.options]
//! path = "/var/log/ebpf-process/batches.json"
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `path` | `"stdout"` | the file that lines are appended to, made if there is none, but not its directory; `"stdout"` prints them |
//!
//! # Lines
//!
//! ```json
//! {"timestamp": 1600000001.0, "elapsed": 1.0, "samples": [{"name": "vfs.calls", "labels": {"operation": "read"},
//!  "kind": "counter", "unit": "calls", "value": 1234, "delta": 34, "rate": 34.0}]}
//! ```
//!
//! without blanks. `timestamp` is seconds since the Unix epoch, `elapsed` the seconds since the line
//! before, 0 in the first. A counter's `value` is its total since the start, `delta` what was added
//! since the line before, `rate` that per second, null in the first line. So all deltas add up to the
//! total. Of what has counted before the sink could see it (the sink was added to a running agent, or its selection has
//! become another one) the first line has a `value` alone: its `delta` and `rate` are null. Gauges and histograms have
//! neither: there `delta` and `rate` are null, and a histogram's `value` is `{"count",
//! "sum", "slots"}`, slot *k* at index *k* holding the values from 2^*k* to 2^(*k*+1)-1, without the empty slots behind the
//! last one that was hit. Where what was recorded has another unit than the metric, `sum` is in the
//! metric's and `scale` behind it says what one of the slots' numbers is. A line that lacks numbers of a probe (it failed,
//! or was left out for being slow) has its name in an array `left_out` behind `elapsed`.
//!
//! # Tables
//!
//! The host's samples and those of the agent's own kinds (`sink`, `hook`) stand one by one in `samples`, kind by kind and
//! row by row. Rows that come and go, processes for example, are in `tables`, an object for each kind, which says once per
//! line what the rows have in common. All kinds are in it unless the sink's `kinds` says otherwise.
//!
//! ```json
//! {"timestamp": 1600000001.0, "elapsed": 1.0, "samples": [], "tables": [{"kind": "process", "labels": ["comm", "pid"],
//!  "columns": [{"name": "process.vfs.calls", "labels": {"operation": "read"}, "kind": "counter", "unit": "calls"},
//!              {"name": "process.vfs.calls", "labels": {"operation": "write"}, "kind": "counter", "unit": "calls"}],
//!  "rows": [{"labels": ["nginx", "7"], "created": 1600000000.0, "values": [12, null], "deltas": [5, null]},
//!           {"labels": ["sh", "8"], "created": 1600000000.0, "values": [3, 1], "deltas": [0, 1], "ended": true}]}]}
//! ```
//!
//! A row's `labels` stand in the order of the table's, its `values` and `deltas` in that of the columns, whose `labels` are
//! the metric's own and the sink's tags. Null is a value that the row does not have in this tick; gauges and histograms have
//! a value and no delta. A rate is a delta divided by the line's `elapsed`. `created` is when the row began, in seconds since
//! the Unix epoch: its counters were 0 then, so a row's first delta is its total. A row that has ended is in one line more,
//! marked `ended`, with its last values, before the rows that live. Rows without a value are left out, tables without rows,
//! too, and `tables` where there is none. Columns that come later come last.
//!
//! With `jq`, all samples of all lines one by one, each with its line's time:
//!
//! ```sh
#![doc = include_str!("../flat.sh")]
//! ```
//!
//! # The file
//!
//! Before each line the sink looks whether the path still leads to its file: one that was moved away
//! or deleted is left, and a new one begun. Nobody has to signal the agent. Truncating works, too.
//!
//! A line that could not be written as a whole, on a full disk for example, is taken back, so that
//! each line is an object; its samples are counted as failed, and the next line covers them: its
//! `elapsed`, `delta` and `rate` start from the last line that arrived. Where half a line cannot be
//! taken back, or an agent was killed in the middle, the next line begins after a line end.
//!
//! # Pipes
//!
//! The path may be a FIFO. As long as nobody reads it, its lines fail, which is said and counted; it is
//! never waited for. What a pipe holds, a FIFO or standard output, is **written** when somebody has
//! read it, and queued until then. What nobody has read when the reader goes, or half a second after
//! the last line, is **unconfirmed**.

mod encode;
mod known;
mod number;
mod rates;
mod table;
mod text;

use std::io::{ErrorKind, Write, stdout};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{
    Access, BuildError, Cause, Claims, Finding, Ledger, OptionDoc, Options, OptionsError, Settlement, Sink,
    SinkContext, SinkError, SinkPlugin, TrialContext, View,
};
use ebpf_process_delivery::{LineFile, Print, Printed, Printer, Unread};
use schemars::JsonSchema;
use serde::Deserialize;

pub use encode::Encoder;

/// The sink type `json`, for a registry.
pub const PLUGIN: JsonPlugin = JsonPlugin;

/// See [`PLUGIN`].
///
/// Options: `path` (`"stdout"`).
#[derive(Clone, Copy, Debug)]
pub struct JsonPlugin;

/// The `path` that means standard output.
const STDOUT: &str = "stdout";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Where the lines go: an absolute path of a file or FIFO, or "stdout".
    path: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { path: STDOUT.to_owned() }
    }
}

impl Settings {
    /// The file, if it is one.
    fn read(options: &Options) -> Result<Option<PathBuf>, OptionsError> {
        let Self { path } = options.extract()?;
        match path.as_str() {
            STDOUT => Ok(None),
            // What it is relative to depends on who starts the agent.
            text if !text.starts_with('/') => {
                Err(options.refuse("path", "expected a path that begins with \"/\", or \"stdout\""))
            }
            _ => Ok(Some(path.into())),
        }
    }
}

impl SinkPlugin for JsonPlugin {
    fn name(&self) -> &'static str {
        "json"
    }

    fn summary(&self) -> &'static str {
        "one JSON object per batch, to a file or on standard output"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        Ok(Claims::stdout(Settings::read(options)?.is_none()))
    }

    fn destination(&self, options: &Options) -> Option<String> {
        Settings::read(options).ok()?.map(|path| path.display().to_string())
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<Settings>()
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let encoder = if context.joins { Encoder::joining() } else { Encoder::default() };
        let Some(path) = Settings::read(options)? else {
            let output = stdout();
            let unread = Unread::new(&output, &context);
            return Ok(Box::new(Printer::new(encoder, output, unread, &context)));
        };
        let file = LineFile::open(&path, &context).map_err(|error| {
            let path_option = format!("{}.path", options.path());
            let way_out = match error.kind() {
                ErrorKind::NotFound => format!("make it, or change {path_option}"),
                _ => format!("make its directory writable for this user, or change {path_option}"),
            };
            // A disk that is mounted, made writable or cleared later; a link to where nothing is yet "exists".
            let passing = matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::AlreadyExists | ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull
            );
            BuildError::refused(LineFile::explain_path(&path, &error), way_out).passing(passing)
        })?;
        Ok(Box::new(FileSink { encoder, file, ledger: context.ledger }))
    }

    fn try_out(&self, options: &Options, _: &TrialContext) -> Vec<Finding> {
        let path = Settings::read(options).ok().flatten();
        let option = format!("{}.path", options.path());
        path.map(|path| LineFile::try_out(&path, &option)).into_iter().collect()
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        Settings::read(options).ok().flatten().map(Access::Write).into_iter().collect()
    }

    fn takes_every_kind(&self) -> bool {
        true
    }
}

/// The sink of `once --format json`: prints a line for each view, of totals that count from a baseline, a time
/// since boot.
pub fn printing(output: impl Write + Send + 'static, baseline: Duration) -> Box<dyn Sink> {
    Box::new(Printer::unbooked(Encoder::since(baseline), output))
}

/// Appends one line per view.
struct FileSink {
    encoder: Encoder,
    file: LineFile,
    ledger: Arc<Ledger>,
}

impl Sink for FileSink {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let samples = view.len() as u64;
        let Self { encoder, file, ledger } = self;
        file.append_pieces(samples, |write| encoder.encode_pieces(view, write)).map_err(|error| {
            encoder.lost();
            ledger.failed(samples);
            SinkError::failed(file.explain(&error))
        })
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.file.look();
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        self.file.due()
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.file.end();
        Ok(())
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

impl Print for Encoder {
    fn print<'a>(&'a mut self, view: &View<'_>) -> Result<Printed<'a>, Cause> {
        Ok(Printed { bytes: self.encode(view)?, samples: view.len() as u64, ..Printed::default() })
    }
}
