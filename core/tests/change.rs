//! An agent that becomes another one while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::{ManualClock, MemorySink, RememberedValue, drained};
use ebpf_process_core::*;
use parking_lot::Mutex;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What happens in the world: as many events as ticks, counted by whoever looks.
static EVENTS: AtomicU64 = AtomicU64::new(0);

/// Counts events since it was attached: of the host, and of an item whose name its options have.
struct Counting {
    base: u64,
    host: ColumnId,
    item: (RowId, ColumnId),
}

impl Probe for Counting {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let counted = EVENTS.load(Ordering::Relaxed) - self.base;
        recorder.counter(recorder.host(), self.host, counted);
        recorder.counter(self.item.0, self.item.1, counted);
        Ok(())
    }
}

struct CountingPlugin(&'static str);

#[derive(serde::Deserialize)]
struct CountingOptions {
    item: String,
}

impl ProbePlugin for CountingPlugin {
    fn name(&self) -> &'static str {
        self.0
    }

    fn summary(&self) -> &'static str {
        "counts"
    }

    fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
        Ok(Vec::new())
    }

    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let CountingOptions { item } = options.extract()?;
        if item == "refused" {
            return Err(BuildError::refused("no rights", "get some"));
        }
        let recorder = context.recorder;
        let name = format!("{}.events", self.0);
        let host = recorder.column(recorder.host_kind(), Column::counter(name.clone(), Unit::EVENTS, "Events"))?;
        let kind = EntityKind::new("item").keys(["item"]);
        let kind = recorder.existing_kind("item").map_or_else(|| recorder.kind(kind), Ok)?;
        let column = recorder.column(kind, Column::counter(name, Unit::EVENTS, "Events"))?;
        let row = recorder.row(kind, u64::from(item.as_bytes()[0]), &[&item])?;
        Ok(Box::new(Counting { base: EVENTS.load(Ordering::Relaxed), host, item: (row, column) }))
    }
}

const FIRST: CountingPlugin = CountingPlugin("first");
const SECOND_ONE: CountingPlugin = CountingPlugin("second");

fn options(key: &str, value: &str) -> Options {
    Options::from_value(std::collections::BTreeMap::from([(key, value)]))
}

fn probe(plugin: CountingPlugin, item: &str) -> ProbePart {
    ProbePart { name: plugin.0.into(), plugin: Arc::new(plugin), options: options("item", item) }
}

/// A type of sink whose sinks a test makes.
struct Kind;

impl SinkPlugin for Kind {
    fn name(&self) -> &'static str {
        "kind"
    }

    fn summary(&self) -> &'static str {
        "is made by a test"
    }

    fn check(&self, _: &Options) -> Result<Claims, OptionsError> {
        Ok(Claims::default())
    }

    fn build(&self, _: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        Err(BuildError::refused("a test makes it", "write one"))
    }

    fn succeeds(&self, _: &Options, _: &Options) -> bool {
        true
    }
}

/// A queue with room for all batches of a test: however late the sink's thread runs, none is lost in it.
fn roomy(name: &str) -> OutletSpec {
    OutletSpec { queue: 8192, ..OutletSpec::new(name) }
}

fn sink(name: &str, place: &str, make: impl FnMut(Arc<Ledger>) -> Made + Send + 'static) -> SinkPart {
    let mut make = make;
    SinkPart {
        spec: roomy(name),
        plugin: Arc::new(Kind),
        options: options("place", place),
        setting: Setting { instance: None, interval: SECOND, scope: Scope::Host },
        make: Box::new(move |ledger, _| make(ledger)),
    }
}

type Made = Result<Box<dyn Sink>, BuildError>;

fn taking(memory: &MemorySink) -> impl FnMut(Arc<Ledger>) -> Made + Send + 'static {
    let memory = memory.clone();
    move |_| Ok(Box::new(memory.clone()))
}

