//! Rows of other kinds than the host: their names, and what becomes of them when they end.

use ebpf_process_core::testkit::{Bench, Cell, no_slots};
use ebpf_process_core::{Column, EntityKind, Recorder, Selection, Unit};
use ebpf_process_sink_statsd::{Encoder, Fate, Settled, Syntax};

/// The packets of a tick, and what became of its samples.
fn lines(
    bench: &mut Bench,
    encoder: &mut Encoder,
    fate: Fate,
    record: impl FnOnce(&mut Recorder),
) -> (String, Settled) {
    bench.tick(&Selection::default(), record, |view| {
        let mut text = String::new();
        let settled = encoder.encode(view, &mut |packet| {
            text.push_str(&String::from_utf8_lossy(packet));
            text.push('\n');
            fate
        });
        (text, settled)
    })
}

fn process() -> EntityKind {
    EntityKind::new("process").keys(["pid", "comm"])
}

fn read() -> Column {
    Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", "read")])
}

#[test]
fn the_kind_stands_in_front_and_the_rows_labels_before_the_columns() {
    for (syntax, expected) in [
        (Syntax::Plain, "ns.process.vfs.7.sh_x.read.calls:5|c\nns.process.wait.7.sh_x.time.le_7:3|c\n"),
        (
            Syntax::Graphite,
            "ns.process.vfs.calls;pid=7;comm=sh.x;operation=read:5|c\nns.process.wait.time;pid=7;comm=sh.x;le=7:3|c\n",
        ),
        (
            Syntax::Telegraf,
            "ns.process.vfs.calls,pid=7,comm=sh.x,operation=read:5|c\nns.process.wait.time,pid=7,comm=sh.x,le=7:3|c\n",
        ),
        (
            Syntax::Dogstatsd,
            "ns.process.vfs.calls:5|c|#pid:7,comm:sh.x,operation:read\nns.process.wait.time:3|c|#pid:7,comm:sh.x,le:7\n",
        ),
    ] {
        let mut bench = Bench::new();
        let calls = bench.cell(&process(), &["7", "sh.x"], read());
        let time = bench.cell(&process(), &["7", "sh.x"], Column::histogram("wait.time", Unit::SECONDS, "Time"));
        let mut encoder = Encoder::new(syntax, "ns", 1432);
        let (text, settled) = lines(&mut bench, &mut encoder, Fate::Sent, |recorder| {
            calls.counter(recorder, 5);
            let mut slots = no_slots();
            slots[2] = 3;
            time.histogram(recorder, &slots, 15);
        });
        assert_eq!((text.as_str(), settled.written), (expected, 2), "{syntax:?}");
    }
}

/// Two rows whose labels are equal once they are cleaned for a name.
fn twins(bench: &mut Bench) -> [Cell; 2] {
    ["a.b", "a_b"].map(|comm| bench.cell(&process(), &["1", comm], read()))
}

#[test]
fn two_rows_of_equal_text_stay_two() {
    let mut bench = Bench::new();
    let [first, second] = twins(&mut bench);
    let mut encoder = Encoder::new(Syntax::Plain, "", 1432);
    let (text, _) = lines(&mut bench, &mut encoder, Fate::Sent, |recorder| {
        first.counter(recorder, 5);
        second.counter(recorder, 7);
    });
    assert_eq!(text, "process.vfs.1.a_b.read.calls:5|c\nprocess.vfs.1.a_b_2.read.calls:7|c\n");
    // One that begins when another has ended takes its name; the one that lives keeps its own.
    let (text, _) = lines(&mut bench, &mut encoder, Fate::Sent, |recorder| {
        first.counter(recorder, 6);
        first.end(recorder);
        second.counter(recorder, 9);
    });
    assert_eq!(text, "process.vfs.1.a_b.read.calls:1|c\nprocess.vfs.1.a_b_2.read.calls:2|c\n");
    let [third, _] = twins(&mut bench);
    let (text, _) = lines(&mut bench, &mut encoder, Fate::Sent, |recorder| {
        third.counter(recorder, 4);
        second.counter(recorder, 9);
    });
    assert_eq!(text, "process.vfs.1.a_b.read.calls:4|c\n");
}

#[test]
fn of_a_counter_in_another_unit_no_part_is_lost_or_sent_twice() {
    let time = Column::counter("task.time", Unit::SECONDS, "Time").scale(1e-9);
    let telegraf = Encoder::new(Syntax::Telegraf, "", 64);
    for (mut encoder, expected) in [
        (Encoder::new(Syntax::Plain, "", 64), ["1.5", "0.25", "0.25", "", "0.5"]),
        (Encoder::new(Syntax::Plain, "", 64).in_whole_units(), ["1", "", "1", "", ""]),
        (telegraf, ["1", "", "1", "", ""]),
    ] {
        let mut bench = Bench::new();
        let cell = bench.host(time.clone());
        let totals = [1_500_000_000, 1_750_000_000, 2_000_000_000, 2_000_000_000, 2_500_000_000];
        for (total, expected) in totals.into_iter().zip(expected) {
            // What is lost comes with what is next.
            for fate in [Fate::Lost, Fate::Sent] {
                let (text, settled) = lines(&mut bench, &mut encoder, fate, |recorder| cell.counter(recorder, total));
                let line = if expected.is_empty() { String::new() } else { format!("task.time:{expected}|c\n") };
                assert_eq!(text, line);
                let failed = u64::from(fate == Fate::Lost && !expected.is_empty());
                assert_eq!((settled.written, settled.failed), (1 - failed, failed));
            }
        }
    }
}

