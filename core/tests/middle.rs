//! The whole middle: whatever becomes of rows and of sinks, what a sink took and what its ledger says is lost add up to
//! what the probe made.

mod workshop;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::{ManualClock, drained};
use ebpf_process_core::*;
use parking_lot::{Condvar, Mutex};
use proptest::prelude::*;
use workshop::{CALLS, Deed, SIZES, TOLD, Truth, Workshop, deeds};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any machine is busy.
const MINUTE: Duration = Duration::from_secs(60);

/// Who says what became of a view that the sink took, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settles {
    OnReturn,
    AtOnce,
    Twice,
    /// So many views later.
    Late(usize),
    Never,
}

/// How one sink behaves.
#[derive(Clone, Debug)]
struct Manner {
    every: u32,
    queue: usize,
    when_full: WhenFull,
    finals_bytes: usize,
    settles: Settles,
    /// Whether the call of this number succeeds, over and over.
    writes: Vec<bool>,
    flushes: Vec<bool>,
    /// The write at which it is over.
    closes: Option<usize>,
    /// Whether it does anything in the tick of this number, over and over.
    awake: Vec<bool>,
    /// It takes rows of the first names only.
    picky: bool,
}

fn manners() -> impl Strategy<Value = Manner> {
    let when_full = prop_oneof![Just(WhenFull::DropOldest), Just(WhenFull::DropNewest)];
    let settles = prop_oneof![
        4 => Just(Settles::OnReturn),
        1 => Just(Settles::AtOnce),
        1 => Just(Settles::Twice),
        1 => (1..4_usize).prop_map(Settles::Late),
        1 => Just(Settles::Never),
    ];
    let finals_bytes = prop_oneof![Just(1), 500..5000_usize, Just(OutletSpec::DEFAULT_FINALS_BYTES)];
    let mostly = || prop::collection::vec(prop::bool::weighted(0.7), 1..6);
    let closes = prop::option::weighted(0.15, 0..8_usize);
    let who = (settles, closes, prop::bool::weighted(0.2));
    let way = (1..5_u32, 1..4_usize, when_full, finals_bytes);
    (way, who, mostly(), mostly(), mostly()).prop_map(|(way, (settles, closes, picky), writes, flushes, awake)| {
        let (every, queue, when_full, finals_bytes) = way;
        let mut manner =
            Manner { every, queue, when_full, finals_bytes, settles, writes, flushes, closes, awake, picky };
        if matches!(settles, Settles::Late(_) | Settles::Never) {
            // Its book does not tell when it is through with a view: it takes each at once.
            (manner.queue, manner.awake, manner.closes) = (64, vec![true], None);
            manner.finals_bytes = OutletSpec::DEFAULT_FINALS_BYTES;
        }
        manner
    })
}

/// The cells of a row that a sink has: calls, how often the histogram was hit, and the total that was told.
type Had = [Option<u64>; 3];

/// What a view had, as far as it matters.
struct Digest {
    seq: u64,
    rows: Vec<(RowId, bool, Had)>,
    host: Option<u64>,
    samples: u64,
}

impl Digest {
    fn of(view: View<'_>) -> Self {
        let mut texts = HashSet::new();
        let mut rows = Vec::new();
        let mut host = None;
        for (kind, row) in view.kinds().flat_map(|kind| kind.rows().map(move |row| (kind, row))) {
            let mut had = Had::default();
            for (column, value) in row.cells() {
                had[column] = match value {
                    Value::Counter(total) => Some(total),
                    Value::Histogram(histogram) => Some(histogram.count()),
                    value => panic!("{value:?}"),
                };
            }
            if kind.kind().name() == EntityKind::HOST {
                host = had[CALLS];
            } else {
                let text: Vec<_> = row.labels().map(|(_, value)| value.to_owned()).collect();
                assert!(texts.insert((row.tick().seq, text)), "two rows of one name at one time");
                rows.push((row.id(), row.is_final(), had));
            }
        }
        Self { seq: view.tick().seq, rows, host, samples: view.len() as u64 }
    }
}