fn parts(probes: Vec<ProbePart>, sinks: Vec<SinkPart>) -> Parts {
    Parts { interval: SECOND, grace: MINUTE, probes, sinks }
}

fn agent() -> (Agent, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), 100 * SECOND));
    (Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND), clock)
}

/// Waits for what another thread does.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < MINUTE, "{what}");
        std::thread::yield_now();
    }
}

#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
fn ledger(agent: &Agent, name: &str) -> Arc<Ledger> {
    let sinks = agent.vitals().sinks();
    Arc::clone(&sinks.iter().find(|sink| sink.name == name).expect("a sink").ledger)
}

/// The values of a metric, by what its rows are called.
fn values(memory: &MemorySink, metric: &str) -> Vec<(String, u64)> {
    let samples = memory.samples();
    let of = samples.iter().filter(|sample| sample.name == metric);
    let value = |value: &RememberedValue| match value {
        RememberedValue::Counter(total) => *total,
        other => panic!("{other:?}"),
    };
    of.map(|sample| {
        let labels: Vec<&str> = sample.labels.iter().map(|(_, value)| &**value).collect();
        (labels.join(","), value(&sample.value))
    })
    .collect()
}

#[test]
fn what_is_the_same_goes_on_undisturbed_and_what_is_attached_anew_goes_on_from_what_it_had_counted() {
    static LOCK: Mutex<()> = Mutex::new(());
    let _alone = LOCK.lock();
    let (mut agent, clock) = agent();
    let memory = MemorySink::default();
    agent.start_probe(probe(FIRST, "a")).expect("a probe");
    agent.start_probe(probe(SECOND_ONE, "a")).expect("a probe");
    agent.start_sink(sink("memory", "x", taking(&memory))).expect("a sink");
    let happen = |agent: &mut Agent, ticks: u64| {
        for _ in 0..ticks {
            EVENTS.fetch_add(1, Ordering::Relaxed);
            agent.tick(clock.advance(SECOND));
            drained(&ledger(agent, "memory"));
        }
    };
    happen(&mut agent, 3);
    let again = |item: &str| {
        parts(vec![probe(FIRST, "a"), probe(SECOND_ONE, item)], vec![sink("memory", "x", taking(&memory))])
    };
    assert_eq!(agent.apply(again("a")), Vec::<String>::new(), "nothing has changed");
    // Its item is another one now: the row of the one before, which the other probe has as well, goes on without it.
    let said = agent.apply(again("b"));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("probe second is attached"), "{said:?}");
    happen(&mut agent, 2);
    // It is taken out: its row ends, and the host's column stays away.
    assert_eq!(
        agent.apply(parts(vec![probe(FIRST, "a")], vec![sink("memory", "x", taking(&memory))])),
        ["probe second is taken out"]
    );
    happen(&mut agent, 2);
    assert!(agent.apply(again("b"))[0].starts_with("probe second is attached"));
    happen(&mut agent, 1);
    let tally = ledger(&agent, "memory").tally();
    assert!(tally.balances() && tally.dropped_total() == 0, "{tally:?}");
    agent.close(MINUTE);

    let first: Vec<u64> = values(&memory, "first.events").into_iter().map(|(_, total)| total).collect();
    assert_eq!(first, [1, 2, 3, 4, 5, 6, 7, 8], "undisturbed");
    let second: Vec<u64> = values(&memory, "second.events").into_iter().map(|(_, total)| total).collect();
    assert_eq!(second, [1, 2, 3, 4, 5, 5, 6], "it goes on from 3, from 5 at the last look, and counts from there");
    let items = values(&memory, "item.second.events");
    let of = |name: &str| items.iter().filter(|(item, _)| item == name).map(|(_, total)| *total).collect::<Vec<_>>();
    assert_eq!(of("a"), [1, 2, 3, 3], "the last look, and no value while nobody counts it");
    assert_eq!(of("b"), [1, 2, 2, 1], "it ends with what it had, and begins anew");
    let other: Vec<u64> = values(&memory, "item.first.events").into_iter().map(|(_, total)| total).collect();
    assert_eq!(other, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_selection_is_taken_over_at_once_with_the_same_sink() {
    let (mut agent, clock) = agent();
    agent.push_probe("x", Box::new(Steady(None)));
    let memory = MemorySink::default();
    agent.start_sink(sink("memory", "x", taking(&memory))).expect("a sink");
    agent.tick(clock.advance(SECOND));
    drained(&ledger(&agent, "memory"));
    let before = ledger(&agent, "memory");
    let renamed = || {
        let mut part = sink("memory", "x", |_| unreachable!("the sink stays"));
        part.spec.selection.prefix = "my.".to_owned();
        part.spec.queue_bytes = 1 << 20;
        part
    };
    assert_eq!(agent.apply(parts(Vec::new(), vec![renamed()])), ["sink memory has another selection or pace"]);
    assert_eq!(agent.apply(parts(Vec::new(), vec![renamed()])), Vec::<String>::new());
    agent.tick(clock.advance(SECOND));
    assert!(Arc::ptr_eq(&before, &ledger(&agent, "memory")));
    agent.close(MINUTE);
    let names: Vec<String> = memory.samples().iter().map(|sample| sample.name.clone()).collect();
    assert_eq!(names, ["steady.total", "my.steady.total"]);
}

/// A counter of the host that stands still.
struct Steady(Option<ColumnId>);

impl Probe for Steady {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let column = match self.0 {
            Some(column) => column,
            None => recorder.column(recorder.host_kind(), Column::counter("steady.total", Unit::EVENTS, "Total"))?,
        };
        self.0 = Some(column);
        recorder.counter(recorder.host(), column, 7);
        Ok(())
    }
}

