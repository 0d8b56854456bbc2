//! Programs as probes of a whole agent, in the environment that is documented and with the rights that it gives up: the
//! worked ones of `docs/examples/exec`, and one whose numbers are known.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ebpf_process_tests::configured::Configured;
use ebpf_process_tests::{Failure, Outcome, agent, live, wait};
use serde_json::Value;

/// Batches that are in it before the agent is stopped.
const BATCHES: usize = 20;

/// Puts a program into a folder, executable by everybody.
fn put(folder: &Path, name: &str, text: &str) -> Outcome<PathBuf> {
    let target = folder.join(name);
    fs::write(&target, text).map_err(Failure::at(target.display()))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(Failure::at(target.display()))?;
    Ok(target)
}

/// The same of a worked one.
fn place(folder: &Path, name: &str) -> Outcome<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/exec").join(name);
    let text = fs::read_to_string(&source).map_err(Failure::at(source.display()))?;
    ensure(text.lines().count() <= 40, || format!("{name} is long for an example"))?;
    put(folder, name, &text)
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Outcome<()> {
    if holds { Ok(()) } else { Err(Failure::new(problem())) }
}

fn has(program: &str) -> Outcome<()> {
    agent::can_run()?;
    if Path::new(program).exists() { Ok(()) } else { Err(Failure::new(format!("there is no {program}"))) }
}

/// A configuration with a sink, and what else there is.
fn config(folder: &Path, more: &str) -> String {
    let folder = folder.display();
    format!(
        "interval = \"200ms\"\ngrace = \"10s\"\n[status]\nsocket = \"{folder}/status.sock\"\n\
         [sinks.out]\ntype = \"json\"\nqueue = 512\noptions.path = \"{folder}/out.json\"\n{more}"
    )
}

/// The batches of a file of the sink json, whole lines alone.
fn batches(path: &Path) -> Outcome<Vec<Value>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).map_err(Failure::at("a line"))).collect()
}

/// The value with these labels, if a batch has it: of the agent's own numbers, or of a row of a table that lives.
fn value<'a>(batch: &'a Value, name: &str, labels: &[(&str, &str)]) -> Option<&'a Value> {
    let list = |value: &'a Value| value.as_array().into_iter().flatten();
    let has =
        |sample: &&Value| sample["name"] == name && labels.iter().all(|(key, value)| sample["labels"][*key] == *value);
    let sample = list(&batch["samples"]).find(has).map(|sample| &sample["value"]);
    sample.or_else(|| {
        list(&batch["tables"]).find_map(|table| {
            let keys: Vec<&str> = list(&table["labels"]).filter_map(Value::as_str).collect();
            let (of_rows, of_columns): (Vec<_>, Vec<_>) = labels.iter().partition(|(key, _)| keys.contains(key));
            let column = list(&table["columns"]).position(|column| {
                column["name"] == name && of_columns.iter().all(|(key, value)| column["labels"][key] == *value)
            })?;
            let row = list(&table["rows"]).filter(|row| row["ended"] != true).find(|row| {
                let values = || keys.iter().zip(list(&row["labels"]));
                of_rows.iter().all(|(key, value)| values().any(|(known, found)| known == key && found == value))
            })?;
            Some(&row["values"][column]).filter(|value| !value.is_null())
        })
    })
}

/// Whether a batch says that the probe's numbers are missing.
fn lacks(batch: &Value, probe: &str) -> bool {
    batch["left_out"].as_array().is_some_and(|left_out| left_out.iter().any(|name| name == probe))
}

/// The same number in each batch that has it.
fn numbers(batches: &[Value], name: &str, labels: &[(&str, &str)]) -> Vec<u64> {
    batches.iter().filter_map(|batch| value(batch, name, labels)?.as_u64()).collect()
}

