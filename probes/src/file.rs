//! The probe `file`: files opened, closed, read, written and deleted.
//!
//! What looks right here and is not stands in docs/hooks.md. Where functions cannot be hooked, the program that sees
//! every system call end serves all five: it counts a call when it returns, so a blocked read is counted when it is over,
//! also in entry mode.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::path::Path;

use ebpf_process_core::Unit;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::call::Call;
use crate::counter::{Counter, Field, Metric, Output};
use crate::hook::Layer;
use crate::kernel_probe::KernelProbe;
use crate::object::Objects;
use crate::release::Version;
use crate::way::{Fails, Function, Way};

/// The probe type `file`.
///
/// Linux 5.5 with type information (`CONFIG_DEBUG_INFO_BTF`), or 4.11 with kprobes. What a hook costs per event stands
/// in docs/cost.md.
pub static FILE: KernelProbe = KernelProbe::new("file", "files opened, closed, read, written and deleted")
    .objects(
        Objects::new(crate::aligned!("../bpf/objects/x86_64/file.core.o"), slot::SLOTS)
            .floor(crate::aligned!("../bpf/objects/x86_64/file.floor.o"))
            .who(crate::aligned!("../bpf/objects/x86_64/file.who.o")),
    )
    .counters(&[OPEN, CLOSE, READ, WRITE, DELETE]);

/// One record per kernel function that is counted by itself.
mod slot {
    crate::slots![
        FILE_OPEN,
        FILE_CLOSE,
        FILE_READ,
        FILE_READV,
        FILE_WRITE,
        FILE_WRITEV,
        FILE_UNLINK,
        FILE_EITHER_READV,
        FILE_EITHER_WRITEV,
    ];
}

/// fddb5d430ad9 "open: introduce openat2(2) syscall"
const OPENAT2: (Version, &str) = (Version(5, 6), "fddb5d430ad9");
/// 8760c909f54a "file: Rename `__close_fd` to `close_fd` and remove the files parameter"; stable 5.10 has it too
const CLOSE_FD: (Version, &str) = (Version(5, 11), "8760c909f54a");
/// 021a160abf62 "fs: use `__fput_sync` in close(2)"
const FPUT_SYNC: (Version, &str) = (Version(6, 6), "021a160abf62");
/// a88c955fcfb4 "file: s/`close_fd_get_file()`/`file_close_fd()`/g"
const FILE_CLOSE: (Version, &str) = (Version(6, 8), "a88c955fcfb4");
/// abbb65899aec "fs: implement `vfs_iter_read` using `do_iter_read`" and those around it
const ITERATORS: (Version, &str) = (Version(4, 13), "abbb65899aec");
/// 5f764d624a89 "fs: remove the compat readv/writev syscalls"
const NO_COMPAT: (Version, &str) = (Version(5, 10), "5f764d624a89");
/// 6521f8917082 "namei: prepare for idmapped mounts"
const IDMAPPED: (Version, &str) = (Version(5, 12), "6521f8917082");

const OPEN: Counter = Counter::new("file.open", Layer::Function, |_| File::open("/dev/null").map(drop))
    .ways(&[
        Way::Functions(&[
            Function::new("do_sys_openat2", 3, Fails::Status, &[slot::FILE_OPEN]).since(OPENAT2.0, OPENAT2.1)
        ]),
        Way::Functions(&[
            Function::new("do_sys_open", 4, Fails::Status, &[slot::FILE_OPEN]).until(OPENAT2.0, OPENAT2.1)
        ]),
    ])
    .calls(&[Call::status("open"), Call::status("openat"), Call::status("openat2"), Call::status("creat")])
    .outputs(&file_outputs("open"));

const CLOSE: Counter = Counter::new("file.close", Layer::Function, |_| File::open("/dev/null").map(drop))
    .ways(&[
        Way::Functions(&[Function::new("file_close_fd", 1, Fails::Pointer, CLOSED).since(FILE_CLOSE.0, FILE_CLOSE.1)]),
        Way::Functions(&[Function::new("close_fd_get_file", 1, Fails::Pointer, CLOSED)
            .since(FPUT_SYNC.0, FPUT_SYNC.1)
            .until(FILE_CLOSE.0, FILE_CLOSE.1)]),
        Way::Functions(&[Function::new("close_fd", 1, Fails::Status, CLOSED)
            .since(CLOSE_FD.0, CLOSE_FD.1)
            .until(FPUT_SYNC.0, FPUT_SYNC.1)]),
        Way::Functions(&[Function::new("__close_fd", 2, Fails::Status, CLOSED).until(CLOSE_FD.0, CLOSE_FD.1)]),
    ])
    .calls(&[Call::status("close")])
    .outputs(&file_outputs("close"));

const CLOSED: &[u32] = &[slot::FILE_CLOSE];