/// Keeps what it gets and delivers nothing; leaves it to whoever comes.
struct Hoarding {
    ledger: Arc<Ledger>,
    held: u64,
    inherited: Arc<AtomicU64>,
}

impl Sink for Hoarding {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.held += view.len() as u64;
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.ledger.written(self.held);
        Ok(())
    }

    fn bequeath(&mut self) -> Option<Legacy> {
        Some(Legacy::new(self.held, self.held))
    }

    fn inherit(&mut self, legacy: Legacy) {
        let held = legacy.content.downcast::<u64>().map_or(0, |held| *held);
        assert_eq!(held, legacy.samples);
        self.held += held;
        self.inherited.fetch_add(held, Ordering::Relaxed);
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

#[test]
fn a_successor_inherits_what_was_not_delivered_and_the_books_of_both_add_up() {
    let (mut agent, clock) = agent();
    agent.push_probe("x", Box::new(Steady(None)));
    let inherited = Arc::new(AtomicU64::new(0));
    let hoarding = || {
        let inherited = Arc::clone(&inherited);
        move |ledger| -> Made { Ok(Box::new(Hoarding { ledger, held: 0, inherited: Arc::clone(&inherited) })) }
    };
    agent.start_sink(sink("db", "one", hoarding())).expect("a sink");
    for (round, place) in ["two", "three", "four"].into_iter().enumerate() {
        for _ in 0..5 {
            agent.tick(clock.advance(SECOND));
        }
        assert_eq!(agent.apply(parts(Vec::new(), vec![sink("db", place, hoarding())])), ["sink db is another one"]);
        let expected: u64 = (1..=round as u64 + 1).map(|n| 5 * n).sum();
        eventually("the successor has everything", || inherited.load(Ordering::Relaxed) == expected);
    }
    agent.tick(clock.advance(SECOND));
    let [closed] = &agent.close(MINUTE)[..] else { panic!("one sink") };
    assert_eq!((closed.tally.offered, closed.tally.written), (16, 16), "{closed:?}");
    assert!(closed.tally.balances());
}

#[test]
fn a_sink_that_is_taken_out_delivers_what_waits_and_its_row_ends() {
    let (mut agent, clock) = agent();
    agent.push_probe("x", Box::new(Steady(None)));
    agent.add_probe(&VITALS, &Options::none()).expect("a probe");
    let (memory, other) = (MemorySink::default(), MemorySink::default());
    agent.start_sink(sink("stays", "x", taking(&memory))).expect("a sink");
    agent.start_sink(sink("goes", "x", taking(&other))).expect("a sink");
    agent.tick(clock.advance(SECOND));
    let gone = ledger(&agent, "goes");
    let stays = || sink("stays", "x", |_| unreachable!("the sink stays"));
    assert_eq!(agent.apply(parts(Vec::new(), vec![stays()])), ["sink goes is taken out"]);
    eventually("its thread has ended", || {
        agent.tick(clock.advance(SECOND));
        agent.vitals().sinks().len() == 1
    });
    let tally = gone.tally();
    assert!(tally.balances() && tally.written == tally.offered && tally.written > 0, "{tally:?}");
    drained(&ledger(&agent, "stays"));
    agent.tick(clock.advance(SECOND));
    agent.tick(clock.advance(SECOND));
    drained(&ledger(&agent, "stays"));
    let samples = memory.samples();
    let last = samples.iter().map(|sample| sample.seq).max().expect("samples");
    let states = samples.iter().filter(|sample| sample.name == "agent.sink_state" && sample.seq == last);
    assert_eq!(states.map(|sample| sample.labels[0].1.clone()).collect::<Vec<_>>(), ["stays"]);
    agent.close(MINUTE);
}

#[test]
fn what_is_refused_in_passing_comes_later_and_has_the_rows_that_ended_meanwhile() {
    let (mut agent, clock) = agent();
    agent.push_probe("x", Box::new(Steady(None)));
    let memory = MemorySink::default();
    let attempts = Arc::new(AtomicUsize::new(0));
    let (seen, mut make) = (Arc::clone(&attempts), taking(&memory));
    let part = sink("late", "x", move |ledger| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Err(BuildError::refused("the port is taken", "wait").passing(true)),
        _ => make(ledger),
    });
    agent.start_sink(part).expect_err("refused at first");
    agent.tick(clock.advance(SECOND));
    let book = ledger(&agent, "late");
    let condition = book.condition();
    assert_eq!((condition.state, condition.reason.as_deref()), (State::Absent, Some("the port is taken; wait")));
    assert_eq!(book.tally().offered, 0, "nothing is offered to nobody");
    eventually("it comes", || book.condition().state == State::Working);
    agent.tick(clock.advance(SECOND));
    let closed = agent.close(MINUTE);
    assert_eq!((closed[0].tally.offered, closed[0].tally.written), (1, 1), "{closed:?}");
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
}

