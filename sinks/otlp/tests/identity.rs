//! A program of another name that has the sink is told by its own name. The test is alone in its process, whose identity it
//! sets.

mod reader;

use ebpf_process_core::testkit::Bench;
use ebpf_process_core::{Column, Identity, Selection, Unit};
use ebpf_process_sink_otlp::Encoder;
use reader::{Attribute, Point};

#[test]
fn the_service_and_the_scope_are_the_program_that_sends() {
    assert!(Identity::new("my-agent", "3.1").expect("a name").take(), "nobody has asked before");
    let mut bench = Bench::new();
    let calls = bench.host(Column::counter("vfs.calls", Unit::CALLS, "Calls"));
    let mut encoder = Encoder::new("node1", None);
    let mut points: Vec<Point> = Vec::new();
    bench.tick(
        &Selection::default(),
        |recorder| calls.counter(recorder, 1),
        |view| encoder.encode(view, |piece, _| points.extend(reader::read(piece).expect("a request"))),
    );
    let [point] = &points[..] else { panic!("one sample: {points:?}") };
    assert_eq!(point.scope, ("my-agent".to_owned(), "3.1".to_owned()));
    let service: Vec<_> = point.resource.iter().filter(|(key, _)| key.starts_with("service.")).collect();
    let text = |key: &str, value: &str| (key.to_owned(), Attribute::Text(value.to_owned()));
    let expected = [("service.name", "my-agent"), ("service.version", "3.1"), ("service.instance.id", "node1")];
    assert_eq!(service, expected.map(|(key, value)| text(key, value)).iter().collect::<Vec<_>>());
}
