//! Probes that come while an agent collects: prepared by another thread, and no event is lost or counted twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::{ManualClock, MemorySink, RememberedValue, drained};
use ebpf_process_core::*;
use parking_lot::Mutex;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A type of probe that counts events of a test, and keeps a log of what is done by which thread.
struct Plugin {
    events: AtomicU64,
    log: Mutex<Vec<String>>,
    /// What is being prepared waits until this has something or is hung up.
    gate: Mutex<Option<Receiver<()>>>,
    /// The same of what is being dropped.
    exit: Mutex<Option<Receiver<()>>>,
    attempts: AtomicUsize,
}

#[derive(serde::Deserialize)]
struct PluginOptions {
    is: String,
}

impl Plugin {
    const fn new() -> Self {
        Self {
            events: AtomicU64::new(0),
            log: Mutex::new(Vec::new()),
            gate: Mutex::new(None),
            exit: Mutex::new(None),
            attempts: AtomicUsize::new(0),
        }
    }

    fn note(&self, what: &str) {
        let thread = thread::current();
        self.log.lock().push(format!("{what} by {}", thread.name().unwrap_or_default()));
    }

    fn noted(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock())
    }

    fn counting(&'static self, is: String) -> Counting {
        Counting { plugin: self, is, base: self.events.load(Ordering::SeqCst), column: None }
    }
}

/// Counts from its base on.
struct Counting {
    plugin: &'static Plugin,
    is: String,
    base: u64,
    column: Option<ColumnId>,
}

impl Counting {
    fn declare(&mut self, recorder: &mut Recorder) -> Result<(), Refused> {
        let column = Column::counter("test.events", Unit::EVENTS, "Events");
        self.column = Some(recorder.column(recorder.host_kind(), column)?);
        Ok(())
    }
}

impl Probe for Counting {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        if recorder.is_last() {
            self.plugin.note(&format!("{} asked for the last time", self.is));
        }
        let counted = self.plugin.events.load(Ordering::SeqCst) - self.base;
        let column = self.column.ok_or_else(|| ProbeError::new(std::io::Error::other("it has not begun")))?;
        recorder.counter(recorder.host(), column, counted);
        Ok(())
    }
}

impl Prepared for Counting {
    fn take_over(&mut self, ask_predecessor: &mut dyn FnMut()) -> Result<(), BuildError> {
        self.base = self.plugin.events.load(Ordering::SeqCst);
        ask_predecessor();
        // A second time it does nothing.
        ask_predecessor();
        self.plugin.note(&format!("{} takes over", self.is));
        if self.is == "unreadable" { Err(BuildError::refused("no totals", "wait").passing(true)) } else { Ok(()) }
    }

    fn begin(mut self: Box<Self>, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        self.declare(context.recorder)?;
        Ok(self)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let exit = self.plugin.exit.lock().clone();
        self.plugin.note(&format!("{} dropped", self.is));
        if let Some(exit) = exit {
            // As above.
            let _ = exit.recv();
        }
    }
}

/// As the static that it is: a probe of it lives as long as it wants.
struct Type(&'static Plugin);

impl ProbePlugin for Type {
    fn name(&self) -> &'static str {
        "test"
    }

    fn summary(&self) -> &'static str {
        "counts events of a test"
    }

    fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
        Ok(Vec::new())
    }

    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let PluginOptions { is } = options.extract()?;
        self.0.note(&format!("{is} built"));
        let mut counting = self.0.counting(is);
        counting.declare(context.recorder)?;
        Ok(Box::new(counting))
    }

    fn prepare(
        &self,
        options: &Options,
        _: Option<&Arc<dyn Assistant>>,
    ) -> Result<Option<Box<dyn Prepared>>, BuildError> {
        let PluginOptions { is } = options.extract()?;
        self.0.note(&format!("{is} prepared"));
        let attempt = self.0.attempts.fetch_add(1, Ordering::SeqCst);
        let gate = self.0.gate.lock().clone();
        if let Some(gate) = gate {
            // Hung up is open.
            let _ = gate.recv();
        }
        match is.as_str() {
            "refused" => Err(BuildError::refused("no rights", "get some")),
            "late" if attempt == 0 => Err(BuildError::refused("not there yet", "wait").passing(true)),
            "panics" if attempt == 0 => panic!("a bug in somebody's probe"),
            "alone" => Ok(None),
            _ => Ok(Some(Box::new(self.0.counting(is)))),
        }
    }
}

fn part(plugin: &Type, is: &str) -> ProbePart {
    let options = Options::from_value(std::collections::BTreeMap::from([("is", is)]));
    ProbePart { name: "test".into(), plugin: Arc::new(Type(plugin.0)), options }
}

fn parts(probes: Vec<ProbePart>) -> Parts {
    Parts { interval: SECOND, grace: MINUTE, probes, sinks: Vec::new() }
}