/// What a sink has taken for good.
#[derive(Default)]
struct Taken {
    seq: Option<u64>,
    living: HashMap<RowId, Had>,
    finals: HashMap<RowId, Had>,
    host: u64,
    samples: u64,
    views: u64,
}

impl Taken {
    fn take(&mut self, digest: Digest) {
        assert!(self.seq.is_none_or(|last| last < digest.seq), "views come in order");
        self.seq = Some(digest.seq);
        self.samples += digest.samples;
        self.host = digest.host.unwrap_or(self.host).max(self.host);
        for (id, is_final, had) in digest.rows {
            assert!(!self.finals.contains_key(&id), "a row comes again after its end");
            let known = self.living.entry(id).or_default();
            for (known, now) in known.iter_mut().zip(had).filter(|(_, now)| now.is_some()) {
                assert!(*known <= now, "a total falls");
                *known = now;
            }
            if is_final {
                let last = self.living.remove(&id).unwrap_or_default();
                assert_eq!(last, had, "the end has all that there ever was");
                self.finals.insert(id, had);
            }
        }
    }
}

/// What the test and the sink's thread both know.
#[derive(Default)]
struct Shared {
    taken: Mutex<Taken>,
    /// Whether the sink may go on, and whether it waits for that.
    gate: Mutex<(bool, bool)>,
    turn: Condvar,
}

struct Taker {
    manner: Manner,
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    calls: [usize; 2],
    unflushed: Vec<Digest>,
    unsettled: std::collections::VecDeque<u64>,
}

impl Taker {
    /// Whether the call of this number succeeds.
    fn succeeds(&mut self, which: usize) -> Result<(), SinkError> {
        let outcomes = [&self.manner.writes, &self.manner.flushes][which];
        let call = self.calls[which];
        self.calls[which] += 1;
        if which == 0 && self.manner.closes == Some(call) {
            return Err(SinkError::closed("gone"));
        }
        if outcomes[call % outcomes.len()] { Ok(()) } else { Err(SinkError::failed("made up")) }
    }

    fn wait(&self) {
        let mut gate = self.shared.gate.lock();
        gate.1 = true;
        self.shared.turn.notify_all();
        while !gate.0 {
            self.shared.turn.wait(&mut gate);
        }
        gate.1 = false;
    }

    fn settle(&mut self, later: usize) {
        while self.unsettled.len() > later {
            self.ledger.written(self.unsettled.pop_front().unwrap_or_default());
        }
    }
}

impl Sink for Taker {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.wait();
        self.shared.taken.lock().views += 1;
        let digest = Digest::of(*view);
        let outcome = self.succeeds(0);
        if self.manner.settles == Settles::OnReturn {
            outcome?;
            self.unflushed.push(digest);
            return Ok(());
        }
        if let Err(error) = outcome {
            if self.manner.closes != Some(self.calls[0] - 1) {
                self.ledger.failed(digest.samples);
            }
            return Err(error);
        }
        let samples = digest.samples;
        self.shared.taken.lock().take(digest);
        match self.manner.settles {
            Settles::OnReturn | Settles::AtOnce => self.ledger.written(samples),
            Settles::Twice => (0..2).for_each(|_| self.ledger.written(samples)),
            Settles::Late(later) => {
                self.unsettled.push_back(samples);
                self.settle(later);
            }
            Settles::Never => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        if self.unflushed.is_empty() {
            return Ok(());
        }
        let digests: Vec<_> = self.unflushed.drain(..).collect();
        self.succeeds(1)?;
        for digest in digests {
            self.shared.taken.lock().take(digest);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.settle(0);
        Ok(())
    }

    fn settles(&self) -> Settlement {
        if self.manner.settles == Settles::OnReturn { Settlement::OnReturn } else { Settlement::BySink }
    }
}

/// The test's end of a sink.
struct Outlet {
    manner: Manner,
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    /// When it was handed a batch last, in seconds on the wall clock.
    last: Option<u64>,
    handed: u64,
}

impl Outlet {
    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    fn add(agent: &mut Agent, manner: Manner, index: usize) -> Self {
        let (shared, ledger) = (Arc::new(Shared::default()), Arc::new(Ledger::default()));
        let mut selection = Selection::default();
        if manner.picky {
            selection.matching.insert("name".to_owned(), "same*".to_owned());
        }
        let spec = OutletSpec {
            selection,
            queue: manner.queue,
            when_full: manner.when_full,
            finals_bytes: manner.finals_bytes,
            interval: Some(manner.every * SECOND),
            ..OutletSpec::new(format!("sink {index}"))
        };
        let taker = Taker {
            manner: manner.clone(),
            shared: Arc::clone(&shared),
            ledger: Arc::clone(&ledger),
            calls: [0; 2],
            unflushed: Vec::new(),
            unsettled: std::collections::VecDeque::new(),
        };
        agent.push_sink(Box::new(taker), spec, Arc::clone(&ledger)).expect("a sink");
        Self { manner, shared, ledger, last: None, handed: 0 }
    }

