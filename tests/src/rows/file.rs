//! The probe `file`.

use crate::known::{
    Counted, Done, Effect, Expected, Group, Layer, Need, Operation, Row, Rows, Straced, Traced, effect, expected, row,
    with,
};
use crate::workload::counts as n;

/// What is known of it.
pub static ROWS: Rows = Rows {
    probe: "file",
    is_default: true,
    groups: &[
        Group { name: "open and close", operations: OPEN_AND_CLOSE },
        Group { name: "read and write", operations: READ_AND_WRITE },
        Group { name: "delete", operations: DELETE },
    ],
    expected: |done| metrics(|layer| totals(done, layer)),
    traced: TRACED,
    straced: STRACED,
};

const STRACED: &[Straced] = &[
    Straced {
        names: &["open", "openat", "openat2", "creat"],
        calls: &[("file.calls", "open")],
        failed: &[("file.errors", "open")],
        uncounted: 0,
    },
    Straced { names: &["close"], calls: &[("file.calls", "close")], failed: &[("file.errors", "close")], uncounted: 0 },
    Straced {
        names: &["read", "pread64", "readv", "preadv", "preadv2"],
        calls: &[("vfs.calls", "read")],
        failed: &[("vfs.errors", "read"), ("vfs.interrupted", "read")],
        uncounted: 0,
    },
    Straced {
        names: &["write", "pwrite64", "writev", "pwritev", "pwritev2"],
        calls: &[("vfs.calls", "write")],
        failed: &[("vfs.errors", "write")],
        uncounted: 0,
    },
    // The removal of a directory is an unlinkat too.
    Straced {
        names: &["unlink", "unlinkat"],
        calls: &[("vfs.calls", "delete")],
        failed: &[("vfs.errors", "delete")],
        uncounted: n::RMDIRS,
    },
];

/// Where two functions close a descriptor, one of them is not called.
const TRACED: &[Traced] = &[
    // A long up to 6.x and an int in 7.x, whose upper half is then undefined.
    Traced {
        functions: &[("do_sys_openat2", "s32")],
        adds_up: &[
            ("file.calls", "open", |seen| seen.calls),
            ("file.errors", "open", |seen| seen.errors),
            ("file.interrupted", "open", |seen| seen.interrupted),
        ],
    },
    Traced {
        functions: &[("close_fd", "s32"), ("file_close_fd", "u64")],
        adds_up: &[
            ("file.calls", "close", |seen| seen.calls),
            ("file.errors", "close", |seen| seen.errors),
            ("file.interrupted", "close", |seen| seen.interrupted),
        ],
    },
    Traced {
        functions: &[("vfs_read", "s64"), ("vfs_readv", "s64")],
        adds_up: &[
            ("vfs.calls", "read", |seen| seen.calls),
            ("vfs.errors", "read", |seen| seen.errors),
            ("vfs.interrupted", "read", |seen| seen.interrupted),
            ("vfs.bytes", "read", |seen| seen.bytes),
        ],
    },
    Traced {
        functions: &[("vfs_write", "s64"), ("vfs_writev", "s64")],
        adds_up: &[
            ("vfs.calls", "write", |seen| seen.calls),
            ("vfs.errors", "write", |seen| seen.errors),
            ("vfs.interrupted", "write", |seen| seen.interrupted),
            ("vfs.bytes", "write", |seen| seen.bytes),
        ],
    },
    Traced {
        functions: &[("vfs_unlink", "s32")],
        adds_up: &[
            ("vfs.calls", "delete", |seen| seen.calls),
            ("vfs.errors", "delete", |seen| seen.errors),
            ("vfs.interrupted", "delete", |seen| seen.interrupted),
        ],
    },
];

/// What a process does, in the words of the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    open: u64,
    open_errors: u64,
    close: u64,
    close_errors: u64,
    read: u64,
    read_errors: u64,
    read_interrupted: u64,
    read_bytes: u64,
    write: u64,
    write_errors: u64,
    write_bytes: u64,
    delete: u64,
    delete_errors: u64,
}

fn totals(done: Done, layer: Layer) -> Totals {
    match done {
        Done::Nothing => Totals::default(),
        Done::Whole | Done::BeforeItsEnd => whole(layer),
        Done::Reads { processes, count } => {
            let read = processes * count;
            Totals { read, read_bytes: read, ..Totals::default() }
        }
        Done::Counted(counted) => told(&counted, layer),
    }
}

