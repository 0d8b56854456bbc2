//! A view is one JSON object on one line, and says every sample.
#![no_main]

use ebpf_process_core::{Sample, Value, View};
use ebpf_process_sink_json::Encoder;
use fuzz::story::Story;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|story: Story<'_>| {
    let mut encoder = Encoder::default();
    story.tell(|view| {
        let line = encoder.encode(view).expect("a line");
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one line");
        let object: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        let mut written = object["samples"].as_array().expect("samples").iter();
        for sample in samples(view) {
            let written = written.next().expect("a sample");
            assert_eq!(written["name"], sample.name());
            let value = &written["value"];
            match sample.value() {
                Value::Counter(total) => assert_eq!(*value, total),
                Value::Scaled(scaled) => assert_eq!(value.as_f64(), Some(scaled.in_unit())),
                Value::Gauge(level) => assert_eq!(value.as_f64(), Some(level)),
                Value::Histogram(histogram) => {
                    let counts = histogram.counts();
                    let below = if counts.is_empty() { 0 } else { histogram.first() };
                    let slots = [&vec![0; below], counts].concat();
                    assert_eq!(value["slots"], json!(slots));
                }
            }
        }
        assert!(written.next().is_none(), "no other sample");
    });
});

/// Row by row, those of a row by metric.
fn samples<'a>(view: &View<'a>) -> impl Iterator<Item = Sample<'a>> {
    view.kinds().flat_map(|kind| kind.rows().map(move |row| (kind, row))).flat_map(|(kind, row)| {
        let columns = kind.metrics().flat_map(|metric| metric.columns());
        columns.filter_map(move |column| row.sample(column.index()))
    })
}
