//! The sink through the conformance kit, with a server that the kit tells how to behave. The tests are alone in their process,
//! whose threads and memory the kit looks at.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

#[path = "it/server.rs"]
#[expect(dead_code, reason = "here it does what the kit says, not a list of acts")]
mod server;

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ebpf_process_core::Options;
use ebpf_process_core::testkit::conformance::{Kit, Number, Outcome, Peer, Reading, Report, Steering};
use ebpf_process_sink_influx::PLUGIN;
use figment::providers::{Format as _, Toml};
use figment::value::Dict;
use influxdb_line_protocol::{FieldValue, parse_lines};
use server::{Act, Request, TAKEN, reply, serve_as};

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

/// A server that behaves as the kit says, refuses by `refusal`, and keeps what it has taken.
struct Steered {
    url: String,
    steering: Steering,
    stored: Arc<Mutex<Vec<Reading>>>,
}

impl Steered {
    fn start(refusal: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (steering, stored) = (Steering::default(), Arc::<Mutex<Vec<_>>>::default());
        let (asked, taken) = (steering.clone(), Arc::clone(&stored));
        let decide = move |request: &Request| {
            let act = match asked.ask() {
                Peer::Slow => Act::Drip(TAKEN.to_owned(), Duration::from_millis(10)),
                Peer::Refusing => return refusal.clone(),
                Peer::Away => return Act::Reset(String::new()),
                _ => Act::Reply(TAKEN.to_owned()),
            };
            taken.lock().expect("what it has").extend(request.lines.iter().flat_map(|line| readings(line)));
            act
        };
        drop(serve_as(move || listener.accept().map(|(stream, _)| stream), decide));
        Self { url, steering, stored }
    }
}

/// One at a time: the kit looks at the threads and the memory of its process.
static TURN: Mutex<()> = Mutex::new(());

/// A kit with a server of its own, which refuses by `refusal`.
fn kit(integers: &str, refusal: Act) -> Kit {
    let server = Steered::start(refusal);
    // What was refused is soon sent again: the next behaviour meets it.
    let text = format!(
        "url = \"{}\"\ndatabase = \"telemetry\"\nintegers = \"{integers}\"\n\
         delivery = {{ retry_min = \"10ms\", retry_max = \"100ms\" }}",
        server.url
    );
    let table: Dict = Toml::from_str(&text).expect("a table");
    let peer = server.steering.steer();
    let read_back = move || server.stored.lock().expect("what it has").clone();
    // Only what is missing is waited for.
    let kit = Kit::new(PLUGIN, Options::from_value(table)).read_back(read_back).peer(peer);
    kit.seed(7).patience(Duration::from_secs(20))
}

fn assert_all_passed(report: &Report) {
    report.assert_passed();
    assert!(report.findings().iter().all(|finding| finding.outcome == Outcome::Passed), "{report}");
}

fn conforms(integers: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    assert_all_passed(&kit(integers, reply("503 Service Unavailable", "")).run());
}

#[test]
fn the_sink_does_what_it_promises_with_the_integers_of_each_version() {
    conforms("i");
}

#[test]
fn the_sink_does_what_it_promises_with_the_integers_of_later_versions() {
    conforms("u");
}

#[test]
fn the_sink_does_what_it_promises_whatever_the_server_answers() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = r#"{"error":"unable to parse 'x': missing fields"}"#;
    for refusal in [
        reply("400 Bad Request", refused),
        reply("413 Request Entity Too Large", ""),
        reply("401 Unauthorized", ""),
        reply("429 Too Many Requests", ""),
    ] {
        println!("{refusal:?}");
        assert_all_passed(&kit("i", refusal).rows(50).rebuilds(20).run());
    }
}
