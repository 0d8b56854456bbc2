//! Each line of line protocol is fields of one row, and every sample's number stands in one of them.
#![no_main]

use std::collections::HashMap;

use ebpf_process_core::Value;
use ebpf_process_sink_influx::{Encoder, Form, Integers};
use fuzz::story::Story;
use influxdb_line_protocol::{FieldValue, parse_lines};
use libfuzzer_sys::fuzz_target;

const INTEGERS: [Integers; 3] = [Integers::Signed, Integers::Unsigned, Integers::Float];
const FORMS: [Form; 2] = [Form::PerRow, Form::PerValue];

fuzz_target!(|story: Story<'_>| {
    let choice = usize::from(story.choice);
    let (integers, form) = (INTEGERS[choice % INTEGERS.len()], FORMS[choice / INTEGERS.len() % FORMS.len()]);
    let mut encoder = Encoder::new(story.own).with_integers(integers).with_form(form);
    story.tell(|view| {
        let lines = encoder.encode(view);
        assert_eq!(lines.samples + lines.rejected + lines.too_large, view.len() as u64);
        assert_eq!(lines.iter().map(|(_, samples)| u64::from(samples)).sum::<u64>(), lines.samples);
        let text = std::str::from_utf8(lines.bytes).expect("text");
        assert!(lines.iter().map(|(line, _)| line).eq(text.split_inclusive('\n').map(str::as_bytes)), "whole lines");
        let read: Vec<_> = parse_lines(text).map(|line| line.expect("a line")).collect();
        assert_eq!(read.len(), lines.iter().count());
        let rows = view.kinds().flat_map(|kind| kind.rows()).map(|row| row.tick());
        let times: Vec<_> = rows.map(|tick| i64::try_from(tick.wall.as_nanos()).ok()).collect();
        assert!(read.iter().all(|line| times.contains(&line.timestamp)), "the time of a row");
        if lines.rejected + lines.too_large > 0 {
            return;
        }
        let mut fields: HashMap<String, usize> = HashMap::new();
        for (_, value) in read.iter().flat_map(|line| &line.field_set) {
            *fields.entry(format!("{value:?}")).or_default() += 1;
        }
        for sample in view.samples() {
            let wanted = match sample.value() {
                Value::Counter(total) => integer(integers, total),
                Value::Scaled(scaled) => FieldValue::F64(scaled.in_unit()),
                Value::Gauge(level) => FieldValue::F64(level),
                Value::Histogram(histogram) => integer(integers, histogram.count()),
            };
            let left = fields.get_mut(&format!("{wanted:?}")).filter(|left| **left > 0);
            *left.unwrap_or_else(|| panic!("no field has {wanted:?} of {sample:?}: {text}")) -= 1;
        }
    });
});

/// The field of a total, which its type can say.
fn integer(integers: Integers, total: u64) -> FieldValue<'static> {
    match integers {
        Integers::Signed => FieldValue::I64(i64::try_from(total).expect("what is larger is rejected")),
        Integers::Unsigned => FieldValue::U64(total),
        Integers::Float => FieldValue::F64(total as f64),
    }
}
