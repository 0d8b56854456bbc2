//! The probe `sync`.

use crate::known::{Done, Effect, Expected, Group, Metric, Need, Operation, Rows, Straced, effect, row, with};
use crate::workload::counts as n;

/// What is known of it. Its functions are the system calls' own: what strace sees, they see.
pub static ROWS: Rows = Rows {
    probe: "sync",
    is_default: false,
    groups: &[Group { name: "sync", operations: SYNC }],
    expected,
    traced: &[],
    straced: &[
        calls(&["fsync"], &[("sync.calls", "fsync")], &[("sync.errors", "fsync")]),
        calls(&["fdatasync"], &[("sync.calls", "fdatasync")], &[("sync.errors", "fdatasync")]),
        calls(&["sync"], &[("sync.calls", "sync")], &[("sync.errors", "sync")]),
        calls(&["syncfs"], &[("sync.calls", "syncfs")], &[("sync.errors", "syncfs")]),
        calls(&["msync"], &[("sync.calls", "msync")], &[("sync.errors", "msync")]),
        calls(&["sync_file_range"], &[("sync.calls", "sync_file_range")], &[("sync.errors", "sync_file_range")]),
    ],
};

const fn calls(
    names: &'static [&'static str],
    calls: &'static [(&'static str, &'static str)],
    failed: &'static [(&'static str, &'static str)],
) -> Straced {
    Straced { names, calls, failed, uncounted: 0 }
}

/// Operation, counter, successful calls and failed ones of the whole workload, in every layer.
const WHOLE: [(&str, &[&str], u64, u64); 6] = [
    ("fsync", &["sync.fsync"], n::FSYNCS + n::INT80_SYNCS, n::BAD_FSYNCS),
    ("fdatasync", &["sync.fdatasync"], n::FDATASYNCS + n::INT80_SYNCS, n::BAD_FDATASYNCS),
    ("sync", &["sync.sync"], n::SYNCS + n::INT80_SYNCS, 0),
    ("syncfs", &["sync.syncfs"], n::SYNCFSS + n::INT80_SYNCS, n::BAD_SYNCFSS),
    ("msync", &["sync.msync"], n::MSYNCS + n::INT80_SYNCS, n::BAD_MSYNCS),
    ("sync_file_range", &["sync.sync_file_range"], n::RANGES, n::BAD_RANGES + n::INT80_SYNCS),
];

fn expected(done: Done) -> Vec<Expected> {
    let did = |operation, successes, failures| match done {
        Done::Whole | Done::BeforeItsEnd => (successes, failures),
        Done::Counted(c) if operation == "fsync" => (c.fsyncs - c.fsync_errors, c.fsync_errors),
        _ => (0, 0),
    };
    let of = |name, return_only, value: fn(u64, u64) -> u64| {
        WHOLE.map(|(operation, counters, successes, failures)| {
            let metric = Metric { name, label: Some(("operation", operation)), counters, return_only };
            let (successes, failures) = did(operation, successes, failures);
            let value = value(successes, failures);
            Expected { metric, syscall: value, kernel: value }
        })
    };
    let calls = of("sync.calls", false, |successes, failures| successes + failures);
    let errors = of("sync.errors", true, |_, failures| failures);
    [calls, errors, of("sync.interrupted", true, |_, _| 0)].concat()
}

/// The same at every layer.
const fn done(operation: &'static str, count: u64) -> Effect {
    effect("sync.calls", operation, count, count)
}

const fn failed(operation: &'static str) -> Effect {
    effect("sync.errors", operation, 1, 1)
}

const SYNC: &[Operation] = &[
    row("fsync", "`fsync`", &[done("fsync", 1)]),
    row("fsync-bad", "`fsync` of a bad descriptor", &[done("fsync", 1), failed("fsync")]),
    with(Need::Int80, row("fsync-int80", "`fsync` by `int 0x80`", &[done("fsync", 1)])),
    with(Need::Uring, row("fsync-uring", "fsync by io_uring", &[done("fsync", 0)])),
    row(
        "write-synced",
        "`write` to a file opened with `O_SYNC`",
        &[done("fsync", 0), effect("vfs.calls", "write", 1, 1), effect("vfs.bytes", "write", 3, 3)],
    ),
    row("fdatasync", "`fdatasync`", &[done("fdatasync", 1)]),
    row("fdatasync-bad", "`fdatasync` of a bad descriptor", &[done("fdatasync", 1), failed("fdatasync")]),
    row("sync", "`sync`", &[done("sync", 1)]),
    with(Need::Int80, row("sync-int80", "`sync` by `int 0x80`", &[done("sync", 1)])),
    row("syncfs", "`syncfs`", &[done("syncfs", 1)]),
    row("syncfs-bad", "`syncfs` of a bad descriptor", &[done("syncfs", 1), failed("syncfs")]),
    row("msync", "`msync`", &[done("msync", 1)]),
    row("msync-bad", "`msync` of what is no page", &[done("msync", 1), failed("msync")]),
    row("sync-file-range", "`sync_file_range`", &[done("sync_file_range", 1)]),
    row(
        "sync-file-range-bad",
        "`sync_file_range` with flags that do not exist",
        &[done("sync_file_range", 1), failed("sync_file_range")],
    ),
    with(
        Need::Int80,
        row(
            "sync-file-range-int80",
            "`sync_file_range` of a bad descriptor by `int 0x80`",
            &[done("sync_file_range", 1), failed("sync_file_range")],
        ),
    ),
];
