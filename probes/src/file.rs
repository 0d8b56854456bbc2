//! The probe `file`: files opened, closed, read, written and deleted.
//!
//! | counter | functions | an error is |
//! |---|---|---|
//! | `file.open` | `do_sys_openat2`, before 5.6 `do_sys_open` | negative |
//! | `file.close` | `file_close_fd`, before 6.8 `close_fd_get_file` | NULL |
//! | | before 6.6 `close_fd`, before 5.11 `__close_fd` | negative |
//! | `vfs.read` | `vfs_read` and `vfs_readv`, before 4.13 `vfs_read` and `do_readv_writev` | negative |
//! | `vfs.write` | `vfs_write` and `vfs_writev`, before 4.13 `vfs_write` and `do_readv_writev` | negative |
//! | `vfs.delete` | `vfs_unlink` (4 arguments since 5.12, 3 before) | negative |
//!
//! The commits that changed them, and what never fires, stand in docs/hooks.md.
//!
//! Where functions cannot be hooked, one program on the raw `sys_exit` tracepoint serves all five.
//! It counts a call when it returns, so a blocked read is counted when it is over, also in entry
//! mode.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::abi::{Slot, file_slot as slot};
use crate::catalog::Metric;
use crate::hook::{Attach, Candidate, Counter, Field, Hook, Layer, Output, Subject};
use crate::kernel_probe::KernelProbe;
use crate::options::Tier;

/// The probe type `file`.
///
/// Linux 5.5 with type information (`CONFIG_DEBUG_INFO_BTF`), or 4.11 with kprobes. What a hook costs per event stands
/// in docs/cost.md.
pub static FILE: KernelProbe = KernelProbe {
    name: "file",
    summary: "files opened, closed, read, written and deleted",
    core: aya::include_bytes_aligned!("../bpf/objects/x86_64/file.core.o"),
    floor: aya::include_bytes_aligned!("../bpf/objects/x86_64/file.floor.o"),
    counters: &[OPEN, CLOSE, READ, WRITE, DELETE],
};

const OPEN: Counter = Counter {
    name: "file.open",
    return_only: false,
    subject: Subject::Current,
    entry: &[
        function(
            Tier::Fentry,
            &[hook("open__fentry", Attach::Fentry("do_sys_openat2"), &[slot::OPEN])],
            &[&[slot::OPEN]],
        ),
        function(Tier::Fentry, &[hook("open__fentry", Attach::Fentry("do_sys_open"), &[slot::OPEN])], &[&[slot::OPEN]]),
        function(
            Tier::Kprobe,
            &[hook("open__kprobe", Attach::Kprobe("do_sys_openat2"), &[slot::OPEN])],
            &[&[slot::OPEN]],
        ),
        function(Tier::Kprobe, &[hook("open__kprobe", Attach::Kprobe("do_sys_open"), &[slot::OPEN])], &[&[slot::OPEN]]),
        syscall(&[sys_exit(&[slot::SYS_OPEN])], &[&[slot::SYS_OPEN]]),
        syscall(OPENS, &[&[slot::SYS_OPEN]]),
        syscall(&[all_exits(&[slot::SYS_OPEN])], &[&[slot::SYS_OPEN]]),
    ],
    results: &[
        function(
            Tier::Fentry,
            &[hook("open__fexit3", Attach::Fexit("do_sys_openat2", 3), &[slot::OPEN])],
            &[&[slot::OPEN]],
        ),
        function(
            Tier::Fentry,
            &[hook("open__fexit4", Attach::Fexit("do_sys_open", 4), &[slot::OPEN])],
            &[&[slot::OPEN]],
        ),
        function(
            Tier::Kprobe,
            &[hook("open__kretprobe", Attach::Kretprobe("do_sys_openat2"), &[slot::OPEN])],
            &[&[slot::OPEN]],
        ),
        function(
            Tier::Kprobe,
            &[hook("open__kretprobe", Attach::Kretprobe("do_sys_open"), &[slot::OPEN])],
            &[&[slot::OPEN]],
        ),
        syscall(&[sys_exit(&[slot::SYS_OPEN])], &[&[slot::SYS_OPEN]]),
        syscall(OPENS, &[&[slot::SYS_OPEN]]),
        syscall(&[all_exits(&[slot::SYS_OPEN])], &[&[slot::SYS_OPEN]]),
    ],
    exercise: |_| File::open("/dev/null").map(drop),
    outputs: &file_outputs("open"),
};

