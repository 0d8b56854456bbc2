//! The sink whose pages are fetched, or not.

use std::collections::VecDeque;
use std::sync::Arc;

use ebpf_process_core::{Ledger, Settlement, Sink, SinkError, View};
use tracing::warn;

use crate::encode::{Encoder, Page};
use crate::server::Server;

/// Why samples are lost that nobody has come for.
const NEVER_FETCHED: &str = "never fetched";

/// Publishes one page per view.
pub(crate) struct ScrapeSink {
    name: String,
    encoder: Encoder,
    ledger: Arc<Ledger>,
    server: Server,
    /// Pages that are not settled, the published one last: those before it are in some client's hands.
    open: VecDeque<Open>,
    /// Written next: a page that was settled.
    spare: Page,
    /// Whether a loss was said.
    said: bool,
}

/// A page whose fate is not known.
struct Open {
    page: Arc<Page>,
    samples: u64,
}

impl ScrapeSink {
    pub(crate) fn new(name: String, encoder: Encoder, ledger: Arc<Ledger>, server: Server) -> Self {
        let (open, spare) = (VecDeque::new(), Page::default());
        // A stop leaves the last page to nobody, which is no news; of finals it is said below.
        ledger.says_itself(NEVER_FETCHED);
        Self { name, encoder: encoder.keeping_finals(), ledger, server, open, spare, said: false }
    }

    /// Enters what is known of the pages, and what became of finals.
    fn learn(&mut self) {
        for Open { page, .. } in self.open.iter().filter(|open| open.page.is_fetched()) {
            self.encoder.fetched(page);
        }
    }

    /// Settles all pages that no client reads any more but for the published one.
    fn settle(&mut self) {
        let published = self.open.pop_back();
        for _ in 0..self.open.len() {
            let Some(Open { page, samples }) = self.open.pop_front() else { break };
            match Arc::try_unwrap(page) {
                Ok(page) if page.is_fetched() => {
                    self.ledger.written(samples);
                    self.encoder.fetched(&page);
                    self.spare = page;
                }
                Ok(page) => {
                    self.ledger.superseded(samples);
                    self.spare = page;
                }
                Err(page) => self.open.push_back(Open { page, samples }),
            }
        }
        self.open.extend(published);
    }

    /// Returns how many are lost.
    fn settle_finals(&mut self) -> u64 {
        let counts = self.encoder.take_final_counts();
        if let Some(last) = self.open.back_mut() {
            last.samples = last.samples.saturating_sub(counts.held);
        }
        self.ledger.written(counts.fetched);
        self.ledger.dropped(counts.lost, NEVER_FETCHED);
        counts.lost
    }

