//! Programs that come and go leave nothing behind: alone in its process, so that its descriptors and threads can be counted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::Bench;
use ebpf_process_core::{Options, ProbeContext, ProbePlugin as _, Recorder, Selection};
use ebpf_process_probe_exec::PLUGIN;
use serde_json::json;

/// Programs, one after the other.
const PROGRAMS: usize = 100;

const LIMIT: Duration = Duration::from_mins(2);

const SCRIPT: &str = r#"#!/bin/sh
echo $$ >> pids
echo '{"ebpf_process":[1],"probe":"own","kind":"thing","columns":[{"name":"jobs","type":"counter"}]}'
read -r question
tick=${question#*:}
echo "{\"tick\":${tick%%,*},\"rows\":[{\"values\":[1]}]}"
"#;

#[test]
fn a_hundred_programs_leave_nothing_behind() {
    // How many descriptors and threads this process has.
    let own = || ["fd", "task"].map(|what| fs::read_dir(format!("/proc/self/{what}")).expect("a directory").count());
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program");
    fs::write(&program, SCRIPT).expect("a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
    let options = json!({
        "program": [program], "directory": folder.path(), "retry_min": "1ms", "retry_max": "1ms",
    });
    let before = own();
    let mut bench = Bench::new();
    let context = ProbeContext::new("own", bench.recorder(), Duration::from_secs(1));
    let mut probe = PLUGIN.build(&Options::from_value(&options), context).expect("a probe");
    let pids = || fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
    let (start, mut total) = (Instant::now(), 0);
    while pids().lines().count() < PROGRAMS {
        assert!(start.elapsed() < LIMIT, "only {} programs", pids().lines().count());
        // What was not answered in time is missing; what was is counted.
        let record = |recorder: &mut Recorder| drop(probe.collect(recorder));
        let seen = bench.tick(&Selection::default(), record, |view| view.samples().count());
        total += seen;
        std::thread::park_timeout(Duration::from_millis(2));
    }
    assert!(total > PROGRAMS / 4, "{total} answers were taken");
    drop(probe);
    assert_eq!(own(), before);
    let is_there = |pid: &str| fs::exists(format!("/proc/{pid}")).expect("a directory");
    assert_eq!(pids().lines().filter(|pid| is_there(pid)).count(), 0, "each was waited for");
}