const CLOSE: Counter = Counter {
    name: "file.close",
    return_only: false,
    subject: Subject::Current,
    entry: &[
        close(Tier::Fentry, &[hook("close__fentry", Attach::Fentry("file_close_fd"), &[slot::CLOSE])]),
        close(Tier::Fentry, &[hook("close__fentry", Attach::Fentry("close_fd_get_file"), &[slot::CLOSE])]),
        close(Tier::Fentry, &[hook("close__fentry", Attach::Fentry("close_fd"), &[slot::CLOSE])]),
        close(Tier::Fentry, &[hook("close__fentry", Attach::Fentry("__close_fd"), &[slot::CLOSE])]),
        close(Tier::Kprobe, &[hook("close__kprobe", Attach::Kprobe("file_close_fd"), &[slot::CLOSE])]),
        close(Tier::Kprobe, &[hook("close__kprobe", Attach::Kprobe("close_fd_get_file"), &[slot::CLOSE])]),
        close(Tier::Kprobe, &[hook("close__kprobe", Attach::Kprobe("close_fd"), &[slot::CLOSE])]),
        close(Tier::Kprobe, &[hook("close__kprobe", Attach::Kprobe("__close_fd"), &[slot::CLOSE])]),
        syscall(&[sys_exit(&[slot::SYS_CLOSE])], &[&[slot::SYS_CLOSE]]),
        syscall(CLOSES, &[&[slot::SYS_CLOSE]]),
        syscall(&[all_exits(&[slot::SYS_CLOSE])], &[&[slot::SYS_CLOSE]]),
    ],
    results: &[
        close(Tier::Fentry, &[hook("close_file__fexit1", Attach::Fexit("file_close_fd", 1), &[slot::CLOSE])]),
        close(Tier::Fentry, &[hook("close_file__fexit1", Attach::Fexit("close_fd_get_file", 1), &[slot::CLOSE])]),
        close(Tier::Fentry, &[hook("close__fexit1", Attach::Fexit("close_fd", 1), &[slot::CLOSE])]),
        close(Tier::Fentry, &[hook("close__fexit2", Attach::Fexit("__close_fd", 2), &[slot::CLOSE])]),
        close(Tier::Kprobe, &[hook("close_file__kretprobe", Attach::Kretprobe("file_close_fd"), &[slot::CLOSE])]),
        close(Tier::Kprobe, &[hook("close_file__kretprobe", Attach::Kretprobe("close_fd_get_file"), &[slot::CLOSE])]),
        close(Tier::Kprobe, &[hook("close__kretprobe", Attach::Kretprobe("close_fd"), &[slot::CLOSE])]),
        close(Tier::Kprobe, &[hook("close__kretprobe", Attach::Kretprobe("__close_fd"), &[slot::CLOSE])]),
        syscall(&[sys_exit(&[slot::SYS_CLOSE])], &[&[slot::SYS_CLOSE]]),
        syscall(CLOSES, &[&[slot::SYS_CLOSE]]),
        syscall(&[all_exits(&[slot::SYS_CLOSE])], &[&[slot::SYS_CLOSE]]),
    ],
    exercise: |_| File::open("/dev/null").map(drop),
    outputs: &file_outputs("close"),
};