    /// Lets the sink go on from here, or stop before its next view.
    fn wake(&self, awake: bool) {
        self.shared.gate.lock().0 = awake;
        self.shared.turn.notify_all();
    }

    /// Whether the batch of this second is the sink's.
    fn is_handed(&mut self, wall: u64) -> bool {
        let every = u64::from(self.manner.every);
        let takes = self.last.is_none_or(|last| wall / every != last / every || wall - last >= every);
        self.last = if takes { Some(wall) } else { self.last };
        takes
    }

    /// Waits until the sink has done all that it does in this tick.
    fn settle(&mut self, wall: u64, awake: bool) {
        let is_handed = self.is_handed(wall);
        self.handed += u64::from(is_handed);
        let is_over = || self.ledger.condition().state == State::Closed;
        if self.takes_each_at_once() {
            self.until(|| self.shared.taken.lock().views == self.handed);
        } else if awake {
            drained(&self.ledger);
        } else if is_handed {
            self.until(|| self.shared.gate.lock().1 || is_over());
        }
    }

    /// Its book does not tell when it is through with a view.
    fn takes_each_at_once(&self) -> bool {
        matches!(self.manner.settles, Settles::Late(_) | Settles::Never)
    }

    fn until(&self, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < MINUTE, "it takes no view: {:?} {:?}", self.manner, self.ledger.tally());
            std::thread::yield_now();
        }
    }
}

/// What the sink has of a row, if it has all of it.
fn whole(truth: &Truth) -> Had {
    let mut had = Had::default();
    had[CALLS] = truth.calls;
    had[SIZES] = truth.calls.map(|_| truth.sizes);
    had[TOLD] = (!truth.is_other).then(|| truth.told());
    had
}

/// What was counted by a tick for the host and for each row.
type Page = (u64, HashMap<RowId, Truth>);

/// A page for each tick.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<Page>>>);

struct Working {
    workshop: Workshop,
    ticks: std::vec::IntoIter<Vec<(usize, Deed)>>,
    book: Book,
}

impl Probe for Working {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        // The last batch of the run has no deeds.
        self.workshop.tick(recorder, &self.ticks.next().unwrap_or_default());
        self.book.0.lock().push((self.workshop.host, self.workshop.rows.clone()));
        Ok(())
    }
}

struct WorkshopPlugin(Vec<Vec<(usize, Deed)>>, usize, Book);

impl ProbePlugin for WorkshopPlugin {
    fn name(&self) -> &'static str {
        "workshop"
    }
    fn summary(&self) -> &'static str {
        "made up"
    }
    fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
        Ok(Vec::new())
    }
    fn build(&self, _: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let workshop = Workshop::new(context.recorder, self.1);
        Ok(Box::new(Working { workshop, ticks: self.0.clone().into_iter(), book: self.2.clone() }))
    }
}

/// The samples of a ledger that were dropped for a reason.
fn dropped(tally: &Tally, reason: &str) -> u64 {
    tally.dropped.iter().filter(|(known, _)| *known == reason).map(|(_, samples)| samples).sum()
}

