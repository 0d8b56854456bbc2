//! `cargo xtask fuzz`: whatever reads bytes from outside, or writes what others read, gets inputs that
//! a machine makes up, each target for some seconds.
//!
//! The engine is libFuzzer. On a stable compiler it has coverage and comparisons, but no address
//! sanitizer, whose runtime part comes with a nightly one; the targets have no unsafe code of ours.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::{Outcome, USAGE, output, say};

/// What CI spends on each target.
const SECONDS: u32 = 20;

/// Counters per edge, and the operands of comparisons, where the engine looks for them.
const INSTRUMENTED: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Longer inputs find nothing that shorter ones do not, and take longer.
const LONGEST: u32 = 4096;
/// An input that takes this many seconds, or this much memory in MiB, is a finding.
const PATIENCE: u32 = 10;
const MEMORY: u32 = 1024;

/// `cargo xtask fuzz [--build-only | --seconds SECONDS] [TARGET]...`
///
/// # Errors
/// A wrong option, a target that cannot be built, or a finding.
pub(crate) fn run(options: &[&str]) -> Outcome {
    let (seconds, names) = match options {
        ["--build-only"] => (0, &[][..]),
        ["--seconds", seconds, names @ ..] => (seconds.parse().map_err(|_| USAGE)?, names),
        names => (SECONDS, names),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz").canonicalize()?;
    let targets = build(&folder)?;
    if options == ["--build-only"] {
        return Ok(());
    }
    if let Some(unknown) = names.iter().find(|name| targets.iter().all(|target| target.name != **name)) {
        let known: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
        return Err(format!("there is no target {unknown}; there are {}", known.join(", ")).into());
    }
    let chosen: Vec<_> = targets.iter().filter(|t| names.is_empty() || names.contains(&t.name.as_str())).collect();

    // Spools and configurations are files: in memory they are fast and wear out nothing.
    let memory = Path::new("/dev/shm");
    let scratch = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
    let findings = folder.join("findings");
    fs::create_dir_all(&findings)?;
    let mut failed = Vec::new();
    for some in chosen.chunks(thread::available_parallelism()?.get()) {
        let running = some.iter().map(|target| target.start(&folder, scratch.path(), &findings, seconds));
        let running = running.collect::<Outcome<Vec<_>>>()?;
        for (target, mut child) in some.iter().zip(running) {
            let ended = child.wait()?;
            let log = fs::read(target.log(scratch.path()))?;
            let log = String::from_utf8_lossy(&log);
            say(target.summary(&log, seconds));
            if !ended.success() {
                // What it learned before is of no interest.
                log.lines().filter(|line| !line.starts_with(['#', '\t'])).for_each(say);
                failed.push(target.name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("findings in {}; the inputs are in {}", failed.join(", "), findings.display()).into())
}

/// A program that tries inputs until its time is over or one is a finding.
struct Target {
    name: String,
    program: PathBuf,
}

/// Builds all targets at once. A target for the compiler keeps the counters out of build scripts.
fn build(folder: &Path) -> Outcome<Vec<Target>> {
    say("building the targets");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--bins", "--target", "host-tuple"]);
    cargo.args(["--message-format", "json-render-diagnostics", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    let messages = output(cargo.env("RUSTFLAGS", INSTRUMENTED))?;
    let target = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let name = message["target"]["name"].as_str()?.to_owned();
        Some(Target { name, program: message["executable"].as_str()?.into() })
    };
    let mut targets: Vec<_> = messages.lines().filter_map(target).collect();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(targets)
}

impl Target {
    /// Starts it on its seeds; what it learns it keeps in `scratch`, as it does all other files.
    fn start(&self, folder: &Path, scratch: &Path, findings: &Path, seconds: u32) -> Outcome<Child> {
        let learned = scratch.join(&self.name);
        fs::create_dir(&learned)?;
        let mut command = Command::new(&self.program);
        command.arg(&learned).arg(folder.join("seeds").join(&self.name));
        command.arg(format!("-artifact_prefix={}/{}-", findings.display(), self.name));
        for (flag, value) in [
            ("max_total_time", seconds),
            ("max_len", LONGEST),
            ("timeout", PATIENCE),
            ("rss_limit_mb", MEMORY),
            ("print_final_stats", 1),
        ] {
            command.arg(format!("-{flag}={value}"));
        }
        // A pipe that nobody reads yet would fill up, and the target would wait instead of trying inputs.
        let log = File::create(self.log(scratch))?;
        let command = command.env("TMPDIR", scratch).stdout(Stdio::null()).stderr(log);
        command.spawn().map_err(|error| format!("{}: {error}", self.program.display()).into())
    }

    /// Where it writes what it does.
    fn log(&self, scratch: &Path) -> PathBuf {
        scratch.join(&self.name).with_extension("log")
    }

    fn summary(&self, log: &str, seconds: u32) -> String {
        let executions = after_last(log, "stat::number_of_executed_units:");
        let edges = after_last(log, " cov:");
        format!("{:<12}{executions:>10} executions in {seconds} s, {edges:>6} edges", self.name)
    }
}

/// The word behind the last place of a label.
fn after_last<'a>(log: &'a str, label: &str) -> &'a str {
    log.rsplit_once(label).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("?")
}