#[test]
fn gauges_of_rows_that_ended_leave_their_names_to_others() {
    let mut bench = Bench::new();
    let load = || Column::gauge("load", Unit::ONE, "Load");
    let mut encoder = Encoder::new(Syntax::Plain, "", 1432);
    for round in 0..3 {
        let cell = bench.cell(&process(), &["1", "sh"], load());
        for ends in [false, true] {
            let (text, settled) = lines(&mut bench, &mut encoder, Fate::Sent, |recorder| {
                cell.gauge(recorder, 2.5);
                if ends {
                    cell.end(recorder);
                }
            });
            assert_eq!((text.as_str(), settled.twins), ("process.1.sh.load:2.5|g\n", 0), "{round}");
        }
    }
}

#[test]
fn a_histogram_whose_range_grows_is_sent_slot_by_slot() {
    let mut bench = Bench::new();
    let time = bench.host(Column::histogram("time", Unit::SECONDS, "Time"));
    let mut encoder = Encoder::new(Syntax::Plain, "", 1432);
    let mut slots = no_slots();
    for (slot, count, fate, expected) in [
        (5, 2, Fate::Sent, "time.le_63:2|c\n"),
        (2, 3, Fate::Lost, "time.le_7:3|c\n"),
        (9, 1, Fate::Sent, "time.le_7:3|c\ntime.le_1023:1|c\n"),
        (0, 4, Fate::Sent, "time.le_1:4|c\n"),
        (5, 8, Fate::Sent, "time.le_63:6|c\n"),
    ] {
        slots[slot] = count;
        let (text, _) = lines(&mut bench, &mut encoder, fate, |recorder| time.histogram(recorder, &slots, 0));
        assert_eq!(text, expected);
    }
}

#[test]
fn a_row_that_was_gone_before_it_was_seen_takes_no_name_that_another_row_has() {
    let mut bench = Bench::new();
    let mut encoder = Encoder::new(Syntax::Plain, "", 1432);
    let [known, gone] = twins(&mut bench);
    let (name, _) = lines(&mut bench, &mut encoder, Fate::Sent, |recorder| known.counter(recorder, 5));
    assert_eq!(name, "process.vfs.1.a_b.read.calls:5|c\n");
    let others = ["a b", "a/b"].map(|comm| bench.cell(&process(), &["1", comm], read()));
    let (text, _) = lines(&mut bench, &mut encoder, Fate::Sent, |recorder| {
        known.counter(recorder, 6);
        for (cell, total) in others.into_iter().zip([7, 9]) {
            cell.counter(recorder, total);
        }
        // The last one lives as long as the others at least.
        gone.end(recorder);
        others[0].end(recorder);
    });
    let names: Vec<_> = text.lines().filter_map(|line| line.split(':').next()).collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), distinct.len()), (3, 3), "{text}");
    assert!(text.contains("process.vfs.1.a_b.read.calls:1|c"), "who has the name keeps it: {text}");
}

#[test]
fn gauges_of_one_level_are_all_sent() {
    let mut bench = Bench::new();
    let load = || Column::gauge("load", Unit::ONE, "Load");
    let cells = ["1", "2", "3"].map(|pid| bench.cell(&process(), &[pid, "sh"], load()));
    let mut encoder = Encoder::new(Syntax::Plain, "", 1432);
    let (text, settled) = lines(&mut bench, &mut encoder, Fate::Sent, |recorder| {
        for cell in &cells {
            cell.gauge(recorder, 2.5);
        }
    });
    assert_eq!(text, "process.1.sh.load:2.5|g\nprocess.2.sh.load:2.5|g\nprocess.3.sh.load:2.5|g\n");
    assert_eq!(settled, Settled { written: 3, ..Settled::default() });
}

#[test]
fn each_sample_with_lines_is_handed_out_and_written() {
    let mut bench = Bench::new();
    let calls = bench.cell(&process(), &["1", "sh"], read());
    let mut encoder = Encoder::new(Syntax::Plain, "", 1432);
    for expected in [&["process.vfs.1.sh.read.calls:5|c"][..], &[]] {
        let mut taken = Vec::new();
        let settled = bench.tick(
            &Selection::default(),
            |recorder| calls.counter(recorder, 5),
            |view| encoder.encode_samples(view, &mut |lines| taken.push(String::from_utf8_lossy(lines).into_owned())),
        );
        assert_eq!(taken, expected);
        // What has not grown is written without a line.
        assert_eq!(settled, Settled { written: 1, ..Settled::default() });
    }
}
