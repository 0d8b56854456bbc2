//! The sink through the conformance kit, with a server that takes everything. The tests are alone in their process,
//! whose threads and memory the kit looks at.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

#[path = "it/server.rs"]
#[expect(dead_code, reason = "here it only takes what comes")]
mod server;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ebpf_process_core::Options;
use ebpf_process_core::testkit::conformance::{Kit, Number, Reading};
use ebpf_process_sink_influx::PLUGIN;
use influxdb_line_protocol::{FieldValue, parse_lines};
use server::Server;

/// The fields of a line, one by one.
fn readings(line: &str) -> Vec<Reading> {
    let mut readings = Vec::new();
    for line in parse_lines(line) {
        let line = line.expect("a line by the rules");
        let tags: Vec<_> = line.series.tag_set.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
        for (field, value) in &line.field_set {
            let number = match value {
                FieldValue::I64(number) => Number::from(*number),
                FieldValue::U64(number) => Number::from(*number),
                FieldValue::F64(number) => Number::from(*number),
                other => panic!("no number: {other:?}"),
            };
            readings.push(Reading::new(format!("{}.{field}{{{}}}", line.series.measurement, tags.join(",")), number));
        }
    }
    readings
}

/// One at a time: the kit looks at the threads and the memory of its process.
static TURN: Mutex<()> = Mutex::new(());

fn conforms(integers: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start(Vec::new());
    let table = [("url", server.url.as_str()), ("database", "telemetry"), ("integers", integers)];
    let options = Options::from_value(BTreeMap::from(table));
    let mut stored = Vec::new();
    let read_back = move || {
        stored.extend(server.requests().iter().flat_map(|request| &request.lines).flat_map(|line| readings(line)));
        stored.clone()
    };
    // Only what is missing is waited for.
    let kit = Kit::new(PLUGIN, options).read_back(read_back).seed(7).patience(Duration::from_secs(20));
    kit.run().assert_passed();
}

#[test]
fn the_sink_does_what_it_promises_with_the_integers_of_each_version() {
    conforms("i");
}

#[test]
fn the_sink_does_what_it_promises_with_the_integers_of_later_versions() {
    conforms("u");
}
