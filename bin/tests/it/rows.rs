//! The program with a probe that counts for processes: what it prints of one kind of rows.

use std::ffi::OsString;
use std::fs::File;
use std::process::{Command, ExitCode, Stdio};

use ebpf_process_core::{
    BuildError, Column, Declared, EntityKind, KindId, Options, OptionsError, Probe, ProbeContext, ProbeError,
    ProbePlugin, Recorder, Unit, VITALS, identity_of,
};
use rustix::process::Signal;
use serde::Deserialize;

use crate::agent::{self, Running, finish};
use crate::terminal::{read_until, terminal};

/// The arguments of the program, where this process is to be it.
const ARGUMENTS: &str = "PROGRAM_WITH_ROWS";

/// A probe that counts calls of the host and, where it is told to, the same by process.
struct Told;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ToldOptions {
    by: Vec<String>,
}

fn kind(name: String) -> EntityKind {
    EntityKind::new(name).keys(["pid", "comm"]).limit(2)
}

fn columns() -> [Column; 2] {
    ["read", "write"]
        .map(|operation| Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", operation)]))
}

impl ProbePlugin for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn summary(&self) -> &'static str {
        "counts the same at each tick"
    }

    fn common_keys(&self) -> &'static [&'static str] {
        &["by"]
    }

    fn catalog(&self, options: &Options) -> Result<Vec<Declared>, OptionsError> {
        let kinds = options.extract::<ToldOptions>()?.by.into_iter().map(kind).chain([EntityKind::host()]);
        Ok(kinds.flat_map(|kind| columns().map(|column| Declared::new(kind.clone(), column))).collect())
    }

    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let by = options.extract::<ToldOptions>()?.by;
        let kinds = by.into_iter().map(|name| context.recorder.kind(kind(name)).expect("a kind"));
        Ok(Box::new(Counting { kinds: kinds.collect(), ticks: 0 }))
    }
}

struct Counting {
    kinds: Vec<KindId>,
    ticks: u64,
}

impl Probe for Counting {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.ticks += 1;
        let host = recorder.host_kind();
        let host_row = recorder.host();
        for (labels, added) in [(["7", "sh"], [5, 1]), (["8", "nginx"], [20, 0]), (["9", "late"], [300, 3])] {
            for (column, added) in columns().into_iter().zip(added) {
                for kind in &self.kinds {
                    let id = recorder.column(*kind, column.clone()).expect("a column");
                    let row = recorder.row(*kind, identity_of(labels[0]), &labels).expect("a row");
                    recorder.add(row, id, added);
                }
                let id = recorder.column(host, column).expect("a column");
                recorder.add(host_row, id, added);
            }
        }
        Ok(())
    }
}

const TOLD: Told = Told;

/// In a process of its own this is the program.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test returns no exit code")]
fn program() {
    let Some(arguments) = std::env::var_os(ARGUMENTS) else { return };
    let arguments = arguments.into_string().expect("text");
    let arguments = ["ebpf-process"].into_iter().chain(arguments.split('\n')).map(OsString::from);
    let registry = ebpf_process_sinks::registry();
    let code = ebpf_process::App::default().registry(registry.probe(VITALS).probe(TOLD)).run_with(arguments);
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 2 });
}

fn with_rows(arguments: &[&str]) -> Command {
    let harness = ["--exact", "--nocapture", "--test-threads=1", "rows::program"];
    let mut command = agent::program(std::env::current_exe().expect("this program"), &harness);
    command.env(ARGUMENTS, arguments.join("\n"));
    command
}

#[test]
fn once_by_a_kind_prints_its_rows_and_a_total_that_is_the_hosts() {
    let arguments = ["once", "--interval", "100ms", "--config", "/dev/null", "--by", "process", "--sort", "VFS READ"];
    let finished = finish(&mut with_rows(&arguments));
    assert_eq!(finished.code(), 0, "{finished:?}");
    let (_, printed) = finished.stdout.split_once("By process in the last ").expect("a heading");
    let expected = "\
 s, most \"vfs read\" first.

PID    COMM   VFS READ  VFS WRITE
8      nginx        20          0
7      sh            5          1
other              300          3
total              325          4";
    assert!(printed.contains(expected), "{printed}");
    assert!(!printed.contains("the host"), "{printed}");
}

#[test]
fn once_by_a_kind_as_json_has_its_table_alone() {
    let json = |more: &[&str]| {
        let arguments = ["once", "--interval", "100ms", "--format", "json", "--config", "/dev/null"];
        let finished = finish(&mut with_rows(&[&arguments, more].concat()));
        assert_eq!(finished.code(), 0, "{finished:?}");
        let object = &finished.stdout[finished.stdout.find('{').expect("an object")..];
        serde_json::from_str::<serde_json::Value>(object.lines().next().expect("a line")).expect("JSON")
    };
    let (all, one) = (json(&["--set", "probes.by=[\"app\", \"process\"]"]), json(&["--by", "app"]));
    assert_eq!(one["samples"], serde_json::json!([]));
    assert_eq!(one["tables"].as_array().map(Vec::len), Some(1));
    let app = |object: &serde_json::Value| {
        let mut table = object["tables"][0].clone();
        assert_eq!(table["kind"], "app");
        // When each began is another run's.
        table["rows"].as_array_mut().expect("rows").iter_mut().for_each(|row| row["created"] = 0.into());
        table
    };
    assert_eq!(app(&all), app(&one));
}

#[test]
fn a_column_that_there_is_not_is_refused_before_anything_is_attached() {
    let finished = finish(&mut with_rows(&["once", "--config", "/dev/null", "--by", "app", "--sort", "vfs raed"]));
    assert_eq!(finished.code(), 2, "{finished:?}");
    let problem = "--sort \"vfs raed\": there is no such column by app; there are vfs read, vfs write; did you mean";
    assert!(finished.stderr.contains(problem), "{finished:?}");
}

#[test]
fn run_by_a_kind_draws_its_rows_in_one_place_and_feeds_no_sink() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = folder.path().join("lines.json");
    let path = format!("sinks.out.options.path={}", lines.display());
    let settings = ["--set", "interval=100ms", "--set", "sinks.out.type=json", "--set", &path];
    let run = ["run", "--config", "/dev/null", "--by", "process", "--limit", "1"];
    let (mut screen, slave): (File, File) = terminal();
    let agent = Running::start(with_rows(&[&run[..], &settings].concat()).stdout(Stdio::from(slave)));
    let text = read_until(&mut screen, "By process in the last", 3);
    assert!(text.contains("1 more") && text.contains("other") && text.contains("total"), "{text:?}");
    assert!(text.contains("\u{1b}[J"), "drawn in place: {text:?}");
    agent.signal(Signal::INT);
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(!lines.exists(), "a sink was fed");
}
