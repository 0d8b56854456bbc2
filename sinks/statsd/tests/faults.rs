//! The sink as the agent runs it, beside receivers that are not there, go, come back, and do not read: what they add
//! up, and what the ledger says of the rest.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::engine::{Agent, Clock, OutletSpec};
use ebpf_process_core::testkit::{ManualClock, context};
use ebpf_process_core::{
    Column, ColumnId, EntityKind, KindId, Ledger, Options, Probe, ProbeError, Recorder, SinkContext, Tally, Unit,
};
use ebpf_process_sink_statsd::PLUGIN;
use server::{Server, Way};

const LIMIT: Duration = Duration::from_secs(60);

/// Of so many rows one ends per tick.
const ENDS: u64 = 10;

/// A hundred rows with a counter that grows by one per tick; each tick some of them end and begin anew.
struct Hundred {
    kind: Option<(KindId, ColumnId)>,
    ticks: u64,
    /// By row, how often it has ended and as of which tick it counts.
    lives: Vec<(u64, u64)>,
}

impl Probe for Hundred {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let Self { kind, ticks, lives } = self;
        let (kind, column) = *kind.get_or_insert_with(|| {
            let kind = EntityKind::new("thing").keys(["number"]).names_as_they_are();
            let kind = recorder.kind(kind).expect("a kind");
            let calls = Column::counter("demo.calls", Unit::CALLS, "Calls");
            (kind, recorder.column(kind, calls).expect("a column"))
        });
        *ticks += 1;
        for (number, (ended, since)) in (0_u64..).zip(lives) {
            // Long enough to fill a socket's buffer in a few ticks.
            let row = recorder.row(kind, *ended << 32 | number, &[&format!("{number:0>190}")]);
            let row = row?;
            recorder.counter(row, column, *ticks - *since);
            if (number + *ticks) % ENDS == 0 {
                recorder.end(row);
                (*ended, *since) = (*ended + 1, *ticks);
            }
        }
        Ok(())
    }
}

/// An agent with one sink, ticked by hand.
struct Scene {
    agent: Agent,
    clock: Arc<ManualClock>,
    ledger: Arc<Ledger>,
    ticks: u64,
}

impl Scene {
    fn new(address: &str, more: &[(&str, &str)]) -> Self {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), Duration::from_secs(100)));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, Duration::from_secs(1));
        let hundred = Hundred { kind: None, ticks: 0, lives: vec![(0, 0); 100] };
        agent.push_probe("hundred", Box::new(hundred));
        let table: BTreeMap<_, _> = more.iter().chain(&[("address", address)]).copied().collect();
        let ledger = Arc::new(Ledger::default());
        let context = SinkContext { ledger: Arc::clone(&ledger), stop: agent.stop_signal(), ..context("lan") };
        agent.add_sink(&PLUGIN, &Options::from_value(table), OutletSpec::new("lan"), context).expect("a sink");
        Self { agent, clock, ledger, ticks: 0 }
    }

    /// Collects a batch and waits until the sink is done with it.
    fn tick(&mut self) -> Tally {
        self.ticks += 1;
        self.agent.tick(self.clock.advance(Duration::from_secs(1)));
        let deadline = Instant::now() + LIMIT;
        while self.ledger.tally().queued > 0 {
            assert!(Instant::now() < deadline, "the sink does not take the batch");
            std::thread::yield_now();
        }
        let tally = self.ledger.tally();
        assert!(tally.balances(), "{tally:?}");
        tally
    }

    /// Ticks until a batch is written whole, which says that the sink has found its receiver.
    fn tick_until_written(&mut self, server: &mut Server) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let (before, after) = (self.ledger.tally(), self.tick());
            if after.failed == before.failed && after.written >= before.written + 100 {
                return;
            }
            server.read();
            assert!(Instant::now() < deadline, "the receiver is not found: {:?}", self.ledger.tally());
            // It looks for its receiver in time that is real, and what ends meanwhile is tried again with every batch.
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Ends the agent, and checks that every counter got exactly its total, in however many pieces.
    fn close(self, server: &mut Server) -> Tally {
        let ticks = self.ticks;
        let closed = self.agent.close(LIMIT);
        assert!(closed[0].in_time && closed[0].tally.balances(), "{closed:?}");
        let deadline = Instant::now() + LIMIT;
        while !server.has(100, ticks) {
            server.read();
            assert!(Instant::now() < deadline, "not {ticks} each: {:?}", server.sums);
            std::thread::yield_now();
        }
        closed[0].tally.clone()
    }
}

