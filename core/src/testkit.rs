//! Parts for the tests of whoever writes a probe or a sink: batches by hand, a clock that stands
//! still, and a sink that remembers.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::batch::{Batch, HISTOGRAM_SLOTS, Tick, Value};
use crate::clock::{Clock, Moment};
use crate::error::SinkError;
use crate::host::HostName;
use crate::ledger::Ledger;
use crate::metric::Descriptor;
use crate::recorder::Recorder;
use crate::selection::Selection;
use crate::series::SeriesId;
use crate::sink::{Scope, Sink, SinkContext, Stop};
use crate::view::{Projection, View};

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
    batch: Batch,
    left_out: Vec<Arc<str>>,
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    /// Starts at 2020-09-13 12:26:40 UTC (1 600 000 000 s), a hundred seconds after boot. A series
    /// that has ended stays for two more batches.
    pub fn new() -> Self {
        let recorder = Recorder::default();
        let tick = Tick { seq: 0, wall: Duration::from_secs(1_600_000_000), boottime: Duration::from_secs(100) };
        Self { recorder, tick, batch: Batch::empty(), left_out: Vec::new() }
    }

    /// Sets the wall clock of the next tick, which an agent would keep from going back.
    pub const fn set_wall(&mut self, wall: Duration) {
        self.tick.wall = wall;
    }

    /// Says in the next tick's batch that a probe's numbers are missing.
    pub fn leave_out(&mut self, probe: &str) {
        self.left_out.push(probe.into());
    }

    /// Makes or finds a series.
    ///
    /// # Panics
    ///
    /// When the series is refused.
    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    pub fn series(&mut self, descriptor: &Arc<Descriptor>, labels: &[&str]) -> SeriesId {
        self.recorder.series(descriptor, labels).expect("a series within its limits")
    }

    /// Records one tick, a second after the one before, and shows it through a selection.
    pub fn tick<R>(
        &mut self,
        selection: &Selection,
        record: impl FnOnce(&mut Recorder),
        look: impl FnOnce(&View<'_>) -> R,
    ) -> R {
        let retired = self.tick.seq.saturating_sub(2);
        self.recorder.begin(|_, since| since < retired);
        self.left_out.drain(..).for_each(|probe| self.recorder.leave_out(&probe));
        record(&mut self.recorder);
        let elapsed = if self.tick.seq == 0 { Duration::ZERO } else { Duration::from_secs(1) };
        self.recorder.seal(self.tick, elapsed, &mut self.batch);
        self.tick = Tick {
            seq: self.tick.seq + 1,
            wall: self.tick.wall + Duration::from_secs(1),
            boottime: self.tick.boottime + Duration::from_secs(1),
        };
        let projection = Projection::new(selection, &self.batch.table);
        look(&View::new(&self.batch, &projection, elapsed))
    }

    /// The batch of the last tick.
    pub const fn batch(&self) -> &Batch {
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
    SinkContext {
        name: name.to_owned(),
        host: HostName::of(|| "host".to_owned()),
        instance: None,
        interval: Duration::from_secs(1),
        scope: Scope::Host,
        stop: Stop::default(),
        ledger: Arc::new(Ledger::default()),
    }
}

/// Enters samples in a sink's book as its outlet does before the sink sees them.
pub fn offer(ledger: &Ledger, samples: u64) {
    ledger.offered(samples);
}

/// Longer than any machine is busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until a sink has nothing in hand.
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
    /// A histogram's slots and sum.
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
        for metric in view.metrics() {
            for sample in metric.samples() {
                let labels = sample.labels().chain(metric.tags());
                samples.push(Remembered {
                    seq: view.tick().seq,
                    name: metric.name().to_owned(),
                    labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
                    value: match sample.value() {
                        Value::Counter(total) => RememberedValue::Counter(total),
                        Value::Gauge(level) => RememberedValue::Gauge(level),
                        Value::Histogram(h) => RememberedValue::Histogram(h.slots.to_vec(), h.sum),
                    },
                });
            }
        }
        Ok(())
    }
}

/// An empty set of histogram slots, to fill in a test.
pub const fn no_slots() -> [u64; HISTOGRAM_SLOTS] {
    [0; HISTOGRAM_SLOTS]
}
