//! A steady tick allocates nothing, from the kernel's maps to the encoders' bytes.

#[path = "../../core/tests/allocations/mod.rs"]
mod allocations;

use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::engine::{Agent, Clock as _, OutletSpec, SystemClock};
use ebpf_process_core::testkit::{context, drained, loopback, offer};
use ebpf_process_core::{
    BuildError, Column, ColumnId, EntityKind, Ledger, Options, Probe, ProbeError, Recorder, RowId, Scope, Sink,
    SinkError, SinkPlugin as _, Unit, View,
};
use ebpf_process_probes::PROBES;
use ebpf_process_sinks::prometheus;
use ebpf_process_sinks::statsd::{Fate, Syntax};
use ebpf_process_tests::{Failure, Outcome, agent, live};

/// Five hundred made-up processes.
#[derive(Default)]
struct Synthetic {
    rows: Vec<RowId>,
    columns: Vec<ColumnId>,
    total: u64,
}

impl Synthetic {
    fn declare(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let kind = recorder.kind(EntityKind::new("synthetic").keys(["process"]))?;
        for column in [
            Column::counter("calls", Unit::CALLS, "Calls").labels([("kind", "made up")]),
            Column::histogram("sizes", Unit::BYTES, "Sizes").slots(3..=20),
        ] {
            self.columns.push(recorder.column(kind, column)?);
        }
        for n in 0..500 {
            self.rows.push(recorder.row(kind, n, &[&format!("process-{n}")])?);
        }
        Ok(())
    }
}

impl Probe for Synthetic {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        if self.rows.is_empty() {
            self.declare(recorder)?;
        }
        let [calls, sizes] = self.columns[..] else { return Err(ProbeError::new("no columns")) };
        self.total += 1_000_000_007;
        for (n, row) in self.rows.iter().enumerate() {
            recorder.counter(*row, calls, self.total);
            // One in ten has sizes, of the same few slots at each tick.
            if n % 10 == 0 {
                recorder.histogram(*row, sizes, &[0, 0, 0, 0, self.total, 0, self.total], self.total);
            }
        }
        Ok(())
    }
}

/// An encoder whose bytes go nowhere.
struct Nowhere<F>(F);

impl<F: FnMut(&View<'_>) -> usize + Send> Sink for Nowhere<F> {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        if (self.0)(view) == 0 { Err(SinkError::failed("nothing was encoded")) } else { Ok(()) }
    }
}

/// Ticks, each one after every sink is done with the one before.
fn settle(agent: &mut Agent, books: &[Arc<Ledger>], ticks: usize) {
    for _ in 0..ticks {
        agent.tick(SystemClock.now());
        for book in books {
            drained(book);
        }
    }
}

/// Does something that needs the book while another thread holds it for a while.
fn hold_while(book: &Ledger, needs_the_book: impl FnOnce()) {
    std::thread::scope(|scope| {
        let (held, news) = std::sync::mpsc::channel();
        let keep = move || {
            book.read(|_| {
                let told = held.send(());
                std::thread::park_timeout(Duration::from_millis(20));
                told
            })
        };
        let holder = std::thread::Builder::new().spawn_scoped(scope, keep);
        if holder.is_ok() && news.recv().is_ok() {
            needs_the_book();
        }
    });
}

fn two_hundred_ticks() -> Outcome<()> {
    let explain = |error: BuildError| Failure::new(error.to_string());
    let mut agent = Agent::new(Arc::new(SystemClock), Duration::from_secs(1));
    let options = Options::from_value(serde_json::json!({"mode": "return"}));
    for probe in PROBES {
        agent.add_probe(probe, &options).map_err(explain)?;
    }
    agent.push_probe("synthetic", Box::new(Synthetic::default()));
    let mut netdata = ebpf_process_sinks::netdata::Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut influx = ebpf_process_sinks::influx::Encoder::new("host");
    let mut statsd = ebpf_process_sinks::statsd::Encoder::new(Syntax::Plain, "ebpf_process", 1432);
    let mut json = ebpf_process_sinks::json::Encoder::default();
    let mut otlp = ebpf_process_sinks::otlp::Encoder::new("host", None);
    // It encodes when somebody asks: what a tick costs it is the whole sink's, which keeps a book of its own.
    let context = context("prometheus");
    let page = Arc::clone(&context.ledger);
    let options = Options::from_value(serde_json::json!({"listen": format!("{}:9435", loopback())}));
    let mut prometheus = prometheus::PLUGIN.build(&options, context).map_err(explain)?;
    let sinks: [(&str, Box<dyn Sink>); 6] = [
        ("netdata", Box::new(Nowhere(move |view: &View<'_>| netdata.encode(view).len()))),
        ("influx", Box::new(Nowhere(move |view: &View<'_>| influx.encode(view).bytes.len()))),
        ("json", Box::new(Nowhere(move |view: &View<'_>| json.encode(view).map_or(0, <[u8]>::len)))),
        (
            "otlp",
            Box::new(Nowhere(move |view: &View<'_>| {
                let mut bytes = 0;
                otlp.encode(view, |piece, _| bytes += piece.len());
                bytes
            })),
        ),
        (
            "statsd",
            Box::new(Nowhere(move |view: &View<'_>| {
                let mut bytes = 0;
                statsd.encode(view, &mut |packet| {
                    bytes += packet.len();
                    Fate::Sent
                });
                bytes
            })),
        ),
        (
            "prometheus",
            Box::new(Nowhere(move |view: &View<'_>| {
                offer(&page, view.len() as u64);
                prometheus.write(view).map_or(0, |()| view.len())
            })),
        ),
    ];
    let mut books = Vec::new();
    for (name, sink) in sinks {
        let book = Arc::new(Ledger::default());
        books.push(Arc::clone(&book));
        agent.push_sink(sink, OutletSpec::new(name), book).map_err(explain)?;
    }
    // Buffers and caches grow to their size, and every thread waits once for a batch and once for a
    // lock: a thread's first wait of each kind allocates.
    for _ in 0..20 {
        settle(&mut agent, &books, 1);
        std::thread::park_timeout(Duration::from_millis(5));
    }
    for book in &books {
        hold_while(book, || agent.tick(SystemClock.now()));
        hold_while(book, || book.read(|_| ()));
    }
    let before = allocations::so_far();
    settle(&mut agent, &books, 200);
    let allocated = allocations::so_far() - before;
    for book in &books {
        let tally = book.tally();
        if tally.written != tally.offered || tally.written < 220 * 550 {
            return Err(Failure::new(format!("not everything was encoded: {tally:?}")));
        }
    }
    if allocated == 0 { Ok(()) } else { Err(Failure::new(format!("200 steady ticks allocated {allocated} times"))) }
}

#[test]
fn two_hundred_steady_ticks_allocate_nothing() {
    live::test("steady-ticks-allocate-nothing", agent::can_run(), two_hundred_ticks);
}