/// Runs an agent with a probe `own` until so many batches have its number, and looks at all of them. Each batch has its
/// numbers or says that it lacks them, and as often as that is the probe skipped.
fn collected(folder: &Path, probe: &str, name: &str, labels: &[(&str, &str)]) -> Outcome<Vec<Value>> {
    let mut agent = Configured::start(&folder.join("agent.toml"), &config(folder, probe))?;
    let out = folder.join("out.json");
    agent.wait("numbers of the program", |_| {
        let batches = batches(&out)?;
        Ok((batches.iter().filter(|batch| value(batch, name, labels).is_some()).count() >= BATCHES).then_some(()))
    })?;
    let log = agent.stop()?;
    let batches = batches(&out)?;
    for batch in &batches {
        let (has, lacks) = (value(batch, name, labels).is_some(), lacks(batch, "own"));
        ensure(has != lacks, || format!("a batch has: {has}, lacks: {lacks}: {batch}; {log}"))?;
    }
    let skips = numbers(&batches, "agent.probe_skips", &[("probe", "own")]);
    // The agent's own numbers are looked at before the program's: what a batch lacks is in those of the next one.
    let lacking = batches.iter().rev().skip(1).filter(|batch| lacks(batch, "own")).count() as u64;
    ensure(skips.last() == Some(&lacking), || format!("{lacking} batches lack it, {skips:?} are told; {log}"))?;
    Ok(batches)
}

/// Totals of the kernel's that were seen are between what they were before and after.
fn between(seen: &[u64], before: u64, after: u64) -> Outcome<()> {
    let in_order = seen.is_sorted() && seen.first() >= Some(&before) && seen.last() <= Some(&after);
    ensure(in_order, || format!("{seen:?} is not from {before} to {after}"))
}

/// A number behind a name in a file of the kernel's.
fn told(path: &str, name: &str, place: usize) -> Outcome<u64> {
    let text = fs::read_to_string(path).map_err(Failure::at(path))?;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().nth(place)?.parse().ok());
    number.ok_or_else(|| Failure::new(format!("{path} has no {name}")))
}

#[test]
fn python_counts_what_interfaces_receive() {
    live::test("exec-probe-python", has("/usr/bin/python3"), || {
        let folder = agent::folder()?;
        let program = place(folder.path(), "interfaces.py")?;
        let probe = format!("[probes.own]\ntype = \"exec\"\nprogram = [\"{}\"]\n", program.display());
        let labels = [("interface", "lo"), ("way", "received")];
        let before = told("/proc/net/dev", "lo:", 0)?;
        let batches = collected(folder.path(), &probe, "interface.bytes", &labels)?;
        between(&numbers(&batches, "interface.bytes", &labels), before, told("/proc/net/dev", "lo:", 0)?)?;
        // The batch at the stop may lack them all: it comes as soon as it is due, whatever the program is at.
        let last = batches.iter().rfind(|batch| value(batch, "interface.bytes", &labels).is_some());
        let last = last.ok_or_else(|| Failure::new("no batch with its numbers"))?;
        for (name, way) in [("bytes", "sent"), ("packets", "received"), ("packets", "sent")] {
            let labels = [("interface", "lo"), ("way", way)];
            ensure(value(last, &format!("interface.{name}"), &labels).is_some(), || {
                format!("no {name} {way}: {last}")
            })?;
        }
        Ok(())
    });
}

#[test]
fn awk_writes_openmetrics() {
    live::test("exec-probe-awk", has("/usr/bin/awk"), || {
        let folder = agent::folder()?;
        let program = place(folder.path(), "load.awk")?;
        let probe = format!(
            "[probes.own]\ntype = \"exec\"\nformat = \"openmetrics\"\n\
             program = [\"/usr/bin/awk\", \"-W\", \"interactive\", \"-f\", \"{}\"]\n",
            program.display()
        );
        let before = told("/proc/stat", "ctxt", 0)?;
        let batches = collected(folder.path(), &probe, "own.kernel_ctxt", &[])?;
        let seen = numbers(&batches, "own.kernel_ctxt", &[]);
        between(&seen, before, told("/proc/stat", "ctxt", 0)?)?;
        // A host does something in a second.
        ensure(seen.first() < seen.last(), || format!("{seen:?}"))?;
        let last = batches.last().ok_or_else(|| Failure::new("no batch"))?;
        let is_level = |over| value(last, "own.load", &[("over", over)]).is_some_and(Value::is_f64);
        ensure(["1m", "5m", "15m"].into_iter().all(is_level), || format!("no load: {last}"))
    });
}

/// Answers each question with ten times its number; notes who runs it and with what.
const KNOWN: &str = r#"#!/usr/bin/python3
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
notes = {"pid": os.getpid(), "uid": os.getuid(), "environment": dict(os.environ), "capabilities": status["CapEff"].strip()}
json.dump(notes, open("notes", "w"))
print(json.dumps({"ebpf_process": [1], "probe": "known", "kind": "known", "keys": ["name"],
    "columns": [{"name": "total", "type": "counter"}]}), flush=True)
