//! What comes, or becomes another one, once the agent has given up its rights: started by root, with a broker.

use ebpf_process_tests::configured::{Configured, newest};
use ebpf_process_tests::workload::Place;
use ebpf_process_tests::{Failure, Outcome, agent, live};
use std::fs;
use std::path::Path;

/// What the workload reads, a byte at a time.
const READS: u64 = 2_345;

/// An agent that counts what one process does. Nobody listens at the discard port.
fn plan(folder: &Path, pid: u32, sinks: &str) -> String {
    format!(
        "interval = \"100ms\"\ngrace = \"2s\"\n[status]\nsocket = \"{}/status.sock\"\n[probes]\nonly = {{ pid = {pid} }}\n{sinks}\n",
        folder.display()
    )
}

fn lines(name: &str, path: &Path) -> String {
    format!("[sinks.{name}]\ntype = \"json\"\nqueue = 512\noptions.path = \"{}\"\n", path.display())
}

fn database(url: &str, more: &str) -> String {
    format!(
        "[sinks.db]\ntype = \"influx\"\nqueue = 512\n[sinks.db.options]\nurl = \"{url}\"\ndatabase = \"d\"\n{more}\n\
         [sinks.db.options.delivery]\nretry_min = \"100ms\"\nretry_max = \"200ms\"\n"
    )
}

fn all_are_in(agent: &mut Configured, lines: &Path) -> Outcome<()> {
    agent.wait(&format!("{READS} reads in {}", lines.display()), |_| {
        Ok(newest(lines, "vfs.calls", ("operation", "read"))?.filter(|reads| *reads == READS).map(drop))
    })
}

#[test]
fn a_reload_brings_a_file_anywhere_and_a_spool_where_the_agent_may_go_and_says_where_it_may_not() {
    live::test("late-places", agent::can_run(), places);
}

fn places() -> Outcome<()> {
    // Root's and nobody else's: the agent can look into neither of them.
    let (config, elsewhere) = (temporary()?, temporary()?);
    let folder = agent::folder()?;
    let (own, other) = (folder.path(), elsewhere.path());
    let mut workload = Place::new()?.reads(READS)?;
    let at_first = lines("first", &own.join("first")) + &database("http://127.0.0.1:9", "");
    let text = |sinks: &str| plan(own, workload.pid(), sinks);
    let mut agent = Configured::start(&config.path().join("agent.toml"), &text(&at_first))?;
    agent.wait_for_batch()?;

    let spool = |directory: &Path| format!("{at_first}spool = \"{}\"\n", directory.display());
    let output = agent.reload(&text(&spool(&other.join("spool"))))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let names_it = said.contains(&format!("sinks.db uses the directory {}", other.join("spool").display()));
    if output.status.code() != Some(1) || !names_it || !said.contains("restart it") {
        return Err(Failure::new(format!("a spool elsewhere: {}: {said}", output.status)));
    }

    let later = spool(&own.join("spools/db")) + &lines("second", &other.join("second"));
    let changes = agent.becomes(&text(&later))?;
    if !changes.contains("sink db") || !changes.contains("sink second") {
        return Err(Failure::new(format!("the reload changed only this: {changes}")));
    }
    workload.run_to_next_stop()?;
    all_are_in(&mut agent, &own.join("first"))?;
    all_are_in(&mut agent, &other.join("second"))?;
    agent.wait("frames in the spool", |_| {
        let files = fs::read_dir(own.join("spools/db")).into_iter().flatten().flatten();
        let sizes =
            files.filter(|file| file.file_name().to_string_lossy().starts_with(|first: char| first.is_ascii_digit()));
        Ok(sizes.filter_map(|file| file.metadata().ok()).any(|file| file.len() > 0).then_some(()))
    })?;
    workload.run_to_end()?;
    agent.stop().map(drop)
}

fn temporary() -> Outcome<tempfile::TempDir> {
    tempfile::tempdir().map_err(Failure::at("a folder"))
}
