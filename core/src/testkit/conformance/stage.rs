//! A real agent with the sink under test, fed tick by tick, and judged whenever its ledger has settled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::player::{Deed, Number, Player, Script, What, Who};
use super::reading::Reading;
use super::row::Row;
use super::run::{Plugin, Run, Sign, Stop};
use super::watch::{Mood, Watch, Watched};
use super::words::key;
use super::world::{Fault, Trouble};
use crate::agent::Agent;
use crate::clock::{Clock, SystemClock};
use crate::condition::State;
use crate::error::BuildError;
use crate::ledger::{Ledger, NEVER_SETTLED, Tally};
use crate::metric::MetricKind;
use crate::options::Options;
use crate::outlet_spec::OutletSpec;
use crate::part::{Parts, Setting, SinkPart};
use crate::selection::Selection;
use crate::sink::{self, Scope, Sink, SinkContext};
use crate::testkit::ManualClock;

const SECOND: Duration = Duration::from_secs(1);

/// The kit's times are an hour behind the machine's, so that a database takes them for the past.
const BEHIND: Duration = Duration::from_secs(60 * 60);

/// The sink's name.
const NAME: &str = "conformance";

/// How many batches may wait for the sink: all of a stage, so that none is lost in the queue.
const QUEUE: usize = 1024;

/// Builds the sink under test, also again, and remembers the ledgers that the sinks had.
struct Maker {
    plugin: Plugin,
    options: Options,
    patience: Duration,
    watch: Arc<Watch>,
    ledgers: Arc<Mutex<Vec<Arc<Ledger>>>>,
    joins: bool,
}

impl Maker {
    /// What is refused in passing is tried again as long as patience lasts: what the sink before had may not be free yet.
    fn make(&self, ledger: &Arc<Ledger>, stop: sink::Stop) -> Result<Box<dyn Sink>, BuildError> {
        let context =
            SinkContext { ledger: Arc::clone(ledger), stop, joins: self.joins, ..SinkContext::new(NAME, SECOND) };
        let deadline = Instant::now() + self.patience;
        loop {
            match self.plugin.build(&self.options, context.clone()) {
                Err(error) if error.is_passing() && Instant::now() < deadline => self.watch.pause(),
                Err(error) => return Err(error),
                Ok(sink) => {
                    self.ledgers.lock().push(Arc::clone(ledger));
                    return Ok(Box::new(Watched::new(sink, &self.watch, ledger)));
                }
            }
        }
    }
}

/// An agent with one sink.
pub(super) struct Stage<'r> {
    pub(super) run: &'r mut Run,
    /// The check that this is for.
    row: Row,
    agent: Option<Agent>,
    clock: Arc<ManualClock>,
    script: Script,
    pub(super) watch: Arc<Watch>,
    /// Those of all sinks that the agent has had.
    ledgers: Arc<Mutex<Vec<Arc<Ledger>>>>,
    ticks: u64,
    pulse: (What, u64),
    /// Whether the pulse is in the newest batch.
    beats: bool,
    /// What the ledgers said of samples that will not arrive when they were looked at last.
    gone: Gone,
    /// How often there was nothing to judge yet.
    unsettled: u32,
}

impl<'r> Stage<'r> {
    /// An agent with a sink that was built for it. For what it finds, `row` is blamed.
    pub(super) fn new(run: &'r mut Run, row: Row) -> Result<Self, Stop> {
        let now = SystemClock.now();
        let pulse = (What { word: run.words.word(), kind: MetricKind::Counter }, 0);
        let mut stage = Self {
            run,
            row,
            agent: None,
            clock: Arc::new(ManualClock::new(now.wall.saturating_sub(BEHIND), now.boottime)),
            script: Script::default(),
            watch: Arc::default(),
            ledgers: Arc::default(),
            ticks: 0,
            pulse,
            beats: false,
            gone: Gone::default(),
            unsettled: 0,
        };
        stage.watch.world.lock().ignored.clone_from(&stage.run.left_out);
        stage.start()?;
        Ok(stage)
    }