// Where there is a `do_readv_writev` it is tried first: a caller can have `vfs_readv` inlined and another one not.
//
// Before 5.10 the vectors of a 32-bit program go by a function of their own, without `vfs_readv`. It is hooked where it
// can be, and its hook proves nothing: the self-test makes no 32-bit call. Where it was inlined the ways without it are
// left, in doubt.
const READ: Counter = Counter {
    name: "vfs.read",
    return_only: false,
    subject: Subject::Current,
    entry: &[
        function(
            Tier::Fentry,
            &[
                hook("read__fentry", Attach::Fentry("vfs_read"), &[slot::READ]),
                hook("readv__fentry", Attach::Fentry("vfs_readv"), &[slot::READV]),
            ],
            READS,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("read__kprobe", Attach::Kprobe("vfs_read"), &[slot::READ]),
                hook("readv_writev__kprobe", Attach::Kprobe("do_readv_writev"), &[slot::EITHER_READV]),
                hook("readv_writev__kprobe", Attach::Kprobe("compat_do_readv_writev"), &[]),
            ],
            EITHER_READS,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("read__kprobe", Attach::Kprobe("vfs_read"), &[slot::READ]),
                hook("readv_writev__kprobe", Attach::Kprobe("do_readv_writev"), &[slot::EITHER_READV]),
            ],
            EITHER_READS,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("read__kprobe", Attach::Kprobe("vfs_read"), &[slot::READ]),
                hook("readv__kprobe", Attach::Kprobe("vfs_readv"), &[slot::READV]),
                hook("readv__kprobe", Attach::Kprobe("compat_readv"), &[]),
            ],
            READS,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("read__kprobe", Attach::Kprobe("vfs_read"), &[slot::READ]),
                hook("readv__kprobe", Attach::Kprobe("vfs_readv"), &[slot::READV]),
            ],
            READS,
        ),
        syscall(&[sys_exit(&[slot::SYS_READ])], &[&[slot::SYS_READ]]),
        syscall(READ_CALLS, &[&[slot::SYS_READ]]),
        syscall(&[all_exits(&[slot::SYS_READ])], &[&[slot::SYS_READ]]),
    ],
    results: &[
        function(
            Tier::Fentry,
            &[
                hook("read__fexit4", Attach::Fexit("vfs_read", 4), &[slot::READ]),
                hook("readv__fexit5", Attach::Fexit("vfs_readv", 5), &[slot::READV]),
            ],
            READS,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("read__kretprobe", Attach::Kretprobe("vfs_read"), &[slot::READ]),
                hook("readv_writev_enter__kprobe", Attach::Kprobe("do_readv_writev"), &[]),
                hook("readv_writev__kretprobe", Attach::Kretprobe("do_readv_writev"), &[slot::EITHER_READV]),
                hook("readv_writev_enter__kprobe", Attach::Kprobe("compat_do_readv_writev"), &[]),
                hook("readv_writev__kretprobe", Attach::Kretprobe("compat_do_readv_writev"), &[]),
            ],
            EITHER_READS,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("read__kretprobe", Attach::Kretprobe("vfs_read"), &[slot::READ]),
                hook("readv_writev_enter__kprobe", Attach::Kprobe("do_readv_writev"), &[]),
                hook("readv_writev__kretprobe", Attach::Kretprobe("do_readv_writev"), &[slot::EITHER_READV]),
            ],
            EITHER_READS,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("read__kretprobe", Attach::Kretprobe("vfs_read"), &[slot::READ]),
                hook("readv__kretprobe", Attach::Kretprobe("vfs_readv"), &[slot::READV]),
                hook("readv__kretprobe", Attach::Kretprobe("compat_readv"), &[]),
            ],
            READS,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("read__kretprobe", Attach::Kretprobe("vfs_read"), &[slot::READ]),
                hook("readv__kretprobe", Attach::Kretprobe("vfs_readv"), &[slot::READV]),
            ],
            READS,
        ),
        syscall(&[sys_exit(&[slot::SYS_READ])], &[&[slot::SYS_READ]]),
        syscall(READ_CALLS, &[&[slot::SYS_READ]]),
        syscall(&[all_exits(&[slot::SYS_READ])], &[&[slot::SYS_READ]]),
    ],
    exercise: |_| read_once(),
    outputs: &transfer_outputs("read"),
};

