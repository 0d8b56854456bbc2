//! The sink through the conformance kit: a reader at the other end of a pipe reads the protocol as netdata does, slowly where
//! the kit says so. The test is alone in its process, whose threads and memory the kit looks at.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::HashMap;
use std::io::{PipeReader, PipeWriter, Read as _, pipe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ebpf_process_core::testkit::conformance::{Kit, Number, Outcome, Peer, Reading, Row};
use ebpf_process_core::{BuildError, Claims, Options, OptionsError, Sink, SinkContext, SinkPlugin};
use ebpf_process_delivery::{Printer, Unread};
use ebpf_process_sink_netdata::{Encoder, PLUGIN};
use parking_lot::Mutex;

/// The sink with a pipe in place of standard output.
struct Piped(PipeWriter);

impl SinkPlugin for Piped {
    fn name(&self) -> &'static str {
        PLUGIN.name()
    }

    fn summary(&self) -> &'static str {
        PLUGIN.summary()
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        PLUGIN.check(options)
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        PLUGIN.check(options)?;
        let output = self.0.try_clone().expect("a descriptor");
        let unread = Unread::new(&output, &context);
        let encoder = Encoder::new(context.interval, context.scope);
        Ok(Box::new(Printer::new(encoder, output, unread, &context)))
    }
}

/// Of a chart: what it is called together with others of the same numbers, and its dimensions, each with what its numbers are
/// multiplied by and divided by.
#[derive(Default)]
struct Chart {
    context: String,
    dimensions: HashMap<String, (i128, i128)>,
}

/// What netdata has of the lines so far.
#[derive(Default)]
struct Netdata {
    charts: HashMap<String, Chart>,
    /// Of which chart the lines are.
    current: String,
    readings: Vec<Reading>,
}

impl Netdata {
    fn read(&mut self, line: &str) {
        match &words(line)[..] {
            [] | ["CLABEL", ..] | ["CLABEL_COMMIT" | "END"] => {}
            ["CHART", id, _, _, _, _, context, _, _, _, options, ..] => {
                (*id).clone_into(&mut self.current);
                if *options == "obsolete" {
                    self.charts.remove(*id).expect("only what is there ends");
                } else {
                    (*context).clone_into(&mut self.charts.entry((*id).to_owned()).or_default().context);
                }
            }
            ["DIMENSION", id, _, _, multiplier, divisor, options @ ..] => {
                let chart = self.charts.get_mut(&self.current).expect("a chart");
                if options == ["obsolete"] {
                    chart.dimensions.remove(*id).expect("only what is there ends");
                } else {
                    let factor = |text: &str| text.parse().expect("a factor");
                    chart.dimensions.insert((*id).to_owned(), (factor(multiplier), factor(divisor)));
                }
            }
            ["BEGIN", id, ..] => (*id).clone_into(&mut self.current),
            ["SET", id, number] => {
                let chart = self.charts.get(&self.current).expect("a chart");
                let (multiplier, divisor) = chart.dimensions.get(*id).expect("a dimension");
                // A number of 63 bits and a sign.
                let number = i128::from(number.parse::<i64>().expect("a number")) * multiplier;
                let number = if *divisor == 1 { Number::Whole(number) } else { fraction(number, *divisor) };
                self.readings.push(Reading::new(format!("{}.{id}", chart.context), number));
            }
            _ => panic!("no line of the protocol: {line}"),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a level of the kit has few digits")]
fn fraction(number: i128, divisor: i128) -> Number {
    Number::Real(number as f64 / divisor as f64)
}

/// The words of a line as netdata splits it: at blanks and `=`, and what follows a quote at the next of its kind.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches([' ', '=']);
    while let Some(first) = rest.chars().next() {
        let quoted = matches!(first, '\'' | '"');
        let from = usize::from(quoted);
        let end = rest[from..].find(|c| if quoted { c == first } else { c == ' ' || c == '=' });
        let end = end.map_or(rest.len(), |end| from + end);
        words.push(&rest[from..end]);
        rest = rest.get(end + from..).unwrap_or_default().trim_start_matches([' ', '=']);
    }
    words
}

/// Reads whole lines until all writers have gone.
fn read(mut input: PipeReader, netdata: &Mutex<Netdata>, is_slow: &AtomicBool) {
    let (mut chunk, mut text) = (vec![0; 65536], Vec::new());
    loop {
        let most = if is_slow.load(Ordering::Acquire) {
            thread::park_timeout(Duration::from_millis(1));
            16
        } else {
            chunk.len()
        };
        let length = input.read(&mut chunk[..most]).expect("a pipe");
        if length == 0 {
            return;
        }
        text.extend_from_slice(&chunk[..length]);
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = String::from_utf8(text.drain(..whole).collect()).expect("text");
        let mut netdata = netdata.lock();
        lines.lines().for_each(|line| netdata.read(line));
    }
}

#[test]
fn the_sink_does_what_it_promises() {
    let (input, output) = pipe().expect("a pipe");
    let (netdata, is_slow) = (Arc::<Mutex<Netdata>>::default(), Arc::<AtomicBool>::default());
    let (reads, slow) = (Arc::clone(&netdata), Arc::clone(&is_slow));
    thread::Builder::new().spawn(move || read(input, &reads, &slow)).expect("a thread");
    let tell = move |peer| {
        is_slow.store(peer == Peer::Slow, Ordering::Release);
        Ok(())
    };
    let kit = Kit::new(Piped(output), Options::none()).read_back(move || netdata.lock().readings.clone()).peer(tell);
    let kit = kit.not_applicable(Peer::Refusing, "netdata does not answer");
    let kit = kit.not_applicable(Peer::Away, "where netdata ends, so does the agent, which netdata starts again");
    // Only what is missing is waited for.
    let report = kit.seed(7).patience(Duration::from_secs(20)).run();
    report.assert_passed();
    let others = report.findings().iter().filter(|finding| finding.outcome != Outcome::Passed);
    let others: Vec<_> = others.map(|finding| (finding.row, finding.outcome)).collect();
    assert_eq!(others, [(Row::EachVerdict, Outcome::NotApplicable)], "{report}");
}
