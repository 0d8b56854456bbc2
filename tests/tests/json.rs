//! The sink json on a disk that is full for a while, and its lines through the jq of its documentation.

use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::{Failure, Outcome, live, wait};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;
use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
/// Enough for a few lines.
const SIZE: &CStr = c"size=64k";

/// A small file system; unmounted when it is dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), SIZE).map_err(Failure::at("mounting a tmpfs"))?;
        Ok(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // What is left mounted is in a folder that stays then, and that is seen.
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn on_a_disk_that_was_full_every_line_is_still_an_object() {
    let needs = agent::binary().map(drop).and_then(|()| Small::mount().map(drop));
    live::test("json-on-a-full-disk", needs, full_disk);
}

fn full_disk() -> Outcome<()> {
    let disk = Small::mount()?;
    let (lines, filler) = (disk.path("lines.json"), disk.path("filler"));
    fs::write(&filler, vec![0; 40 << 10]).map_err(Failure::at("a filler"))?;
    let mut agent = Agent::start(&[
        "probes.process.enabled=false".to_owned(),
        "probes.file.enabled=false".to_owned(),
        "sinks.lines.type=json".to_owned(),
        format!("sinks.lines.options.path={}", lines.display()),
    ])?;
    let failed = [("sink", "lines"), ("state", "failed")];
    if !agent.watch(LIMIT, |totals| totals.get_with("agent.samples", &failed) > Some(0.0))? {
        return Err(Failure::new("the disk is not full, or nobody says so"));
    }
    let full = count(&lines)?;
    fs::remove_file(&filler).map_err(Failure::at("removing the filler"))?;
    wait::until("lines after room was made", LIMIT, || Ok((count(&lines)? > full + 1).then_some(())))?;
    agent.stop()?;
    count(&lines).map(drop)
}

/// How many lines there are, every one of them an object.
fn count(path: &Path) -> Outcome<usize> {
    let text = fs::read_to_string(path).map_err(Failure::at("reading the lines"))?;
    for line in text.split_inclusive('\n') {
        // The last one may be on its way.
        if line.ends_with('\n') {
            serde_json::from_str::<Value>(line).map_err(Failure::at(format!("not an object: {line:?}")))?;
        }
    }
    Ok(text.lines().count())
}

/// The line of a shell that the sink's documentation shows, and lines for it.
const FLAT: &str = include_str!("../../sinks/json/flat.sh");
const TABLES: &str = include_str!("../../sinks/json/tests/golden/tables.json");

#[test]
fn jq_shows_the_samples_of_tables_one_by_one() {
    let version = Command::new("jq").arg("--version").stdout(Stdio::null()).status();
    live::test("json-through-jq", version.map(drop).map_err(Failure::at("jq")), through_jq);
}

fn through_jq() -> Outcome<()> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    fs::write(folder.path().join("batches.json"), TABLES).map_err(Failure::at("lines"))?;
    let output = Command::new("sh").args(["-euc", FLAT]).current_dir(folder.path()).output();
    let output = output.map_err(Failure::at("a shell"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let sample = |line| {
        let sample: Value = serde_json::from_str(line).map_err(Failure::at(format!("not an object: {line:?}")))?;
        let [timestamp, value, delta] = ["timestamp", "value", "delta"].map(|key| sample[key].as_f64());
        let label = |key: &str| sample["labels"][key].as_str().map(str::to_owned);
        let name = sample["name"].as_str().unwrap_or_default().to_owned();
        Ok((timestamp, name, label("pid"), label("operation"), value, delta))
    };
    let samples = text.lines().map(sample).collect::<Outcome<Vec<_>>>()?;
    let expected = [
        (0, "vfs.calls", None, None, Some(1.0), Some(1.0)),
        (1, "vfs.calls", None, None, Some(9.0), Some(8.0)),
        (1, "process.vfs.calls", Some("7"), Some("read"), Some(3.0), Some(3.0)),
        (1, "process.busy", Some("7"), None, Some(1.5), Some(1.5)),
        (1, "process.vfs.calls", Some("8"), Some("read"), Some(5.0), Some(5.0)),
        (1, "process.load", Some("8"), None, Some(0.5), None),
        // A histogram's value is an object.
        (1, "process.span", Some("8"), None, None, None),
        (2, "vfs.calls", None, None, Some(9.0), Some(0.0)),
        (2, "process.vfs.calls", Some("7"), Some("read"), Some(4.0), Some(1.0)),
        (2, "process.busy", Some("7"), None, Some(1.5), Some(0.0)),
        (2, "process.vfs.errors", Some("9"), None, Some(1.0), Some(1.0)),
    ];
    let expected = expected.map(|(second, name, pid, operation, value, delta)| {
        let timestamp = Some(1_600_000_000.0 + f64::from(second));
        (timestamp, name.to_owned(), pid.map(str::to_owned), operation.map(str::to_owned), value, delta)
    });
    if samples == expected {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{samples:#?} instead of {expected:#?}; {errors}")))
}
