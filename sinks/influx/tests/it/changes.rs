//! An agent whose sink is changed, taken out and added again, with an outage in the middle.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ebpf_process_core::engine::{Agent, Clock, OutletSpec, Parts, Setting, SinkPart};
use ebpf_process_core::testkit::{ManualClock, context};
use ebpf_process_core::{
    Ledger, Legacy, Scope, Selection, Settlement, Sink, SinkContext, SinkError, SinkPlugin as _, Tally, View,
};
use ebpf_process_sink_influx::PLUGIN;
use proptest::prelude::*;

use crate::server::{Act, LIMIT, Server, TAKEN, reply};
use crate::sink::{Counters, TEN, options};

const SECOND: Duration = Duration::from_secs(1);

/// Between two ticks while something is waited for.
const PAUSE: Duration = Duration::from_millis(5);

/// Room for all batches of the longest wait: however late the sink's thread runs, none is lost in its queue.
const QUEUE: usize = 8192;

/// What happens to the agent.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ticks(u64),
    /// Requests have at most so many lines from now on, and wait in a spool or in memory.
    Options(usize, Option<&'static str>),
    /// Names begin with this from now on.
    Prefix(&'static str),
    /// The sink is taken out.
    Out,
}

fn step() -> impl Strategy<Value = Step> {
    let spool = prop::sample::select(&[None, Some("a"), Some("b")][..]);
    prop_oneof![
        4 => (1..6_u64).prop_map(Step::Ticks),
        2 => (1..15_usize, spool).prop_map(|(lines, spool)| Step::Options(lines, spool)),
        1 => prop::sample::select(&["", "my.", "other."][..]).prop_map(Step::Prefix),
        1 => Just(Step::Out),
    ]
}

/// The sink under test, and how many samples it was given.
struct Counted(Box<dyn Sink>, Arc<AtomicU64>);

impl Sink for Counted {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.1.fetch_add(view.len() as u64, Ordering::SeqCst);
        self.0.write(view)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.0.flush()
    }

    fn due(&self) -> Option<Instant> {
        self.0.due()
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.0.close()
    }

    fn bequeath(&mut self) -> Option<Legacy> {
        self.0.bequeath()
    }

    fn inherit(&mut self, legacy: Legacy) {
        self.0.inherit(legacy);
    }

    fn settles(&self) -> Settlement {
        self.0.settles()
    }
}

/// An agent with a sink that changes.
struct Scene<'a> {
    agent: Agent,
    clock: Arc<ManualClock>,
    folder: &'a Path,
    url: &'a str,
    lines: usize,
    spool: Option<&'static str>,
    prefix: &'static str,
    given: Arc<AtomicU64>,
    /// The books of all sinks that there were.
    books: Vec<Arc<Ledger>>,
    ticks: u64,
    /// Whether something may have been lost: what waited in memory when the sink was taken out.
    lossy: bool,
}

