//! The sink json on a disk that is full for a while.

use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::{Failure, Outcome, live, wait};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
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
            serde_json::from_str::<serde_json::Value>(line).map_err(Failure::at(format!("not an object: {line:?}")))?;
        }
    }
    Ok(text.lines().count())
}
