//! Rows that come and go: a table for each kind, which says as much as samples one by one.

mod flat;

use std::collections::BTreeMap;
use std::io;

use ebpf_process_core::testkit::{Bench, golden, no_slots};
use ebpf_process_core::{Column, EntityKind, Recorder, Selection, Unit, View};
use ebpf_process_sink_json::Encoder;
use flat::{flat, rows};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The line for a view, read again.
#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
fn line(encoder: &mut Encoder, view: View<'_>) -> Value {
    serde_json::from_slice(encoder.encode(&view).expect("a line")).expect("JSON")
}

/// What was added, all samples together.
fn added(line: &Value) -> u64 {
    flat(line).iter().filter_map(|sample| sample["delta"].as_u64()).sum()
}

/// Each process's column counts what it did.
fn processes() -> (EntityKind, Column) {
    let kind = EntityKind::new("process").keys(["pid", "comm"]);
    (kind, Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", "read"), ("a", "b")]))
}

#[test]
fn what_rows_have_in_common_is_said_once_a_line() {
    let (kind, calls) = processes();
    let mut bench = Bench::new();
    let host = bench.host(Column::counter("vfs.calls", Unit::CALLS, "Calls"));
    let shell = bench.cell(&kind, &["7", "s\"h"], calls.clone());
    let cat = bench.cell(&kind, &["8", "cat"], calls);
    let level = bench.cell(&kind, &["8", "cat"], Column::gauge("load", Unit::ONE, "A level"));
    let busy = bench.cell(&kind, &["7", "s\"h"], Column::counter("busy", Unit::SECONDS, "Time").scale(1e-9));
    let spans = Column::histogram("span", Unit::SECONDS, "Times").slots(2..=40).scale(1e-9);
    let spans = bench.cell(&kind, &["8", "cat"], spans);
    let idle = EntityKind::new("disk").keys(["disk"]);
    bench.cell(&idle, &["sda"], Column::counter("reads", Unit::CALLS, "Reads"));
    let selection = Selection { tags: BTreeMap::from([("b".into(), "c".into())]), ..Selection::default() };
    let mut encoder = Encoder::default();
    let mut text = Vec::new();
    // Nothing but the host, then both rows, then one of them, which comes to its end, and a column that is new.
    bench.tick(
        &selection,
        |recorder| host.counter(recorder, 1),
        |view| text.extend(encoder.encode(view).expect("one")),
    );
    let record = |recorder: &mut Recorder| {
        host.counter(recorder, 9);
        shell.counter(recorder, 3);
        busy.counter(recorder, 1_500_000_000);
        cat.counter(recorder, 5);
        level.gauge(recorder, 0.5);
        let mut slots = no_slots();
        slots[3] = 2;
        spans.histogram(recorder, &slots, 1_000_000_000);
    };
    bench.tick(&selection, record, |view| text.extend(encoder.encode(view).expect("two")));
    let errors = bench.cell(&kind, &["9", "new"], Column::counter("vfs.errors", Unit::CALLS, "Errors"));
    let record = |recorder: &mut Recorder| {
        host.counter(recorder, 9);
        shell.counter(recorder, 4);
        shell.end(recorder);
        errors.counter(recorder, 1);
    };
    bench.tick(&selection, record, |view| text.extend(encoder.encode(view).expect("three")));
    golden::compare("tables.json", text);
}

#[test]
fn a_selection_is_a_table_of_what_it_takes() {
    let (kind, calls) = processes();
    let mut bench = Bench::new();
    let three = ["one", "two", "three"]
        .map(|name| bench.cell(&kind, &["7", "sh"], Column::counter(format!("demo.{name}"), Unit::CALLS, "Calls")));
    let calls = bench.cell(&kind, &["8", "cat"], calls);
    let record = |recorder: &mut Recorder| {
        (1..).zip(three).for_each(|(total, cell)| cell.counter(recorder, total));
        calls.counter(recorder, 9);
    };
    let include = vec!["process.demo.one".into(), "process.demo.three".into()];
    let selection = Selection { include, prefix: "p.".into(), ..Selection::default() };
    let line = bench.tick(&selection, record, |view| line(&mut Encoder::default(), *view));
    let names: Vec<_> = flat(&line).iter().map(|sample| (sample["name"].clone(), sample["value"].clone())).collect();
    assert_eq!(names, [(json!("p.process.demo.one"), json!(1)), (json!("p.process.demo.three"), json!(3))]);
    assert_eq!(rows(&line, "process").len(), 1, "the other has no value here");
}

#[test]
fn two_rows_whose_text_is_equal_are_two() {
    let mut bench = Bench::new();
    let (kind, column) = processes();
    let kind = bench.kind(&kind);
    let recorder = bench.recorder();
    let column = recorder.column(kind, column).expect("a column");
    let twins = [1, 2].map(|identity| recorder.row(kind, identity, &["7", "sh"]).expect("a row"));
    let mut encoder = Encoder::default();
    for tick in 1..=3 {
        let record = |recorder: &mut Recorder| {
            recorder.counter(twins[0], column, tick * 10);
            recorder.counter(twins[1], column, tick * 100);
        };
        let line = bench.tick(&Selection::default(), record, |view| line(&mut encoder, *view));
        let rows = rows(&line, "process");
        assert_eq!(
            rows.iter().map(|row| &row["values"][0]).collect::<Vec<_>>(),
            [&json!(tick * 10), &json!(tick * 100)]
        );
        assert_eq!(rows.iter().map(|row| &row["deltas"][0]).collect::<Vec<_>>(), [&json!(10), &json!(100)]);
        assert_ne!(rows[0]["labels"], rows[1]["labels"]);
    }
}

#[test]
fn what_a_row_did_until_its_end_is_said_once_whatever_is_lost() {
    let (kind, column) = processes();
    for lost in 0..8 {
        let mut bench = Bench::new();
        let cell = bench.cell(&kind, &["7", "sh"], column.clone());
        let mut encoder = Encoder::default();
        let mut arrived = 0;
        // In the second tick it does nothing, and is in no line.
        for (tick, total) in [Some(5), None, Some(11)].into_iter().enumerate() {
            let record = |recorder: &mut Recorder| {
                if let Some(total) = total {
                    cell.counter(recorder, total);
                }
                if tick == 2 {
                    cell.end(recorder);
                }
            };
            bench.tick(&Selection::default(), record, |view| {
                let text = line(&mut encoder, *view);
                assert_eq!(text.get("tables").is_some(), total.is_some());
                let ended: Vec<_> = rows(&text, "process").iter().map(|row| row.get("ended").cloned()).collect();
                assert!(ended.iter().all(|ended| *ended == (tick == 2).then(|| json!(true))));
                if lost >> tick & 1 == 0 {
                    arrived += added(&text);
                    return;
                }
                encoder.lost();
                if tick == 2 {
                    // What has ended is given again.
                    arrived += added(&line(&mut encoder, *view));
                }
            });
        }
        assert_eq!(arrived, 11, "{lost:b}");
        // Its place is somebody else's.
        let next = bench.cell(&kind, &["7", "next"], column.clone());
        let record = |recorder: &mut Recorder| next.counter(recorder, 3);
        let text = bench.tick(&Selection::default(), record, |view| line(&mut encoder, *view));
        assert_eq!((added(&text), &rows(&text, "process")[0]["labels"]), (3, &json!(["7", "next"])));
    }
}

#[test]
fn a_row_that_ends_is_said_to_have_ended_also_where_nothing_of_it_is_new() {
    let (kind, column) = processes();
    let mut bench = Bench::new();
    let cell = bench.cell(&kind, &["7", "sh"], column);
    let mut encoder = Encoder::default();
    let mut tick =
        |record: &dyn Fn(&mut Recorder)| bench.tick(&Selection::default(), record, |view| line(&mut encoder, *view));
    tick(&|recorder| cell.counter(recorder, 5));
    let last = tick(&|recorder| cell.end(recorder));
    let row = &rows(&last, "process")[0];
    assert_eq!((&row["values"], &row["deltas"], &row["ended"]), (&json!([5]), &json!([0]), &json!(true)));
    assert_eq!(tick(&|_| ()).get("tables"), None);
}

#[test]
fn a_long_line_in_pieces_is_the_same_line_and_one_that_breaks_off_is_made_up_for() {
    let mut bench = Bench::new();
    let (kind, column) = processes();
    let kind = kind.limit(20_000);
    let cells: Vec<_> = (0..20_000)
        .map(|pid: u32| bench.cell(&kind, &[&pid.to_string(), &format!("program-{pid}")], column.clone()))
        .collect();
    let (mut whole, mut piecewise) = (Encoder::default(), Encoder::default());
    for (tick, room) in (1..).zip([usize::MAX, 200_000, usize::MAX]) {
        let record = |recorder: &mut Recorder| cells.iter().for_each(|cell| cell.counter(recorder, tick * 1000));
        bench.tick(&Selection::default(), record, |view| {
            let (mut pieces, mut line) = (0, Vec::new());
            let outcome = piecewise.encode_pieces(view, &mut |piece| {
                pieces += 1;
                line.extend_from_slice(piece);
                if line.len() > room { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            });
            let expected = whole.encode(view).expect("a line");
            if room < usize::MAX {
                assert_eq!(outcome.map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
                piecewise.lost();
                whole.lost();
            } else {
                outcome.expect("a line");
                assert!(pieces > 2, "{pieces} pieces");
                assert!(line == expected, "tick {tick}");
            }
        });
    }
}

/// What happens to one of four rows in a tick: what its column `calls` and `bytes` have added, and whether it ends.
type Event = (usize, u64, Option<u64>, bool);

proptest! {
    // Either form of a row as often as one of them had.
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_names_and_values_are_read_back(
        name in any::<String>(),
        unit in any::<String>(),
        labels in prop::collection::vec(any::<String>(), 0..3),
        own in prop::collection::vec(any::<String>(), 0..3),
        tags in prop::collection::btree_map(any::<String>(), any::<String>(), 0..3),
        prefix in any::<String>(),
        // Of a kind whose names stay as they are, samples stand one by one.
        one_by_one in any::<bool>(),
        total in any::<u64>(),
        // Of few digits: the reader in use here rounds others.
        level in any::<i32>().prop_map(|level| f64::from(level) / 8.0),
    ) {
        let kind = EntityKind::new("disk").keys((0..labels.len()).map(|n| format!("key{n}")));
        let kind = if one_by_one { kind.names_as_they_are() } else { kind };
        let own = own.iter().enumerate().map(|(n, value)| (format!("j{n}"), value));
        let counter = Column::counter(name.clone(), Unit::new(unit), "A counter").labels(own);
        let mut bench = Bench::new();
        let values: Vec<&str> = labels.iter().map(String::as_str).collect();
        let counter = bench.cell(&kind, &values, counter);
        let gauge = bench.cell(&kind, &values, Column::gauge(format!("{name}.level"), Unit::ONE, "A gauge"));
        let selection = Selection { tags, prefix, ..Selection::default() };
        let mut encoder = Encoder::default();
        let record = |recorder: &mut Recorder| {
            counter.counter(recorder, total);
            gauge.gauge(recorder, level);
        };
        bench.tick(&selection, record, |view| {
            let line = encoder.encode(view).expect("a line").to_vec();
            prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one line");
            let read: Value = serde_json::from_slice(&line).expect("JSON");
            prop_assert_eq!(read["tables"].is_null(), one_by_one);
            let written = flat(&read);
            prop_assert_eq!(written.len(), 2);
            for (sample, written) in view.samples().zip(&written) {
                prop_assert_eq!(&written["name"], sample.name());
                prop_assert_eq!(&written["labels"], &json!(sample.labels().collect::<BTreeMap<_, _>>()));
                prop_assert_eq!(&written["unit"], sample.column().column().unit().as_str());
            }
            prop_assert_eq!(&written[0]["value"], total);
            prop_assert_eq!(written[1]["value"].as_f64(), Some(level));
            Ok(())
        })?;
    }

    /// Rows come, stand still, end and come again; lines are lost. The lines that arrive add up to what was counted.
    #[test]
    fn the_lines_that_arrive_add_up(
        ticks in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<Event>(), 0..6)), 1..12),
    ) {
        let (kind, _) = processes();
        let mut bench = Bench::new();
        let kind = bench.kind(&kind);
        let [calls, bytes] = ["demo.calls", "demo.bytes"].map(|name| {
            bench.recorder().column(kind, Column::counter(name, Unit::ONE, "Counted")).expect("a column")
        });
        let mut encoder = Encoder::default();
        let (mut counted, mut arrived) = (0, 0);
        // A tick without news tells what was lost before.
        for (is_lost, events) in ticks.iter().chain([&(false, Vec::new())]) {
            let record = |recorder: &mut Recorder| {
                for &(place, of_calls, of_bytes, ends) in events {
                    let pid = (place % 4).to_string();
                    let row = recorder.row(kind, place as u64 % 4, &[&pid, "sh"]).expect("a row");
                    recorder.add(row, calls, of_calls % 1000);
                    counted += of_calls % 1000;
                    if let Some(of_bytes) = of_bytes {
                        recorder.add(row, bytes, of_bytes % 1000);
                        counted += of_bytes % 1000;
                    }
                    if ends {
                        recorder.end(row);
                    }
                }
                // What lives is said again in the last one.
                for place in 0..4 * u64::from(events.is_empty()) {
                    let row = recorder.row(kind, place, &[&place.to_string(), "sh"]).expect("a row");
                    recorder.add(row, calls, 0);
                    recorder.add(row, bytes, 0);
                }
            };
            bench.tick(&Selection::default(), record, |view| {
                let mut text = line(&mut encoder, *view);
                if *is_lost {
                    encoder.lost();
                    if rows(&text, "process").iter().all(|row| row.get("ended").is_none()) {
                        return;
                    }
                    // Rows that have ended are given again.
                    text = line(&mut encoder, *view);
                }
                arrived += added(&text);
            });
        }
        prop_assert_eq!(arrived, counted);
    }

    /// The rows that a sink with `top` sees: what is written adds up, and no series falls.
    #[test]
    fn with_places_for_a_few_every_increment_is_written_and_no_total_falls(
        ticks in prop::collection::vec(prop::collection::vec((0..8_u64, 0..1000_u64, any::<bool>()), 0..12), 1..60),
        top in 1usize..4,
    ) {
        let mut bench = Bench::new();
        let (kind, calls) = processes();
        let kind = bench.kind(&kind);
        let calls = bench.recorder().column(kind, calls).expect("a column");
        let selection = Selection { top: [("process".to_owned(), top)].into(), ..Selection::default() };
        let mut encoder = Encoder::default();
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        for events in ticks {
            let mut counted = 0;
            let record = |recorder: &mut Recorder| {
                for (pid, gain, ends) in &events {
                    let row = recorder.row(kind, *pid, &[&pid.to_string(), "sh"]).expect("a row");
                    // Some are much more active than others, and some end all the time.
                    let gain = gain << pid;
                    recorder.add(row, calls, gain);
                    counted += gain;
                    if *ends && pid % 2 == 0 {
                        recorder.end(row);
                    }
                }
            };
            let line = bench.tick(&selection, record, |view| line(&mut encoder, *view));
            prop_assert_eq!(added(&line), counted);
            let mut living = 0;
            for row in rows(&line, "process") {
                let total = row["values"][0].as_u64().expect("a total");
                let series = format!("{} {}", row["labels"], row["created"]);
                let before = totals.insert(series, total).unwrap_or_default();
                prop_assert!(before <= total, "{} after {}", row, before);
                living += usize::from(row.get("ended").is_none());
            }
            prop_assert!(living <= top + 1, "{}", line);
        }
    }
}