fn told(c: &Counted, layer: Layer) -> Totals {
    let syscall = |count| if layer == Layer::Syscall { count } else { 0 };
    Totals {
        open: c.opens,
        open_errors: c.open_errors,
        close: c.closes,
        close_errors: c.close_errors,
        read: c.reads + syscall(c.bad_reads),
        read_errors: c.read_errors + syscall(c.bad_reads),
        read_interrupted: 0,
        read_bytes: c.read_bytes,
        write: c.writes + syscall(c.bad_writes),
        write_errors: c.write_errors + syscall(c.bad_writes),
        write_bytes: c.write_bytes,
        delete: c.deletes + syscall(c.missing_deletes),
        delete_errors: c.delete_errors + syscall(c.missing_deletes),
    }
}

fn whole(layer: Layer) -> Totals {
    let syscall = |count| if layer == Layer::Syscall { count } else { 0 };

    let opened = n::OPENS + n::OPENATS + n::OPENAT2S + n::CREATS + n::HELD_OPENS + n::INT80_CLOSES;
    let pipe_ends = 2;

    let written = n::WRITES + n::PWRITES + n::WRITEVS + n::PWRITEVS + n::PWRITEV2S;
    let write_bytes = n::WRITES * n::WRITE_SIZE
        + n::PWRITES * n::PWRITE_SIZE
        + n::WRITEVS * (n::WRITEV_FIRST + n::WRITEV_SECOND)
        + (n::PWRITEVS + n::PWRITEV2S) * (n::PWRITEV_FIRST + n::PWRITEV_SECOND);

    let read = n::READS
        + n::SHORT_READS
        + n::END_READS
        + n::PREADS
        + n::READVS
        + n::PREADVS
        + n::PREADV2S
        + n::INT80_READS
        + 2 * n::RESTARTED_READS
        + n::INTERRUPTED_READS;
    let read_errors = n::DIRECTORY_READS + syscall(n::BAD_READS);
    let read_bytes = n::READS * n::READ_SIZE
        + n::SHORT_READS * n::SHORT_SIZE
        + n::PREADS * n::PREAD_SIZE
        + n::READVS * (n::READV_FIRST + n::READV_SECOND)
        + (n::PREADVS + n::PREADV2S) * (n::PREADV_FIRST + n::PREADV_SECOND)
        + n::INT80_READS * n::INT80_READ_SIZE
        + n::RESTARTED_READS;

    let delete_errors = syscall(n::MISSING_UNLINKS);

    Totals {
        open: opened + n::MISSING_OPENS,
        open_errors: n::MISSING_OPENS,
        close: opened + pipe_ends + n::BAD_CLOSES,
        close_errors: n::BAD_CLOSES,
        read: read + read_errors,
        read_errors,
        read_interrupted: n::RESTARTED_READS + n::INTERRUPTED_READS,
        read_bytes,
        write: written + n::FULL_WRITES,
        write_errors: n::FULL_WRITES,
        write_bytes,
        delete: n::UNLINKS + n::UNLINKATS + delete_errors,
        delete_errors,
    }
}

const OPENS: Option<(&str, &str)> = Some(("operation", "open"));
const CLOSES: Option<(&str, &str)> = Some(("operation", "close"));
const READS: Option<(&str, &str)> = Some(("operation", "read"));
const WRITES: Option<(&str, &str)> = Some(("operation", "write"));
const DELETES: Option<(&str, &str)> = Some(("operation", "delete"));

fn metrics(totals: impl Fn(Layer) -> Totals) -> Vec<Expected> {
    let rows: [Row<Totals>; 17] = [
        ("file.calls", OPENS, &["file.open"], false, |t| t.open),
        ("file.calls", CLOSES, &["file.close"], false, |t| t.close),
        ("file.errors", OPENS, &["file.open"], true, |t| t.open_errors),
        ("file.errors", CLOSES, &["file.close"], true, |t| t.close_errors),
        ("file.interrupted", OPENS, &["file.open"], true, |_| 0),
        ("file.interrupted", CLOSES, &["file.close"], true, |_| 0),
        ("vfs.calls", READS, &["vfs.read"], false, |t| t.read),
        ("vfs.calls", WRITES, &["vfs.write"], false, |t| t.write),
        ("vfs.calls", DELETES, &["vfs.delete"], false, |t| t.delete),
        ("vfs.errors", READS, &["vfs.read"], true, |t| t.read_errors),
        ("vfs.errors", WRITES, &["vfs.write"], true, |t| t.write_errors),
        ("vfs.errors", DELETES, &["vfs.delete"], true, |t| t.delete_errors),
        ("vfs.interrupted", READS, &["vfs.read"], true, |t| t.read_interrupted),
        ("vfs.interrupted", WRITES, &["vfs.write"], true, |_| 0),
        ("vfs.interrupted", DELETES, &["vfs.delete"], true, |_| 0),
        ("vfs.bytes", READS, &["vfs.read"], true, |t| t.read_bytes),
        ("vfs.bytes", WRITES, &["vfs.write"], true, |t| t.write_bytes),
    ];
    expected(rows, totals)
}

