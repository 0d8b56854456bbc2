//! The sink whose pages are fetched, or not.

use std::sync::Arc;

use ebpf_process_core::{Ledger, Settlement, Sink, SinkError, View};
use parking_lot::Mutex;
use tracing::warn;

use crate::exposition::{Exposition, NEVER_FETCHED};
use crate::server::Server;

/// Shows each view to whoever scrapes.
pub(crate) struct ScrapeSink {
    name: String,
    exposition: Arc<Mutex<Exposition>>,
    server: Server,
    /// Whether a loss was said.
    said: bool,
}

impl ScrapeSink {
    pub(crate) fn new(name: String, ledger: &Ledger, exposition: Arc<Mutex<Exposition>>, server: Server) -> Self {
        // A stop leaves the last view to nobody, which is no news; of rows that have ended it is said below.
        ledger.says_itself(NEVER_FETCHED);
        Self { name, exposition, server, said: false }
    }

    /// Says the first loss of totals of rows that had ended.
    fn tell_lost_finals(&mut self, lost: u64) {
        if lost > 0 && !std::mem::replace(&mut self.said, true) {
            warn!(
                sink = %self.name,
                samples = lost,
                "series have ended whose last totals nobody fetched in time; does a server scrape {}? further ones \
                 are counted, not logged",
                self.server.address()
            );
        }
    }
}

impl Sink for ScrapeSink {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        if self.server.is_over() {
            return Err(SinkError::closed(format!("nobody listens at {} any more", self.server.address())));
        }
        let lost = self.exposition.lock().publish(*view);
        self.tell_lost_finals(lost);
        Ok(())
    }

    /// Who is in the middle of a page has had the time of the last batch for it.
    fn close(&mut self) -> Result<(), SinkError> {
        self.server.end();
        self.exposition.lock().end();
        Ok(())
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    use ebpf_process_core::testkit::{Bench, offer};
    use ebpf_process_core::{Column, Direct, Selection, Unit};

    use super::*;
    use crate::Encoder;

    /// Far more than anything here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_client_has_had_to_the_end_is_written_and_the_last_view_is_dropped() {
        let ledger = Arc::new(Ledger::default());
        let exposition = Arc::new(Mutex::new(Exposition::new(Encoder::new("x"), Arc::clone(&ledger))));
        let address = "127.0.0.1:0".parse().expect("an address");
        let server =
            Server::start(&Direct::default(), address, "/metrics", LIMIT, Arc::clone(&exposition)).expect("a server");
        let address = server.address();
        let mut sink = ScrapeSink::new("scrape".to_owned(), &ledger, exposition, server);
        let mut bench = Bench::new();
        let calls = bench.host(Column::counter("calls", Unit::CALLS, "Calls"));
        for total in 1..=3 {
            bench.tick(
                &Selection::default(),
                |recorder| calls.counter(recorder, total),
                |view| {
                    offer(&ledger, view.len() as u64);
                    sink.write(view).expect("a view");
                },
            );
            if total == 2 {
                let mut client = TcpStream::connect(address).expect("a connection");
                client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("a request");
                let mut text = String::new();
                client.read_to_string(&mut text).expect("a page");
                assert!(text.ends_with("\nx_calls_total 2\n"), "{text}");
                drop(client);
                let limit = Instant::now() + LIMIT;
                while ledger.read(|tally| tally.written == 0) {
                    assert!(Instant::now() < limit, "nobody notices that the page was fetched");
                    std::thread::yield_now();
                }
            }
        }
        sink.close().expect("the end");
        let tally = ledger.tally();
        assert_eq!((tally.written, tally.superseded, tally.queued), (1, 1, 0));
        assert_eq!((tally.dropped.clone(), tally.balances()), (vec![(NEVER_FETCHED, 1)], true));
    }
}