const WRITE: Counter = Counter {
    name: "vfs.write",
    return_only: false,
    subject: Subject::Current,
    entry: &[
        function(
            Tier::Fentry,
            &[
                hook("write__fentry", Attach::Fentry("vfs_write"), &[slot::WRITE]),
                hook("writev__fentry", Attach::Fentry("vfs_writev"), &[slot::WRITEV]),
            ],
            WRITES,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("write__kprobe", Attach::Kprobe("vfs_write"), &[slot::WRITE]),
                hook("readv_writev__kprobe", Attach::Kprobe("do_readv_writev"), &[slot::EITHER_WRITEV]),
                hook("readv_writev__kprobe", Attach::Kprobe("compat_do_readv_writev"), &[]),
            ],
            EITHER_WRITES,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("write__kprobe", Attach::Kprobe("vfs_write"), &[slot::WRITE]),
                hook("readv_writev__kprobe", Attach::Kprobe("do_readv_writev"), &[slot::EITHER_WRITEV]),
            ],
            EITHER_WRITES,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("write__kprobe", Attach::Kprobe("vfs_write"), &[slot::WRITE]),
                hook("writev__kprobe", Attach::Kprobe("vfs_writev"), &[slot::WRITEV]),
                hook("writev__kprobe", Attach::Kprobe("compat_writev"), &[]),
            ],
            WRITES,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("write__kprobe", Attach::Kprobe("vfs_write"), &[slot::WRITE]),
                hook("writev__kprobe", Attach::Kprobe("vfs_writev"), &[slot::WRITEV]),
            ],
            WRITES,
        ),
        syscall(&[sys_exit(&[slot::SYS_WRITE])], &[&[slot::SYS_WRITE]]),
        syscall(WRITE_CALLS, &[&[slot::SYS_WRITE]]),
        syscall(&[all_exits(&[slot::SYS_WRITE])], &[&[slot::SYS_WRITE]]),
    ],
    results: &[
        function(
            Tier::Fentry,
            &[
                hook("write__fexit4", Attach::Fexit("vfs_write", 4), &[slot::WRITE]),
                hook("writev__fexit5", Attach::Fexit("vfs_writev", 5), &[slot::WRITEV]),
            ],
            WRITES,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("write__kretprobe", Attach::Kretprobe("vfs_write"), &[slot::WRITE]),
                hook("readv_writev_enter__kprobe", Attach::Kprobe("do_readv_writev"), &[]),
                hook("readv_writev__kretprobe", Attach::Kretprobe("do_readv_writev"), &[slot::EITHER_WRITEV]),
                hook("readv_writev_enter__kprobe", Attach::Kprobe("compat_do_readv_writev"), &[]),
                hook("readv_writev__kretprobe", Attach::Kretprobe("compat_do_readv_writev"), &[]),
            ],
            EITHER_WRITES,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("write__kretprobe", Attach::Kretprobe("vfs_write"), &[slot::WRITE]),
                hook("readv_writev_enter__kprobe", Attach::Kprobe("do_readv_writev"), &[]),
                hook("readv_writev__kretprobe", Attach::Kretprobe("do_readv_writev"), &[slot::EITHER_WRITEV]),
            ],
            EITHER_WRITES,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("write__kretprobe", Attach::Kretprobe("vfs_write"), &[slot::WRITE]),
                hook("writev__kretprobe", Attach::Kretprobe("vfs_writev"), &[slot::WRITEV]),
                hook("writev__kretprobe", Attach::Kretprobe("compat_writev"), &[]),
            ],
            WRITES,
        ),
        function(
            Tier::Kprobe,
            &[
                hook("write__kretprobe", Attach::Kretprobe("vfs_write"), &[slot::WRITE]),
                hook("writev__kretprobe", Attach::Kretprobe("vfs_writev"), &[slot::WRITEV]),
            ],
            WRITES,
        ),
        syscall(&[sys_exit(&[slot::SYS_WRITE])], &[&[slot::SYS_WRITE]]),
        syscall(WRITE_CALLS, &[&[slot::SYS_WRITE]]),
        syscall(&[all_exits(&[slot::SYS_WRITE])], &[&[slot::SYS_WRITE]]),
    ],
    exercise: |_| write_once(),
    outputs: &transfer_outputs("write"),
};