/// Bytes that each operation moves that moves any.
const BYTES: u64 = 3;

const fn file(label: &'static str, syscall: u64, kernel: u64) -> Effect {
    effect("file.calls", label, syscall, kernel)
}

const fn file_error(label: &'static str, syscall: u64, kernel: u64) -> Effect {
    effect("file.errors", label, syscall, kernel)
}

const fn vfs(label: &'static str, syscall: u64, kernel: u64) -> Effect {
    effect("vfs.calls", label, syscall, kernel)
}

const fn vfs_error(label: &'static str, syscall: u64, kernel: u64) -> Effect {
    effect("vfs.errors", label, syscall, kernel)
}

const fn file_interrupted(label: &'static str) -> Effect {
    effect("file.interrupted", label, 1, 1)
}

const fn vfs_interrupted(label: &'static str) -> Effect {
    effect("vfs.interrupted", label, 1, 1)
}

const fn vfs_bytes(label: &'static str, bytes: u64) -> Effect {
    effect("vfs.bytes", label, bytes, bytes)
}

const OPENED: &[Effect] = &[file("open", 1, 1)];
const OPEN_UNSEEN: &[Effect] = &[file("open", 0, 0)];
const CLOSED: &[Effect] = &[file("close", 1, 1)];
const CLOSE_UNSEEN: &[Effect] = &[file("close", 0, 0)];

const OPEN_AND_CLOSE: &[Operation] = &[
    row("open", "`open`", OPENED),
    row("openat", "`openat`", OPENED),
    row("openat2", "`openat2`", OPENED),
    row("creat", "`creat`", OPENED),
    row("open-missing", "`openat` of a missing name", &[file("open", 1, 1), file_error("open", 1, 1)]),
    row("openat2-refused", "`openat2` with arguments it refuses", &[file("open", 1, 0), file_error("open", 1, 0)]),
    row(
        "open-interrupted",
        "`openat` of a FIFO that a signal interrupts: `EINTR`, no error",
        &[file("open", 1, 1), file_interrupted("open")],
    ),
    with(Need::Int80, row("open-int80", "`open` by `int 0x80`", OPENED)),
    with(Need::Uring, row("open-uring", "openat by io_uring", OPEN_UNSEEN)),
    row("memfd", "`memfd_create`", OPEN_UNSEEN),
    row("pipe", "`pipe`", OPEN_UNSEEN),
    row("socket", "`socket`", OPEN_UNSEEN),
    row("dup", "`dup`", OPEN_UNSEEN),
    row("close", "`close`", CLOSED),
    row("close-bad", "`close` of a bad descriptor", &[file("close", 1, 1), file_error("close", 1, 1)]),
    with(Need::Int80, row("close-int80", "`close` by `int 0x80`", CLOSED)),
    row("close-range", "`close_range`", CLOSE_UNSEEN),
    with(Need::Uring, row("close-uring", "close by io_uring", CLOSE_UNSEEN)),
    row("dup2", "`dup2` over an open descriptor", CLOSE_UNSEEN),
];

const READ: &[Effect] = &[vfs("read", 1, 1), vfs_bytes("read", BYTES)];
const READ_FAILED_EARLY: &[Effect] = &[vfs("read", 1, 0), vfs_error("read", 1, 0)];
const READ_UNSEEN: &[Effect] = &[vfs("read", 0, 0)];
const WRITTEN: &[Effect] = &[vfs("write", 1, 1), vfs_bytes("write", BYTES)];
const WRITE_FAILED: &[Effect] = &[vfs("write", 1, 1), vfs_error("write", 1, 1)];
const WRITE_UNSEEN: &[Effect] = &[vfs("write", 0, 0)];
const BOTH_UNSEEN: &[Effect] = &[vfs("read", 0, 0), vfs("write", 0, 0)];

