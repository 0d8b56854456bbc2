//! The worked programs of `docs/examples/exec` as sinks of a whole agent, in the environment that is documented: each keeps
//! every value that the agent says it has written, and every tick once.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ebpf_process_tests::wait::{self, LIMIT};
use ebpf_process_tests::{Failure, Outcome, agent, live};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Ticks that are in it before the agent is stopped.
const TICKS: usize = 20;

/// What the agent says, in the folder of its program.
const LOG: &str = "agent.log";

/// What a program has kept: how many values, and those of `agent.ticks`.
#[derive(Debug, Default)]
struct Kept {
    values: u64,
    ticks: Vec<u64>,
}

impl Kept {
    fn add(&mut self, name: &str, value: &Value) {
        self.values += 1;
        if name == "agent.ticks" {
            self.ticks.extend(value.as_u64().or_else(|| value.as_str()?.parse().ok()));
        }
    }
}

/// Runs an agent with a program as its sink, in whose folder the options are to be, until it has kept enough.
fn keeps(
    prepare: impl FnOnce(&Path) -> Outcome<Vec<String>>,
    config: &[(&str, &str)],
    read: impl Fn(&Path) -> Outcome<Kept>,
) -> Outcome<()> {
    let folder = agent::folder()?;
    let program = prepare(folder.path())?;
    let (status, log) = run(&folder, &program, config, "10s", |folder| match read(folder) {
        Ok(kept) if kept.ticks.len() >= TICKS => Ok(()),
        // It is not there yet, or only half written.
        found => Err(Failure::new(format!("it keeps too little: {found:?}"))),
    })?;
    let fail = |problem: String| Err(Failure::new(format!("{problem}; the log:\n{log}")));
    if status.code() != Some(0) {
        return fail(format!("the agent ended with {status}"));
    }
    let kept = read(folder.path())?;
    let written = all_written(&log)?;
    if kept.values != written {
        return fail(format!("the agent says {written} values, the program has {}", kept.values));
    }
    let all: BTreeSet<u64> = kept.ticks.iter().copied().collect();
    let first = all.first().copied().unwrap_or_default();
    if all.len() != kept.ticks.len() || !all.iter().copied().eq(first..first + all.len() as u64) {
        return fail(format!("ticks are missing or there twice: {:?}", kept.ticks));
    }
    Ok(())
}

/// Runs an agent with this sink until there is enough, and stops it; returns how it ended and its log.
fn run(
    folder: &TempDir,
    program: &[String],
    config: &[(&str, &str)],
    grace: &str,
    is_enough: impl Fn(&Path) -> Outcome<()>,
) -> Outcome<(ExitStatus, String)> {
    let mut settings = vec![format!("grace={}", quoted(grace))];
    for (key, value) in config {
        let value = value.replace("FOLDER", &folder.path().display().to_string());
        settings.push(format!("sinks.own.options.config.{key}={}", quoted(&value)));
    }
    let mut child = start(folder, program, &settings)?;
    let start = Instant::now();
    let result = loop {
        match is_enough(folder.path()) {
            Err(_) if start.elapsed() < LIMIT => std::thread::park_timeout(Duration::from_millis(100)),
            result => break result,
        }
    };
    let status = end(&mut child, Signal::TERM)?;
    let log = log(folder)?;
    result.map_err(|failure| Failure::new(format!("{failure}; the log:\n{log}")))?;
    Ok((status, log))
}

/// Starts an agent with this program as its sink `own`, whose log is in the folder.
fn start(folder: &TempDir, program: &[String], settings: &[String]) -> Outcome<Child> {
    let mut command = agent::command()?;
    command.args(["run", "--set", "interval=\"100ms\""]);
    let words: Vec<String> = program.iter().map(|word| quoted(word)).collect();
    for setting in [
        "sinks.own.type=exec".to_owned(),
        format!("sinks.own.options.program=[{}]", words.join(",")),
        format!("sinks.own.options.directory={}", quoted(&folder.path().display().to_string())),
    ]
    .iter()
    .chain(settings)
    {
        command.args(["--set", setting]);
    }
    let path = folder.path().join(LOG);
    let errors = fs::File::create(&path).map_err(Failure::at(path.display()))?;
    command.stdout(Stdio::null()).stderr(errors).spawn().map_err(Failure::at("starting the agent"))
}