    /// Says the first loss of finals.
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
        self.learn();
        let mut page = std::mem::take(&mut self.spare);
        let counts = self.encoder.encode(view, &mut page);
        let lost = self.settle_finals();
        self.tell_lost_finals(lost);
        self.ledger.rejected(counts.rejected, crate::TWIN);
        let page = Arc::new(page);
        self.server.publish(Arc::clone(&page));
        self.open.push_back(Open { page, samples: counts.written });
        self.settle();
        Ok(())
    }

    /// Who is in the middle of a page has had the time of the last batch for it.
    fn close(&mut self) -> Result<(), SinkError> {
        self.server.end();
        self.settle();
        self.learn();
        self.encoder.end();
        self.settle_finals();
        for Open { page, samples } in self.open.drain(..) {
            if page.is_fetched() {
                self.ledger.written(samples);
            } else {
                self.ledger.dropped(samples, NEVER_FETCHED);
            }
        }
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

    use ebpf_process_core::testkit::{Bench, no_slots, offer};
    use ebpf_process_core::{Descriptor, Recorder, Selection, SeriesId, Unit};

    use super::*;

    /// Far more than anything here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    /// A sink, its book, and batches a second apart.
    struct Scene {
        sink: ScrapeSink,
        bench: Bench,
        calls: Arc<Descriptor>,
    }

    impl Scene {
        fn new() -> Self {
            let address = "127.0.0.1:0".parse().expect("an address");
            let server = Server::start(address, "/metrics", LIMIT).expect("a server");
            let ledger = Arc::new(Ledger::default());
            let sink = ScrapeSink::new("scrape".to_owned(), Encoder::new("x"), ledger, server);
            let calls = Descriptor::counter("calls", Unit::CALLS, "Calls").labels(["n"]).series_limit(100_000).share();
            Self { sink, bench: Bench::new(), calls }
        }

        fn series(&mut self, n: &str) -> SeriesId {
            self.bench.series(&Arc::clone(&self.calls), &[n])
        }

        /// A batch; whatever is entered, the book must balance.
        fn tick(&mut self, record: impl FnOnce(&mut Recorder)) {
            let Self { sink, bench, .. } = self;
            bench.tick(&Selection::default(), record, |view| {
                offer(&sink.ledger, view.len() as u64);
                sink.write(view).expect("a page");
            });
            let tally = self.sink.ledger.tally();
            assert!(tally.balances(), "{tally:?}");
        }

        /// A page, of which the sink knows that it was fetched.
        fn scrape(&self) -> String {
            let mut client = TcpStream::connect(self.sink.server.address()).expect("a connection");
            client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("a request");
            let mut text = String::new();
            client.read_to_string(&mut text).expect("a page");
            drop(client);
            let limit = Instant::now() + LIMIT;
            while !self.sink.open.back().is_some_and(|open| open.page.is_fetched()) {
                assert!(Instant::now() < limit, "nobody notices that the page was fetched");
                std::thread::yield_now();
            }
            text
        }

        /// (written, superseded, dropped, queued)
        fn book(&self) -> (u64, u64, u64, u64) {
            let tally = self.sink.ledger.tally();
            (tally.written, tally.superseded, tally.dropped_total(), tally.queued)
        }
    }

    #[test]
    fn a_page_is_written_once_it_was_fetched_and_superseded_otherwise() {
        let mut scene = Scene::new();
        let (a, b) = (scene.series("a"), scene.series("b"));
        for total in 1..=4 {
            scene.tick(|recorder| {
                recorder.counter(a, total);
                recorder.counter(b, total);
            });
            if total == 2 {
                assert!(scene.scrape().ends_with("x_calls_total{n=\"a\"} 2\nx_calls_total{n=\"b\"} 2\n"));
            }
        }
        assert_eq!(scene.book(), (2, 4, 0, 2));
        scene.sink.close().expect("the end");
        assert_eq!(scene.book(), (2, 4, 2, 0));
        assert_eq!(scene.sink.ledger.tally().dropped, [(NEVER_FETCHED, 2)]);
    }

    #[test]
    fn a_page_in_the_hands_of_a_client_is_settled_when_that_is_done() {
        let mut scene = Scene::new();
        let series: Vec<_> = (0..100_000).map(|n| scene.series(&n.to_string())).collect();
        let record = |recorder: &mut Recorder| series.iter().for_each(|id| recorder.counter(*id, 7));
        scene.tick(record);
        let mut client = TcpStream::connect(scene.sink.server.address()).expect("a connection");
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("a request");
        client.read_exact(&mut [0]).expect("the reply has begun");
        scene.tick(record);
        assert_eq!(scene.book(), (0, 0, 0, 200_000), "it reads the first page");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("a page");
        drop(client);
        let limit = Instant::now() + LIMIT;
        while scene.sink.open.front().is_some_and(|open| !open.page.is_fetched()) {
            assert!(Instant::now() < limit, "nobody notices that the page was fetched");
            std::thread::yield_now();
        }
        // Its thread may still hold the page for a moment: then the next batch settles it.
        scene.tick(record);
        let (written, superseded, ..) = scene.book();
        assert!(written + superseded == 200_000 || written == 0, "{:?}", scene.book());
        scene.sink.close().expect("the end");
        assert_eq!(scene.book(), (100_000, 100_000, 100_000, 0));
    }

    #[test]
    fn a_final_stays_for_two_minutes_after_the_first_scrape_that_had_it() {
        let mut scene = Scene::new();
        let (lives, ends) = (scene.series("lives"), scene.series("ends"));
        scene.tick(|recorder| recorder.counter(ends, 1));
        scene.tick(|recorder| {
            recorder.counter(ends, 7);
            recorder.end(ends);
        });
        // The batches repeat it twice, and nobody comes for nine minutes.
        for total in 1..540 {
            scene.tick(|recorder| recorder.counter(lives, total));
        }
        assert_eq!(scene.sink.ledger.tally().dropped_total(), 0);
        let last = "x_calls_total{n=\"ends\"} 7\n";
        assert!(scene.scrape().contains(last));
        for total in 540..660 {
            scene.tick(|recorder| recorder.counter(lives, total));
            assert_eq!(scene.scrape().contains(last), total < 660);
        }
        scene.tick(|recorder| recorder.counter(lives, 660));
        assert!(!scene.scrape().contains(last));
        scene.sink.close().expect("the end");
        let tally = scene.sink.ledger.tally();
        assert_eq!((tally.dropped_total(), tally.queued), (0, 0), "{tally:?}");
        assert!(tally.balances());
    }

    #[test]
    fn a_final_that_nobody_fetches_in_ten_minutes_is_lost_and_counted() {
        let mut scene = Scene::new();
        let sizes = Descriptor::histogram("sizes", Unit::BYTES, "Sizes").share();
        let levels = Descriptor::gauge("level", Unit::ONE, "Level").share();
        let lives = scene.series("lives");
        let (size, level) = (scene.bench.series(&sizes, &[]), scene.bench.series(&levels, &[]));
        scene.tick(|recorder| {
            let mut slots = no_slots();
            slots[3] = 2;
            recorder.histogram(size, &slots, 20);
            recorder.end(size);
            recorder.gauge(level, 3.5);
            recorder.end(level);
        });
        for total in 1..=3 {
            scene.tick(|recorder| recorder.counter(lives, total));
        }
        // A histogram is one sample, whatever lines it takes; a level has no end to tell of.
        let text = String::from_utf8_lossy(scene.sink.open[0].page.bytes(crate::Format::Text)).into_owned();
        assert!(text.contains("x_sizes_bytes_count 2\n") && !text.contains("level"), "{text}");
        for total in 4..610 {
            scene.tick(|recorder| recorder.counter(lives, total));
        }
        let tally = scene.sink.ledger.tally();
        assert_eq!(tally.dropped, [(NEVER_FETCHED, 1)]);
        assert!(!scene.scrape().contains("sizes"));
        assert_eq!(tally.written + tally.superseded + 2, tally.offered, "all but the lost one and the newest page's");
    }

    #[test]
    fn finals_take_bounded_memory_and_what_had_no_room_is_counted() {
        let mut scene = Scene::new();
        let name = "n".repeat(180);
        for round in 0..5 {
            let ids: Vec<_> = (0..6000).map(|n| scene.series(&format!("{name}{round} {n}"))).collect();
            scene.tick(|recorder| {
                for id in ids {
                    recorder.counter(id, 1);
                    recorder.end(id);
                }
            });
        }
        for _ in 0..4 {
            scene.tick(|_| {});
        }
        let (written, .., dropped, queued) = scene.book();
        assert_eq!((written, dropped + queued), (0, 30_000), "each has one final, lost or still there");
        assert!(dropped > 5_000, "{dropped}");
        let text = scene.scrape();
        assert_eq!(text.lines().filter(|line| line.starts_with("x_calls_total")).count() as u64, queued);
        assert!(text.len() < 9 << 20, "{}", text.len());
    }

    #[test]
    fn a_series_that_comes_again_has_its_name_to_itself() {
        let mut scene = Scene::new();
        let first = scene.series("a");
        scene.tick(|recorder| {
            recorder.counter(first, 7);
            recorder.end(first);
        });
        for _ in 0..4 {
            scene.tick(|_| {});
        }
        let second = scene.series("a");
        assert_ne!(first, second);
        scene.tick(|recorder| recorder.counter(second, 1));
        let text = scene.scrape();
        assert!(
            text.ends_with("\nx_calls_total{n=\"a\"} 1\n") && text.matches("x_calls_total{").count() == 1,
            "{text}"
        );
        assert_eq!(scene.sink.ledger.tally().dropped, [(NEVER_FETCHED, 1)]);
    }
}
