//! The sink through the conformance kit, with a receiver that takes everything. The test is alone in its process, whose
//! threads and memory the kit looks at.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod reader;
#[path = "it/server.rs"]
#[expect(dead_code, reason = "here it only takes what comes")]
mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use ebpf_process_core::Options;
use ebpf_process_core::testkit::conformance::{Kit, Number, Reading};
use ebpf_process_sink_otlp::PLUGIN;
use reader::{Point, Value};
use server::Server;

/// The numbers of a data point, one by one.
fn readings(point: &Point) -> Vec<Reading> {
    let attributes: Vec<_> = point.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let reading =
        |part: &str, number: Number| Reading::new(format!("{}{part}{{{}}}", point.name, attributes.join(",")), number);
    match &point.value {
        Value::Integer(number) => vec![reading("", Number::from(*number))],
        Value::Double(number) => vec![reading("", Number::from(*number))],
        Value::Histogram { count, sum, slots, bounds } => {
            let ends = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            let slots = ends.zip(slots).map(|(end, slot)| reading(&format!(".le_{end}"), Number::from(*slot)));
            let whole = [reading(".count", Number::from(*count)), reading(".sum", Number::from(*sum))];
            whole.into_iter().chain(slots).collect()
        }
    }
}

#[test]
fn the_sink_does_what_it_promises() {
    let server = Server::start(Vec::new());
    let options = Options::from_value(BTreeMap::from([("url", server.url.as_str())]));
    let mut stored = Vec::new();
    let read_back = move || {
        stored.extend(server.requests().iter().flat_map(|request| &request.points).flat_map(readings));
        stored.clone()
    };
    // Only what is missing is waited for.
    let kit = Kit::new(PLUGIN, options).read_back(read_back).seed(7).patience(Duration::from_secs(20));
    kit.run().assert_passed();
}
