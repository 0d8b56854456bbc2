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

#[test]
fn why_a_counter_is_not_exact_is_in_the_status_in_a_metric_and_in_check() {
    live::test("status-doubts", agent::can_run(), doubts);
}

/// Trace events do not show 32-bit calls. No kernel that runs the tests is without them.
fn doubts() -> Outcome<()> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    let settings = ["probes.object=floor", "probes.hooks=tracepoint"].map(ToOwned::to_owned);
    let socket = format!("status.socket={}", folder.path().join("status.sock").display());
    let mut agent = Agent::start(&[&settings[..], std::slice::from_ref(&socket)].concat())?;
    agent.wait_for_whole_batch()?;
    let told = report(&["status", "--set", &socket])?;
    let checked = report(&["check", "--set", &settings[0], "--set", &settings[1]])?;
    let totals = agent.totals()?;
    let reads = [("counter", "vfs.read")];
    let level = |name, labels: &[_]| totals.get_with(name, &[&reads[..], labels].concat());
    let metrics = [
        level("hook.info", &[("exact", "no")]),
        level("hook.exact", &[]),
        level("hook.doubt", &[("reason", "32-bit-calls")]),
        level("hook.missed_is_bound", &[]),
    ];
    let of_reads = |counters: &Value, name: &str| {
        let mut counters = counters.as_array().into_iter().flatten();
        counters.find(|counter| counter[name] == "vfs.read").cloned().unwrap_or_default()
    };
    let status = of_reads(&told["counters"], "name");
    let probes = checked["probes"].as_array().into_iter().flatten();
    let check = probes.map(|probe| of_reads(&probe["counters"], "counter")).find(|counter| !counter.is_null());
    let hook = check.unwrap_or_default()["hook"].clone();
    let has = |doubts: &Value| doubts.as_array().is_some_and(|doubts| doubts.contains(&"32-bit-calls".into()));
    let right = metrics == [Some(1.0), Some(0.0), Some(1.0), Some(1.0)]
        && (status["exact"] == "no" && status["missed_is_bound"] == true && has(&status["doubts"]))
        && (hook["exact"] == false && has(&hook["doubts"]));
    if right { Ok(()) } else { Err(Failure::new(format!("{metrics:?}, status {status}, check {hook}"))) }
}

fn report(arguments: &[&str]) -> Outcome<Value> {
    let mut command = agent::command()?;
    let output = command.args(arguments).args(["--format", "json"]).output().map_err(Failure::at("asking"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(Failure::at(format!("no report: {}", String::from_utf8_lossy(&output.stderr))))
}

fn status() -> Outcome<()> {
    let place = Place::new()?;
    let mut target = place.all(int80_works(&place)?)?;
    let socket = format!("status.socket={}", place.path().join("status.sock").display());
    let target_pid = target.pid();
    let only = format!("probes.only={{pid={target_pid}}}");
    let mut agent = Agent::start(&["probes.mode=return".to_owned(), only, socket.clone()])?;
    agent.wait_for_whole_batch()?;
    target.run_to_next_stop()?;
    target.run_to_end()?;

    let (mut wanted, mut told) = (BTreeMap::new(), BTreeMap::new());
    // The process has ended by then, and the status says so.
    let equal = wait::until("equal totals in the status", LIMIT, || {
        wanted = expected(agent.totals()?);
        let answer = report(&["status", "--set", &socket])?;
        told = events(&answer);
        let targets: Vec<Target> = answer["targets"].as_array().into_iter().flatten().filter_map(named).collect();
        let ended = |probe: &str| (probe.to_owned(), format!("pid {target_pid}"), false);
        if targets != [ended("process"), ended("file")] {
            return Ok(None);
        }
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

/// What `only` names: probe, target, whether it is there.
type Target = (String, String, bool);

fn named(told: &Value) -> Option<Target> {
    let word = |key: &str| told[key].as_str().map(str::to_owned);
    Some((word("probe")?, word("target")?, told["present"].as_bool()?))
}

/// Per counter what it counted and missed together.
fn events(told: &Value) -> BTreeMap<String, f64> {
    let counters = told["counters"].as_array().into_iter().flatten();
    let events = counters.filter_map(|counter| {
        let (counted, missed) = (counter["counted"].as_f64()?, counter["missed"].as_f64()?);
        Some((counter["name"].as_str()?.to_owned(), counted + missed))
    });
    events.collect()
}