/// An agent that collects on a thread of its own, when it is told to.
struct Running {
    plugin: &'static Plugin,
    clock: Arc<ManualClock>,
    ticks: Sender<Moment>,
    remote: Remote,
    vitals: Arc<Vitals>,
    last: Arc<LastBatch>,
    memory: MemorySink,
    ledger: Arc<Ledger>,
    collecting: thread::JoinHandle<()>,
}

#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
impl Running {
    fn start(of: &'static Type, is: Option<&str>) -> Self {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), 100 * SECOND));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
        if let Some(is) = is {
            agent.start_probe(part(of, is)).expect("a probe");
        }
        let (memory, ledger) = (MemorySink::default(), Arc::<Ledger>::default());
        let sink = Box::new(memory.clone());
        agent.push_sink(sink, OutletSpec::new("memory"), Arc::clone(&ledger)).expect("a sink");
        let (ticks, moments) = bounded(0);
        let (remote, vitals, last) = (agent.remote(), Arc::clone(agent.vitals()), Arc::clone(agent.last_batch()));
        let collect = move || {
            let (_stop, stopped) = bounded(0);
            agent.run(&moments, &stopped);
            agent.close(MINUTE);
        };
        let collecting = thread::Builder::new().name("collecting".to_owned()).spawn(collect).expect("a thread");
        let running = Self { plugin: of.0, clock, ticks, remote, vitals, last, memory, ledger, collecting };
        running.wait_for_batch(running.clock.now().boottime);
        running
    }

    /// Some events, and a batch after each.
    fn happen(&self, events: u64) {
        for _ in 0..events {
            self.plugin.events.fetch_add(1, Ordering::SeqCst);
            self.tick();
        }
    }

    /// One more batch: the collecting thread waits for nobody else.
    fn tick(&self) {
        let moment = self.clock.advance(SECOND);
        self.ticks.send_timeout(moment, MINUTE).expect("it collects");
        self.wait_for_batch(moment.boottime);
        // So that a busy machine's queue has room for the next one.
        drained(&self.ledger);
    }

    fn wait_for_batch(&self, of: Duration) {
        let start = Instant::now();
        while self.last.look(|view| view.tick().boottime) != Some(of) {
            assert!(start.elapsed() < MINUTE, "a batch");
            thread::yield_now();
        }
    }

    /// Has it become this by a thread of its own.
    fn apply(&self, probes: Vec<ProbePart>) -> thread::JoinHandle<Result<Vec<String>, NotApplied>> {
        let remote = self.remote.clone();
        let apply = move || remote.apply(parts(probes));
        thread::Builder::new().name("reload".to_owned()).spawn(apply).expect("a thread")
    }

    fn state(&self) -> State {
        self.vitals.probes()[0].condition().state
    }

    /// Ticks until it is so.
    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < MINUTE, "{what}");
            self.tick();
            thread::yield_now();
        }
    }

    /// Ends it: the totals of all batches.
    fn totals(self) -> Vec<u64> {
        drained(&self.ledger);
        drop(self.ticks);
        self.collecting.join().expect("its end");
        assert!(self.ledger.tally().balances() && self.ledger.tally().dropped_total() == 0);
        let value = |value: &RememberedValue| match value {
            RememberedValue::Counter(total) => *total,
            other => panic!("{other:?}"),
        };
        self.memory.samples().iter().map(|sample| value(&sample.value)).collect()
    }
}

#[test]
fn the_one_before_counts_until_its_successor_takes_over_and_the_collecting_thread_waits_for_neither() {
    static PLUGIN: Plugin = Plugin::new();
    static TYPE: Type = Type(&PLUGIN);
    let running = Running::start(&TYPE, Some("a"));
    running.happen(2);
    let ((open, gate), (let_go, exit)) = (bounded::<()>(0), bounded::<()>(0));
    (*PLUGIN.gate.lock(), *PLUGIN.exit.lock()) = (Some(gate), Some(exit));
    PLUGIN.noted();
    let reload = running.apply(vec![part(&TYPE, "b")]);
    // While the successor is prepared there are batches, and they have what happens.
    running.until("it is being prepared", || PLUGIN.attempts.load(Ordering::SeqCst) == 1);
    running.happen(5);
    assert!(!reload.is_finished());
    drop(open);
    let mut noted = Vec::new();
    running.until("the one before is being dropped", || {
        noted.extend(PLUGIN.noted());
        noted.len() == 4
    });
    running.happen(3);
    assert!(!reload.is_finished());
    drop(let_go);
    let said = reload.join().expect("no panic").expect("taken over");
    assert!(said.len() == 1 && said[0].starts_with("probe test is attached ("), "{said:?}");
    assert_eq!(
        noted,
        [
            "b prepared by reload",
            "a asked for the last time by collecting",
            "b takes over by collecting",
            "a dropped by test",
        ]
    );
    let again = running.apply(vec![part(&TYPE, "b")]).join().expect("no panic");
    assert_eq!(again, Ok(Vec::new()), "nothing has changed");
    assert_eq!(PLUGIN.noted(), Vec::<String>::new());
    running.happen(1);
    let totals = running.totals();
    // Each is counted in its tick, by whichever of the two.
    assert!(totals.is_sorted() && totals.last() == Some(&11), "{totals:?}");
    assert_eq!(totals.iter().collect::<std::collections::BTreeSet<_>>().len(), 12, "{totals:?}");
}

