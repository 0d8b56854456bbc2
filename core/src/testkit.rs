//! Parts for the tests of whoever writes a probe or a sink: batches by hand, a clock that stands
//! still, and a sink that remembers.

pub mod conformance;
pub mod cost;
pub mod golden;
mod logged;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use self::logged::{Logged, logged};
use crate::batch::{Batch, Tick, Value};
use crate::clock::{Clock, Moment};
use crate::entity::{ColumnId, EntityKind, KindId, RowId};
use crate::error::SinkError;
use crate::histogram::HISTOGRAM_SLOTS;
use crate::host::HostName;
use crate::ledger::Ledger;
use crate::lens::Lens;
use crate::metric::Column;
use crate::recorder::Recorder;
use crate::selection::Selection;
use crate::sink::{Sink, SinkContext, Stop};
use crate::top::Top;
use crate::view::{KeptView, View};

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock(Mutex<Moment>);

impl ManualClock {
    /// A clock that shows this wall time and this time since boot.
    pub fn new(wall: Duration, boottime: Duration) -> Self {
        Self(Mutex::new(Moment { wall, boottime }))
    }

    /// Moves both clocks on and returns the new moment.
    pub fn advance(&self, by: Duration) -> Moment {
        let mut moment = self.0.lock();
        moment.wall += by;
        moment.boottime += by;
        *moment
    }

    /// Sets the wall clock, as an administrator would.
    pub fn set_wall(&self, wall: Duration) {
        self.0.lock().wall = wall;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        *self.0.lock()
    }
}

/// Makes batches as the agent does, one tick at a time, without an agent.
#[derive(Debug)]
pub struct Bench {
    recorder: Recorder,
    tick: Tick,
    batch: Arc<Batch>,
    left_out: Vec<Arc<str>>,
    lens: Option<(Selection, Arc<Lens>)>,
    /// Counts the selections that it has shown something through, one after the other.
    edition: u64,
    /// What it has shown so far through a selection with a `top`.
    top: Option<(Selection, Top)>,
}

/// A cell of a [`Bench`]: a row and a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its row.
    pub row: RowId,
    /// Its column.
    pub column: ColumnId,
}

impl Cell {
    /// Records a counter's total.
    pub fn counter(self, recorder: &mut Recorder, total: u64) {
        recorder.counter(self.row, self.column, total);
    }

    /// Records a level.
    pub fn gauge(self, recorder: &mut Recorder, level: f64) {
        recorder.gauge(self.row, self.column, level);
    }

    /// Records a histogram's totals.
    pub fn histogram(self, recorder: &mut Recorder, slots: &[u64], sum: u64) {
        recorder.histogram(self.row, self.column, slots, sum);
    }

