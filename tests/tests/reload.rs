//! A configuration that changes while a known workload runs: nothing is lost on what stays, and everything arrives.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ebpf_process_tests::configured::Configured;
use ebpf_process_tests::database::Database;
use ebpf_process_tests::receivers::influx::Influx;
use ebpf_process_tests::workload::Place;
use ebpf_process_tests::{Failure, Outcome, agent, live, wait};
use serde_json::Value;

/// How many configurations the agent gets one after another; `RELOADS` sets another number.
const RELOADS: usize = 30;

/// So many of them last long enough for an outage that fills a spool.
const MANY: usize = 1000;

/// What the workload does, while they change.
const READS: u64 = 400_000;

#[test]
fn thirty_configurations_lose_nothing_of_what_stays_and_all_arrives_of_what_changes() {
    live::test("reload", agent::can_run().and_then(|()| Influx::is_installed()), plans);
}

#[test]
fn a_wrong_configuration_changes_nothing_and_is_said_everywhere() {
    live::test("reload-wrong", agent::can_run(), wrong);
}

/// What the workload does while one probe changes: some seconds.
const MORE_READS: u64 = 6_000_000;

/// Changes that the workload sees at least, on the slowest of machines.
const CHANGES: u64 = 3;

#[test]
fn a_probe_whose_options_change_again_and_again_loses_no_call_and_no_batch() {
    live::test("reload-probe", agent::can_run(), successors);
}

/// How many descriptors and threads the agent has.
fn size(agent: &Configured) -> Outcome<[usize; 2]> {
    let count = |what: &str| {
        let entries = fs::read_dir(format!("/proc/{}/{what}", agent.pid()));
        entries.map(Iterator::count).map_err(Failure::at("the agent's size"))
    };
    Ok([count("fd")?, count("task")?])
}

/// The configuration of a number: with each one a probe comes or goes, a sink gets other names, and another one is
/// replaced; one stays as it is.
fn plan(number: usize, folder: &Path, pid: u32, database: SocketAddr) -> String {
    let mut text = String::from("interval = \"100ms\"\ngrace = \"2s\"\n");
    let folder = folder.display();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "[status]\nsocket = \"{folder}/status.sock\"\n\
         [probes]\nonly = {{ pid = {pid} }}\n[probes.sync]\nenabled = {}\n\
         [sinks.stays]\ntype = \"json\"\nqueue = 512\noptions.path = \"{folder}/stays.json\"\n\
         [sinks.renamed]\ntype = \"json\"\nqueue = 512\nprefix = \"plan{}.\"\noptions.path = \"{folder}/renamed.json\"\n\
         [sinks.db]\ntype = \"influx\"\nqueue = 512\n[sinks.db.options]\nurl = \"http://{database}\"\ndatabase = \"d\"\n\
         timeout = \"{}s\"\ndelivery = {{ spool = \"{folder}/spool\", retry_min = \"100ms\", retry_max = \"200ms\" }}\n",
        number % 2 == 1,
        number % 3,
        2 + number % 4,
    );
    text
}

/// A sink for a real server, with the smallest of spools; it is replaced with each number.
fn real(number: usize, folder: &Path, influx: &Influx) -> String {
    format!(
        "[sinks.real]\ntype = \"influx\"\nqueue = 512\n[sinks.real.options]\nurl = \"{}\"\ndatabase = \"{}\"\n\
         lines = \"per-value\"\ntimeout = \"{}s\"\ndelivery = {{ spool = \"{}/real\", spool_size = \"1MiB\", retry_min = \"100ms\", \
         retry_max = \"200ms\" }}\n",
        influx.url(),
        influx.database(),
        2 + number % 4,
        folder.display(),
    )
}

/// All numbers of reads in a file of the sink json, in order.
fn reads(path: &Path) -> Outcome<Vec<u64>> {
    numbers(path, |sample| {
        let name = sample["name"].as_str().unwrap_or_default();
        name.ends_with("vfs.calls") && sample["labels"]["operation"] == "read"
    })
}

