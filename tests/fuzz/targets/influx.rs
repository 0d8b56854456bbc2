//! Each line of line protocol is one sample, and reads back as its value.
#![no_main]

use ebpf_process_core::{Kind, Value};
use ebpf_process_sink_influx::{Encoder, Integers};
use fuzz::story::Story;
use influxdb_line_protocol::{FieldValue, parse_lines};
use libfuzzer_sys::fuzz_target;

const INTEGERS: [Integers; 3] = [Integers::Signed, Integers::Unsigned, Integers::Float];

fuzz_target!(|story: Story<'_>| {
    let integers = INTEGERS[usize::from(story.choice) % INTEGERS.len()];
    let mut encoder = Encoder::new(story.own).with_integers(integers);
    story.tell(|view| {
        let lines = encoder.encode(view);
        assert_eq!(lines.samples + lines.rejected, view.len() as u64);
        let text = std::str::from_utf8(lines.bytes).expect("text");
        assert!(lines.iter().eq(text.split_inclusive('\n').map(str::as_bytes)), "whole lines");
        let read: Vec<_> = parse_lines(text).map(|line| line.expect("a line")).collect();
        assert_eq!(read.len() as u64, lines.samples);
        let time = i64::try_from(view.tick().wall.as_nanos()).expect("a time");
        assert!(read.iter().all(|line| line.timestamp == Some(time)));
        if lines.rejected > 0 {
            return;
        }
        let samples = view.metrics().flat_map(|metric| metric.samples().map(move |sample| (metric.kind(), sample)));
        for (line, (kind, sample)) in read.iter().zip(samples) {
            assert!(line.field_set.len() == 1 || kind == Kind::Histogram, "one field");
            let first = &line.field_set[0].1;
            match sample.value() {
                Value::Counter(total) => assert!(is(first, total), "{first} is not {total}"),
                Value::Gauge(level) => assert!(matches!(first, FieldValue::F64(read) if *read == level)),
                Value::Histogram(histogram) => assert!(is(first, histogram.count()), "{first}: {histogram:?}"),
            }
        }
    });
});

/// Whether a field holds a total, as far as its type can.
fn is(field: &FieldValue<'_>, total: u64) -> bool {
    match field {
        FieldValue::I64(read) => *read == i64::try_from(total).unwrap_or(i64::MAX),
        FieldValue::U64(read) => *read == total,
        FieldValue::F64(read) => *read == total as f64,
        _ => false,
    }
}