const DELETE: Counter = Counter {
    name: "vfs.delete",
    return_only: false,
    subject: Subject::Current,
    entry: &[
        unlink(Tier::Fentry, &[hook("unlink__fentry", Attach::Fentry("vfs_unlink"), &[slot::UNLINK])]),
        unlink(Tier::Kprobe, &[hook("unlink__kprobe", Attach::Kprobe("vfs_unlink"), &[slot::UNLINK])]),
        syscall(&[sys_exit(&[slot::SYS_UNLINK])], &[&[slot::SYS_UNLINK]]),
        syscall(UNLINKS, &[&[slot::SYS_UNLINK]]),
        syscall(&[all_exits(&[slot::SYS_UNLINK])], &[&[slot::SYS_UNLINK]]),
    ],
    results: &[
        unlink(Tier::Fentry, &[hook("unlink__fexit4", Attach::Fexit("vfs_unlink", 4), &[slot::UNLINK])]),
        unlink(Tier::Fentry, &[hook("unlink__fexit3", Attach::Fexit("vfs_unlink", 3), &[slot::UNLINK])]),
        unlink(Tier::Kprobe, &[hook("unlink__kretprobe", Attach::Kretprobe("vfs_unlink"), &[slot::UNLINK])]),
        syscall(&[sys_exit(&[slot::SYS_UNLINK])], &[&[slot::SYS_UNLINK]]),
        syscall(UNLINKS, &[&[slot::SYS_UNLINK]]),
        syscall(&[all_exits(&[slot::SYS_UNLINK])], &[&[slot::SYS_UNLINK]]),
    ],
    exercise: |_| unlink_once(),
    outputs: &vfs_outputs("delete"),
};

/// By trace events, on the floor.
const OPENS: &[Hook] = &[hook(
    "open__event",
    Attach::Events(
        "sys_exit_open*",
        &["syscalls/sys_exit_open", "syscalls/sys_exit_openat", "syscalls/sys_exit_openat2", "syscalls/sys_exit_creat"],
    ),
    &[slot::SYS_OPEN],
)];
const CLOSES: &[Hook] =
    &[hook("close__event", Attach::Events("sys_exit_close", &["syscalls/sys_exit_close"]), &[slot::SYS_CLOSE])];
const READ_CALLS: &[Hook] = &[hook(
    "read__event",
    Attach::Events(
        "sys_exit_read*",
        &[
            "syscalls/sys_exit_read",
            "syscalls/sys_exit_readv",
            "syscalls/sys_exit_pread64",
            "syscalls/sys_exit_preadv",
            "syscalls/sys_exit_preadv2",
        ],
    ),
    &[slot::SYS_READ],
)];
const WRITE_CALLS: &[Hook] = &[hook(
    "write__event",
    Attach::Events(
        "sys_exit_write*",
        &[
            "syscalls/sys_exit_write",
            "syscalls/sys_exit_writev",
            "syscalls/sys_exit_pwrite64",
            "syscalls/sys_exit_pwritev",
            "syscalls/sys_exit_pwritev2",
        ],
    ),
    &[slot::SYS_WRITE],
)];
const UNLINKS: &[Hook] = &[
    hook("unlink__event", Attach::Events("sys_exit_unlink", &["syscalls/sys_exit_unlink"]), &[slot::SYS_UNLINK]),
    hook("unlinkat_enter__event", Attach::Events("sys_exit_unlinkat", &["syscalls/sys_enter_unlinkat"]), &[]),
    hook("unlinkat_exit__event", Attach::Events("sys_exit_unlinkat", &["syscalls/sys_exit_unlinkat"]), &[]),
];