const READ_AND_WRITE: &[Operation] = &[
    row("read", "`read`", READ),
    row("pread", "`pread64`", READ),
    row("readv", "`readv`", READ),
    row("preadv", "`preadv`", READ),
    row("preadv2", "`preadv2`", READ),
    with(Need::Int80, row("read-int80", "`read` by `int 0x80`", READ)),
    with(Need::Int80, row("readv-int80", "`readv` by `int 0x80`", READ)),
    row("read-end", "`pread64` at the end of the file: no bytes, no error", &[vfs("read", 1, 1)]),
    row("read-directory", "`read` of a directory", &[vfs("read", 1, 1), vfs_error("read", 1, 1)]),
    row("read-bad", "`read` of a bad descriptor", READ_FAILED_EARLY),
    row("pread-negative", "`pread64` at a negative offset", READ_FAILED_EARLY),
    row(
        "read-restarted",
        "`read` that a signal interrupts and the kernel restarts: no error",
        &[vfs("read", 2, 2), vfs_interrupted("read"), vfs_bytes("read", 1)],
    ),
    row(
        "read-interrupted",
        "`read` that a signal interrupts for good: `EINTR`, no error",
        &[vfs("read", 1, 1), vfs_interrupted("read")],
    ),
    with(Need::Aio, row("read-aio", "read by `io_submit`", READ_UNSEEN)),
    with(Need::Uring, row("read-uring", "read by io_uring", READ_UNSEEN)),
    row("recv", "`recv` on a socket", READ_UNSEEN),
    row("write", "`write`", WRITTEN),
    row("pwrite", "`pwrite64`", WRITTEN),
    row("writev", "`writev`", WRITTEN),
    row("pwritev", "`pwritev`", WRITTEN),
    row("pwritev2", "`pwritev2`", WRITTEN),
    with(Need::Int80, row("write-int80", "`write` by `int 0x80`", WRITTEN)),
    with(Need::Int80, row("writev-int80", "`writev` by `int 0x80`", WRITTEN)),
    row("write-full", "`write` to a full device", WRITE_FAILED),
    row("write-readable", "`write` to a descriptor opened for reading", WRITE_FAILED),
    row("write-bad", "`write` to a bad descriptor", &[vfs("write", 1, 0), vfs_error("write", 1, 0)]),
    row(
        "write-interrupted",
        "`write` to a full pipe that a signal interrupts for good: `EINTR`, no error",
        &[vfs("write", 1, 1), vfs_interrupted("write")],
    ),
    with(Need::Aio, row("write-aio", "write by `io_submit`", WRITE_UNSEEN)),
    with(Need::Uring, row("write-uring", "write by io_uring", WRITE_UNSEEN)),
    row("send", "`send` on a socket", WRITE_UNSEEN),
    row("sendfile", "`sendfile`", BOTH_UNSEEN),
    row("splice", "`splice`", BOTH_UNSEEN),
    row("copy", "`copy_file_range`", BOTH_UNSEEN),
    row("mapped", "reading and writing a mapped file (`mmap`)", BOTH_UNSEEN),
];

const DELETED: &[Effect] = &[vfs("delete", 1, 1)];
const DELETE_UNSEEN: &[Effect] = &[vfs("delete", 0, 0)];

const DELETE: &[Operation] = &[
    row("unlink", "`unlink`", DELETED),
    row("unlinkat", "`unlinkat`", DELETED),
    with(Need::Int80, row("unlink-int80", "`unlink` by `int 0x80`", DELETED)),
    with(Need::Int80, row("unlinkat-int80", "`unlinkat` by `int 0x80`", DELETED)),
    with(Need::Stacked, row("unlink-stacked", "`unlink` on overlayfs: once per layer", &[vfs("delete", 1, 2)])),
    row("unlink-missing", "`unlink` of a missing name", &[vfs("delete", 1, 0), vfs_error("delete", 1, 0)]),
    row("unlink-folder", "`unlink` of a directory", &[vfs("delete", 1, 1), vfs_error("delete", 1, 1)]),
    with(Need::Uring, row("unlink-uring", "unlinkat by io_uring", &[vfs("delete", 0, 1)])),
    row("rmdir", "`rmdir`", DELETE_UNSEEN),
    row("unlinkat-folder", "`unlinkat` with `AT_REMOVEDIR`", DELETE_UNSEEN),
    with(Need::Int80, row("unlinkat-folder-int80", "the same by `int 0x80`", DELETE_UNSEEN)),
    row("rename", "`rename` over an existing file", DELETE_UNSEEN),
];
