//! The worked programs of `docs/examples/exec` as sinks of a whole agent, in the environment that is documented: each keeps
//! every value that the agent says it has written, and every tick once.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ebpf_process_tests::{Failure, Outcome, agent, live};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_mins(1);

/// Ticks that are in it before the agent is stopped.
const TICKS: usize = 20;

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
    let account = log.lines().find(|line| line.ends_with("(sink own)") && line.contains(" samples: "));
    let Some(written) = account.and_then(written) else { return fail("no account of the sink".to_owned()) };
    if account.is_none_or(|line| !line.contains(" 0 failed, 0 dropped, 0 rejected")) {
        return fail("something was lost".to_owned());
    }
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
    let mut command = agent::command()?;
    command.args(["run", "--set", "interval=\"100ms\"", "--set", &format!("grace=\"{grace}\"")]);
    let quoted = |text: &str| format!("\"{text}\"");
    let words: Vec<String> = program.iter().map(|word| quoted(word)).collect();
    for setting in [
        "sinks.own.type=exec".to_owned(),
        format!("sinks.own.options.program=[{}]", words.join(",")),
        format!("sinks.own.options.directory={}", quoted(&folder.path().display().to_string())),
    ] {
        command.args(["--set", &setting]);
    }
    for (key, value) in config {
        let value = value.replace("FOLDER", &folder.path().display().to_string());
        command.args(["--set", &format!("sinks.own.options.config.{key}={}", quoted(&value))]);
    }
    let log = folder.path().join("agent.log");
    let errors = fs::File::create(&log).map_err(Failure::at(log.display()))?;
    let child = command.stdout(Stdio::null()).stderr(errors).spawn();
    let mut child = child.map_err(Failure::at("starting the agent"))?;
    let start = Instant::now();
    let result = loop {
        match is_enough(folder.path()) {
            Err(_) if start.elapsed() < LIMIT => std::thread::park_timeout(Duration::from_millis(100)),
            result => break result,
        }
    };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| Failure::new("no pid"))?;
    kill_process(pid, Signal::TERM).map_err(Failure::at("stopping the agent"))?;
    let status = child.wait().map_err(Failure::at("its end"))?;
    let log = fs::read_to_string(&log).map_err(Failure::at("the log"))?;
    result.map_err(|failure| Failure::new(format!("{failure}; the log:\n{log}")))?;
    Ok((status, log))
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
        for format in ["rows", "samples"] {
            let folder = agent::folder()?;
            let script = folder.path().join("keep");
            let hello = format!(r#"{{"ebpf_process":[1],"format":"{format}","window":64}}"#);
            fs::write(&script, format!("#!/bin/sh\necho '{hello}'\ncat > lines\n")).map_err(Failure::at("a script"))?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(Failure::at("a script"))?;
            let program = [script.display().to_string()];
            let kept = |folder: &Path| fs::read_to_string(folder.join("lines")).map_err(Failure::at("its lines"));
            run(&folder, &program, &[("a", "b")], "1s", |folder| match kept(folder)?.matches('\n').count() {
                5.. => Ok(()),
                few => Err(Failure::new(format!("{few} lines"))),
            })?;
            let kept = kept(folder.path())?;
            if !kept.starts_with("{\"start\":1,") {
                return Err(Failure::new(format!("it does not begin with a start: {kept}")));
            }
            lines.extend(kept.lines().map(str::to_owned));
        }
        let lines = lines.join("\n");
        let complaints = complaints(&lines)?;
        if !complaints.is_empty() {
            return Err(Failure::new(complaints));
        }
        // It does refuse something.
        let wrong = r#"{"batch":1,"ok":false}
{"batch":1,"resent":false,"time":[1,2],"elapsed":0.0,"kinds":[]}
{"colour":"red"}"#;
        match wrong.lines().find(|line| self::complaints(line).is_ok_and(|said| said.is_empty())) {
            Some(line) => Err(Failure::new(format!("the schema lets pass: {line}"))),
            None => Ok(()),
        }
    });
}