// Where there is a `do_readv_writev` it is tried first: a caller can have `vfs_readv` inlined and another one not.
const READ: Counter = Counter::new("vfs.read", Layer::Function, |_| read_once())
    .ways(&[
        Way::Functions(&[
            Function::new("vfs_read", 4, Fails::Size, &[slot::FILE_READ]),
            readv_writev("do_readv_writev", &[slot::FILE_EITHER_READV]),
            readv_writev("compat_do_readv_writev", &[slot::FILE_EITHER_READV]).of_32_bit_calls(),
        ]),
        Way::Functions(&[
            Function::new("vfs_read", 4, Fails::Size, &[slot::FILE_READ]),
            Function::new("vfs_readv", 5, Fails::Size, &[slot::FILE_READV]),
            compat("compat_readv", &[slot::FILE_READV]),
        ]),
    ])
    .calls(&[
        Call::size("read"),
        Call::size("readv"),
        Call::size("pread64"),
        Call::size("preadv"),
        Call::size("preadv2"),
    ])
    .outputs(&transfer_outputs("read"));

const WRITE: Counter = Counter::new("vfs.write", Layer::Function, |_| write_once())
    .ways(&[
        Way::Functions(&[
            Function::new("vfs_write", 4, Fails::Size, &[slot::FILE_WRITE]),
            readv_writev("do_readv_writev", &[slot::FILE_EITHER_WRITEV]),
            readv_writev("compat_do_readv_writev", &[slot::FILE_EITHER_WRITEV]).of_32_bit_calls(),
        ]),
        Way::Functions(&[
            Function::new("vfs_write", 4, Fails::Size, &[slot::FILE_WRITE]),
            Function::new("vfs_writev", 5, Fails::Size, &[slot::FILE_WRITEV]),
            compat("compat_writev", &[slot::FILE_WRITEV]),
        ]),
    ])
    .calls(&[
        Call::size("write"),
        Call::size("writev"),
        Call::size("pwrite64"),
        Call::size("pwritev"),
        Call::size("pwritev2"),
    ])
    .outputs(&transfer_outputs("write"));

const DELETE: Counter = Counter::new("vfs.delete", Layer::Function, |_| unlink_once())
    .ways(&[
        Way::Functions(&[
            Function::new("vfs_unlink", 4, Fails::Status, &[slot::FILE_UNLINK]).since(IDMAPPED.0, IDMAPPED.1)
        ]),
        Way::Functions(&[
            Function::new("vfs_unlink", 3, Fails::Status, &[slot::FILE_UNLINK]).until(IDMAPPED.0, IDMAPPED.1)
        ]),
    ])
    .calls(&[Call::status("unlink"), Call::status("unlinkat").without(2, AT_REMOVEDIR)])
    .outputs(&vfs_outputs("delete"));

/// With it unlinkat(2) deletes a directory, which is rmdir(2).
const AT_REMOVEDIR: u64 = 0x200;

/// Linux 4.11 and 4.12, where `vfs_readv` and `vfs_writev` are short enough to be inlined: one function for both, which
/// says in its first argument what it is. Its programs stand there for the other counter as well, hence the records.
const fn readv_writev(symbol: &'static str, slots: &'static [u32]) -> Function {
    let function = Function::new(symbol, 5, Fails::Size, slots).program("do_readv_writev");
    function.keeps_an_argument().by_breakpoint().until(ITERATORS.0, ITERATORS.1)
}

/// The vectors of a 32-bit program go by a function of their own before 5.10.
const fn compat(symbol: &'static str, slots: &'static [u32]) -> Function {
    let function = Function::new(symbol, 5, Fails::Size, slots).by_breakpoint().of_32_bit_calls();
    function.since(ITERATORS.0, ITERATORS.1).until(NO_COMPAT.0, NO_COMPAT.1)
}

static FILE_CALLS: Metric = Metric::new("file.calls", Unit::CALLS, "Files opened and descriptors closed", "operation");
static FILE_ERRORS: Metric = Metric::new("file.errors", Unit::CALLS, "Opens and closes that failed", "operation");
static FILE_INTERRUPTED: Metric =
    Metric::new("file.interrupted", Unit::CALLS, "Opens and closes that a signal interrupted", "operation");
static VFS_CALLS: Metric = Metric::new("vfs.calls", Unit::CALLS, "Reads, writes and deletions", "operation");
static VFS_ERRORS: Metric =
    Metric::new("vfs.errors", Unit::CALLS, "Reads, writes and deletions that failed", "operation");
static VFS_INTERRUPTED: Metric =
    Metric::new("vfs.interrupted", Unit::CALLS, "Reads, writes and deletions that a signal interrupted", "operation");
static VFS_BYTES: Metric =
    Metric::new("vfs.bytes", Unit::BYTES, "Bytes that successful reads and writes moved", "operation");

const fn file_outputs(operation: &'static str) -> [Output; 3] {
    [
        Output::new(&FILE_CALLS, operation, Field::Calls),
        Output::new(&FILE_ERRORS, operation, Field::Errors),
        Output::new(&FILE_INTERRUPTED, operation, Field::Interrupted),
    ]
}

const fn vfs_outputs(operation: &'static str) -> [Output; 3] {
    [
        Output::new(&VFS_CALLS, operation, Field::Calls),
        Output::new(&VFS_ERRORS, operation, Field::Errors),
        Output::new(&VFS_INTERRUPTED, operation, Field::Interrupted),
    ]
}

const fn transfer_outputs(operation: &'static str) -> [Output; 4] {
    let [calls, errors, interrupted] = vfs_outputs(operation);
    [calls, errors, interrupted, Output::new(&VFS_BYTES, operation, Field::Bytes)]
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