for line in sys.stdin:
    tick = json.loads(line)["tick"]
    print(json.dumps({"tick": tick, "rows": [{"labels": ["a"], "values": [10 * tick]}]}), flush=True)
"#;

#[test]
fn a_probe_that_a_reload_adds_counts_exactly_and_disturbs_nobody() {
    live::test("exec-probe-reload", has("/usr/bin/python3"), || {
        let folder = agent::folder()?;
        let program = put(folder.path(), "known", KNOWN)?;
        let probe = format!(
            "[probes.own]\ntype = \"exec\"\nprogram = [\"{}\"]\ndirectory = \"{}\"\n",
            program.display(),
            folder.path().display()
        );
        let (without, with) = (config(folder.path(), ""), config(folder.path(), &probe));
        let out = folder.path().join("out.json");
        let mut agent = Configured::start(&folder.path().join("agent.toml"), &with)?;
        // The configuration that the broker knows from the start, and then one that it gets.
        agent.wait_for_batch()?;
        agent.becomes(&without)?;
        let before = batches(&out)?.len();
        let changes = agent.becomes(&with)?;
        ensure(changes.contains("probe own"), || changes.clone())?;
        let labels = [("name", "a")];
        let has =
            |batches: &[Value]| batches.iter().filter(|batch| value(batch, "known.total", &labels).is_some()).count();
        let enough = |count| {
            let out = out.clone();
            move |_: &Configured| Ok((has(batches(&out)?.get(before..).unwrap_or_default()) >= count).then_some(()))
        };
        agent.wait("numbers of the program", enough(20))?;
        let notes = fs::read_to_string(folder.path().join("notes")).map_err(Failure::at("its notes"))?;
        let notes: Value = serde_json::from_str(&notes).map_err(Failure::at("its notes"))?;
        let pid = notes["pid"].clone();
        let runs = || Path::new("/proc").join(pid.to_string()).exists();
        ensure(runs(), || "the program does not run".to_owned())?;
        ensure(notes["uid"] == agent::user(), || format!("it runs as another user: {notes}"))?;
        ensure(notes["capabilities"] == "0000000000000000", || format!("it has rights: {notes}"))?;
        let environment = serde_json::json!({"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"});
        let allowed = |(name, value): (&String, &Value)| environment[name] == *value || name == "LC_CTYPE";
        let is_right = notes["environment"].as_object().is_some_and(|all| all.len() >= 2 && all.iter().all(allowed));
        ensure(is_right, || format!("its environment is another: {notes}"))?;
        agent.becomes(&without)?;
        wait::until("the program's end", wait::LIMIT, || Ok((!runs()).then_some(())))?;
        let log = agent.stop()?;

        let batches = batches(&out)?;
        // Of the program before, a batch or two may have been on their way.
        let totals: Vec<_> =
            batches.iter().map(|batch| value(batch, "known.total", &labels).and_then(Value::as_u64)).collect();
        let with: Vec<usize> = (0..totals.len()).filter(|at| totals[*at].is_some()).collect();
        let anew = with.windows(2).rposition(|two| totals[two[1]] <= totals[two[0]]).map_or(0, |at| at + 1);
        let (Some(first), Some(last)) = (with.get(anew), with.last()) else { return Err(Failure::new(log)) };
        let (first, last) = (*first, *last);
        let seen = numbers(&batches[first..], "known.total", &labels);
        ensure(first + 1 >= before && seen.len() >= 15, || format!("{before}, {first}, {seen:?}; {log}"))?;
        // A tick is one question: what was not answered in time is missing, and nothing else is.
        for (expected, batch) in (seen[0]..).step_by(10).zip(&batches[first..=last]) {
            let total = value(batch, "known.total", &labels).and_then(Value::as_u64);
            let is_right = total == Some(expected) || (total.is_none() && lacks(batch, "own"));
            ensure(is_right, || format!("{total:?} in place of {expected}: {seen:?}; {log}"))?;
        }
        // The agent's own numbers went on: no batch is missing, none is there twice.
        let ticks = numbers(&batches, "agent.ticks", &[]);
        let all: Vec<u64> = (ticks[0]..).take(batches.len()).collect();
        ensure(ticks == all, || format!("batches are missing: {ticks:?}"))
    });
}