/// The values of one sample in a file of the sink json, in order.
fn numbers(path: &Path, is_it: impl Fn(&Value) -> bool) -> Outcome<Vec<u64>> {
    let text = fs::read_to_string(path).map_err(Failure::at(path.display()))?;
    let mut all = Vec::new();
    for line in text.lines() {
        let object: Value = serde_json::from_str(line).map_err(Failure::at("a line"))?;
        let mut samples = object["samples"].as_array().into_iter().flatten();
        all.extend(samples.find(|sample| is_it(sample)).and_then(|sample| sample["value"].as_u64()));
    }
    Ok(all)
}

fn plans() -> Outcome<()> {
    let count = std::env::var("RELOADS").ok().and_then(|count| count.parse().ok()).unwrap_or(RELOADS);
    let folder = agent::folder()?;
    let path = folder.path();
    let place = Place::new()?;
    let mut target = place.reads(READS)?;
    let database = Database::start()?;
    let mut influx = Influx::start()?;
    let plans: Vec<String> = (0..12)
        .map(|number| plan(number, path, target.pid(), database.address()) + &real(number, path, &influx))
        .collect();
    let text = |number: usize| plans[number % plans.len()].clone();
    let mut agent = Configured::start(&path.join("agent.toml"), &text(0))?;
    agent.wait_for_batch()?;
    // Once through, so that everything that is made once is there.
    for number in [1, 2, 0] {
        agent.becomes(&text(number))?;
    }
    let before = size(&agent)?;
    target.resume()?;
    for number in 1..=count {
        // Away for a third of the time.
        database.is_away((count / 3..count * 2 / 3).contains(&number));
        if number == count / 3 {
            influx.kill();
        } else if number == count * 2 / 3 {
            influx.start_again()?;
        }
        let changes = agent.becomes(&text(number))?;
        if !changes.contains("probe sync")
            || ["renamed", "db", "real"].iter().any(|sink| !changes.contains(&format!("sink {sink}")))
        {
            return Err(Failure::new(format!("plan {number} changed only this: {changes}")));
        }
    }
    agent.becomes(&text(0))?;
    target.wait_for_stop()?;
    let arrived = || {
        let last = |name: &str| Ok(reads(&path.join(name))?.last().copied().unwrap_or_default());
        let stored = influx.totals()?.get("vfs.calls", Some(("operation", "read"))).unwrap_or_default();
        let ours = [last("stays.json")?, last("renamed.json")?, database.reads()];
        Ok((ours, stored.to_string()))
    };
    let mut seen = Default::default();
    let all = wait::until("all reads everywhere", wait::LIMIT, || {
        seen = arrived()?;
        Ok((seen == ([READS; 3], READS.to_string())).then_some(()))
    });
    all.map_err(|failure| Failure::new(format!("{failure}: {seen:?} of {READS}")))?;
    let status = agent.status()?;
    let sinks = status["sinks"].as_array().into_iter().flatten();
    let sinks: BTreeMap<&str, &Value> = sinks.map(|sink| (sink["name"].as_str().unwrap_or_default(), sink)).collect();
    for name in ["stays", "renamed", "db"] {
        let sink = sinks.get(name).ok_or_else(|| Failure::new(format!("no sink {name}: {status}")))?;
        let nothing_lost = sink["dropped"].as_object().is_some_and(serde_json::Map::is_empty) && sink["failed"] == 0;
        if !nothing_lost || sink["state"] != "working" {
            return Err(Failure::new(format!("{name} has lost something: {sink}")));
        }
    }
    // What a full spool has given up are older totals.
    let real = sinks.get("real").ok_or_else(|| Failure::new(format!("no sink real: {status}")))?;
    let dropped: Vec<&str> =
        real["dropped"].as_object().into_iter().flatten().map(|(reason, _)| reason.as_str()).collect();
    let is_full = dropped == ["spool full"];
    if real["failed"] != 0 || real["state"] != "working" || !(is_full || dropped.is_empty() && count < MANY) {
        return Err(Failure::new(format!("real has lost something else, or nothing: {real}")));
    }
    let totals = reads(&path.join("stays.json"))?;
    if !totals.is_sorted() {
        return Err(Failure::new("a total has fallen"));
    }
    // A sink may not have opened everything by then; what stayed of each configuration would be thirty of it.
    let mut now = [0; 2];
    let same = wait::until("descriptors and threads as before", wait::LIMIT, || {
        now = size(&agent)?;
        Ok((now[0] <= before[0] + 16 && now[1] <= before[1]).then_some(()))
    });
    same.map_err(|failure| Failure::new(format!("{failure}: {now:?}, before {before:?}")))?;
    target.run_to_end()?;
    agent.stop().map(drop)
}

