//! The sink type `netdata`: the external plugin protocol of netdata, on standard output.
//!
//! Under netdata's own name for the agent this sink is added by itself. Anywhere else:
//!
//! ```toml
//! [sinks.netdata]
//! type = "netdata"
//! ```
//!
//! It has no options: netdata decides the interval, and standard output is the only way in. The
//! sink claims standard output, so one configuration holds one of them at most.
//!
//! # What netdata sees
//!
//! The agent's own metrics become the charts of `ebpf_process.plugin` (`ebpf.file_descriptor`,
//! `ebpf.io`, ...). Any other metric, and any that a selection renames or prefixes, gets a chart
//! of its own by rule: `ebpf.<name, dots as underscores>` with one dimension per series. A counter
//! is sent as its total and is `incremental`, so that netdata's rates are right at any interval; a
//! gauge is `absolute` in thousandths; a histogram is a chart per series with one dimension per
//! slot, `le_<largest value>`. A gauge of unit 1 whose name ends in `.info` has no chart: it is
//! always 1, and its news is in its labels. Interrupted calls (`file.interrupted`, `vfs.interrupted`,
//! `task.start_interrupted`) have no chart unless the selection renames or prefixes them.
//!
//! Totals and levels beyond 2^63-1, the protocol's largest number, are sent as 2^63-1.
//!
//! A series that ends takes its dimension along, the last one its chart; a clean stop retires all
//! charts. Tags of the selection become chart labels, for a histogram its own labels as well; a key without an
//! ASCII letter, which netdata refuses, gets `tag_` in front.
//!
//! A sample is written once netdata has read its line. What it has not read when it goes, or half a second
//! after the agent's last line, is unconfirmed.
//!
//! A view without values is an empty line, and so is a minute without a view: newer versions take a plugin for dead that
//! is silent for two.

mod board;
mod chart;
mod charts;
mod encode;
mod rule;
mod status;
mod transport;
mod words;

use std::io::{Stdout, Write, stdout};
use std::time::{Duration, Instant};

use ebpf_process_core::{
    BuildError, Claims, OptionDoc, Options, OptionsError, Settlement, Sink, SinkContext, SinkError, SinkPlugin, View,
};
use ebpf_process_delivery::Unread;
use schemars::JsonSchema;
use serde::Deserialize;

pub use encode::Encoder;
use transport::Pipe;

/// The sink type `netdata`, for a registry.
pub static PLUGIN: NetdataPlugin = NetdataPlugin;

/// See [`PLUGIN`]. The type has no options.
#[derive(Clone, Copy, Debug)]
pub struct NetdataPlugin;

/// No key is known: a typo is an error all the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

impl SinkPlugin for NetdataPlugin {
    fn name(&self) -> &'static str {
        "netdata"
    }

    fn summary(&self) -> &'static str {
        "charts for netdata, by its plugin protocol on standard output"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        options.extract::<NoOptions>()?;
        Ok(Claims { stdout: true })
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<NoOptions>()
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        self.check(options)?;
        Ok(Box::new(NetdataSink::<Stdout>::new(&context, stdout(), Unread::new(stdout(), &context))))
    }

    fn confined(&self, _: &Options) -> bool {
        true
    }

    fn stdout_options(&self) -> Option<Options> {
        Some(Options::none())
    }
}

/// Writes each view in one piece. Any failed write is the end: netdata would read the rest of a
/// broken line as a command, and never start the plugin again.
struct NetdataSink<W> {
    encoder: Encoder,
    pipe: Pipe<W>,
    /// When it last wrote anything.
    spoken: Instant,
}

/// What says that the plugin lives and nothing else. Every version takes an empty line; `PLUGIN_KEEPALIVE` is unknown to
/// 1.37, which ends a plugin for it.
const ALIVE: &[u8] = b"\n";

/// The longest time without a word.
const SILENCE: Duration = Duration::from_secs(60);

impl<W: Write> NetdataSink<W> {
    fn new(context: &SinkContext, output: W, unread: Unread) -> Self {
        let encoder = Encoder::new(context.interval, context.scope);
        Self { encoder, pipe: Pipe::new(output, unread), spoken: Instant::now() }
    }
}

impl<W: Write + Send> Sink for NetdataSink<W> {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let lines = self.encoder.encode(view);
        self.spoken = Instant::now();
        self.pipe.send(if lines.is_empty() { ALIVE } else { lines }, view.len() as u64)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.pipe.unread.look();
        if self.spoken.elapsed() < SILENCE {
            return Ok(());
        }
        self.spoken = Instant::now();
        self.pipe.send(ALIVE, 0)
    }

    fn due(&self) -> Option<Instant> {
        let silence = self.spoken + SILENCE;
        Some(self.pipe.unread.due().map_or(silence, |look| look.min(silence)))
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.pipe.send(self.encoder.retire_all(), 0)?;
        self.pipe.unread.end();
        Ok(())
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ebpf_process_core::testkit::{Bench, context};
    use ebpf_process_core::{Descriptor, Selection, Unit};

    use super::*;

    /// Takes so many writes, then breaks.
    struct Breaking(usize, std::io::ErrorKind);

    impl Write for Breaking {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Ok(bytes.len())
                }
                None => Err(self.1.into()),
            }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn it_claims_standard_output_and_knows_no_option() {
        assert!(PLUGIN.check(&Options::none()).expect("no options").stdout);
        let error = PLUGIN.check(&Options::from_value(BTreeMap::from([("path", "x")]))).expect_err("an option");
        assert_eq!(error.key, "options.path");
        let options = PLUGIN.stdout_options().expect("a format");
        assert!(PLUGIN.build(&options, context("netdata")).is_ok());
    }

    #[test]
    fn it_is_never_silent_for_long() {
        let mut sink = NetdataSink::new(&context("netdata"), Vec::new(), Unread::nowhere(&context("netdata")));
        let view = Bench::new().tick(&Selection::default(), |_| (), |view| sink.write(view));
        assert!(view.is_ok() && sink.pipe.output == ALIVE, "a view without values");
        assert!(sink.flush().is_ok() && sink.pipe.output == ALIVE, "it has just spoken");
        assert_eq!(sink.due(), Some(sink.spoken + SILENCE));
        sink.spoken = Instant::now().checked_sub(SILENCE).expect("a machine that runs for longer");
        assert!(sink.flush().is_ok() && sink.pipe.output == [ALIVE, ALIVE].concat(), "a minute without a view");
        assert!(sink.due() > Some(Instant::now()), "and then not at once again");
    }

    #[test]
    fn a_view_is_one_write_and_a_broken_output_is_the_end() {
        for kind in [std::io::ErrorKind::BrokenPipe, std::io::ErrorKind::StorageFull] {
            let mut sink =
                NetdataSink::new(&context("netdata"), Breaking(1, kind), Unread::nowhere(&context("netdata")));
            let calls = Descriptor::counter("demo.calls", Unit::CALLS, "Calls").share();
            let mut bench = Bench::new();
            let id = bench.series(&calls, &[]);
            let mut tick = |total| {
                bench.tick(&Selection::default(), |recorder| recorder.counter(id, total), |view| sink.write(view))
            };
            assert!(tick(1).is_ok());
            assert!(matches!(tick(2), Err(SinkError::Closed(_))));
        }
    }
}
