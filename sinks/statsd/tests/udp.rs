//! The sink as the agent runs it: what a receiver gets, and what the ledger says of the rest.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::{ManualClock, context};
use ebpf_process_core::{
    Agent, BuildError, Clock, Descriptor, Ledger, Options, OutletSpec, Probe, ProbeError, Recorder, SinkContext,
    SinkPlugin as _, Tally, Unit,
};
use ebpf_process_sink_statsd::PLUGIN;

/// A hundred counters that grow by one per tick.
struct Hundred(Arc<Descriptor>, u64);

impl Probe for Hundred {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.1 += 1;
        for number in 0..100 {
            let id = recorder.series(&self.0, &[&number.to_string()]);
            recorder.counter(id.map_err(|error| ProbeError::new(error.to_string()))?, self.1);
        }
        Ok(())
    }
}

/// An agent with one sink, ticked by hand.
struct Scene {
    agent: Agent,
    clock: Arc<ManualClock>,
    ledger: Arc<Ledger>,
}

impl Scene {
    fn new(address: &str) -> Self {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), Duration::from_secs(100)));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, Duration::from_secs(1));
        let descriptor = Descriptor::counter("demo.calls", Unit::CALLS, "Calls").labels(["number"]).share();
        agent.push_probe("hundred", Box::new(Hundred(descriptor, 0)));
        let options = Options::from_value(BTreeMap::from([("address", format!("udp://{address}"))]));
        let ledger = Arc::new(Ledger::default());
        let context = SinkContext { ledger: Arc::clone(&ledger), stop: agent.stop_signal(), ..context("lan") };
        agent.add_sink(&PLUGIN, &options, OutletSpec::new("lan"), context).expect("a sink");
        Self { agent, clock, ledger }
    }

    /// Collects a batch and waits until the sink is done with it.
    fn tick(&mut self) -> Tally {
        self.agent.tick(self.clock.advance(Duration::from_secs(1)));
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.ledger.tally().queued > 0 {
            assert!(Instant::now() < deadline, "the sink does not take the batch");
            std::thread::yield_now();
        }
        self.ledger.tally()
    }

    fn close(self) -> Tally {
        let closed = self.agent.close(Duration::from_secs(30));
        assert!(closed[0].in_time && closed[0].tally.balances(), "{closed:?}");
        closed[0].tally.clone()
    }
}

/// What arrives until a hundred names have this sum.
fn receive(receiver: &UdpSocket, sum: u64) -> BTreeMap<String, u64> {
    receiver.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let mut buffer = vec![0; 65_536];
    while sums.len() < 100 || sums.values().any(|value| *value < sum) {
        let length = receiver.recv(&mut buffer).expect("a datagram");
        assert!(length <= 1432);
        let text = std::str::from_utf8(&buffer[..length]).expect("text");
        for line in text.lines() {
            let (name, delta) = line.strip_suffix("|c").and_then(|line| line.split_once(':')).expect("a counter");
            *sums.entry(name.to_owned()).or_default() += delta.parse::<u64>().expect("a number");
        }
    }
    sums
}

#[test]
fn a_receiver_on_this_host_that_comes_late_gets_everything() {
    let address = {
        let probe = UdpSocket::bind("127.0.0.1:0").expect("a port");
        probe.local_addr().expect("an address").to_string()
    };
    let mut scene = Scene::new(&address);
    for round in 1..=3 {
        let tally = scene.tick();
        assert_eq!((tally.written, tally.failed), (0, 100 * round));
    }
    let receiver = UdpSocket::bind(&address).expect("the same port");
    scene.tick();
    scene.tick();
    let tally = scene.close();
    assert_eq!((tally.written, tally.failed), (200, 300));
    let sums = receive(&receiver, 5);
    assert!(sums.values().all(|sum| *sum == 5), "{sums:?}");
    assert!(sums.contains_key("ebpf_process.demo.42.calls"), "{sums:?}");
}

#[test]
fn a_receiver_that_does_not_resolve_is_refused_at_the_start() {
    let options = Options::from_value(BTreeMap::from([("address", "udp://no-such-host.invalid:8125")]));
    PLUGIN.check(&options).expect("nothing wrong with the text");
    assert!(matches!(PLUGIN.build(&options, context("lan")), Err(BuildError::Refused { .. })));
}
