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
//! The host's metrics become the charts of `ebpf_process.plugin` (`ebpf.file_descriptor`,
//! `ebpf.io`, ...). Any other metric of the host and of the agent itself, and any that a selection renames or prefixes,
//! gets a chart of its own by rule: `ebpf.<name, dots as underscores>` with one dimension per series. A counter
//! is sent as its total and is `incremental`, so that netdata's rates are right at any interval; one that is recorded
//! in another unit has a multiplier or a divisor. A gauge is `absolute` in thousandths; a histogram is a chart per series
//! with one dimension per slot from the first that was ever hit to the last, `le_<largest number>`. A gauge of unit 1 whose name ends in `.info` has no chart: it is
//! always 1, and its news is in its labels. Interrupted calls (`file.interrupted`, `vfs.interrupted`,
//! `task.start_interrupted`) have no chart unless the selection renames or prefixes them.
//!
//! Rows that come and go (disks, control groups, processes) are dimensions of charts that each metric with its fixed
//! labels has for itself: `ebpf.process_vfs_calls_read`, with a dimension for each row, named after its label values; a
//! control group is called by what is in it, as in `nginx.service` or `default/shop-1/web`. A chart has 64 dimensions at most; the next rows are in `ebpf.process_vfs_calls_read_2`, of the same context. Of a row's
//! histogram there are two, `..._count` and `..._sum`: a chart for each row with a dimension for each slot is more than
//! netdata takes. A chart of which a dimension went gets no new ones for fifteen seconds, as long as there are
//! fewer than 16384: netdata 1.37 may lock itself up otherwise. All charts by rule are 65536 at most: what needs one more
//! is rejected, and counted.
//!
//! Totals and levels beyond 2^63-1, the protocol's largest number, have no line, and their samples are rejected and counted:
//! no number is truer than a wrong one.
//!
//! Netdata is told what is new and nothing again: a chart's line is followed by the dimensions that came or went since.
//! Where the selection becomes another one, charts and dimensions that are not selected any more, or have another name or
//! other labels, are obsolete with the next view, which declares what is new; all else goes on.
//! A row that ends takes its dimension along with the view after its last values, the last one its chart; a clean stop
//! retires all charts. Of a new dimension netdata takes the first number for where it begins: what a row counted in its
//! first interval, or a slot when it was first hit, is in its total and on no chart.
//!
//! Labels of a chart are the fixed labels of its metric where it shows rows, those of the series where it shows a
//! histogram, and the tags of the selection; a key without an
//! ASCII letter, which netdata refuses, gets `tag_` in front.
//!
//! A sample is written once netdata has read its line. What it has not read when it goes, or half a second
//! after the agent's last line, is unconfirmed.
//!
//! A view without values is an empty line, and so is a minute without a view: newer versions take a plugin for dead that
//! is silent for two.

mod bits;
mod board;
mod called;
mod catalog;
mod chart;
mod charts;
mod encode;
mod head;
mod name;
mod number;
mod numbers;
mod rows;
mod rule;
mod status;
mod words;

use std::io::{Write, stdout};
use std::time::Duration;

use ebpf_process_core::{
    BuildError, Cause, Claims, OptionDoc, Options, OptionsError, Sink, SinkContext, SinkPlugin, View,
};
use ebpf_process_delivery::{Print, Printed, Printer, Unread};
use schemars::JsonSchema;
use serde::Deserialize;

pub use encode::Encoder;

/// The sink type `netdata`, for a registry.
pub const PLUGIN: NetdataPlugin = NetdataPlugin;

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
        Ok(Claims::stdout(true))
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<NoOptions>()
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        self.check(options)?;
        Ok(Box::new(printer(&context, stdout(), Unread::new(stdout(), &context))))
    }

    fn confined(&self, _: &Options) -> bool {
        true
    }

    fn stdout_options(&self) -> Option<Options> {
        Some(Options::none())
    }
}

/// What says that the plugin lives and nothing else. Every version takes an empty line; `PLUGIN_KEEPALIVE` is unknown to
/// 1.37, which ends a plugin for it.
const ALIVE: &[u8] = b"\n";

/// The longest time without a word.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a sample is rejected whose dimension would need one chart too many.
const TOO_MANY_CHARTS: &str = "netdata has 65536 charts of this agent already";

/// Why a sample is rejected that the protocol cannot say.
const TOO_LARGE: &str = "beyond 2^63-1, netdata's largest number";

/// Any failed write is the end: netdata would read the rest of a broken line as a command, and never start the plugin
/// again.
fn printer<W: Write + Send>(context: &SinkContext, output: W, unread: Unread) -> Printer<Encoder, W> {
    let encoder = Encoder::new(context.interval, context.scope);
    Printer::new(encoder, output, unread, context).never_silent(ALIVE, SILENCE)
}

