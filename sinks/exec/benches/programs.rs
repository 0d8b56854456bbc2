//! How many values a second a program takes: one that reads and answers, and the worked one with `SQLite`.
//!
//! `cargo bench -p ebpf-process-sink-exec --bench programs`. Making the views is on the clock as well.

#![expect(clippy::expect_used, reason = "what a bench sets up itself should stop it when it fails")]

use std::fs;
use std::io::{Write as _, stdout};
use std::os::unix::fs::PermissionsExt as _;
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
    for (name, script, views) in [("reads", READS, 300), ("stores in SQLite", STORES, 60)] {
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
        let (start, before) = (Instant::now(), processor_time());
        for _ in 0..views {
            source.time(
                || (),
                |view| {
                    offer(&ledger, view.len() as u64);
                    sink.write(view).expect("it takes batches");
                },
            );
            sink.flush().expect("it goes on");
        }
        let all = u64::from(CELLS) * views;
        while ledger.read(|tally| tally.written) < all {
            sink.flush().expect("it goes on");
            std::thread::park_timeout(Duration::from_micros(100));
        }
        let (took, ours) = (start.elapsed(), processor_time().saturating_sub(before));
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let (rate, cost) = (all as f64 / took.as_secs_f64() / 1e6, ours.as_secs_f64() * 1e9 / all as f64);
        let line =
            writeln!(stdout(), "a program that {name}: {rate:.2} million values a second, {cost:.1} ns of ours each");
        line.expect("somebody reads");
    }
}

/// What this process has used of processors, on all its threads.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