#[test]
fn a_probe_that_is_new_is_prepared_as_well_and_one_that_goes_is_asked_once_more() {
    static PLUGIN: Plugin = Plugin::new();
    static TYPE: Type = Type(&PLUGIN);
    let running = Running::start(&TYPE, None);
    running.happen(2);
    running.apply(vec![part(&TYPE, "a")]).join().expect("no panic").expect("taken over");
    running.happen(3);
    let said = running.apply(Vec::new()).join().expect("no panic");
    assert_eq!(said, Ok(vec!["probe test is taken out".to_owned()]));
    running.happen(1);
    assert_eq!(
        PLUGIN.noted(),
        [
            "a prepared by reload",
            "a takes over by collecting",
            "a asked for the last time by collecting",
            "a dropped by test",
        ]
    );
    let totals = running.totals();
    assert_eq!(totals, [1, 2, 3, 3], "from when it takes over to the last look, which is in one more batch");
}

#[test]
fn a_successor_that_cannot_be_had_costs_nothing_of_what_counts() {
    static PLUGIN: Plugin = Plugin::new();
    static TYPE: Type = Type(&PLUGIN);
    let running = Running::start(&TYPE, Some("a"));
    running.happen(2);
    let refused = running.apply(vec![part(&TYPE, "refused")]).join().expect("no panic");
    let reason = "probe test cannot be had with its new options: no rights; get some";
    assert_eq!(refused, Err(NotApplied::Refused(reason.to_owned())));
    running.happen(2);
    assert_eq!(PLUGIN.noted()[1..], ["refused prepared by reload"]);
    assert_eq!(running.state(), State::Working);
    assert_eq!(running.totals().last(), Some(&4));
}

#[test]
fn what_cannot_be_had_yet_is_absent_and_prepared_again_by_a_thread_of_its_own() {
    for (is, reason) in [("late", "not there yet; wait"), ("panics", "it panicked while it was prepared; see the log")]
    {
        // A plugin lives as long as the program.
        let plugin: &'static Plugin = Box::leak(Box::new(Plugin::new()));
        let of: &'static Type = Box::leak(Box::new(Type(plugin)));
        let running = Running::start(of, Some("a"));
        running.happen(3);
        let said = running.apply(vec![part(of, is)]).join().expect("no panic");
        assert_eq!(said, Ok(vec![format!("probe test is not attached: {reason}")]));
        assert_eq!(running.state(), State::Absent);
        running.until("it comes", || running.state() == State::Working);
        running.happen(2);
        let log = plugin.noted();
        let lines: Vec<&str> = log.iter().map(String::as_str).skip(1).collect();
        assert_eq!(
            lines,
            [
                &*format!("{is} prepared by reload"),
                "a asked for the last time by collecting",
                "a dropped by test",
                &*format!("{is} prepared by test"),
                &*format!("{is} takes over by collecting"),
            ]
        );
        assert_eq!(running.totals().last(), Some(&5), "it goes on from 3");
    }
}

#[test]
fn where_there_cannot_be_two_the_one_before_is_gone_first() {
    static PLUGIN: Plugin = Plugin::new();
    static TYPE: Type = Type(&PLUGIN);
    let running = Running::start(&TYPE, Some("a"));
    running.happen(2);
    PLUGIN.noted();
    running.apply(vec![part(&TYPE, "alone")]).join().expect("no panic").expect("taken over");
    running.happen(2);
    assert_eq!(
        PLUGIN.noted(),
        [
            "alone prepared by reload",
            "a asked for the last time by collecting",
            "a dropped by test",
            "alone built by collecting"
        ]
    );
    assert_eq!(running.totals().last(), Some(&4));
}

#[test]
fn one_that_cannot_take_over_is_absent_and_the_last_look_is_not_lost() {
    static PLUGIN: Plugin = Plugin::new();
    static TYPE: Type = Type(&PLUGIN);
    let running = Running::start(&TYPE, Some("a"));
    running.happen(2);
    PLUGIN.events.fetch_add(5, Ordering::SeqCst);
    let said = running.apply(vec![part(&TYPE, "unreadable")]).join().expect("no panic");
    assert_eq!(said, Ok(vec!["probe test is not attached: no totals; wait".to_owned()]));
    assert_eq!(running.state(), State::Absent);
    running.tick();
    assert_eq!(running.totals().last(), Some(&7));
}