    /// Starts an agent with a sink.
    fn start(&mut self) -> Result<(), Stop> {
        let mut agent = Agent::new(Arc::clone(&self.clock) as Arc<dyn Clock>, SECOND);
        agent.push_probe("kit", Box::new(Player(Arc::clone(&self.script), self.run.limits.rows + 1024)));
        let started = agent.start_sink(self.part(Selection::default(), SECOND, false));
        self.agent = Some(agent);
        started.map_err(|error| {
            self.run.end(format!("the sink is refused: {error}"));
            self.blame(Sign::Other, format!("the sink is refused: {error}"))
        })
    }

    /// The sink as a part of an agent.
    fn part(&self, selection: Selection, interval: Duration, joins: bool) -> SinkPart {
        let maker = Maker {
            plugin: Arc::clone(&self.run.plugin),
            options: self.run.options.clone(),
            patience: self.run.limits.patience,
            watch: Arc::clone(&self.watch),
            ledgers: Arc::clone(&self.ledgers),
            joins,
        };
        SinkPart {
            spec: OutletSpec { selection, queue: QUEUE, queue_bytes: usize::MAX, ..OutletSpec::new(NAME) },
            plugin: Arc::clone(&self.run.plugin),
            options: self.run.options.clone(),
            setting: Setting { instance: None, interval, scope: Scope::Host },
            make: Box::new(move |ledger, stop| maker.make(&ledger, stop)),
        }
    }

    /// Changes the agent while it runs: another selection for the same sink, or, with another interval, another sink.
    pub(super) fn reload(&mut self, selection: Selection, interval: Duration) {
        let sinks = vec![self.part(selection, interval, true)];
        let grace = self.run.limits.call;
        if let Some(agent) = &mut self.agent {
            agent.apply(Parts { interval: SECOND, grace, probes: Vec::new(), sinks });
        }
    }

    /// Another agent, with another sink, after the first one has ended in whatever way. What was given before stays true.
    pub(super) fn renew(&mut self) -> Result<(), Stop> {
        let watch = Arc::<Watch>::default();
        std::mem::swap(&mut *watch.world.lock(), &mut *self.watch.world.lock());
        self.watch = watch;
        self.ledgers = Arc::default();
        // Totals of another agent begin at 0.
        (self.ticks, self.gone, self.pulse.1) = (0, Gone::default(), 0);
        self.start()
    }