#[test]
fn a_receiver_that_comes_late_gets_everything() {
    for way in Way::ALL {
        let place = way.place();
        let mut scene = Scene::new(&place.address, &[]);
        // Rows that have ended are tried again with the rows of each further batch.
        for failed in [100, 210, 330] {
            let tally = scene.tick();
            assert_eq!((tally.written, tally.failed), (0, failed), "{way:?}");
        }
        let mut server = Server::start(&place);
        scene.tick_until_written(&mut server);
        scene.tick();
        let tally = scene.close(&mut server);
        assert!(tally.failed >= 300 && tally.written >= 200, "{way:?} {tally:?}");
        assert!(server.sums.keys().all(|name| name.starts_with("ebpf_process.demo.0")), "{way:?}");
    }
}

#[test]
fn a_receiver_that_is_killed_and_restarted_misses_nothing_and_gets_nothing_twice() {
    for way in Way::ALL {
        let place = way.place();
        let mut server = Server::start(&place);
        let mut scene = Scene::new(&place.address, &[]);
        for _ in 0..3 {
            scene.tick_until_written(&mut server);
            let ticks = scene.ticks;
            server.read_until(100, ticks);
            server.kill();
            let failed = scene.tick().failed;
            scene.tick();
            assert!(scene.ledger.tally().failed > failed, "{way:?}");
            server.restart(&place);
        }
        scene.tick_until_written(&mut server);
        scene.close(&mut server);
    }
}

#[test]
fn a_connection_that_is_reset_is_made_anew_and_nothing_is_lost() {
    for way in [Way::Tcp, Way::Unix] {
        let place = way.place();
        let mut server = Server::start(&place);
        let mut scene = Scene::new(&place.address, &[]);
        for _ in 0..10 {
            scene.tick_until_written(&mut server);
            let ticks = scene.ticks;
            server.read_until(100, ticks);
            server.reset_connections();
        }
        scene.tick_until_written(&mut server);
        let tally = scene.close(&mut server);
        // The reset is seen before anything is written into the void.
        assert_eq!(tally.failed, 0, "{way:?} {tally:?}");
    }
}

#[test]
fn a_receiver_that_does_not_read_costs_time_and_no_event() {
    let timeout = ("timeout", "20ms");
    for (way, options) in [
        (Way::Unix, &[timeout][..]),
        (Way::Unix, &[timeout, ("dialect", "dogstatsd")]),
        (Way::Unixgram, &[timeout]),
        (Way::Unixgram, &[timeout, ("dialect", "dogstatsd")]),
    ] {
        let place = way.place();
        let mut server = Server::start(&place);
        server.has_lengths = way == Way::Unix && options.len() == 2;
        let mut scene = Scene::new(&place.address, options);
        let deadline = Instant::now() + LIMIT;
        while scene.tick().failed == 0 {
            assert!(Instant::now() < deadline, "there is no end to the room: {way:?}");
        }
        scene.tick();
        // A byte per tick is not reading either.
        server.read_a_byte();
        scene.tick();
        server.read();
        scene.tick_until_written(&mut server);
        scene.close(&mut server);
    }
}

#[test]
fn a_path_that_vanishes_cuts_no_connection_and_is_found_again() {
    for way in [Way::Unix, Way::Unixgram] {
        let place = way.place();
        let mut server = Server::start(&place);
        let mut scene = Scene::new(&place.address, &[]);
        scene.tick_until_written(&mut server);
        place.unlink();
        // The receiver still reads, whatever its path.
        let before = scene.ledger.tally().written;
        assert_eq!(scene.tick().written, before + 100, "{way:?}");
        let ticks = scene.ticks;
        server.read_until(100, ticks);
        server.kill();
        scene.tick();
        server.restart(&place);
        scene.tick_until_written(&mut server);
        scene.close(&mut server);
    }
}

#[test]
fn a_receiver_that_hangs_up_at_once_is_no_reason_to_hurry() {
    let place = Way::Tcp.place();
    let mut server = Server::start(&place);
    let mut scene = Scene::new(&place.address, &[]);
    for _ in 0..20 {
        scene.tick();
        server.reset_connections();
    }
    // One connection per batch at most.
    assert!(server.accepted <= 20, "{}", server.accepted);
}

#[test]
fn a_line_too_long_for_a_packet_is_rejected_and_said_so() {
    let place = Way::Udp.place();
    let _server = Server::start(&place);
    let tally = Scene::new(&place.address, &[("namespace", &"x".repeat(1432))]).tick();
    assert_eq!((tally.written, tally.rejected), (0, vec![("too long", 100)]));
}

#[test]
fn a_name_that_does_not_resolve_is_no_reason_not_to_start() {
    let mut scene = Scene::new("udp://no-such-host.invalid:8125", &[("timeout", "10s")]);
    let tally = scene.tick();
    assert_eq!((tally.written, tally.failed), (0, 100));
    let mut scene = Scene::new("tcp://no-such-host.invalid:8125", &[("timeout", "10s")]);
    let tally = scene.tick();
    assert_eq!((tally.written, tally.failed), (0, 100));
}
