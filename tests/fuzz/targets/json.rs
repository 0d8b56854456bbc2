//! A view is one JSON object on one line, and says every sample.
#![no_main]

use ebpf_process_core::Value;
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
        for metric in view.metrics() {
            for sample in metric.samples() {
                let written = written.next().expect("a sample");
                assert_eq!(written["name"], metric.name());
                let value = &written["value"];
                match sample.value() {
                    Value::Counter(total) => assert_eq!(*value, total),
                    Value::Gauge(level) => assert_eq!(value.as_f64(), Some(level)),
                    Value::Histogram(histogram) => assert_eq!(value["slots"], json!(histogram.slots)),
                }
            }
        }
        assert!(written.next().is_none(), "no other sample");
    });
});