    /// Ends its row.
    pub fn end(self, recorder: &mut Recorder) {
        recorder.end(self.row);
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    /// Starts at 2020-09-13 12:26:40 UTC (1 600 000 000 s), a hundred seconds after boot.
    pub fn new() -> Self {
        let mut recorder = Recorder::default();
        let tick = Tick { seq: 0, wall: Duration::from_secs(1_600_000_000), boottime: Duration::from_secs(100) };
        recorder.begin_at(tick.wall);
        Self {
            recorder,
            tick,
            batch: Arc::new(Batch::empty()),
            left_out: Vec::new(),
            lens: None,
            edition: 0,
            top: None,
        }
    }

    /// Sets the wall clock of the next tick, which an agent would keep from going back.
    pub const fn set_wall(&mut self, wall: Duration) {
        self.tick.wall = wall;
    }

    /// Says in the next tick's batch that a probe's numbers are missing.
    pub fn leave_out(&mut self, probe: &str) {
        self.left_out.push(probe.into());
    }

    /// To declare kinds and columns and make rows by hand.
    pub const fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    /// The host's cell in a column, which is declared.
    ///
    /// # Panics
    ///
    /// When the column is refused.
    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    pub fn host(&mut self, column: Column) -> Cell {
        let kind = self.recorder.host_kind();
        let column = self.recorder.column(kind, column).expect("a column");
        Cell { row: self.recorder.host(), column }
    }

    /// The cell of a row in a column, all of which are made or found. The row's identity is its text.
    ///
    /// # Panics
    ///
    /// When one of them is refused.
    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    pub fn cell(&mut self, kind: &EntityKind, labels: &[&str], column: Column) -> Cell {
        let kind = self.kind(kind);
        let column = self.recorder.column(kind, column).expect("a column");
        let row = self.recorder.row(kind, crate::identity_of(&labels.join("\0")), labels).expect("a row");
        Cell { row, column }
    }

    /// Declares a kind, or finds it.
    ///
    /// # Panics
    ///
    /// When it is refused.
    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    pub fn kind(&mut self, kind: &EntityKind) -> KindId {
        let existing = self.recorder.existing_kind(kind.name());
        existing.unwrap_or_else(|| self.recorder.kind(kind.clone()).expect("a kind"))
    }

    /// Records one tick, a second after the one before, and shows it through a selection. Another selection than in the
    /// tick before has another [edition](View::edition), as one that was changed while the sink runs.
    pub fn tick<R>(
        &mut self,
        selection: &Selection,
        record: impl FnOnce(&mut Recorder),
        look: impl FnOnce(&View<'_>) -> R,
    ) -> R {
        self.left_out.drain(..).for_each(|probe| self.recorder.leave_out(&probe));
        record(&mut self.recorder);
        let elapsed = if self.tick.seq == 0 { Duration::ZERO } else { Duration::from_secs(1) };
        if Arc::get_mut(&mut self.batch).is_none() {
            // A sink has kept its view.
            self.batch = Arc::new(Batch::empty());
        }
        if let Some(batch) = Arc::get_mut(&mut self.batch) {
            self.recorder.seal(self.tick, elapsed, batch);
        }
        self.tick = Tick {
            seq: self.tick.seq + 1,
            wall: self.tick.wall + Duration::from_secs(1),
            boottime: self.tick.boottime + Duration::from_secs(1),
        };
        self.show(selection, look)
    }

    /// Shows the last tick through a selection. One with a [`top`](Selection::top) has to see every tick, and once.
    fn show<R>(&mut self, selection: &Selection, look: impl FnOnce(&View<'_>) -> R) -> R {
        let is_same = |(known, _): &(Selection, Arc<Lens>)| known == selection;
        self.edition += u64::from(self.lens.as_ref().is_some_and(|known| !is_same(known)));
        let known = self.lens.take().filter(|known| is_same(known) && known.1.fits(&self.batch.live));
        let (_, lens) = self.lens.insert(known.unwrap_or_else(|| {
            let lens = Lens::new(selection, &self.batch.live.layout, self.edition).behind_top(selection);
            (selection.clone(), Arc::new(lens))
        }));
        if self.top.as_ref().is_none_or(|(known, _)| !known.takes_the_same(selection)) {
            self.top = Top::new(selection).map(|top| (selection.clone(), top));
        }
        let own = self.top.as_mut().map(|(_, top)| top.narrow(&self.batch));
        let batch = own.unwrap_or_else(|| Arc::clone(&self.batch));
        look(&KeptView::of(batch, Arc::clone(lens)).view())
    }

    /// The batch of the last tick.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }
}

/// An address of loopback that no other test uses: a port of it that is let go stays free, while one of 127.0.0.1 may be
/// given to anybody at once.
pub fn loopback() -> Ipv4Addr {
    static USED: AtomicU32 = AtomicU32::new(0);
    // A process has 64 of the addresses beyond 127.0.0.0/16 and before 127.255.0.0/16.
    let number = std::process::id().wrapping_mul(64).wrapping_add(USED.fetch_add(1, Ordering::Relaxed));
    Ipv4Addr::from_bits(0x7f01_0000 + number % 0x00fe_0000)
}

/// A context for a sink under test: host `host`, interval one second, the whole host in scope.
pub fn context(name: &str) -> SinkContext {
    SinkContext { host: HostName::of(|| "host".to_owned()), ..SinkContext::new(name, Duration::from_secs(1)) }
}

/// Begins a stop, as an outlet does that is being closed: the sink has this long.
pub fn stop(stop: &Stop, grace: Duration) {
    stop.begin(grace);
}

/// Enters samples in a sink's book as its outlet does before the sink sees them.
pub fn offer(ledger: &Ledger, samples: u64) {
    ledger.offered(samples);
}

/// Longer than any machine is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a sink has nothing in hand. A batch of which it takes nothing but rows that have ended is in no book before
/// the sink has it, and not waited for.
///
/// # Panics
/// It has not within a minute.
pub fn drained(ledger: &Ledger) {
    let start = Instant::now();
    while ledger.read(|tally| tally.queued > 0) {
        assert!(start.elapsed() < PATIENCE, "the sink does not take what is queued: {:?}", ledger.tally());
        std::thread::yield_now();
    }
}

/// A sample as [`MemorySink`] remembers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// The batch's number.
    pub seq: u64,
    /// The metric's name as the sink saw it.
    pub name: String,
    /// The labels, then the tags.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: RememberedValue,
}

/// A value that outlives its batch.
#[derive(Clone, Debug, PartialEq)]
pub enum RememberedValue {
    /// A counter's total.
    Counter(u64),
    /// A gauge's level.
    Gauge(f64),
    /// A histogram's 64 slots and its sum.
    Histogram(Vec<u64>, u64),
}

/// A sink that keeps every sample in memory.
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    samples: Arc<Mutex<Vec<Remembered>>>,
}

impl MemorySink {
    /// Everything written so far; clones of a sink share it.
    pub fn samples(&self) -> Vec<Remembered> {
        self.samples.lock().clone()
    }
}

impl Sink for MemorySink {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let mut samples = self.samples.lock();
        samples.extend(view.samples().map(|sample| Remembered {
            seq: view.tick().seq,
            name: sample.name().to_owned(),
            labels: sample.labels().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            value: match sample.value() {
                Value::Counter(total) => RememberedValue::Counter(total),
                Value::Scaled(scaled) => RememberedValue::Gauge(scaled.in_unit()),
                Value::Gauge(level) => RememberedValue::Gauge(level),
                Value::Histogram(h) => {
                    let mut slots = vec![0; HISTOGRAM_SLOTS];
                    h.buckets().for_each(|bucket| slots[bucket.slot] = bucket.count);
                    RememberedValue::Histogram(slots, h.sum())
                }
            },
        }));
        Ok(())
    }
}

/// An empty set of histogram slots, to fill in a test.
pub const fn no_slots() -> [u64; HISTOGRAM_SLOTS] {
    [0; HISTOGRAM_SLOTS]
}