impl Scene<'_> {
    fn part(&self) -> SinkPart {
        let Self { lines, spool, prefix, folder, url, .. } = *self;
        let spool = spool.map(|name| format!("spool = \"{}\", ", folder.join(name).display())).unwrap_or_default();
        let options = options(&format!(
            "url = \"{url}\"\ndatabase = \"d\"\nmax_lines = {lines}\n\
             delivery = {{ {spool}retry_min = \"1ms\", retry_max = \"5ms\" }}\n"
        ));
        let given = Arc::clone(&self.given);
        SinkPart {
            spec: OutletSpec {
                queue: QUEUE,
                selection: Selection { prefix: prefix.to_owned(), ..Selection::default() },
                ..OutletSpec::new("db")
            },
            plugin: Arc::new(PLUGIN),
            options: options.clone(),
            setting: Setting { instance: None, interval: SECOND, scope: Scope::Host },
            make: Box::new(move |ledger, stop| {
                let sink = PLUGIN.build(&options, SinkContext { ledger, stop, ..context("db") })?;
                Ok(Box::new(Counted(sink, Arc::clone(&given))))
            }),
        }
    }

    fn apply(&mut self, sinks: Vec<SinkPart>) {
        self.agent.apply(Parts { interval: SECOND, grace: LIMIT, probes: Vec::new(), sinks });
        let books = self.agent.vitals().sinks().into_iter().map(|sink| sink.ledger);
        for book in books {
            if self.books.iter().all(|known| !Arc::ptr_eq(known, &book)) {
                self.books.push(book);
            }
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.agent.tick(self.clock.advance(SECOND));
    }

    /// Ticks until something is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < LIMIT, "{what}: {:?}", self.tallies());
            self.tick();
            std::thread::park_timeout(PAUSE);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ticks(ticks) => (0..ticks).for_each(|_| self.tick()),
            Step::Options(lines, spool) => {
                (self.lines, self.spool) = (lines, spool);
                self.apply(vec![self.part()]);
            }
            Step::Prefix(prefix) => {
                self.prefix = prefix;
                self.apply(vec![self.part()]);
            }
            Step::Out => {
                self.lossy |= self.spool.is_none();
                self.apply(Vec::new());
                self.until("it has ended", |scene| scene.agent.vitals().sinks().is_empty());
                self.apply(vec![self.part()]);
            }
        }
    }

    /// Has everything delivered that waits in memory and in this spool.
    fn settle(&mut self, spool: Option<&'static str>) {
        self.take(Step::Options(5, spool));
        // The new one delivers, so that those before it have ended.
        self.until("it delivers", |scene| {
            scene.agent.vitals().sinks().iter().all(|sink| sink.ledger.read(|it| it.written > 0))
        });
        let start = Instant::now();
        while self.agent.vitals().sinks().iter().any(|sink| sink.ledger.read(|it| it.queued + it.spooled > 0)) {
            assert!(start.elapsed() < LIMIT, "everything settled: {:?}", self.tallies());
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn tallies(&self) -> Vec<Tally> {
        self.books.iter().map(|book| book.tally()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_changed_during_an_outage_everything_arrives_once(
        steps in prop::collection::vec(step(), 2..14),
        before in 0..6_usize,
        refused in 0..40_usize,
    ) {
        let taken = std::iter::repeat_n(Act::Reply(TAKEN.to_owned()), before);
        let away = std::iter::repeat_n(reply("503 Service Unavailable", ""), refused);
        let answers: Vec<_> = taken.chain(away).collect();
        let server = Server::start(answers);
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), 100 * SECOND));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
        agent.push_probe("counters", Box::new(Counters::new(TEN, 1)));
        let mut scene = Scene {
            agent,
            clock,
            folder: folder.path(),
            url: &server.url,
            lines: 5,
            spool: None,
            prefix: "",
            given: Arc::default(),
            books: Vec::new(),
            ticks: 0,
            lossy: false,
        };
        scene.apply(vec![scene.part()]);
        for step in steps {
            scene.take(step);
        }
        // What was left on disk when the sink was taken out is found by who has the same spool.
        ["a", "b"].map(Some).into_iter().for_each(|spool| scene.settle(spool));
        let given = scene.given.load(Ordering::SeqCst);
        let (tallies, ticks, prefix, lossy) = (scene.tallies(), scene.ticks, scene.prefix, scene.lossy);
        scene.agent.close(LIMIT);

        let mut points = BTreeSet::new();
        for (number, request) in server.requests().into_iter().enumerate() {
            if number < before || number >= before + refused {
                for line in request.lines {
                    let is_new = points.insert(line.clone());
                    prop_assert!(is_new, "twice: {}", line);
                }
            }
        }
        for tally in &tallies {
            prop_assert!(tally.balances() && tally.queued == 0, "{:?}", tally);
        }
        let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
        let (written, dropped) = (sum(|it| it.written), sum(Tally::dropped_total));
        prop_assert_eq!((written, given), (points.len() as u64, written + dropped), "{:?}", tallies);
        prop_assert!(lossy || dropped == 0, "{:?}", tallies);
        let newest = format!("calls={ticks}i ");
        let totals = points.iter().filter(|line| line.contains(&newest) && !line.is_empty()).count() as u64;
        prop_assert!(totals == TEN, "{} of the totals with prefix {:?}", totals, prefix);
    }
}
