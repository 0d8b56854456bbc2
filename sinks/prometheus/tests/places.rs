//! The port: another one's at first, and then a predecessor's.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::engine::{Agent, Clock, OutletSpec, Parts, Setting, SinkPart};
use ebpf_process_core::testkit::{ManualClock, context, loopback};
use ebpf_process_core::{
    BuildError, Column, Ledger, Options, Probe, ProbeError, Recorder, Scope, SinkContext, SinkPlugin as _, State, Unit,
};
use ebpf_process_sink_prometheus::PLUGIN;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// A counter of the host that stands still.
struct Steady;

impl Probe for Steady {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let column = Column::counter("steady", Unit::EVENTS, "Total");
        let column = recorder.column(recorder.host_kind(), column)?;
        recorder.counter(recorder.host(), column, 7);
        Ok(())
    }
}

fn part(address: SocketAddr, path: &str) -> SinkPart {
    let table = BTreeMap::from([("listen", address.to_string()), ("path", path.to_owned())]);
    let options = Options::from_value(table);
    SinkPart {
        spec: OutletSpec::new("scrape"),
        plugin: Arc::new(PLUGIN),
        options: options.clone(),
        setting: Setting { instance: None, interval: SECOND, scope: Scope::Host },
        make: Box::new(move |ledger, stop| PLUGIN.build(&options, SinkContext { ledger, stop, ..context("scrape") })),
    }
}

fn agent() -> (Agent, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), 100 * SECOND));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.push_probe("steady", Box::new(Steady));
    (agent, clock)
}

fn ledger(agent: &Agent) -> Arc<Ledger> {
    Arc::clone(&agent.vitals().sinks()[0].ledger)
}

/// Waits for a page with a sample.
fn scraped(agent: &mut Agent, clock: &ManualClock, address: SocketAddr, path: &str) {
    let start = Instant::now();
    loop {
        agent.tick(clock.advance(SECOND));
        let page = TcpStream::connect(address).and_then(|mut client| {
            write!(client, "GET {path} HTTP/1.1\r\n\r\n")?;
            let mut page = String::new();
            client.read_to_string(&mut page).map(|_| page)
        });
        if page.is_ok_and(|page| page.contains("ebpf_process_steady_total 7")) {
            return;
        }
        assert!(start.elapsed() < MINUTE, "nobody answers");
        std::thread::yield_now();
    }
}

#[test]
fn a_port_that_is_taken_is_waited_for() {
    let taken = TcpListener::bind((loopback(), 0)).expect("a port");
    let address = taken.local_addr().expect("an address");
    let (mut agent, clock) = agent();
    let refusal = agent.start_sink(part(address, "/metrics"));
    assert!(refusal.as_ref().is_err_and(BuildError::is_passing), "{refusal:?}");
    assert_eq!(ledger(&agent).condition().state, State::Absent);
    drop(taken);
    scraped(&mut agent, &clock, address, "/metrics");
    assert_eq!(ledger(&agent).condition().state, State::Working);
    agent.close(MINUTE);
}

#[test]
fn the_port_of_a_predecessor_is_free_when_the_next_one_is_built_whoever_is_still_connected() {
    let address = {
        let free = TcpListener::bind((loopback(), 0)).expect("a port");
        free.local_addr().expect("an address")
    };
    let (mut agent, clock) = agent();
    agent.start_sink(part(address, "/metrics")).expect("a sink");
    scraped(&mut agent, &clock, address, "/metrics");
    for path in ["/other", "/third", "/metrics"] {
        // In the middle of a request.
        let mut client = TcpStream::connect(address).expect("a connection");
        client.write_all(b"GET /met").expect("half a request");
        let before = ledger(&agent);
        let sinks = vec![part(address, path)];
        let said = agent.apply(Parts { interval: SECOND, grace: MINUTE, probes: Vec::new(), sinks });
        assert_eq!(said, ["sink scrape is another one"]);
        let after = ledger(&agent);
        assert!(!Arc::ptr_eq(&before, &after));
        let since = Instant::now();
        scraped(&mut agent, &clock, address, path);
        assert!(after.condition().reason.is_none() && since.elapsed() < MINUTE, "it was never refused");
        let tally = before.tally();
        assert!(tally.balances() && tally.queued == 0, "{tally:?}");
    }
    agent.close(MINUTE);
}