proptest! {
    #[test]
    fn what_was_taken_and_what_was_lost_add_up(
        ticks in deeds(),
        limit in prop_oneof![0..6_usize, Just(1000)],
        manners in prop::collection::vec(manners(), 1..5),
    ) {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), 100 * SECOND));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
        let book = Book::default();
        agent.add_probe(&WorkshopPlugin(ticks.clone(), limit, book.clone()), &Options::none()).expect("a probe");
        let mut outlets: Vec<_> = manners.into_iter().enumerate()
            .map(|(index, manner)| Outlet::add(&mut agent, manner, index))
            .collect();
        let mut wall = 1_600_000_000;
        for tick in 0..ticks.len() {
            wall += 1;
            let awake = |outlet: &Outlet| outlet.manner.awake[tick % outlet.manner.awake.len()];
            for outlet in &outlets {
                outlet.wake(awake(outlet));
            }
            agent.tick(clock.advance(SECOND));
            for outlet in &mut outlets {
                let awake = awake(outlet);
                outlet.settle(wall, awake);
                if outlet.manner.settles != Settles::Twice {
                    prop_assert!(outlet.ledger.tally().balances());
                }
            }
        }
        for outlet in &outlets {
            outlet.wake(true);
            if !outlet.takes_each_at_once() {
                drained(&outlet.ledger);
            }
        }
        agent.tick_whole(clock.advance(SECOND));
        let closed = agent.close(MINUTE);
        let book = book.0.lock();
        let (_, end) = book.last().expect("a tick");
        for (outlet, closed) in outlets.iter().zip(closed) {
            let (manner, tally, taken) = (&outlet.manner, closed.tally, outlet.shared.taken.lock());
            prop_assert!(closed.in_time);
            prop_assert_eq!(tally.accounted(), tally.offered + tally.mis_settled, "{:?}", tally);
            prop_assert!(manner.settles == Settles::Twice || tally.mis_settled == 0, "{:?}", tally);
            // What it says it has, it has.
            match manner.settles {
                Settles::Twice => prop_assert_eq!(tally.written, 2 * taken.samples),
                Settles::Never => {
                    prop_assert_eq!(tally.written, 0);
                    prop_assert_eq!(dropped(&tally, "never settled by the sink"), taken.samples);
                }
                _ => prop_assert_eq!(tally.written, taken.samples),
            }
            // Of those that have ended: all, or they are in the book.
            let picks = |truth: &Truth| !manner.picky || (truth.who < 4 && !truth.is_other);
            let mut lost = 0;
            for (id, truth) in end.iter().filter(|(_, truth)| truth.ended && picks(truth)) {
                match taken.finals.get(id) {
                    Some(had) => prop_assert_eq!(*had, whole(truth)),
                    None => lost += truth.cells(),
                }
            }
            let is_closed = outlet.ledger.condition().state == State::Closed;
            if is_closed {
                prop_assert!(dropped(&tally, "sink closed") + tally.failed + dropped(&tally, "final value of an ended series") >= lost);
            } else {
                prop_assert_eq!(lost, dropped(&tally, "final value of an ended series"), "{:?}", tally);
            }
            // Of those that live: what they had in the last view that it took.
            let Some(seq) = taken.seq else { continue };
            let (host, then) = &book[usize::try_from(seq).expect("few")];
            prop_assert_eq!(taken.host, *host);
            for (id, truth) in then.iter().filter(|(_, truth)| !truth.ended && picks(truth)) {
                prop_assert_eq!(taken.living.get(id).copied().unwrap_or_default(), whole(truth));
            }
            let never_fails = manner.writes.iter().chain(&manner.flushes).all(|succeeds| *succeeds);
            let is_quick = manner.queue == 64 || manner.awake.iter().all(|awake| *awake);
            if never_fails && is_quick && !is_closed {
                prop_assert_eq!(seq, ticks.len() as u64);
            }
        }
    }
}
