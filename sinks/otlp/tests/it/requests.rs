//! What a receiver is sent.

use crate::reader::{Attribute, Form, Value};
use crate::server::Server;
use crate::sink::Running;

#[test]
fn a_batch_is_a_request_with_the_resource_and_each_row_once() {
    let server = Server::start(Vec::new());
    let options = format!(
        "url = \"{}\"\ntoken = \"s3cr3t\"\nheaders = {{ X-Scope-OrgID = \"lab\" }}\n\
         resource = {{ \"service.name\" = \"mine\", \"a.b\" = \"c\" }}",
        server.url
    );
    let mut running = Running::start(&options, 3).expect("a sink");
    for tick in 1..=2 {
        assert_eq!(running.tick().written, 3 * tick);
        let request = server.request();
        assert!(request.head.starts_with("post /v1/metrics http/1.1\r\n"), "{}", request.head);
        for header in ["content-type: application/x-protobuf", "authorization: bearer s3cr3t", "x-scope-orgid: lab"] {
            assert!(request.head.contains(&format!("\r\n{header}\r\n")), "{header}: {}", request.head);
        }
        assert!(!request.compressed, "it stays on this host");
        for (point, pid) in request.points.iter().zip(1..) {
            assert_eq!((point.name.as_str(), point.unit.as_str()), ("thing.vfs.calls", "{call}"));
            assert_eq!(point.form, Form::Sum { temporality: 2, is_monotonic: true });
            assert_eq!(point.attributes, [("process.pid".to_owned(), Attribute::Number(pid))]);
            let (start, second) = (1_600_000_000_000_000_000, 1_000_000_000);
            let total = i64::try_from(tick).expect("a small number");
            assert_eq!((point.start, point.time), (start, start + tick * second));
            assert_eq!(point.value, Value::Integer(total));
            let of = |key: &str| point.resource.iter().find(|(own, _)| own == key).map(|(_, value)| value.to_string());
            assert_eq!(of("service.name").as_deref(), Some("\"mine\""));
            assert_eq!(of("a.b").as_deref(), Some("\"c\""));
            assert_eq!(of("service.instance.id"), of("host.name"));
            assert!(of("host.name").is_some());
        }
        assert_eq!(request.points.len(), 3);
    }
    running.stop();
}

#[test]
fn what_is_large_is_compressed_where_that_is_asked_for_and_cut_between_rows() {
    let server = Server::start(Vec::new());
    let options = format!("url = \"{}\"\ngzip = true\nmax_bytes = \"4KiB\"", server.url);
    let mut running = Running::start(&options, 200).expect("a sink");
    assert_eq!(running.tick().written, 200);
    let requests = server.requests();
    assert!(requests.len() > 2 && requests.iter().filter(|request| request.compressed).count() > 1);
    let pids = requests.iter().flat_map(|request| &request.points).map(|point| point.attributes[0].1.clone());
    assert!(pids.eq((1..=200).map(Attribute::Number)), "each row is there once");
    running.stop();
}