/// Sends the agent a signal that ends it; returns how it ended.
fn end(child: &mut Child, signal: Signal) -> Outcome<ExitStatus> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| Failure::new("no pid"))?;
    kill_process(pid, signal).map_err(Failure::at("ending the agent"))?;
    child.wait().map_err(Failure::at("its end"))
}

fn log(folder: &TempDir) -> Outcome<String> {
    fs::read_to_string(folder.path().join(LOG)).map_err(Failure::at("the log"))
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// How many values the sink has written, by its account in the log, where nothing else became of any.
fn all_written(log: &str) -> Outcome<u64> {
    let account = log.lines().find(|line| line.ends_with("(sink own)") && line.contains(" samples: "));
    let account = account.filter(|line| line.contains(" 0 failed, 0 dropped, 0 rejected"));
    let written = account.and_then(written);
    written.ok_or_else(|| Failure::new(format!("no account of the sink, or something was lost; the log:\n{log}")))
}

/// Out of `... 50 samples: 40 written, ...`.
fn written(account: &str) -> Option<u64> {
    account.split(" written").next()?.rsplit(' ').next()?.parse().ok()
}

/// Puts a worked program into a folder, executable by everybody.
fn place(folder: &Path, name: &str) -> Outcome<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/exec").join(name);
    let text = fs::read_to_string(&source).map_err(Failure::at(source.display()))?;
    let lines = text.lines().count();
    if lines > 40 {
        return Err(Failure::new(format!("{name} has {lines} lines: an example is short")));
    }
    let target = folder.join(name);
    fs::write(&target, text).map_err(Failure::at(target.display()))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(Failure::at(target.display()))?;
    Ok(target)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn json(text: &str) -> Outcome<Value> {
    serde_json::from_str(text).map_err(Failure::at("a line"))
}

/// Adds up the values of a batch in the format `rows`.
fn add_batch(kept: &mut Kept, batch: &Value) {
    for kind in batch["kinds"].as_array().into_iter().flatten() {
        for row in kind["rows"].as_array().into_iter().flatten() {
            let columns = kind["columns"].as_array().into_iter().flatten();
            let values = row["values"].as_array().into_iter().flatten();
            for (column, value) in columns.zip(values).filter(|(_, value)| !value.is_null()) {
                kept.add(column["name"].as_str().unwrap_or_default(), value);
            }
        }
    }
}

fn has(program: &str) -> Outcome<()> {
    agent::can_run()?;
    if Path::new(program).exists() { Ok(()) } else { Err(Failure::new(format!("there is no {program}"))) }
}

#[test]
fn python_keeps_values_in_sqlite() {
    let read = |folder: &Path| {
        let query = "import json, sqlite3, sys\n\
                     for row in sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True).execute('SELECT name, value FROM cells'):\n    \
                     print(json.dumps(row))";
        let output = Command::new("/usr/bin/python3").args(["-c", query]).arg(folder.join("cells.db")).output();
        let output = output.map_err(Failure::at("python3"))?;
        let mut kept = Kept::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let row = json(line)?;
            kept.add(row[0].as_str().unwrap_or_default(), &json(row[1].as_str().unwrap_or_default())?);
        }
        Ok(kept)
    };
    let prepare = |folder: &Path| Ok(vec![place(folder, "sqlite.py")?.display().to_string()]);
    live::test("exec-python", has("/usr/bin/python3"), || keeps(prepare, &[("database", "FOLDER/cells.db")], read));
}

#[test]
fn node_keeps_values_in_lines() {
    let read = |folder: &Path| {
        let mut kept = Kept::default();
        for line in fs::read_to_string(folder.join("lines")).map_err(Failure::at("its lines"))?.lines() {
            let line = json(line)?;
            kept.add(line[1].as_str().unwrap_or_default(), &line[3]);
        }
        Ok(kept)
    };
    let prepare = |folder: &Path| Ok(vec![place(folder, "lines.js")?.display().to_string()]);
    live::test("exec-node", has("/usr/bin/node"), || keeps(prepare, &[("file", "FOLDER/lines")], read));
}

