//! An agent that the shipped unit starts, as somebody who is not root, with two capabilities: it holds none of them once it
//! counts, and a reload brings other probes all the same.

use ebpf_process_tests::configured::{Configured, newest};
use ebpf_process_tests::unit::{Unit, agent_for_everybody};
use ebpf_process_tests::workload::Place;
use ebpf_process_tests::{Failure, Outcome, agent, held, live};
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

const NOBODY: u32 = 65534;

/// What the two processes read, a byte at a time.
const READS: [u64; 2] = [3_210, 1_234];

#[test]
fn under_the_unit_a_reload_brings_other_probes_and_modes_and_counts_to_the_unit() {
    live::test("unit-reload", agent::can_run(), counts_what_a_reload_brings);
}

fn plan(folder: &Path, probes: &str) -> String {
    let folder = folder.display();
    format!(
        "interval = \"100ms\"\n[status]\nsocket = \"{folder}/status\"\n{probes}\n\
         [sinks.lines]\ntype = \"json\"\nqueue = 512\noptions.path = \"{folder}/lines\"\n"
    )
}

/// With the probe of files, in this mode, for this process alone.
fn of_files(mode: &str, pid: u32) -> String {
    format!("[probes]\nmode = \"{mode}\"\nonly = {{ pid = {pid} }}\n[probes.sync]\nenabled = true\n")
}

fn counts_what_a_reload_brings() -> Outcome<()> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    let program = agent_for_everybody(folder.path())?;
    let own = folder.path().join("own");
    fs::create_dir(&own).and_then(|()| chown(&own, Some(NOBODY), Some(NOBODY))).map_err(Failure::at("a folder"))?;
    let place = Place::new()?;
    let (mut one, mut other) = (place.reads(READS[0])?, place.reads(READS[1])?);
    let without = plan(&own, "[probes.file]\nenabled = false\n");
    let mut agent =
        Configured::start_by(Unit::shipped()?.command(&program)?, &folder.path().join("agent.toml"), &without)?;
    agent.wait_for_batch()?;
    held::what_the_unit_leaves(agent.pid())?;

    let changes = agent.becomes(&plan(&own, &of_files("return", one.pid())))?;
    if !changes.contains("probe file is attached") || !changes.contains("probe sync is attached") {
        return Err(Failure::new(format!("the reload changed only this: {changes}")));
    }
    one.run_to_next_stop()?;
    has_counted(&mut agent, &own, "vfs.calls", READS[0])?;
    has_counted(&mut agent, &own, "vfs.bytes", READS[0])?;

    // Calls alone, of another process: they are added to what was counted.
    agent.becomes(&plan(&own, &of_files("entry", other.pid())))?;
    other.run_to_next_stop()?;
    has_counted(&mut agent, &own, "vfs.calls", READS[0] + READS[1])?;
    held::what_the_unit_leaves(agent.pid())?;
    agent.stop()?;
    let total = newest(&own.join("lines"), "vfs.calls", ("operation", "read"))?;
    if total != Some(READS[0] + READS[1]) {
        return Err(Failure::new(format!("at the end {total:?} instead of {}", READS[0] + READS[1])));
    }
    one.run_to_end()?;
    other.run_to_end()
}

fn has_counted(agent: &mut Configured, own: &Path, metric: &str, reads: u64) -> Outcome<()> {
    let lines = own.join("lines");
    agent.wait(&format!("{reads} of {metric}"), |_| {
        Ok(newest(&lines, metric, ("operation", "read"))?.filter(|seen| *seen == reads).map(drop))
    })
}