fn wrong() -> Outcome<()> {
    let folder = agent::folder()?;
    let path = folder.path();
    let right = plan(0, path, std::process::id(), SocketAddr::from(([127, 0, 0, 1], 1)));
    let mut agent = Configured::start(&path.join("agent.toml"), &right)?;
    agent.wait_for_batch()?;
    for (text, code, words) in [
        (format!("{right}\ntimeuot = 1\n"), 2, "timeuot"),
        (format!("{right}\n["), 2, "line "),
        (format!("capabilities = \"keep\"\n{right}"), 1, "capabilities cannot change while the agent runs"),
    ] {
        let output = agent.reload(&text)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() != Some(code) || !said.contains(words) {
            return Err(Failure::new(format!("{text}: {}: {said}", output.status)));
        }
    }
    let status = agent.status()?;
    let told = status["reload"]["error"].as_str().unwrap_or_default();
    let sinks = status["sinks"].as_array().map_or(0, Vec::len);
    if !told.contains("capabilities cannot change") || sinks != 3 {
        return Err(Failure::new(format!("the status does not say so: {status}")));
    }
    // The same by a signal, and it is the right one again.
    agent.reload_by_signal(&right)?;
    agent.wait("the right one to be taken over", |agent| {
        Ok(agent.status()?["reload"]["error"].is_null().then_some(()))
    })?;
    agent.stop().map(drop)
}

/// System calls are counted by programs that both share, so that nothing is lost or counted twice.
fn successors() -> Outcome<()> {
    let folder = agent::folder()?;
    let path = folder.path();
    let place = Place::new()?;
    let mut target = place.reads(MORE_READS)?;
    let pid = target.pid();
    let text = |mode: &str| {
        format!(
            "interval = \"100ms\"\n[status]\nsocket = \"{0}/status.sock\"\n\
             [probes]\nonly = {{ pid = {pid} }}\nhooks = \"tracepoint\"\n[probes.file]\nmode = \"{mode}\"\n\
             [sinks.all]\ntype = \"json\"\nqueue = 512\noptions.path = \"{0}/all.json\"\n",
            path.display(),
        )
    };
    let mut agent = Configured::start(&path.join("agent.toml"), &text("entry"))?;
    agent.wait_for_batch()?;
    let all = path.join("all.json");
    let overruns = || Ok(numbers(&all, |sample| sample["name"] == "agent.overruns")?.last().copied());
    let before = overruns()?.unwrap_or_default();
    target.resume()?;
    let (mut changes, mut is_over) = (0, false);
    for mode in ["return", "entry"].into_iter().cycle() {
        is_over = is_over || target.has_stopped()?;
        if is_over && changes >= CHANGES {
            break;
        }
        let said = agent.becomes(&text(mode))?;
        if !said.contains("probe file is attached") {
            return Err(Failure::new(format!("another mode changed only this: {said}")));
        }
        changes += 1;
    }
    let mut totals = Vec::new();
    let arrived = wait::until("the last read", Duration::from_secs(20), || {
        totals = reads(&all)?;
        Ok(totals.last().is_some_and(|reads| *reads >= MORE_READS).then_some(()))
    });
    let counted = totals.last().copied().unwrap_or_default();
    arrived.map_err(|failure| Failure::new(format!("{failure}: {counted} of {MORE_READS} in {changes} changes")))?;
    if counted != MORE_READS || !totals.is_sorted() {
        return Err(Failure::new(format!("{counted} reads instead of {MORE_READS}, in {changes} changes")));
    }
    // To build a probe takes ten intervals; a busy machine may cost some by itself.
    let lost = overruns()?.unwrap_or_default() - before;
    if lost >= 5 * changes {
        return Err(Failure::new(format!("{lost} batches were not collected during {changes} changes")));
    }
    target.run_to_end()?;
    agent.stop().map(drop)
}