#[test]
fn a_sink_that_panics_is_built_anew_and_what_it_held_is_counted() {
    struct Panics(Arc<Ledger>, Arc<AtomicUsize>);
    impl Sink for Panics {
        fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
            assert!(self.1.fetch_add(1, Ordering::SeqCst) > 0, "a bug in somebody's sink");
            self.0.written(view.len() as u64);
            Ok(())
        }
        fn settles(&self) -> Settlement {
            Settlement::BySink
        }
    }
    let (mut agent, clock) = agent();
    agent.push_probe("x", Box::new(Steady(None)));
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&writes);
    let part = sink("shaky", "x", move |ledger| Ok(Box::new(Panics(ledger, Arc::clone(&counted)))));
    agent.start_sink(part).expect("a sink");
    agent.tick(clock.advance(SECOND));
    let book = ledger(&agent, "shaky");
    eventually("it has panicked", || writes.load(Ordering::SeqCst) == 1 && book.condition().state == State::Absent);
    eventually("it is built anew", || book.condition().state == State::Working);
    agent.tick(clock.advance(SECOND));
    let tally = &agent.close(MINUTE)[0].tally;
    assert_eq!((tally.offered, tally.written), (2, 1), "{tally:?}");
    assert_eq!(tally.dropped, [("sink panicked", 1)]);
    assert!(tally.balances());
}

