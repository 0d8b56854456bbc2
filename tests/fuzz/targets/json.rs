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
        let written = object["samples"].as_array().expect("samples").iter();
        let written = written.map(|sample| (sample["name"].as_str(), &sample["value"]));
        let tables = object.get("tables").map_or(&[][..], |tables| tables.as_array().expect("tables"));
        let mut written = written.chain(tables.iter().flat_map(cells));
        for sample in samples(view) {
            let (name, value) = written.next().expect("a sample");
            assert_eq!(name, Some(sample.name()));
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

/// The names and values of a table, row by row.
fn cells(table: &serde_json::Value) -> impl Iterator<Item = (Option<&str>, &serde_json::Value)> {
    let columns = table["columns"].as_array().expect("columns");
    let keys = table["labels"].as_array().expect("keys").len();
    table["rows"].as_array().expect("rows").iter().flat_map(move |row| {
        let [labels, values, deltas] = ["labels", "values", "deltas"].map(|key| row[key].as_array().expect(key));
        assert_eq!((labels.len(), values.len(), deltas.len()), (keys, columns.len(), columns.len()));
        let cells = columns.iter().zip(values).filter(|(_, value)| !value.is_null());
        cells.map(|(column, value)| (column["name"].as_str(), value))
    })
}

/// Those of the host and of the agent's own kinds, row by row and those of a row by metric; then those of rows that come
/// and go, in the order of their columns.
fn samples<'a>(view: &View<'a>) -> impl Iterator<Item = Sample<'a>> {
    let [own, tables] = [false, true].map(|is_table| {
        let kinds = view.kinds().filter(move |kind| kind.kind().has_start_times() == is_table);
        kinds.flat_map(|kind| kind.rows().map(move |row| (kind, row)))
    });
    let own = own.flat_map(|(kind, row)| {
        let columns = kind.metrics().flat_map(|metric| metric.columns());
        columns.filter_map(move |column| row.sample(column.index()))
    });
    let of_tables = tables.flat_map(|(kind, row)| kind.columns().filter_map(move |column| row.sample(column.index())));
    own.chain(of_tables)
}
