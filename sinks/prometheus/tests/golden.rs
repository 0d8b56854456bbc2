//! What the encoder writes for given views, byte for byte.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ebpf-process-sink-prometheus` writes the files anew; look at the
//! difference before you keep it.

use ebpf_process_core::testkit::{Bench, golden, no_slots};
use ebpf_process_core::{Column, EntityKind, Recorder, Selection, Unit};
use ebpf_process_sink_prometheus::{Counts, Encoder, Format, Piece};

#[test]
fn samples_become_families() {
    let mut bench = Bench::new();
    let calls = |operation: &str| {
        let calls = Column::counter("vfs.calls", Unit::CALLS, "Calls of \"read\" \\ write");
        calls.labels([("operation", operation)])
    };
    let (read, odd) = (bench.host(calls("read")), bench.host(calls("a b,c=d\\\"é}")));
    let bytes = Column::counter("vfs.bytes", Unit::BYTES, "Bytes").labels([("operation", "read")]);
    let (bytes, exits) = (bench.host(bytes), bench.host(Column::counter("task.exits", Unit::TASKS, "Exits")));
    let info = Column::gauge("hook.info", Unit::ONE, "Hooks");
    let info = bench.host(info.labels([("function", "vfs_read"), ("counter", "vfs.read")]));
    let time = |probe: &str| {
        let time = Column::gauge("agent.probe_time", Unit::SECONDS, "Time");
        time.labels([("probe", probe)])
    };
    let (slow, fast) = (bench.host(time("file")), bench.host(time("process")));
    let latency = Column::histogram("disk.latency", Unit::new("ns"), "Latency").labels([("disk", "sda"), ("le", "x")]);
    let (sda, sizes) = (bench.host(latency), bench.host(Column::histogram("io.size", Unit::BYTES, "Sizes")));
    let selection = Selection { tags: [("rack".to_owned(), "7".to_owned())].into(), ..Selection::default() };
    for (name, format) in [("page.txt", Format::Text), ("page.openmetrics", Format::OpenMetrics)] {
        let mut encoder = Encoder::new("ebpf_process");
        let mut page = Vec::new();
        for round in 0..2 {
            let counts = bench.tick(
                &selection,
                |recorder| {
                    read.counter(recorder, 1000 * round);
                    odd.counter(recorder, u64::MAX);
                    bytes.counter(recorder, 51_200);
                    exits.counter(recorder, 3);
                    info.gauge(recorder, 1.0);
                    slow.gauge(recorder, 1e16);
                    fast.gauge(recorder, -2.5e-7);
                    let mut slots = no_slots();
                    slots[0] = round;
                    slots[10] = 3;
                    slots[63] = round;
                    sda.histogram(recorder, &slots, 4000);
                    sizes.histogram(recorder, &slots, u64::MAX);
                },
                |view| encoder.encode(view, format, &mut page),
            );
            assert_eq!(counts, Counts { written: 9, ..Counts::default() });
        }
        golden::compare(name, &page);
    }
}

/// A row's labels, the column's, the tags; only what was hit of a histogram; when the row began.
#[test]
fn rows_have_their_kind_in_front_and_say_when_they_began() {
    let mut bench = Bench::new();
    let kind = EntityKind::new("disk").keys(["disk", "le"]);
    let calls = |operation: &str| Column::counter("io.calls", Unit::CALLS, "Calls").labels([("operation", operation)]);
    let time = Column::counter("io.time", Unit::SECONDS, "Time").scale(1e-9);
    let busy = Column::gauge("io.busy", Unit::ONE, "Busy");
    let latency = Column::histogram("io.latency", Unit::SECONDS, "Latency").scale(1e-6).slots(0..=40);
    let sectors = Column::counter("io.bytes", Unit::BYTES, "Bytes").scale(512.0);
    let selection = Selection { tags: [("rack".to_owned(), "7".to_owned())].into(), ..Selection::default() };
    let mut cell = |disk: &[&str; 2], column: &Column| bench.cell(&kind, disk, column.clone());
    let (sda, other) = (["sda", "\"x\\"], ["sdb", "y"]);
    let reads = [cell(&sda, &calls("read")), cell(&other, &calls("read"))];
    let writes = cell(&sda, &calls("write"));
    let times = [cell(&sda, &time), cell(&other, &time)];
    let (busy, sectors) = (cell(&other, &busy), cell(&other, &sectors));
    let (latencies, empty) = (cell(&sda, &latency), cell(&other, &latency));
    let record = |recorder: &mut Recorder| {
        for cell in reads {
            cell.counter(recorder, 7);
        }
        writes.counter(recorder, u64::MAX);
        for cell in times {
            cell.counter(recorder, 1_500_000_000);
        }
        busy.gauge(recorder, 0.25);
        sectors.counter(recorder, 8);
        latencies.histogram(recorder, &[0, 0, 0, 4, 0, 1], 77);
        empty.histogram(recorder, &[], 0);
    };
    let mut pages =
        [Format::Text, Format::OpenMetrics].map(|format| (format, Encoder::new("ebpf_process"), Vec::new()));
    // The next tick begins a second later.
    bench.tick(&selection, record, |_| ());
    bench.tick(&selection, record, |view| {
        for (format, encoder, page) in &mut pages {
            assert_eq!(encoder.encode(view, *format, page), Counts { written: 9, ..Counts::default() });
        }
        let (mut pieces, mut samples) = (Vec::new(), 0);
        let counts = Encoder::new("ebpf_process").encode_samples(view, |piece| match piece {
            Piece::Header(header) => pieces.extend_from_slice(header),
            Piece::Sample(lines) => {
                samples += 1;
                pieces.extend_from_slice(lines);
            }
        });
        assert_eq!((counts, samples), (Counts { written: 9, ..Counts::default() }, 9));
        assert_eq!(String::from_utf8_lossy(&pieces), String::from_utf8_lossy(&pages[0].2), "pieces make the page");
    });
    golden::compare("rows.txt", &pages[0].2);
    golden::compare("rows.openmetrics", &pages[1].2);
}
