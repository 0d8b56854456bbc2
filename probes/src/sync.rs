//! The probe `sync`: calls that ask for data to be written to disks.
//!
//! Each call counts at its own functions, so in every tier it is seen as a program made it, what it refuses included.
//! sync(2) is the one call that no agent may make by itself, since it writes out every disk of the machine and waits: it
//! is proven by fsync's proof, and nobody asks its hooks whether they still fire.

use std::io;

use ebpf_process_core::Unit;
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::fs::{MemfdFlags, fdatasync, fsync, memfd_create, syncfs};

use crate::call::Call;
use crate::counter::{Counter, Exercise, Field, Metric, Output};
use crate::hook::Layer;
use crate::kernel_probe::KernelProbe;
use crate::object::Objects;
use crate::own_functions;
use crate::release::Version;
use crate::sys;
use crate::way::{Function, Way};

/// The probe type `sync`.
///
/// Linux 5.5 with type information (`CONFIG_DEBUG_INFO_BTF`), or 4.11 with kprobes. Next to what these calls do its cost
/// is not noticeable.
pub static SYNC: KernelProbe = KernelProbe::new("sync", "calls that ask for data to be written to disks")
    .off_by_default()
    .objects(
        Objects::new(crate::aligned!("../bpf/objects/x86_64/sync.core.o"), slot::SLOTS)
            .floor(crate::aligned!("../bpf/objects/x86_64/sync.floor.o"))
            .who(crate::aligned!("../bpf/objects/x86_64/sync.who.o")),
    )
    .counters(&[FSYNC, FDATASYNC, ALL, SYNCFS, MSYNC, FILE_RANGE]);

mod slot {
    crate::slots![SYNC_FSYNC, SYNC_FDATASYNC, SYNC_SYNC, SYNC_SYNCFS, SYNC_MSYNC, SYNC_FILE_RANGE];
}

/// d2b5de495ee9 "x86/entry: Refactor `SYSCALL_DEFINE0` macros"
const NO_STUBS: (Version, &str) = (Version(5, 7), "d2b5de495ee9");
/// 121b32a58a3a "x86/entry/32: Use IA32-specific wrappers for syscalls taking 64-bit arguments"
const IA32_WRAPPERS: (Version, &str) = (Version(5, 7), "121b32a58a3a");

const FSYNC: Counter = Counter::new("sync.fsync", Layer::Syscall, |_| on_a_file(|file| Ok(fsync(file)?)))
    .ways(own_functions!("fsync", &[slot::SYNC_FSYNC]))
    .calls(&[Call::status("fsync")])
    .outputs(&outputs("fsync"));

const FDATASYNC: Counter = Counter::new("sync.fdatasync", Layer::Syscall, |_| on_a_file(|file| Ok(fdatasync(file)?)))
    .ways(own_functions!("fdatasync", &[slot::SYNC_FDATASYNC]))
    .calls(&[Call::status("fdatasync")])
    .outputs(&outputs("fdatasync"));

// Both kinds of programs come to one function: to hook each of its names would count every call twice.
const ALL: Counter = Counter::new("sync.sync", Layer::Syscall, NEVER)
    .proven_by("sync.fsync")
    .ways(&[
        Way::Functions(&[Function::by_registers("__do_sys_sync", WHOLE).since(NO_STUBS.0, NO_STUBS.1)]),
        Way::Functions(&[Function::by_registers("__x64_sys_sync", WHOLE)
            .program("__do_sys_sync")
            .until(NO_STUBS.0, NO_STUBS.1)]),
        Way::Functions(&[Function::by_arguments("sys_sync", "__do_sys_sync", WHOLE)]),
    ])
    .calls(&[Call::status("sync")])
    .outputs(&outputs("sync"));

const WHOLE: &[u32] = &[slot::SYNC_SYNC];

const SYNCFS: Counter = Counter::new("sync.syncfs", Layer::Syscall, |_| on_a_file(|file| Ok(syncfs(file)?)))
    .ways(own_functions!("syncfs", &[slot::SYNC_SYNCFS]))
    .calls(&[Call::status("syncfs")])
    .outputs(&outputs("syncfs"));

const MSYNC: Counter = Counter::new("sync.msync", Layer::Syscall, |_| sys::msync_nothing())
    .ways(own_functions!("msync", &[slot::SYNC_MSYNC]))
    .calls(&[Call::status("msync")])
    .outputs(&outputs("msync"));

// What 32-bit programs come to has never been `__ia32_sys_sync_file_range`, though it is there.
const FILE_RANGE: Counter = Counter::new("sync.sync_file_range", Layer::Syscall, |_| on_a_file(sys::sync_file_range))
    .ways(&[
        Way::Functions(&[
            Function::by_registers("__x64_sys_sync_file_range", RANGE).until(IA32_WRAPPERS.0, IA32_WRAPPERS.1),
            Function::by_registers("__ia32_compat_sys_x86_sync_file_range", RANGE)
                .program("__ia32_sys_ia32_sync_file_range")
                .of_32_bit_calls()
                .until(IA32_WRAPPERS.0, IA32_WRAPPERS.1),
        ]),
        Way::Functions(&[
            Function::by_registers("__x64_sys_sync_file_range", RANGE),
            Function::by_registers("__ia32_sys_ia32_sync_file_range", RANGE)
                .of_32_bit_calls()
                .since(IA32_WRAPPERS.0, IA32_WRAPPERS.1),
        ]),
        Way::Functions(&[Function::by_arguments("sys_sync_file_range", "__x64_sys_sync_file_range", RANGE)]),
    ])
    .calls(&[Call::status("sync_file_range")])
    .outputs(&outputs("sync_file_range"));

const RANGE: &[u32] = &[slot::SYNC_FILE_RANGE];

static CALLS: Metric =
    Metric::new("sync.calls", Unit::CALLS, "Calls that ask for data to be written to disks", "operation");
static ERRORS: Metric =
    Metric::new("sync.errors", Unit::CALLS, "Calls to write data to disks that failed", "operation");
static INTERRUPTED: Metric =
    Metric::new("sync.interrupted", Unit::CALLS, "Calls to write data to disks that a signal interrupted", "operation");

const fn outputs(operation: &'static str) -> [Output; 3] {
    [
        Output::new(&CALLS, operation, Field::Calls),
        Output::new(&ERRORS, operation, Field::Errors),
        Output::new(&INTERRUPTED, operation, Field::Interrupted),
    ]
}

/// See the top of this file.
const NEVER: Exercise = |_| Err(io::ErrorKind::Unsupported.into());

/// Of a file in memory there is nothing to write.
fn on_a_file(ask: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<()> {
    ask(memfd_create("ebpf-process", MemfdFlags::CLOEXEC)?.as_fd())
}
