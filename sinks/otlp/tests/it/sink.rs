//! The sink under test in an agent of its own: rows whose counter grows by one per tick.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::engine::{Agent, Clock, OutletSpec};
use ebpf_process_core::testkit::{ManualClock, context};
use ebpf_process_core::{
    BuildError, Column, EntityKind, Ledger, Options, Probe, ProbeError, Recorder, SinkContext, Tally, Unit,
};
use ebpf_process_sink_otlp::PLUGIN;
use figment::providers::{Format as _, Toml};
use figment::value::Dict;

use crate::server::LIMIT;

/// So many rows of a kind.
struct Counters {
    rows: u64,
    total: u64,
}

impl Probe for Counters {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.total += 1;
        let kind = EntityKind::new("thing").keys(["pid"]).limit(10_000);
        let kind = match recorder.existing_kind("thing") {
            Some(kind) => kind,
            None => recorder.kind(kind)?,
        };
        let column = Column::counter("vfs.calls", Unit::CALLS, "Calls");
        let column = recorder.column(kind, column)?;
        for n in 0..self.rows {
            let row = recorder.row(kind, n, &[&(n + 1).to_string()])?;
            recorder.counter(row, column, self.total);
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
    /// One with so many rows.
    pub(crate) fn start(text: &str, rows: u64) -> Result<Self, BuildError> {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), Duration::from_secs(100)));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, Duration::from_secs(1));
        agent.push_probe("counters", Box::new(Counters { rows, total: 0 }));
        let ledger = Arc::new(Ledger::default());
        let (own, stop) = (Arc::clone(&ledger), agent.stop_signal());
        let context = SinkContext { ledger: own, stop, ..context("otel") };
        agent.add_sink(&PLUGIN, &options(text), OutletSpec { queue: 64, ..OutletSpec::new("otel") }, context)?;
        Ok(Self { agent, clock, ledger })
    }

    /// Collects a batch, and waits until the book says so.
    pub(crate) fn tick_until(&mut self, what: &str, condition: impl Fn(&Tally) -> bool) -> Tally {
        let moment = self.clock.advance(Duration::from_secs(1));
        self.agent.tick(moment);
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

    /// Collects a batch and waits until it is settled.
    pub(crate) fn tick(&mut self) -> Tally {
        let before = self.ledger.tally().offered;
        self.tick_until("a batch settled", |tally| tally.offered > before && tally.queued == 0)
    }

    /// Stops and returns the book.
    pub(crate) fn stop(self) -> Tally {
        self.close(Duration::from_secs(5))
    }

    /// The same, with so much time.
    pub(crate) fn close(self, grace: Duration) -> Tally {
        let closed = self.agent.close(grace).pop().expect("one sink");
        assert!(closed.tally.balances() && closed.tally.queued == 0, "{closed:?}");
        closed.tally
    }
}
