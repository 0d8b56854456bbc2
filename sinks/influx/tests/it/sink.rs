//! The sink under test in an agent of its own: ten counters that grow by one per tick.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::engine::{Agent, Clock, Closed, OutletSpec};
use ebpf_process_core::testkit::{ManualClock, context};
use ebpf_process_core::{
    BuildError, Column, EntityKind, HostName, Ledger, Options, Probe, ProbeError, Recorder, SinkContext, Tally, Unit,
};
use ebpf_process_sink_influx::PLUGIN;
use figment::providers::{Format as _, Toml};
use figment::value::Dict;

use crate::server::LIMIT;

/// The samples of one tick.
pub(crate) const TEN: u64 = 10;

/// So many rows of so many counters: `vfs.calls`, and `vfs.more_1` on.
pub(crate) struct Counters {
    rows: u64,
    columns: u32,
    total: u64,
}

impl Counters {
    pub(crate) const fn new(rows: u64, columns: u32) -> Self {
        Self { rows, columns, total: 0 }
    }
}

impl Probe for Counters {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.total += 1;
        let kind = match recorder.existing_kind("numbered") {
            Some(kind) => kind,
            None => recorder.kind(EntityKind::new("numbered").keys(["n"]).limit(10_000).names_as_they_are())?,
        };
        for column in 0..self.columns {
            let name = if column == 0 { "vfs.calls".to_owned() } else { format!("vfs.more_{column}") };
            let column = recorder.column(kind, Column::counter(name, Unit::CALLS, "Calls"))?;
            for n in 0..self.rows {
                let row = recorder.row(kind, n, &[&n.to_string()])?;
                recorder.counter(row, column, self.total);
            }
        }
        Ok(())
    }
}

/// A running agent.
pub(crate) struct Running {
    agent: Agent,
    clock: Arc<ManualClock>,
    ledger: Arc<Ledger>,
}

/// Options in TOML, with waits that suit a test unless they say otherwise.
pub(crate) fn options(text: &str) -> Options {
    let delivery =
        if text.contains("delivery") { "" } else { "delivery = { retry_min = \"1ms\", retry_max = \"5ms\" }\n" };
    let table: Dict = Toml::from_str(&format!("{delivery}{text}")).expect("a table");
    Options::from_value(table)
}

impl Running {
    pub(crate) fn start(text: &str) -> Result<Self, BuildError> {
        Self::build(context("db").host, text, TEN, 1)
    }

    /// One with so many rows of so many counters.
    pub(crate) fn of(text: &str, rows: u64, columns: u32) -> Result<Self, BuildError> {
        Self::build(context("db").host, text, rows, columns)
    }

    /// One on a host of this name.
    pub(crate) fn start_on(host: HostName, text: &str) -> Result<Self, BuildError> {
        Self::build(host, text, TEN, 1)
    }

    fn build(host: HostName, text: &str, rows: u64, columns: u32) -> Result<Self, BuildError> {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), Duration::from_secs(100)));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, Duration::from_secs(1));
        agent.push_probe("counters", Box::new(Counters::new(rows, columns)));
        let ledger = Arc::new(Ledger::default());
        let (own, stop) = (Arc::clone(&ledger), agent.stop_signal());
        let context = SinkContext { host, ledger: own, stop, ..context("db") };
        agent.add_sink(&PLUGIN, &options(text), OutletSpec { queue: 64, ..OutletSpec::new("db") }, context)?;
        Ok(Self { agent, clock, ledger })
    }

    /// Collects so many batches.
    pub(crate) fn tick(&mut self, batches: u64) {
        for _ in 0..batches {
            let moment = self.clock.advance(Duration::from_secs(1));
            self.agent.tick(moment);
        }
    }

    /// Sets the wall clock.
    pub(crate) fn set_wall(&self, wall: Duration) {
        self.clock.set_wall(wall);
    }

    /// Waits until the book says so, and returns it.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Tally) -> bool) -> Tally {
        let deadline = Instant::now() + LIMIT;
        loop {
            let tally = self.ledger.tally();
            assert!(tally.balances(), "{tally:?}");
            if condition(&tally) {
                return tally;
            }
            assert!(Instant::now() < deadline, "{what}: {tally:?}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits until everything is settled, stops, and returns the book.
    pub(crate) fn settle(self) -> Tally {
        self.until("everything settled", |tally| tally.queued == 0 && tally.spooled == 0);
        self.stop(Duration::from_secs(5))
    }

    /// Stops and returns the book.
    pub(crate) fn stop(self, grace: Duration) -> Tally {
        self.close(grace).tally
    }

    /// Stops and returns the book, and whether the sink ended by itself in time.
    pub(crate) fn close(self, grace: Duration) -> Closed {
        let closed = self.agent.close(grace).pop().expect("one sink");
        assert!(closed.tally.balances() && closed.tally.queued == 0, "{closed:?}");
        closed
    }
}

/// Runs so many batches through the sink and waits until they are settled.
pub(crate) fn run(text: &str, batches: u64) -> Tally {
    let mut running = Running::start(text).expect("a sink");
    for batch in 1..=batches {
        running.tick(1);
        // One batch, one request.
        running.until("a batch settled", |tally| tally.offered == batch * TEN && tally.queued == 0);
    }
    running.settle()
}
