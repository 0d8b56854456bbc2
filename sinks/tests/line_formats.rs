//! The formats of lines of the sink `exec`: what is in their batches, and that each sample is settled once.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use ebpf_process_core::testkit::golden::compare;
use ebpf_process_core::testkit::{Bench, Cell, no_slots};
use ebpf_process_core::{Column, EntityKind, HostName, Recorder, Selection, Unit, View};
use ebpf_process_delivery::Frame;
use ebpf_process_sinks::LINE_FORMATS;
use ebpf_process_sinks::exec::{Encoded, FormContext, LineEncoder, LineFormat, head};

const LIMIT: usize = 8 << 20;

fn format(name: &str) -> LineFormat {
    *LINE_FORMATS.iter().find(|format| format.name == name).expect("a format")
}

fn encoder(name: &str, joins: bool, limit: usize) -> LineEncoder {
    let context = FormContext { host: HostName::of(|| "node1".to_owned()), joins };
    LineEncoder::new(format(name), &context, limit)
}

/// A view with a bit of everything, three times: nothing changes the second time but the level, then a row ends. Two rows
/// have the same labels where a backslash cannot be said.
fn everything(mut look: impl FnMut(&View<'_>)) {
    let mut bench = Bench::new();
    let kind = EntityKind::new("process").keys(["pid", "comm"]);
    let calls = |operation| Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", operation)]);
    let host = bench.host(calls("read"));
    let counters = [
        bench.cell(&kind, &["7", "sh"], calls("read")),
        bench.cell(&kind, &["7", "sh"], calls("write")),
        bench.cell(&kind, &["8", "a\\b"], calls("read")),
        bench.cell(&kind, &["8", "a_b"], calls("read")),
    ];
    let level = bench.cell(&kind, &["7", "sh"], Column::gauge("load", Unit::ONE, "How busy"));
    let sizes = bench.cell(&kind, &["9", "x y"], Column::histogram("io.size", Unit::BYTES, "Sizes").slots(0..=3));
    let mut slots = no_slots();
    (slots[0], slots[2]) = (2, 1);
    for (tick, total) in [(1, 5), (2, 5), (3, 9)] {
        let record = |recorder: &mut Recorder| {
            host.counter(recorder, u64::MAX - 1);
            for counter in &counters {
                counter.counter(recorder, total);
            }
            level.gauge(recorder, 0.5 - f64::from(tick));
            sizes.histogram(recorder, &slots, 9);
            if tick == 3 {
                counters[0].end(recorder);
            }
        };
        bench.tick(&Selection::default(), record, &mut look);
    }
}

/// What is sent of a batch: a header, and lines as it says.
fn sent(encoder: &mut LineEncoder, view: View<'_>, number: &mut u64) -> (String, Vec<(u64, &'static str)>) {
    let Encoded { frames, unchanged, superseded, rejected } = encoder.encode(&view);
    let samples: u64 = frames.iter().map(Frame::samples).sum();
    let others = unchanged + superseded + rejected.iter().map(|(samples, _)| samples).sum::<u64>();
    assert_eq!(samples + others, view.len() as u64, "each sample is settled once");
    let mut all = String::new();
    for frame in &frames {
        *number += 1;
        let bytes = frame.bytes();
        let body = bytes.windows(7).position(|bytes| bytes == b"\"time\":").expect("a header");
        let batch = [&head(7, *number, false), &bytes[body..]].concat();
        let batch = String::from_utf8(batch).expect("text");
        let (header, text) = batch.split_once('\n').expect("a header");
        let numbers = format!(",\"bytes\":{},\"lines\":{}}}", text.len(), text.matches('\n').count());
        assert!(header.ends_with(&numbers) && text.ends_with('\n'), "{header}: {text}");
        all.push_str(&batch);
    }
    (all, rejected)
}

#[test]
fn golden_batches() {
    for name in ["influx", "prometheus", "statsd"] {
        let (mut encoder, mut number, mut found, mut without) = (encoder(name, false, LIMIT), 0, String::new(), 0);
        everything(|view| {
            let (batches, rejected) = sent(&mut encoder, *view, &mut number);
            found.push_str(&batches);
            without += rejected.iter().map(|(samples, _)| samples).sum::<u64>();
        });
        compare(&format!("{name}.txt"), &found);
        // Line protocol has no backslash: the second row would overwrite the first. StatsD gives it a name of its own.
        assert_eq!(without, if name == "influx" { 3 } else { 0 }, "{name}");
    }
}

#[test]
fn differences_add_up_to_the_totals_and_who_joins_begins_with_what_there_is() {
    let mut bench = Bench::new();
    let kind = EntityKind::new("process").keys(["pid"]);
    let column = Column::counter("vfs.calls", Unit::CALLS, "Calls");
    let cells: Vec<Cell> = (0..5).map(|row| bench.cell(&kind, &[&row.to_string()], column.clone())).collect();
    let (mut whole, mut joined) = (encoder("statsd", false, LIMIT), encoder("statsd", true, LIMIT));
    let sum = |encoder: &mut LineEncoder, view: View<'_>| {
        let (batches, _) = sent(encoder, view, &mut 0);
        let number = |line: &str| line.split_once(':')?.1.strip_suffix("|c")?.parse::<u64>().ok();
        batches.lines().filter_map(number).sum::<u64>()
    };
    let (mut all, mut later) = (0, 0);
    for total in [10, 10, 17, 100] {
        let record = |recorder: &mut Recorder| cells.iter().for_each(|cell| cell.counter(recorder, total));
        bench.tick(&Selection::default(), record, |view| {
            all += sum(&mut whole, *view);
            later += sum(&mut joined, *view);
        });
    }
    assert_eq!((all, later), (5 * 100, 5 * 90));
}

#[test]
fn a_batch_that_would_be_too_large_is_several_each_whole() {
    for name in ["influx", "prometheus", "statsd"] {
        let mut bench = Bench::new();
        let kind = EntityKind::new("process").keys(["pid"]);
        let sizes = Column::histogram("io.size", Unit::BYTES, "Sizes").slots(0..=5);
        let columns = [Column::counter("vfs.calls", Unit::CALLS, "Calls"), sizes];
        let cells: Vec<_> =
            (0..50).map(|row| columns.clone().map(|column| bench.cell(&kind, &[&row.to_string()], column))).collect();
        let record = |recorder: &mut Recorder| {
            for [calls, sizes] in &cells {
                calls.counter(recorder, 3);
                let mut slots = no_slots();
                (slots[1], slots[4]) = (4, 1);
                sizes.histogram(recorder, &slots, 27);
            }
        };
        bench.tick(&Selection::default(), record, |view| {
            let (whole, _) = sent(&mut encoder(name, false, LIMIT), *view, &mut 0);
            let mut parts = 0;
            let (split, rejected) = sent(&mut encoder(name, false, 2000), *view, &mut parts);
            assert!(parts > 3 && rejected.is_empty(), "{name}");
            // Each batch has the header of its metrics, and the samples stand in the order of the whole.
            let samples = |batches: &str| -> Vec<String> {
                batches.lines().filter(|line| !line.starts_with(['{', '#'])).map(str::to_owned).collect()
            };
            assert_eq!(samples(&split), samples(&whole), "{name}");
            for batch in split.split("{\"batch\":").skip(1) {
                assert!("{\"batch\":".len() + batch.len() <= 2000, "{name}");
                let first = batch.lines().nth(1).expect("a line");
                assert_eq!(first.starts_with("# HELP "), name == "prometheus", "{first}");
            }
        });
    }
}