#[test]
fn a_probe_that_panics_is_built_anew_and_goes_on() {
    struct Shaky(u64);
    impl Probe for Shaky {
        fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
            self.0 += 1;
            let column = Column::counter("shaky.total", Unit::EVENTS, "Total");
            let column = recorder.column(recorder.host_kind(), column)?;
            recorder.counter(recorder.host(), column, self.0);
            assert!(self.0 != 3, "a bug in somebody's probe");
            Ok(())
        }
    }
    struct ShakyPlugin;
    impl ProbePlugin for ShakyPlugin {
        fn name(&self) -> &'static str {
            "shaky"
        }
        fn summary(&self) -> &'static str {
            "panics at times"
        }
        fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
            Ok(Vec::new())
        }
        fn build(&self, _: &Options, _: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
            Ok(Box::new(Shaky(0)))
        }
    }
    let (mut agent, clock) = agent();
    let part = ProbePart { name: "shaky".into(), plugin: Arc::new(ShakyPlugin), options: Options::none() };
    agent.start_probe(part).expect("a probe");
    let memory = MemorySink::default();
    agent.push_sink(Box::new(memory.clone()), roomy("memory"), Arc::default()).expect("a sink");
    let state = |agent: &Agent| agent.vitals().probes()[0].condition().state;
    for _ in 0..3 {
        agent.tick(clock.advance(SECOND));
    }
    assert_eq!(state(&agent), State::Absent);
    let start = Instant::now();
    while state(&agent) != State::Working {
        assert!(start.elapsed() < MINUTE, "it is built anew");
        agent.tick(clock.advance(SECOND));
        std::thread::park_timeout(Duration::from_millis(10));
    }
    agent.close(MINUTE);
    let totals: Vec<u64> = values(&memory, "shaky.total").into_iter().map(|(_, total)| total).collect();
    // What it recorded before it panicked is in that batch; the next one counts from there.
    assert_eq!((totals[..3].to_vec(), totals.last()), (vec![1, 2, 3], Some(&4)), "{totals:?}");
}

#[test]
fn a_probe_that_is_over_is_built_anew_when_a_configuration_is_read_again() {
    struct Over(Option<ColumnId>);
    impl Probe for Over {
        fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
            let Some(column) = self.0 else { return Err(ProbeError::closed("it is over")) };
            recorder.counter(recorder.host(), column, 7);
            Ok(())
        }
    }
    let built = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&built);
    let make = move |_: serde::de::IgnoredAny, context: &mut ProbeContext<'_>| {
        let kind = context.recorder.host_kind();
        let column = context.column(kind, Column::counter("over.total", Unit::EVENTS, "Total"))?;
        Ok(Over((count.fetch_add(1, Ordering::Relaxed) > 0).then_some(column)))
    };
    let plugin: Arc<dyn ProbePlugin> = Arc::new(ProbeType::new("over", "is over", make));
    let part = || ProbePart { name: "over".into(), plugin: Arc::clone(&plugin), options: Options::none() };
    let (mut agent, clock) = agent();
    agent.start_probe(part()).expect("a probe");
    let memory = MemorySink::default();
    agent.push_sink(Box::new(memory.clone()), roomy("memory"), Arc::default()).expect("a sink");
    for _ in 0..3 {
        agent.tick(clock.advance(SECOND));
    }
    assert_eq!(built.load(Ordering::Relaxed), 1, "it is not tried again by itself");
    let said = agent.apply(parts(vec![part()], Vec::new()));
    assert!(said.len() == 1 && said[0].starts_with("probe over is attached"), "{said:?}");
    agent.tick(clock.advance(SECOND));
    let state = agent.vitals().probes()[0].condition().state;
    agent.close(MINUTE);
    assert_eq!((state, values(&memory, "over.total").len()), (State::Working, 1));
}

