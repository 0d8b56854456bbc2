//! A steady tick allocates nothing, from the kernel's maps to the encoders' bytes.

#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebpf_process_core::testkit::drained;
use ebpf_process_core::{
    Agent, Clock as _, Descriptor, Ledger, Options, OutletSpec, Probe, ProbeError, Recorder, Scope, SeriesId, Sink,
    SinkError, SystemClock, Unit, View,
};
use ebpf_process_probes::{FILE, PROCESS};
use ebpf_process_sinks::prometheus::{Format, Page};
use ebpf_process_sinks::statsd::{Fate, Syntax};
use ebpf_process_tests::{Failure, Outcome, agent, live};

/// Counts every allocation of every thread.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything to the system's allocator; counting touches no memory of its callers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Five hundred counters of made-up processes.
struct Synthetic(Vec<SeriesId>, u64);

impl Probe for Synthetic {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        if self.0.is_empty() {
            let descriptor = Descriptor::counter("synthetic.calls", Unit::CALLS, "Calls").labels(["process", "kind"]);
            let descriptor = descriptor.share();
            for n in 0..500 {
                let name = format!("process-{n}");
                self.0.push(recorder.series(&descriptor, &[&name, "made up"]).map_err(ProbeError::new)?);
            }
        }
        self.1 += 1_000_000_007;
        for id in &self.0 {
            recorder.counter(*id, self.1);
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
    let explain = |error: &dyn Error| Failure::new(error.to_string());
    let mut agent = Agent::new(Arc::new(SystemClock), Duration::from_secs(1));
    let options = Options::from_value(serde_json::json!({"mode": "return"}));
    agent.add_probe(&PROCESS, &options).map_err(|error| explain(&error))?;
    agent.add_probe(&FILE, &options).map_err(|error| explain(&error))?;
    agent.push_probe("synthetic", Box::new(Synthetic(Vec::new(), 0)));
    let mut netdata = ebpf_process_sinks::netdata::Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut influx = ebpf_process_sinks::influx::Encoder::new("host");
    let mut statsd = ebpf_process_sinks::statsd::Encoder::new(Syntax::Plain, "ebpf_process", 1432);
    let mut json = ebpf_process_sinks::json::Encoder::default();
    let mut prometheus = ebpf_process_sinks::prometheus::Encoder::new("ebpf_process");
    let mut page = Page::default();
    let sinks: [(&str, Box<dyn Sink>); 5] = [
        ("netdata", Box::new(Nowhere(move |view: &View<'_>| netdata.encode(view).len()))),
        ("influx", Box::new(Nowhere(move |view: &View<'_>| influx.encode(view).bytes.len()))),
        ("json", Box::new(Nowhere(move |view: &View<'_>| json.encode(view).map_or(0, <[u8]>::len)))),
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
                prometheus.encode(view, &mut page);
                page.bytes(Format::Text).len()
            })),
        ),
    ];
    let mut books = Vec::new();
    for (name, sink) in sinks {
        let book = Arc::new(Ledger::default());
        books.push(Arc::clone(&book));
        agent.push_sink(sink, OutletSpec::new(name), book).map_err(|error| explain(&error))?;
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
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    settle(&mut agent, &books, 200);
    let allocated = ALLOCATIONS.load(Ordering::SeqCst) - before;
    for book in &books {
        let tally = book.tally();
        if tally.written != tally.offered || tally.written < 220 * 500 {
            return Err(Failure::new(format!("not everything was encoded: {tally:?}")));
        }
    }
    if allocated == 0 { Ok(()) } else { Err(Failure::new(format!("200 steady ticks allocated {allocated} times"))) }
}

#[test]
fn two_hundred_steady_ticks_allocate_nothing() {
    live::test("steady-ticks-allocate-nothing", agent::can_run(), two_hundred_ticks);
}
