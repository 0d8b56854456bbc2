//! How many values a second a program takes, and what each costs us: one that reads and answers, and the worked one with
//! `SQLite`.
//!
//! `cargo bench -p ebpf-process-sink-exec --bench programs`. Ours is what the sink's two threads use of processors, the one that
//! encodes and the one that talks to the program; making the views is on neither.

#![expect(clippy::expect_used, reason = "what a bench sets up itself should stop it when it fails")]

use std::fs;
use std::io::{Write as _, stdout};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::cost::{CELLS, Source};
use ebpf_process_core::testkit::{context, offer};
use ebpf_process_core::{Options, SinkPlugin as _};
use ebpf_process_sink_exec::PLUGIN;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

const READS: &str = r#"#!/usr/bin/python3
import json, sys
print('{"ebpf_process": [1], "format": "rows", "window": 4}', flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "batch" in message:
        print(json.dumps({"batch": message["batch"], "ok": True}), flush=True)
"#;

const STORES: &str = include_str!("../../../docs/examples/exec/sqlite.py");

fn main() {
    for (name, script, views) in [("reads", READS, 1000), ("stores in SQLite", STORES, 60)] {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("program");
        fs::write(&program, script).expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        let database = folder.path().join("cells.db");
        let options = json!({"program": [program], "config": {"database": database}});
        let context = context("bench");
        let ledger = Arc::clone(&context.ledger);
        let mut sink = PLUGIN.build(&Options::from_value(&options), context).expect("a sink");
        let mut source = Source::rows();
        let (start, mut here) = (Instant::now(), Duration::ZERO);
        for _ in 0..views {
            source.time(
                || (),
                |view| {
                    offer(&ledger, view.len() as u64);
                    here += used(|| sink.write(view).expect("it takes batches"));
                },
            );
            here += used(|| sink.flush().expect("it goes on"));
        }
        let all = u64::from(CELLS) * views;
        while ledger.read(|tally| tally.written < all) {
            here += used(|| sink.flush().expect("it goes on"));
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let took = start.elapsed();
        let (there, user) = used_by("exec");
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let (rate, each) =
            (all as f64 / took.as_secs_f64() / 1e6, |time: Duration| time.as_secs_f64() * 1e9 / all as f64);
        let line = writeln!(
            stdout(),
            "a program that {name}: {rate:.2} million values a second; ours each {:.1} ns: {:.1} to encode and hand over, \
             {:.1} to talk ({:.1} of them in the kernel)",
            each(here + there),
            each(here),
            each(there),
            each(there.mul_f64(1.0 - user)),
        );
        line.expect("somebody reads");
    }
}

/// What this thread uses of a processor for something.
fn used(work: impl FnOnce()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
    };
    let before = now();
    work();
    now().saturating_sub(before)
}

/// The same of another thread since it runs, by its name, and which part of it was outside the kernel, by its samples.
fn used_by(name: &str) -> (Duration, f64) {
    let mut threads = fs::read_dir("/proc/self/task").expect("threads").flatten().map(|thread| thread.path());
    let is_it = |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|found| found.trim_end() == name);
    let thread = threads.find(is_it).expect("the thread");
    let read = |file: &str| fs::read_to_string(thread.join(file)).expect("its account");
    let numbers = |text: &str| text.split(' ').filter_map(|word| word.parse().ok()).collect::<Vec<f64>>();
    let total = numbers(&read("schedstat"))[0];
    let stat = read("stat");
    let fields = numbers(stat.rsplit_once(") ").expect("behind its name").1);
    // The first field is no number.
    let (user, system) = (fields[10], fields[11]);
    (Duration::from_secs_f64(total / 1e9), user / (user + system).max(1.0))
}
