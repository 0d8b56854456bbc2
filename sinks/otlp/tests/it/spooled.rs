//! What waits on disk for a receiver that is away.

use std::time::Duration;

use ebpf_process_core::testkit::{context, offer};
use ebpf_process_delivery::{Carrier, Delivery, DeliveryOptions, Frame, Verdict};

use crate::server::{Server, reply};
use crate::sink::Running;

fn options(server: &Server, spool: &std::path::Path) -> String {
    format!(
        "url = \"{}\"\ndelivery = {{ spool = \"{}\", retry_min = \"1ms\", retry_max = \"5ms\" }}",
        server.url,
        spool.display()
    )
}

#[test]
fn a_spool_outlives_the_agent_and_keeps_what_tells_its_rows_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = folder.path().join("spool");
    let busy = Server::start(vec![reply(503, "", b""); 10_000]);
    let mut running = Running::start(&options(&busy, &spool), 10).expect("a sink");
    running.tick_until("a batch taken", |tally| tally.queued + tally.spooled == 10);
    busy.request();
    assert_eq!(running.close(Duration::from_secs(2)).spooled, 10);

    let there = Server::start(Vec::new());
    let mut running = Running::start(&options(&there, &spool), 10).expect("a sink");
    running.tick_until("both settled", |tally| tally.written == 20);
    let points = there.requests().into_iter().flat_map(|request| request.points).collect::<Vec<_>>();
    assert_eq!(points.len(), 20);
    assert!(points.iter().all(|point| point.resource.iter().any(|(key, _)| key == "host.name")));
    running.stop();
}

/// A receiver of lines that is away.
struct Away;

impl Carrier for Away {
    fn send(&mut self, _: &Frame, _: Duration) -> Verdict {
        Verdict::Retry { after: None, problem: "away".to_owned() }
    }

    fn encodings(&self) -> &'static [&'static str] {
        &["lines/1"]
    }
}

#[test]
fn a_spool_with_frames_of_another_sink_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = folder.path().join("spool");
    let on_disk = DeliveryOptions { spool: Some(spool.clone()), ..DeliveryOptions::default() };
    let context = context("lines");
    offer(&context.ledger, 1);
    let mut others = Delivery::new(Away, &on_disk, &context).expect("a delivery");
    let mut frame = Frame::default();
    frame.push(b"m f=1i 1\n", 1);
    others.offer(frame);
    others.close();
    drop(others);
    let server = Server::start(Vec::new());
    let error = Running::start(&options(&server, &spool), 10).map(drop).expect_err("another's spool");
    assert!(error.to_string().contains("lines/1"), "{error}");
}
