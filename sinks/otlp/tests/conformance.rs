//! The sink through the conformance kit, with a receiver that the kit tells how to behave. The tests are alone in their
//! process, whose threads and memory the kit looks at.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod reader;
#[path = "it/server.rs"]
#[expect(dead_code, reason = "here it does what the kit says, not a list of answers")]
mod server;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ebpf_process_core::Options;
use ebpf_process_core::testkit::conformance::{Kit, Number, Outcome, Peer, Reading, Steering};
use ebpf_process_sink_otlp::PLUGIN;
use figment::providers::{Format as _, Toml};
use figment::value::Dict;
use reader::{Point, Value};
use server::{Server, TAKEN, reply};

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

/// One at a time: the kit looks at the threads and the memory of its process.
static TURN: Mutex<()> = Mutex::new(());

/// A kit with a receiver of its own, which refuses by `refusal` and keeps what it has taken.
fn kit(refusal: Vec<u8>) -> Kit {
    let (steering, stored) = (Steering::default(), Arc::<Mutex<Vec<_>>>::default());
    let (asked, taken) = (steering.clone(), Arc::clone(&stored));
    let server = Server::deciding(move |request| {
        match asked.ask() {
            Peer::Slow => std::thread::park_timeout(Duration::from_millis(100)),
            Peer::Refusing => return Some(refusal.clone()),
            Peer::Away => return None,
            _ => {}
        }
        taken.lock().expect("what it has").extend(request.points.iter().flat_map(readings));
        Some(TAKEN.to_vec())
    });
    // What was refused is soon sent again: the next behaviour meets it.
    let text = format!("url = \"{}\"\ndelivery = {{ retry_min = \"10ms\", retry_max = \"100ms\" }}", server.url);
    let table: Dict = Toml::from_str(&text).expect("a table");
    let read_back = move || stored.lock().expect("what it has").clone();
    // Only what is missing is waited for.
    let kit = Kit::new(PLUGIN, Options::from_value(table)).read_back(read_back).peer(steering.steer());
    kit.seed(7).patience(Duration::from_secs(20))
}

fn passes_everything(kit: Kit) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let report = kit.run();
    report.assert_passed();
    assert!(report.findings().iter().all(|finding| finding.outcome == Outcome::Passed), "{report}");
}

#[test]
fn the_sink_does_what_it_promises() {
    passes_everything(kit(reply(503, "", b"")));
}

#[test]
fn the_sink_does_what_it_promises_whatever_the_receiver_answers() {
    for (status, headers) in [(429, "Retry-After: 0\r\n"), (400, ""), (413, ""), (401, "")] {
        passes_everything(kit(reply(status, headers, b"")).rows(50).rebuilds(20));
    }
}
