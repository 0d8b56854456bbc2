//! The sink through the conformance kit, with a server that takes everything.

use ebpf_process_core::testkit::conformance::{Kit, Number, Reading};
use ebpf_process_sink_influx::PLUGIN;
use influxdb_line_protocol::{FieldValue, parse_lines};

use crate::server::Server;
use crate::sink::options;

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

#[test]
fn the_sink_does_what_it_promises() {
    let server = Server::start(Vec::new());
    let options = options(&format!("url = \"{}\"\ndatabase = \"telemetry\"\nintegers = \"u\"", server.url));
    let mut stored = Vec::new();
    let read_back = move || {
        stored.extend(server.requests().iter().flat_map(|request| &request.lines).flat_map(|line| readings(line)));
        stored.clone()
    };
    Kit::new(PLUGIN, options).read_back(read_back).seed(7).run().assert_passed();
}
