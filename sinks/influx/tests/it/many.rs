//! More lines than fit into memory.

use std::time::{Duration, Instant};

use crate::server::{Act, Server, TAKEN};
use crate::sink::Running;

/// So many lines are some 700 KiB.
const MANY: u64 = 10_000;

fn options(server: &Server) -> String {
    format!(
        "url = \"{}\"\ndatabase = \"db\"\ngzip = false\nmax_lines = 500\nmax_bytes = \"64KiB\"\n\
         delivery = {{ memory = \"128KiB\", retry_min = \"1ms\", retry_max = \"5ms\" }}",
        server.url
    )
}

#[test]
fn a_batch_larger_than_the_memory_arrives_whole_while_the_server_answers() {
    let server = Server::start(Vec::new());
    let mut running = Running::of(&options(&server), MANY, 1).expect("a sink");
    for batch in 1..=3 {
        running.tick(1);
        running.until("a batch settled", |tally| tally.offered == batch * MANY && tally.queued == 0);
    }
    let tally = running.settle();
    assert_eq!((tally.written, tally.dropped_total()), (3 * MANY, 0), "{tally:?}");
    let sent: usize = server.requests().iter().map(|request| request.lines.len()).sum();
    assert_eq!(sent as u64, 3 * MANY);
}

#[test]
fn a_stop_with_more_lines_than_a_slow_server_takes_in_time_ends_in_order_and_counts_the_rest() {
    // Twenty requests of a third of a second each.
    let slow = Act::Drip(TAKEN.to_owned(), Duration::from_millis(12));
    let server = Server::start(vec![slow; 1000]);
    let mut running = Running::of(&options(&server), MANY, 1).expect("a sink");
    running.tick(1);
    server.request();
    let started = Instant::now();
    let closed = running.close(Duration::from_secs(4));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(closed.in_time, "sending ends early enough to count what is left");
    let tally = closed.tally;
    let [(reason, dropped)] = tally.dropped[..] else { panic!("{tally:?}") };
    assert_eq!((reason, tally.written + dropped), ("agent stopped", MANY), "{tally:?}");
}