const READS: &[&[Slot]] = &[&[slot::READ, slot::READV]];
const EITHER_READS: &[&[Slot]] = &[&[slot::READ, slot::EITHER_READV]];
const WRITES: &[&[Slot]] = &[&[slot::WRITE, slot::WRITEV]];
const EITHER_WRITES: &[&[Slot]] = &[&[slot::WRITE, slot::EITHER_WRITEV]];

const fn hook(program: &'static str, attach: Attach, proof: &'static [Slot]) -> Hook {
    Hook { program, attach, proof }
}

/// The program that serves every system call of this probe; each counter proves its own record.
const fn sys_exit(proof: &'static [Slot]) -> Hook {
    hook("sys_exit", Attach::Tracepoint("sys_exit"), proof)
}

/// The same by a trace event, on the floor, where no program may stand on the events of single system calls.
const fn all_exits(proof: &'static [Slot]) -> Hook {
    hook("sys_exit__event", Attach::Events("raw_sys_exit", &["raw_syscalls/sys_exit"]), proof)
}

const fn function(tier: Tier, hooks: &'static [Hook], parts: &'static [&'static [Slot]]) -> Candidate {
    Candidate { tier, layer: Layer::Function, hooks, parts }
}

const fn close(tier: Tier, hooks: &'static [Hook]) -> Candidate {
    function(tier, hooks, &[&[slot::CLOSE]])
}

const fn unlink(tier: Tier, hooks: &'static [Hook]) -> Candidate {
    function(tier, hooks, &[&[slot::UNLINK]])
}

const fn syscall(hooks: &'static [Hook], parts: &'static [&'static [Slot]]) -> Candidate {
    Candidate { tier: Tier::Tracepoint, layer: Layer::Syscall, hooks, parts }
}

const fn output(metric: Metric, label: &'static str, field: Field, return_only: bool) -> Output {
    Output { metric, label: Some(label), field, part: 0, return_only }
}

const fn file_outputs(operation: &'static str) -> [Output; 3] {
    [
        output(Metric::FileCalls, operation, Field::Calls, false),
        output(Metric::FileErrors, operation, Field::Errors, true),
        output(Metric::FileInterrupted, operation, Field::Interrupted, true),
    ]
}

const fn vfs_outputs(operation: &'static str) -> [Output; 3] {
    [
        output(Metric::VfsCalls, operation, Field::Calls, false),
        output(Metric::VfsErrors, operation, Field::Errors, true),
        output(Metric::VfsInterrupted, operation, Field::Interrupted, true),
    ]
}

const fn transfer_outputs(operation: &'static str) -> [Output; 4] {
    let [calls, errors, interrupted] = vfs_outputs(operation);
    [calls, errors, interrupted, output(Metric::VfsBytes, operation, Field::Bytes, true)]
}

fn read_once() -> io::Result<()> {
    let file = memfd_create("ebpf-process", MemfdFlags::CLOEXEC)?;
    let mut byte = [0; 1];
    rustix::io::read(&file, &mut byte)?;
    rustix::io::readv(&file, &mut [IoSliceMut::new(&mut byte)])?;
    Ok(())
}

fn write_once() -> io::Result<()> {
    let file = memfd_create("ebpf-process", MemfdFlags::CLOEXEC)?;
    rustix::io::write(&file, &[0])?;
    rustix::io::writev(&file, &[IoSlice::new(&[0])])?;
    Ok(())
}

/// Needs a directory; the first that can be written to, in memory where there is one.
fn unlink_once() -> io::Result<()> {
    let name = format!("ebpf-process.{}", std::process::id());
    let mut last = io::Error::other("no directory to write to");
    for directory in ["/dev/shm", "/run", "/tmp"] {
        let path = Path::new(directory).join(&name);
        match File::create_new(&path) {
            Ok(_) => return fs::remove_file(path),
            Err(error) => last = error,
        }
    }
    Err(last)
}