    /// The books of all sinks that the agent has had, as one.
    pub(super) fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for ledger in self.ledgers.lock().iter() {
            sum.add(&ledger.tally());
        }
        sum
    }

    /// Why the sink is over, if it is.
    fn is_over(&self) -> Option<String> {
        let condition = self.ledgers.lock().last()?.condition();
        (condition.state == State::Closed).then(|| condition.reason.unwrap_or_default())
    }

    pub(super) fn blame(&mut self, sign: Sign, seen: impl Into<String>) -> Stop {
        self.run.blame(self.row, sign, seen);
        Stop
    }

    /// A new metric.
    pub(super) fn what(&mut self, kind: MetricKind) -> What {
        What { word: self.run.words.word(), kind }
    }

    /// A new row. Its label begins with a word of its own; the tail is what a name can have in it.
    pub(super) fn who(&mut self, tail: &str) -> Who {
        let word = self.run.words.word();
        Who { identity: crate::identity_of(&word), label: format!("{word}{tail}") }
    }

    /// Has one batch made, and does not wait for anything. The pulse beats in it.
    pub(super) fn tick(&mut self, mut deeds: Vec<Deed>) {
        self.pulse.1 += 1;
        deeds.push(Deed::Record(self.pulse.0.clone(), None, Number::Counter(self.pulse.1)));
        self.tick_without_pulse(deeds);
        self.beats = true;
    }

    /// Has one batch made in which there is only what is named.
    pub(super) fn tick_without_pulse(&mut self, deeds: Vec<Deed>) {
        *self.script.lock() = deeds;
        self.beats = false;
        self.ticks += 1;
        if let Some(agent) = &mut self.agent {
            agent.tick(self.clock.advance(SECOND));
        }
    }

    /// As [`tick`](Self::tick), with the pulse as it was.
    pub(super) fn repeat(&mut self, deeds: Vec<Deed>) {
        self.pulse.1 -= 1;
        self.tick(deeds);
    }

    /// Has one batch made, waits until the sink is through with it, and judges.
    pub(super) fn step(&mut self, deeds: Vec<Deed>) -> Result<(), Stop> {
        self.tick(deeds);
        self.idle()?;
        self.judge(false)
    }

    /// Waits until the sink is through with all batches.
    pub(super) fn idle(&mut self) -> Result<(), Stop> {
        self.wait(Watch::idle)
    }

    /// Waits until the sink is held.
    pub(super) fn held(&mut self) -> Result<(), Stop> {
        self.wait(|watch, _, moment| watch.held(moment))
    }

    /// Waits until there is no sink, because it has panicked.
    pub(super) fn absent(&mut self) -> Result<(), Stop> {
        let ledgers = Arc::clone(&self.ledgers);
        let is_absent = move || ledgers.lock().last().is_some_and(|ledger| ledger.condition().state == State::Absent);
        self.wait(|watch, _, _| {
            if is_absent() {
                return Ok(());
            }
            watch.pause();
            Err("a panic has no end".to_owned())
        })
    }

    /// Whether this is something that the sink was given.
    pub(super) fn is_known(&self, reading: &Reading) -> bool {
        let key = key(&reading.text);
        self.watch.world.lock().keys().any(|known| *known == key)
    }

    /// What has been lost on purpose excuses nothing.
    pub(super) fn forget_losses(&mut self) {
        self.gone = Gone::of(&self.tally());
    }

    fn wait(&mut self, wait: impl Fn(&Watch, u64, Duration) -> Result<(), String>) -> Result<(), Stop> {
        let start = Instant::now();
        loop {
            let Err(call) = wait(&self.watch, self.ticks, MOMENT) else { return Ok(()) };
            if let Some(call) = self.watch.panicked() {
                self.run.blame(Row::Panic, Sign::Other, format!("it panics in {call}"));
                return Err(Stop);
            }
            if let Some(reason) = self.is_over() {
                let refused = self.watch.take_refused().map_or(String::new(), |refused| format!(" ({refused})"));
                return Err(self.blame(Sign::Other, format!("the sink is over: {reason}{refused}")));
            }
            if start.elapsed() >= self.run.limits.call {
                return Err(self.blocks(format!("{call} in {:?}", self.run.limits.call)));
            }
        }
    }

    /// The sink does not come back: there is nothing more to be found out about it.
    fn blocks(&mut self, seen: String) -> Stop {
        self.run.end(format!("the sink blocks: {seen}"));
        self.run.blame(Row::InTime, Sign::Other, seen);
        Stop
    }

    /// Waits until the ledger has settled, and compares what was written with what can be read back. Where it does not settle
    /// before more comes there is nothing to judge yet.
    pub(super) fn judge(&mut self, is_closed: bool) -> Result<(), Stop> {
        let start = Instant::now();
        let patience = self.run.limits.patience;
        // Who has been found to settle later is not waited for at each step.
        let settles_by = if self.run.unsettled < 2 { patience.min(SECOND) } else { Duration::ZERO };
        loop {
            let readings = self.run.read();
            let tally = self.tally();
            self.identity(&tally)?;
            let is_settled = is_closed || tally.queued + tally.spooled == 0;
            if !is_settled && start.elapsed() >= settles_by {
                self.unsettled += 1;
                self.run.unsettled += 1;
                return Ok(());
            }
            let Some(readings) = readings.filter(|_| is_settled) else {
                if is_settled {
                    return Ok(());
                }
                self.watch.pause();
                continue;
            };
            let faults = self.faults(&readings);
            let gone = Gone::of(&tally);
            if self.are_excused(&faults, gone) {
                self.watch.world.lock().excuse(&faults);
                self.gone = gone;
                self.note_delivered(&readings);
                return Ok(());
            }
            if start.elapsed() >= patience {
                if self.leaves_out(&faults, &readings) {
                    continue;
                }
                return Err(self.convict(&faults, is_closed));
            }
            self.watch.pause();
        }
    }

    /// Whether the ledger has said of as many samples that they will not arrive. What is newer than all else cannot have
    /// been replaced by something newer.
    fn are_excused(&self, faults: &[Fault], gone: Gone) -> bool {
        let lost = gone.lost - self.gone.lost;
        let replaced = gone.replaced - self.gone.replaced;
        let is_newest = self.beats && faults.iter().any(|fault| fault.key == self.pulse.0.word);
        faults.iter().all(|fault| fault.trouble == Trouble::Missing)
            && faults.len() as u64 <= if is_newest { lost } else { lost + replaced }
    }

    fn faults(&self, readings: &[Reading]) -> Vec<Fault> {
        self.watch.world.lock().judge(readings, &self.run.known, &self.run.before)
    }

    fn identity(&mut self, tally: &Tally) -> Result<(), Stop> {
        if tally.balances() {
            return Ok(());
        }
        let Tally { offered, mis_settled, .. } = tally;
        let sum = tally.accounted();
        self.run.blame(Row::LedgerIdentity, Sign::Other, format!("{offered} offered, and the columns add up to {sum}"));
        let seen = format!("{mis_settled} samples more are settled than the sink had");
        self.run.blame(Row::DoubleAck, Sign::Other, seen);
        Err(Stop)
    }

    fn note_delivered(&mut self, readings: &[Reading]) {
        let world = self.watch.world.lock();
        for kind in [MetricKind::Gauge, MetricKind::Histogram] {
            if !self.run.delivered.contains(&kind) && world.is_seen(kind, readings) {
                self.run.delivered.push(kind);
            }
        }
    }

    /// Whether all that is missing is of kinds that the sink has never delivered and, since its outlet settles, cannot
    /// reject: then nothing is asked of them any more.
    fn leaves_out(&mut self, faults: &[Fault], readings: &[Reading]) -> bool {
        if self.watch.settles_itself() {
            return false;
        }
        self.note_delivered(readings);
        let mut world = self.watch.world.lock();
        let run = &mut *self.run;
        let never = |kind: MetricKind| {
            kind != MetricKind::Counter && !run.delivered.contains(&kind) && !world.ignored.contains(&kind)
        };
        let is_one = |fault: &Fault| fault.trouble == Trouble::Missing && fault.kind.is_some_and(never);
        if faults.is_empty() || !faults.iter().all(is_one) {
            return false;
        }
        let kinds: Vec<_> =
            [MetricKind::Gauge, MetricKind::Histogram].into_iter().filter(|kind| never(*kind)).collect();
        for kind in kinds {
            if !world.has(kind) {
                continue;
            }
            world.ignored.push(kind);
            run.left_out.push(kind);
            let row = if kind == MetricKind::Histogram { Row::Histograms } else { Row::Gaps };
            run.note(
                row,
                format!("the sink has no {kind}s, and cannot say so: its outlet settles all of a batch or nothing"),
            );
        }
        true
    }

    /// Finds out which row is to blame.
    fn convict(&mut self, faults: &[Fault], is_closed: bool) -> Stop {
        let say = |fault: &Fault| {
            let others = if faults.len() > 1 { format!("; and {} more", faults.len() - 1) } else { String::new() };
            format!("{}{others}", fault.say())
        };
        let find = |trouble: Trouble| faults.iter().find(|fault| fault.trouble == trouble);
        let pulse = faults.iter().find(|fault| fault.key == self.pulse.0.word && fault.trouble == Trouble::Missing);
        let (row, sign, fault) = if let Some(fault) = pulse {
            let own = [
                Row::Order,
                Row::LastBatch,
                Row::Restart,
                Row::Reload,
                Row::Panic,
                Row::EarlyAck,
                Row::LateAck,
                Row::SlowPeer,
                Row::EachVerdict,
            ];
            let row = match own.contains(&self.row) {
                // Before the end there was nothing to judge: what it has lost is not lost in the middle.
                _ if is_closed && self.unsettled > 0 => Row::LastBatch,
                true => self.row,
                false => Row::Gaps,
            };
            (row, Sign::Loss, fault)
        } else if let Some(fault) = find(Trouble::Unknown) {
            // Of a series that has lost one of its words another one is known.
            let is_part = |key: &String| !fault.key.is_empty() && *key != fault.key && key.contains(&fault.key);
            let merged = self.watch.world.lock().keys().any(is_part);
            (if merged { Row::TwinRows } else { Row::HostileNames }, Sign::Other, fault)
        } else if let Some(fault) = find(Trouble::Falls) {
            (Row::Order, Sign::Other, fault)
        } else if let Some(fault) = find(Trouble::Larger) {
            (if self.row == Row::Gaps { Row::DeltaDoubled } else { self.row }, Sign::Surplus, fault)
        } else if let Some(fault) = find(Trouble::Extra).or(faults.first()) {
            let is_histogram = fault.kind == Some(MetricKind::Histogram);
            let row = match self.row {
                Row::Gaps | Row::Purity if is_histogram => Row::Histograms,
                // A batch in which nobody has a value: a number that was made up is one for an absent cell.
                Row::EmptyView if matches!(fault.trouble, Trouble::Wrong | Trouble::Zero) => Row::AbsentCells,
                // Rows have no value in the batches after their only one.
                Row::Gaps if fault.trouble == Trouble::Zero => Row::AbsentCells,
                row => row,
            };
            let sign = match fault.trouble {
                Trouble::Missing => Sign::Loss,
                Trouble::Extra => Sign::Twice,
                _ => Sign::Other,
            };
            (row, sign, fault)
        } else {
            return Stop;
        };
        if (row, sign) == (Row::Gaps, Sign::Loss) {
            // What else is lost will be put down to this: it is not waited for as long.
            self.run.limits.patience /= 8;
        }
        self.run.blame(row, sign, say(fault));
        Stop
    }

    /// Ends the sink in order, and judges what has arrived by then.
    pub(super) fn close(mut self) -> Result<(), Stop> {
        self.end()?;
        self.judge(true)
    }

    /// Ends the sink in order.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        self.watch.be(Mood::Plain);
        let Some(agent) = self.agent.take() else { return Ok(()) };
        let limit = self.run.limits.call;
        let in_time = agent.close(limit).iter().all(|closed| closed.in_time);
        let tally = self.tally();
        if let Some(call) = self.watch.panicked() {
            self.run.blame(Row::Panic, Sign::Other, format!("it panics in {call}"));
            return Err(Stop);
        }
        if !in_time {
            let dropped = tally.dropped_total();
            return Err(
                self.blocks(format!("the sink has not finished in {limit:?}, and {dropped} samples are dropped"))
            );
        }
        let is_never = |(reason, _): &&(&str, u64)| *reason == NEVER_SETTLED;
        let never: u64 = tally.dropped.iter().filter(is_never).map(|(_, count)| count).sum();
        if never > 0 {
            let seen = format!("{never} of {} samples were never settled", tally.offered);
            self.run.blame(Row::MissingAck, Sign::Other, seen);
            return Err(Stop);
        }
        self.identity(&tally)
    }
}

impl Drop for Stage<'_> {
    /// A check that has ended early leaves no sink behind that the next one could stumble over.
    fn drop(&mut self) {
        self.watch.be(Mood::Plain);
        if let Some(agent) = self.agent.take() {
            agent.close(if self.run.is_over() { Duration::ZERO } else { self.run.limits.call });
        }
        let keys: Vec<_> = self.watch.world.lock().keys().cloned().collect();
        self.run.known.extend(keys);
    }
}

/// After so long it is looked whether waiting makes sense.
const MOMENT: Duration = Duration::from_millis(20);

/// What will not arrive any more, as the ledger has it.
#[derive(Clone, Copy, Debug, Default)]
struct Gone {
    /// For whatever reason.
    lost: u64,
    /// Since something newer has taken its place.
    replaced: u64,
}

impl Gone {
    fn of(tally: &Tally) -> Self {
        let lost = tally.failed + tally.unconfirmed + tally.dropped_total() + tally.rejected_total();
        Self { lost, replaced: tally.superseded }
    }
}