#[test]
fn awk_keeps_values_without_a_parser() {
    let read = |folder: &Path| {
        let mut kept = Kept::default();
        for line in fs::read_to_string(folder.join("values")).map_err(Failure::at("its values"))?.lines() {
            let (name, value) = line.split_once(' ').ok_or_else(|| Failure::new("half a line"))?;
            kept.add(name, &json(value)?);
        }
        Ok(kept)
    };
    let prepare = |folder: &Path| {
        let script = place(folder, "values.awk")?.display().to_string();
        Ok([words(&["/usr/bin/awk", "-W", "interactive", "-f"]), vec![script]].concat())
    };
    live::test("exec-awk", has("/usr/bin/awk"), || keeps(prepare, &[], read));
}

/// Adds up the samples of a line of InfluxDB's protocol: each field is one, and all of a histogram's together.
fn add_line(kept: &mut Kept, line: &str) -> Outcome<()> {
    let halves = || {
        let space = line.match_indices(' ').find(|(at, _)| !line[..*at].ends_with('\\'))?.0;
        Some((line[..space].split(',').next()?, line[space + 1..].split_once(' ')?.0))
    };
    let (measurement, fields) = halves().ok_or_else(|| Failure::new(format!("half a line: {line}")))?;
    for (field, value) in fields.split(',').filter_map(|field| field.split_once('=')) {
        if !field.ends_with("_sum") && !field.contains("_le_") {
            kept.add(&format!("{measurement}.{field}"), &json(value.trim_end_matches('u'))?);
        }
    }
    Ok(())
}

#[test]
fn awk_keeps_lines_of_another_protocol() {
    let read = |folder: &Path| {
        let mut kept = Kept::default();
        for line in fs::read_to_string(folder.join("points")).map_err(Failure::at("its points"))?.lines() {
            add_line(&mut kept, line)?;
        }
        Ok(kept)
    };
    let prepare = |folder: &Path| {
        let script = place(folder, "points.awk")?.display().to_string();
        Ok([words(&["/usr/bin/awk", "-W", "interactive", "-f"]), vec![script]].concat())
    };
    live::test("exec-awk-lines", has("/usr/bin/awk"), || keeps(prepare, &[], read));
}

#[test]
fn c_keeps_batches() {
    let read = |folder: &Path| {
        let mut kept = Kept::default();
        for line in fs::read_to_string(folder.join("kept")).map_err(Failure::at("its batches"))?.lines() {
            add_batch(&mut kept, &json(line)?);
        }
        Ok(kept)
    };
    let prepare = |folder: &Path| {
        let source = place(folder, "batches.c")?;
        let program = folder.join("batches");
        let built = Command::new("cc").args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(source).output();
        let built = built.map_err(Failure::at("cc"))?;
        if !built.status.success() {
            return Err(Failure::new(String::from_utf8_lossy(&built.stderr).into_owned()));
        }
        Ok(vec![program.display().to_string(), folder.join("kept").display().to_string()])
    };
    live::test("exec-c", has("/usr/bin/cc"), || keeps(prepare, &[], read));
}

/// Keeps each line. At first it answers, and ends at the fifth batch; then it answers only where a file says so.
const FORGETFUL: &str = r#"#!/usr/bin/python3
import json, os, sys
first = not os.path.exists("kept")
answers = first or os.path.exists("answers")
kept = open("kept", "a")
open("pid", "w").write(str(os.getpid()))
print('{"ebpf_process":[1],"format":"rows","window":4}', flush=True)
for line in sys.stdin:
    kept.write(line)
    kept.flush()
    batch = json.loads(line).get("batch")
    if first and batch == 5:
        sys.exit(1)
    if answers and batch:
        print(json.dumps({"batch": batch, "ok": True}), flush=True)
"#;

/// A batch as a program has kept it.
#[derive(Debug)]
struct Received {
    stream: String,
    number: u64,
    resent: bool,
    /// Its line from there on.
    content: String,
    kept: Kept,
}

/// The batches that a program has kept, whole lines alone.
fn received(folder: &Path) -> Outcome<Vec<Received>> {
    let text = fs::read_to_string(folder.join("kept")).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter(|line| line.starts_with("{\"batch\":") && line.ends_with('\n'));
    let read = |line: &str| {
        let batch = json(line)?;
        let mut kept = Kept::default();
        add_batch(&mut kept, &batch);
        let (_, content) = line.split_once("\"time\":").ok_or_else(|| Failure::new("a batch without a time"))?;
        Ok(Received {
            stream: batch["stream"].as_str().unwrap_or_default().to_owned(),
            number: batch["batch"].as_u64().unwrap_or_default(),
            resent: batch["resent"] == Value::Bool(true),
            content: content.to_owned(),
            kept,
        })
    };
    lines.map(read).collect()
}

