//! What encoding costs, for the benches of sinks: all of them encode the same cells.

use std::time::{Duration, Instant};

use crate::entity::EntityKind;
use crate::metric::{Column, Unit};
use crate::recorder::Recorder;
use crate::selection::Selection;
use crate::testkit::{Bench, Cell};
use crate::view::View;

/// How many cells a view has.
pub const CELLS: u32 = 10_000;

/// Nanoseconds that a cell may take when a sink's own memory is in no cache any more.
pub const COLD_BOUND: f64 = 40.0;

/// How often each is timed.
const ROUNDS: usize = 100;

/// More than a processor's caches hold: between two ticks a second apart others use them.
const CACHE: usize = 64 << 20;

/// How long some work takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// How long something took, several times.
#[derive(Clone, Debug)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Has it done often enough; it says itself how long it took.
    pub fn of(mut run: impl FnMut() -> Duration) -> Self {
        let mut times: Vec<_> = (0..ROUNDS).map(|_| run()).collect();
        times.sort_unstable();
        Self(times)
    }

    /// Nanoseconds for each of so many parts, the best time.
    pub fn best(&self, parts: u32) -> f64 {
        self.0[0].as_secs_f64() * 1e9 / f64::from(parts)
    }

    /// The same of the time that half of all were below.
    pub fn median(&self, parts: u32) -> f64 {
        self.0[self.0.len() / 2].as_secs_f64() * 1e9 / f64::from(parts)
    }
}

/// Somebody else's work.
#[derive(Debug)]
pub struct Others(Vec<u8>);

impl Default for Others {
    fn default() -> Self {
        Self(vec![0; CACHE])
    }
}

impl Others {
    /// Leaves nothing of ours in the processor's caches.
    pub fn work(&mut self) {
        self.0.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    }
}

/// A source of views with [`CELLS`] counters, each larger in each.
#[derive(Debug)]
pub struct Source {
    bench: Bench,
    cells: Vec<Cell>,
    total: u64,
}

impl Source {
    /// Of the host: ten metrics with a thousand labels each.
    pub fn host() -> Self {
        let mut bench = Bench::new();
        let column = |number: u32| {
            let column = Column::counter(format!("bench.calls_{}", number / 1000), Unit::CALLS, "Calls");
            column.labels([("name", format!("program-{}", number % 1000))])
        };
        let cells = (0..CELLS).map(|number| bench.host(column(number))).collect();
        Self { bench, cells, total: TOTAL }
    }

    /// Of a thousand rows with twenty columns, of which each row uses half.
    pub fn rows() -> Self {
        let mut bench = Bench::new();
        let kind = EntityKind::new("bench").keys(["id", "name"]);
        let column = |number: u32| {
            let operation = ["open", "close", "read", "write"][(number / 5) as usize];
            let column = Column::counter(format!("demo.calls_{}", number % 5), Unit::CALLS, "Calls");
            column.labels([("operation", operation)])
        };
        let columns = 20;
        let cell = |place: u32| {
            let (row, column_number) = (place / columns, place % columns);
            // A line of five columns is used or not.
            ((row + column_number / 5) % 2 == 0)
                .then(|| bench.cell(&kind, &[&row.to_string(), &format!("program-{row}")], column(column_number)))
        };
        let cells = (0..2 * CELLS).filter_map(cell).collect();
        Self { bench, cells, total: TOTAL }
    }

    /// The time that `take` takes for the next view, after `before` is done.
    pub fn time(&mut self, before: impl FnOnce(), take: impl FnOnce(&View<'_>)) -> Duration {
        self.total += 12_345;
        let Self { bench, cells, total } = self;
        let record = |recorder: &mut Recorder| {
            for (number, cell) in (0..).zip(&*cells) {
                cell.counter(recorder, *total + number * 7919);
            }
        };
        bench.tick(&Selection::default(), record, |view| {
            before();
            timed(|| take(view))
        })
    }
}

/// Totals of ten digits.
const TOTAL: u64 = 1_000_000_007;

/// Prints what a cell costs an encoder: with all in the caches, with nothing in them, and in its first view.
#[expect(clippy::print_stdout, reason = "what a bench finds is for a person at a terminal")]
pub fn report<E>(name: &str, mut new: impl FnMut() -> E, mut encode: impl FnMut(&mut E, &View<'_>)) {
    let mut others = Others::default();
    for (shape, mut source) in [("values of the host", Source::host()), ("of 1,000 rows x 20 columns", Source::rows())]
    {
        let first = Times::of(|| {
            let mut encoder = new();
            source.time(|| (), |view| encode(&mut encoder, view))
        });
        let mut encoder = new();
        source.time(|| (), |view| encode(&mut encoder, view));
        let warm = Times::of(|| source.time(|| (), |view| encode(&mut encoder, view)));
        let cold = Times::of(|| source.time(|| others.work(), |view| encode(&mut encoder, view)));
        let [warm, cold, first] = [&warm, &cold, &first].map(|times| (times.best(CELLS), times.median(CELLS)));
        let verdict = if cold.0 > COLD_BOUND { format!(": more than {COLD_BOUND}") } else { String::new() };
        println!(
            "{name}, {CELLS} {shape}: {:.1} ns per cell warm at best ({:.1} half the time), {:.1} ({:.1}) cold, {:.1} \
             ({:.1}) in the first view{verdict}",
            warm.0, warm.1, cold.0, cold.1, first.0, first.1
        );
    }
}