#[test]
fn a_probe_that_is_refused_for_good_is_closed_and_the_others_go_on() {
    let (mut agent, clock) = agent();
    agent.start_probe(probe(FIRST, "a")).expect("a probe");
    let memory = MemorySink::default();
    agent.push_sink(Box::new(memory.clone()), roomy("memory"), Arc::default()).expect("a sink");
    let said = agent.apply(parts(vec![probe(FIRST, "a"), probe(SECOND_ONE, "refused")], Vec::new()));
    assert_eq!(said, ["probe second is not attached: no rights; get some"]);
    agent.tick(clock.advance(SECOND));
    let again = agent.apply(parts(vec![probe(FIRST, "a"), probe(SECOND_ONE, "refused")], Vec::new()));
    assert_eq!(again, said, "it is tried again when a configuration is read again");
    let conditions: Vec<_> = agent.vitals().probes().iter().map(|probe| probe.condition().state).collect();
    assert_eq!(conditions, [State::Working, State::Closed]);
    agent.close(MINUTE);
    assert_eq!(values(&memory, "first.events").len(), 1);
}

/// Puts what it gets on a disk that its successors have as well.
struct Spooling {
    ledger: Arc<Ledger>,
    disk: Arc<AtomicU64>,
}

impl Sink for Spooling {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.ledger.spool(view.len() as u64);
        self.disk.fetch_add(view.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

#[test]
fn what_a_predecessor_has_left_on_disk_is_in_the_sum_once() {
    let (mut agent, clock) = agent();
    agent.push_probe("x", Box::new(Steady(None)));
    agent.add_probe(&VITALS, &Options::none()).expect("a probe");
    let (disk, memory) = (Arc::new(AtomicU64::new(0)), MemorySink::default());
    let spooling = || {
        let disk = Arc::clone(&disk);
        move |ledger: Arc<Ledger>| -> Made {
            ledger.recovered(disk.load(Ordering::SeqCst));
            Ok(Box::new(Spooling { ledger, disk: Arc::clone(&disk) }))
        }
    };
    let parts_of = |place: &str| {
        let mut db = sink("db", place, spooling());
        db.spec.selection.include = vec!["steady.total".to_owned()];
        parts(Vec::new(), vec![db, sink("memory", "x", taking(&memory))])
    };
    agent.apply(parts_of("one"));
    let mut ticks = 0;
    for place in ["two", "three", "four"] {
        let sum = |agent: &Agent| agent.vitals().sinks()[0].tally();
        for _ in 0..3 {
            ticks += 1;
            let book = ledger(&agent, "db");
            let before = book.tally().offered;
            // Nothing is offered before it is built.
            eventually("it is built", || {
                agent.tick(clock.advance(SECOND));
                book.tally().offered > before
            });
            eventually("all is on disk", || disk.load(Ordering::SeqCst) == ticks);
        }
        let before = sum(&agent);
        assert_eq!((before.offered, before.spooled, before.balances()), (ticks, ticks, true), "{before:?}");
        let former = ledger(&agent, "db");
        agent.apply(parts_of(place));
        eventually("the successor has found it", || ledger(&agent, "db").tally().spooled == ticks);
        assert_eq!(sum(&agent), before);
        assert!(former.tally().balances());
    }
    drained(&ledger(&agent, "memory"));
    agent.close(MINUTE);
    let samples = memory.samples();
    let offered = samples.iter().filter(|sample| {
        sample.name == "agent.samples" && ["db", "offered"].iter().all(|it| sample.labels.iter().any(|l| l.1 == *it))
    });
    let offered: Vec<_> = offered.map(|sample| sample.value.clone()).collect();
    let totals: Vec<u64> = offered.iter().map(|it| if let RememberedValue::Counter(n) = it { *n } else { 0 }).collect();
    assert!(totals.len() > 8 && totals.is_sorted(), "{totals:?}");
}