/// How many samples wait in a spool, by the agent's own command.
fn waiting(spool: &Path) -> Outcome<u64> {
    let output = agent::command()?.args(["spool", "inspect"]).arg(spool).output().map_err(Failure::at("the agent"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.lines().find_map(|line| line.split_once(" samples wait")?.0.parse().ok());
    // Before the first failure there is none.
    Ok(said.unwrap_or(0))
}

/// How many values there are in these batches.
fn values(batches: &[Received]) -> u64 {
    batches.iter().map(|batch| batch.kept.values).sum()
}

/// The ticks in these batches, in their order.
fn ticks(batches: &[Received]) -> Vec<u64> {
    batches.iter().flat_map(|batch| batch.kept.ticks.iter().copied()).collect()
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Outcome<()> {
    if holds { Ok(()) } else { Err(Failure::new(problem())) }
}

#[test]
fn what_a_killed_agent_has_in_its_spool_the_next_one_sends_under_the_same_numbers() {
    live::test("exec-killed", has("/usr/bin/python3"), || {
        let folder = agent::folder()?;
        let (script, spool) = (folder.path().join("forgetful"), folder.path().join("spool"));
        fs::write(&script, FORGETFUL).map_err(Failure::at("a script"))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(Failure::at("a script"))?;
        let program = [script.display().to_string()];
        let settings = [
            "grace=\"10s\"".to_owned(),
            "sinks.own.options.reply_timeout=\"1h\"".to_owned(),
            format!("sinks.own.options.delivery.spool={}", quoted(&spool.display().to_string())),
        ];
        let mut agent = start(&folder, &program, &settings)?;
        let outage = wait::until("an outage", LIMIT, || {
            let batches = received(folder.path())?;
            let comes_again = batches.last().is_some_and(|last| (last.number, last.resent) == (5, true));
            Ok((comes_again && waiting(&spool)? > 10 * batches[3].kept.values).then_some(()))
        });
        end(&mut agent, Signal::KILL)?;
        outage.map_err(|failure| Failure::new(format!("{failure}; {}", log(&folder).unwrap_or_default())))?;
        let pid = fs::read_to_string(folder.path().join("pid")).map_err(Failure::at("the program's number"))?;
        let is_gone = || Ok((!Path::new("/proc").join(&pid).exists()).then_some(()));
        wait::until("the end of the program whose agent is gone", LIMIT, is_gone)?;
        let (before, spooled) = (received(folder.path())?.len(), waiting(&spool)?);

        fs::write(folder.path().join("answers"), "").map_err(Failure::at("a file"))?;
        let mut agent = start(&folder, &program, &settings)?;
        let goes_on = wait::until("batches of the next agent", LIMIT, || {
            let batches = received(folder.path())?;
            Ok((values(&batches[before..]) > 2 * spooled).then_some(()))
        });
        let status = end(&mut agent, Signal::TERM)?;
        let log = log(&folder)?;
        goes_on.map_err(|failure| Failure::new(format!("{failure}; {log}")))?;
        ensure(status.code() == Some(0), || format!("the agent ended with {status}; {log}"))?;

        let all = received(folder.path())?;
        let (sent_before, sent) = all.split_at(before);
        ensure(all.iter().all(|batch| batch.stream == all[0].stream), || "there is a second stream".to_owned())?;
        let numbers: Vec<u64> = sent.iter().map(|batch| batch.number).collect();
        let expected: Vec<u64> = (5..).take(sent.len()).collect();
        ensure(numbers == expected, || format!("the next agent sent {numbers:?}"))?;
        for batch in sent {
            let earlier = sent_before.iter().find(|earlier| earlier.number == batch.number);
            ensure(batch.resent == earlier.is_some(), || format!("resent is wrong in batch {}", batch.number))?;
            let is_same = earlier.is_none_or(|earlier| earlier.content == batch.content);
            ensure(is_same, || format!("batch {} is not what it was", batch.number))?;
        }
        let written = all_written(&log)?;
        ensure(values(sent) == written, || format!("{written} are written, {} received", values(sent)))?;
        // All of the spool, and of the killed agent's ticks each one up to its end.
        let from_spool = (0..=sent.len()).find(|count| values(&sent[..*count]) == spooled);
        let from_spool =
            from_spool.ok_or_else(|| Failure::new(format!("no batches have the {spooled} of the spool")))?;
        let found = [ticks(&all[..4]), ticks(&sent[..from_spool])].concat();
        let expected: Vec<u64> = (found[0]..).take(4 + from_spool).collect();
        ensure(found == expected, || format!("the killed agent's ticks are {found:?}"))
    });
}

/// Where Debian has the module that reads schemas.
const JSONSCHEMA: &str = "/usr/lib/python3/dist-packages/jsonschema/__init__.py";

/// Says which lines of its input are not what the schema allows.
const VALIDATE: &str = "import json, sys, jsonschema\n\
    schema = json.load(open(sys.argv[1]))\n\
    jsonschema.Draft202012Validator.check_schema(schema)\n\
    validator = jsonschema.Draft202012Validator(schema)\n\
    for line in sys.stdin:\n    \
        for error in validator.iter_errors(json.loads(line)):\n        \
            print(line, error.message)\n";

/// What the schema says against these lines.
fn complaints(lines: &str) -> Outcome<String> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/exec-protocol.schema.json");
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", VALIDATE]).arg(schema).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Failure::at("python3"))?;
    let mut input = child.stdin.take().ok_or_else(|| Failure::new("no input"))?;
    input.write_all(lines.as_bytes()).map_err(Failure::at("its input"))?;
    drop(input);
    let output = child.wait_with_output().map_err(Failure::at("python3"))?;
    Ok([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

/// The lines of JSON in a document.
fn examples(document: &str) -> impl Iterator<Item = &str> {
    let blocks = document.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines)
}

#[test]
fn lines_are_as_the_schema_and_the_document_say() {
    live::test("exec-schema", has(JSONSCHEMA), || {
        let mut lines: Vec<String> = examples(include_str!("../../docs/exec-protocol.md")).map(str::to_owned).collect();
        if lines.len() < 10 {
            return Err(Failure::new("the document has hardly an example"));
        }
        lines.extend(include_str!("../../sinks/exec/tests/golden/lines.json").lines().map(str::to_owned));
        for format in ["rows", "samples", "influx", "prometheus", "statsd"] {
            let folder = agent::folder()?;
            let script = folder.path().join("keep");
            let hello = format!(r#"{{"ebpf_process":[1],"format":"{format}","window":64}}"#);
            fs::write(&script, format!("#!/bin/sh\necho '{hello}'\ncat > lines\n")).map_err(Failure::at("a script"))?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(Failure::at("a script"))?;
            let program = [script.display().to_string()];
            let kept = |folder: &Path| fs::read_to_string(folder.join("lines")).map_err(Failure::at("its lines"));
            run(&folder, &program, &[("a", "b")], "1s", |folder| match kept(folder)?.matches("{\"batch\":").count() {
                4.. => Ok(()),
                few => Err(Failure::new(format!("{few} batches"))),
            })?;
            let kept = kept(folder.path())?;
            if !kept.starts_with("{\"start\":1,") {
                return Err(Failure::new(format!("it does not begin with a start: {kept}")));
            }
            // Of batches of lines the headers.
            lines.extend(kept.lines().filter(|line| line.starts_with('{')).map(str::to_owned));
        }
        let lines = lines.join("\n");
        let complaints = complaints(&lines)?;
        if !complaints.is_empty() {
            return Err(Failure::new(complaints));
        }
        // It does refuse something.
        let wrong = r#"{"batch":1,"ok":false}
{"batch":1,"resent":false,"time":[1,2],"elapsed":0.0,"kinds":[]}
{"tick":1}
{"tick":1,"rows":[{"labels":["a"]}]}
{"ebpf_process":[1],"probe":"x","kind":"X","columns":[{"name":"a","type":"gauge"}]}
{"ebpf_process":[1],"probe":"x","kind":"x","columns":[{"name":"a","type":"gauge","bounds":[1,null]}]}
{"colour":"red"}"#;
        match wrong.lines().find(|line| self::complaints(line).is_ok_and(|said| said.is_empty())) {
            Some(line) => Err(Failure::new(format!("the schema lets pass: {line}"))),
            None => Ok(()),
        }
    });
}
