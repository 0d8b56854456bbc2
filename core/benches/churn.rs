//! What rows cost the collecting thread: 40 columns of which half are never touched, 10 % of the rows replaced in each tick,
//! five sinks that look at every cell.
//!
//! `cargo bench -p ebpf-process-core --bench churn`. On the clock is the collecting thread's CPU time for a tick: ending
//! and making rows, recording, sealing, and handing the batch to the sinks. The time per row stands at the end.

#![expect(clippy::expect_used, reason = "a bench's own mistake should stop it")]
#![expect(clippy::print_stdout, reason = "what it finds is for a person at a terminal")]

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use ebpf_process_core::engine::{Agent, Clock as _, OutletSpec, SystemClock};
use ebpf_process_core::{
    BuildError, Column, ColumnId, Declared, EntityKind, KindId, Ledger, Options, OptionsError, Probe, ProbeContext,
    ProbeError, ProbePlugin, Recorder, RowId, Sink, SinkError, Unit, Value, View,
};
use rustix::time::{ClockId, clock_gettime};

const COLUMNS: usize = 40;
const SINKS: usize = 5;
/// One in so many is replaced in each tick.
const REPLACED: usize = 10;

/// Processes that come and go.
struct Churn {
    kind: KindId,
    columns: Vec<ColumnId>,
    rows: Vec<RowId>,
    count: usize,
    born: u64,
    at: usize,
}

impl Churn {
    fn row(&mut self, recorder: &mut Recorder) -> Result<RowId, ProbeError> {
        self.born += 1;
        let labels = [&format!("{}", self.born), "worker", "/system.slice/worker.service", "www-data"];
        recorder.row(self.kind, self.born, &labels).map_err(ProbeError::new)
    }
}

impl Probe for Churn {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        while self.rows.len() < self.count {
            let row = self.row(recorder)?;
            self.rows.push(row);
        }
        for _ in 0..self.count / REPLACED {
            self.at = (self.at + 7) % self.count;
            recorder.end(self.rows[self.at]);
            self.rows[self.at] = self.row(recorder)?;
        }
        for row in &self.rows {
            for column in self.columns.iter().step_by(2) {
                recorder.counter(*row, *column, self.born);
            }
        }
        Ok(())
    }
}

struct ChurnPlugin(usize);

impl ProbePlugin for ChurnPlugin {
    fn name(&self) -> &'static str {
        "churn"
    }
    fn summary(&self) -> &'static str {
        "made up"
    }
    fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
        Ok(Vec::new())
    }
    fn build(&self, _: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let recorder = context.recorder;
        let keys = ["pid", "comm", "cgroup", "user"];
        let kind = recorder.kind(EntityKind::new("process").keys(keys).limit(self.0 * 2))?;
        let column = |n: usize| Column::counter(format!("bench.calls_{n}"), Unit::CALLS, "Calls");
        let columns = (0..COLUMNS).map(|n| recorder.column(kind, column(n))).collect::<Result<_, _>>()?;
        Ok(Box::new(Churn { kind, columns, rows: Vec::new(), count: self.0, born: 0, at: 0 }))
    }
}

/// Looks at every cell.
struct Trivial;

impl Sink for Trivial {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let mut sum = 0_u64;
        for (_, value) in view.kinds().flat_map(|kind| kind.rows()).flat_map(|row| row.cells()) {
            if let Value::Counter(total) = value {
                sum = sum.wrapping_add(total);
            }
        }
        black_box(sum);
        Ok(())
    }
}

struct Scene {
    agent: Agent,
    books: Vec<Arc<Ledger>>,
}

impl Scene {
    fn new(rows: usize) -> Self {
        let mut agent = Agent::new(Arc::new(SystemClock), Duration::from_secs(1));
        agent.add_probe(&ChurnPlugin(rows), &Options::none()).expect("a probe");
        let books: Vec<Arc<Ledger>> = (0..SINKS).map(|_| Arc::default()).collect();
        for (n, book) in books.iter().enumerate() {
            let spec = OutletSpec::new(format!("sink-{n}"));
            agent.push_sink(Box::new(Trivial), spec, Arc::clone(book)).expect("a sink");
        }
        let mut scene = Self { agent, books };
        for _ in 0..3 {
            scene.tick();
        }
        scene
    }

    /// The collecting thread's CPU time for a tick.
    fn tick(&mut self) -> Duration {
        let start = clock_gettime(ClockId::ThreadCPUTime);
        self.agent.tick(SystemClock.now());
        let end = clock_gettime(ClockId::ThreadCPUTime);
        while self.books.iter().any(|book| book.read(|tally| tally.queued > 0)) {
            thread::yield_now();
        }
        Duration::try_from(end - start).unwrap_or_default()
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("a tick with churn");
    group.sample_size(10);
    let mut report = Vec::new();
    for rows in [1_000_usize, 10_000, 50_000] {
        let mut scene = Scene::new(rows);
        let mut times = Vec::new();
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("{rows} rows"), |bencher| {
            bencher.iter_custom(|count| {
                let ticks: Vec<Duration> = (0..count).map(|_| scene.tick()).collect();
                times.extend_from_slice(&ticks);
                ticks.iter().sum()
            });
        });
        times.sort_unstable();
        let [.., worst] = times[..] else { continue };
        let median = times[times.len() / 2];
        report.push(format!(
            "{rows} rows: {:.2} ms of CPU a tick, {:.2} ms at worst; {} ns a row",
            median.as_secs_f64() * 1e3,
            worst.as_secs_f64() * 1e3,
            median.as_nanos() / rows as u128
        ));
        for (book, closed) in scene.books.iter().zip(scene.agent.close(Duration::from_secs(60))) {
            assert!(closed.tally.balances() && closed.tally.written == book.tally().offered, "{closed:?}");
        }
    }
    group.finish();
    println!("{}", report.join("\n"));
    criterion.final_summary();
}