impl Print for Encoder {
    fn print<'a>(&'a mut self, view: &View<'_>) -> Result<Printed<'a>, Cause> {
        self.encode(view);
        let rejected = self.rejected();
        let beyond = self.beyond();
        let samples = (view.len() as u64).saturating_sub(rejected + beyond);
        Ok(Printed { bytes: self.lines(), samples, rejected: [(rejected, TOO_MANY_CHARTS), (beyond, TOO_LARGE)] })
    }

    fn end(&mut self) -> &[u8] {
        self.retire_all()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use ebpf_process_core::engine::{Agent, Clock, OutletSpec, Parts, Setting, SinkPart};
    use ebpf_process_core::testkit::{Bench, ManualClock, context};
    use ebpf_process_core::{Column, Probe, ProbeError, Recorder, Scope, Selection, SinkErrorKind, Unit};

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

    /// What several writers have written.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("nobody panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn it_is_never_silent_for_long() {
        let (context, output) = (context("netdata"), Shared::default());
        let mut sink = printer(&context, output.clone(), Unread::nowhere(&context));
        let start = Instant::now();
        let view = Bench::new().tick(&Selection::default(), |_| (), |view| sink.write(view));
        assert!(view.is_ok());
        assert_eq!(*output.0.lock().expect("nobody panics"), ALIVE, "a view without values");
        assert!((start + SILENCE..=Instant::now() + SILENCE).contains(&sink.due().expect("a word")), "a minute later");
    }

    /// A counter of the host that grows.
    struct Growing(u64);

    impl Probe for Growing {
        fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
            self.0 += 1;
            let column = Column::counter("demo.calls", Unit::CALLS, "Calls");
            let column = recorder.column(recorder.host_kind(), column)?;
            recorder.counter(recorder.host(), column, self.0);
            Ok(())
        }
    }

    #[test]
    fn who_takes_its_place_in_a_running_agent_begins_when_all_its_charts_are_obsolete() {
        let second = Duration::from_secs(1);
        let clock = Arc::new(ManualClock::new(1_600_000_000 * second, 100 * second));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, second);
        agent.push_probe("growing", Box::new(Growing(0)));
        let output = Shared::default();
        let part = |queue| {
            let output = output.clone();
            SinkPart {
                spec: OutletSpec { queue, ..OutletSpec::new("netdata") },
                plugin: Arc::new(PLUGIN),
                options: Options::none(),
                setting: Setting { instance: None, interval: second, scope: Scope::Host },
                make: Box::new(move |ledger, stop| {
                    let context = SinkContext { ledger, stop, ..context("netdata") };
                    Ok(Box::new(printer(&context, output.clone(), Unread::nowhere(&context))))
                }),
            }
        };
        let told = |what: &str, count| {
            let start = Instant::now();
            loop {
                let text = String::from_utf8(output.0.lock().expect("nobody panics").clone()).expect("text");
                if text.matches(what).count() == count {
                    return text;
                }
                assert!(start.elapsed() < 60 * second, "{count} times {what}: {text}");
                std::thread::yield_now();
            }
        };
        agent.start_sink(part(8)).expect("a sink");
        agent.tick(clock.advance(second));
        told("SET", 1);
        let said =
            agent.apply(Parts { interval: second, grace: 60 * second, probes: Vec::new(), sinks: vec![part(9)] });
        assert_eq!(said, ["sink netdata is another one"]);
        told("obsolete", 1);
        agent.tick(clock.advance(second));
        agent.close(60 * second);
        let text = told("SET", 2);
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        let words: Vec<_> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
        let once = ["CHART", "DIMENSION", "BEGIN", "SET", "END", "CHART"];
        assert_eq!(words, [once, once].concat(), "{text}");
        assert!(lines[5].contains("obsolete") && !lines[6].contains("obsolete"), "{text}");
    }

    #[test]
    fn a_view_is_one_write_and_a_broken_output_is_the_end() {
        for kind in [std::io::ErrorKind::BrokenPipe, std::io::ErrorKind::StorageFull] {
            let context = context("netdata");
            let mut sink = printer(&context, Breaking(1, kind), Unread::nowhere(&context));
            let mut bench = Bench::new();
            let calls = bench.host(Column::counter("demo.calls", Unit::CALLS, "Calls"));
            let mut tick = |total| {
                bench.tick(&Selection::default(), |recorder| calls.counter(recorder, total), |view| sink.write(view))
            };
            assert!(tick(1).is_ok());
            assert_eq!(tick(2).expect_err("the end").kind(), SinkErrorKind::Closed);
        }
    }
}
