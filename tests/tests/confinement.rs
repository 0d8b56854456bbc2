//! What a running agent cannot do, whoever has taken it over, and that it goes on counting to the unit meanwhile.

use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::exact::Row;
use ebpf_process_tests::expect::{self, Expected, Layer, Mode};
use ebpf_process_tests::held::nothing_but_what_reading_takes;
use ebpf_process_tests::totals::Totals;
use ebpf_process_tests::workload::{Place, Workload};
use ebpf_process_tests::{Failure, Outcome, built, live, wait};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const READS: u64 = 1234;

/// The example, which cargo builds with the tests.
fn misbehaving() -> Outcome<PathBuf> {
    built::find("examples/misbehave", "cargo build -p ebpf-process-tests --example misbehave")
}

/// What the sink finds: a folder of its own, a file that is closed to it and one that is open to everybody.
struct Scene {
    own: TempDir,
    others: TempDir,
}

impl Scene {
    fn new() -> Outcome<Self> {
        let others = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let scene = Self { own: agent::folder()?, others };
        let open = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Failure::at("a mode"))
        };
        open(scene.others.path(), 0o755)?;
        for (path, mode) in [(scene.closed(), 0o600), (scene.open(), 0o644)] {
            fs::write(&path, "untouched").map_err(Failure::at(path.display()))?;
            open(&path, mode)?;
        }
        Ok(scene)
    }

    fn closed(&self) -> PathBuf {
        self.others.path().join("closed")
    }

    fn open(&self) -> PathBuf {
        self.others.path().join("open")
    }

    fn report(&self) -> PathBuf {
        self.own.path().join("report")
    }

    fn settings(&self, victim: &Workload) -> Vec<String> {
        let mut settings = Row { hooks: "auto".to_owned(), mode: Mode::Return }.settings();
        settings.push(format!("probes.only={{pid={}}}", victim.pid()));
        settings.push("sinks.bad.type=misbehave".to_owned());
        settings.push(format!("sinks.bad.options.victim={}", victim.pid()));
        for (key, path) in [("report", self.report()), ("closed", self.closed()), ("open", self.open())] {
            settings.push(format!("sinks.bad.options.{key}=\"{}\"", path.display()));
        }
        settings
    }
}

/// A field of `/proc/PID/status`.
fn field(pid: u32, name: &str) -> Outcome<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(Failure::at("its status"))?;
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    found.map(str::to_owned).ok_or_else(|| Failure::new(format!("no {name} in {status}")))
}

fn has_landlock() -> bool {
    let checked = agent::command()
        .and_then(|mut command| command.args(["check", "--format", "json"]).output().map_err(Failure::at("check")));
    let report = checked.ok().and_then(|output| serde_json::from_slice::<serde_json::Value>(&output.stdout).ok());
    report.is_some_and(|report| report["confinement"]["landlock"]["applies"] == true)
}

/// What `check` says with these settings.
fn checked(settings: &[&str]) -> Outcome<String> {
    let mut command = agent::command()?;
    command.arg("check");
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.output().map_err(Failure::at("check"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn check_says_what_will_be_given_up_and_an_agent_is_what_it_was_told_to_be() {
    live::test("told-to-be", agent::can_run(), || {
        for (settings, uid, seccomp, words) in [
            (&["user=4321"][..], "4321", "2", "It becomes user 4321.\nBy seccomp, system calls"),
            (&["user=root"], "0", "2", "\nBy seccomp, system calls that it does not make are closed to it.\n"),
            (&["capabilities=keep", "user=4321"], "0", "0", "it keeps every right"),
        ] {
            let said = checked(settings)?;
            let mut agent = Agent::start(&settings.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            agent.wait_for_first_batch()?;
            let ids = [field(agent.pid(), "Uid")?, field(agent.pid(), "Seccomp")?];
            agent.stop()?;
            let expected = [[uid; 4].join("\t"), seccomp.to_owned()];
            if ids != expected || !said.contains(words) {
                return Err(Failure::new(format!("{settings:?}: {ids:?}, not {expected:?}; check: {said}")));
            }
        }
        Ok(())
    });
}

#[test]
fn whoever_takes_over_a_sink_gets_nowhere_and_the_agent_counts_on() {
    live::test("misbehaving-sink", agent::can_run().and(misbehaving().map(drop)), || {
        let (scene, place) = (Scene::new()?, Place::new()?);
        let mut victim = place.reads(READS)?;
        let mut agent = Agent::start_program(&misbehaving()?, &scene.settings(&victim))?;
        agent.wait_for_first_batch()?;
        let report = wait::until("the sink's report", wait::LIMIT, || Ok(fs::read_to_string(scene.report()).ok()))?;
        victim.run_to_next_stop()?;
        victim.run_to_end()?;
        nothing_but_what_reading_takes(agent.pid())?;
        if field(agent.pid(), "Seccomp")? != "2" {
            return Err(Failure::new("no filter of system calls"));
        }
        let expected = expect::reads(1, READS);
        let wrong = |totals: &Totals| {
            let layer = |e: &Expected| totals.hook(&e.metric).map_or(Layer::Syscall, |hook| hook.layer);
            let right = |e: &Expected| {
                totals.get(e.metric.name, e.metric.label) == u32::try_from(e.at(layer(e))).ok().map(f64::from)
            };
            expected
                .iter()
                .filter(|e| e.metric.name.starts_with("vfs.") && !right(e))
                .map(|e| format!("{:?}", e.metric))
                .collect::<Vec<_>>()
        };
        agent.watch(wait::LIMIT, |totals| wrong(totals).is_empty())?;
        let (status, totals) = agent.stop()?;
        let excused = |line: &&str| line.starts_with("read a file of no concern") && !has_landlock();
        let done: Vec<&str> =
            report.lines().filter(|line| !line.ends_with(": refused")).filter(|l| !excused(l)).collect();
        if !done.is_empty() || report.lines().count() < 15 {
            return Err(Failure::new(format!("not refused: {}; all: {report}", done.join("; "))));
        }
        let untouched = fs::read_to_string(scene.closed()).map_err(Failure::at("the closed file"))? == "untouched";
        if !untouched || PathBuf::from("/etc/cron.d/misbehave").exists() || status.code() != Some(0) {
            return Err(Failure::new(format!("{status}; untouched: {untouched}")));
        }
        let wrong = wrong(&totals);
        if wrong.is_empty() { Ok(()) } else { Err(Failure::new(format!("wrong: {}", wrong.join(", ")))) }
    });
}
