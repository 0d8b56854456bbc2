//! `ebpf-process status` beside a running agent: what each counter counted is what happened.

use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::expect;
use ebpf_process_tests::totals::Totals;
use ebpf_process_tests::workload::{Place, int80_works};
use ebpf_process_tests::{Failure, Outcome, live, wait};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The batch with the last events is a tick or two away.
const LIMIT: Duration = Duration::from_secs(10);
/// The metrics that say how often something happened.
const EVENTS: [&str; 5] = ["file.calls", "vfs.calls", "task.started", "task.exits", "task.releases"];

#[test]
fn the_status_counts_the_workload_to_the_unit() {
    live::test("status", agent::can_run(), status);
}

fn status() -> Outcome<()> {
    let place = Place::new()?;
    let mut target = place.all(int80_works(&place)?)?;
    let socket = format!("status.socket={}", place.path().join("status.sock").display());
    let only = format!("probes.only={{pid={}}}", target.pid());
    let mut agent = Agent::start(&["probes.mode=return".to_owned(), only, socket.clone()])?;
    agent.wait_for_first_batch()?;
    target.run_to_next_stop()?;
    target.run_to_end()?;

    let (mut wanted, mut told) = (BTreeMap::new(), BTreeMap::new());
    let equal = wait::until("equal totals in the status", LIMIT, || {
        wanted = expected(agent.totals()?);
        told = ask(&socket)?;
        Ok(wanted.iter().all(|(counter, events)| told.get(*counter) == Some(events)).then_some(()))
    });
    equal.map_err(|failure| Failure::new(format!("{failure}: {told:?}, not {wanted:?}")))
}

/// Per counter the events of the whole workload.
fn expected(totals: &Totals) -> BTreeMap<&'static str, f64> {
    let mut wanted = BTreeMap::new();
    for expected in expect::whole_workload().iter().filter(|expected| EVENTS.contains(&expected.metric.name)) {
        let counter = expected.metric.counters.first().copied().unwrap_or_default();
        *wanted.entry(counter).or_default() += expected.received(totals);
    }
    wanted
}

/// Per counter what it counted and missed together.
fn ask(socket: &str) -> Outcome<BTreeMap<String, f64>> {
    let mut command = agent::command()?;
    let output = command.args(["status", "--format", "json", "--set", socket]).output();
    let output = output.map_err(Failure::at("asking for the status"))?;
    let told: Value = serde_json::from_slice(&output.stdout)
        .map_err(Failure::at(format!("not a status: {}", String::from_utf8_lossy(&output.stderr))))?;
    let counters = told["counters"].as_array().into_iter().flatten();
    let events = counters.filter_map(|counter| {
        let (counted, missed) = (counter["counted"].as_f64()?, counter["missed"].as_f64()?);
        Some((counter["name"].as_str()?.to_owned(), counted + missed))
    });
    Ok(events.collect())
}
