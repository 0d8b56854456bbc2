//! The system calls that no safe crate offers as we need them, and, with `elements`, all unsafe code of the project.

#![expect(unsafe_code, reason = "bpf(2), mapped maps, perf_event_open(2), seccomp(2), and fork(2)")]

use std::fs::File;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_map_type, bpf_prog_info, bpf_prog_type};
use syscalls::x86_64::Sysno;

/// Memory for what the kernel writes that ends at a page nobody may touch: where the kernel has more to write than there
/// is room for, it fails with `EFAULT` and writes over nothing of ours.
#[derive(Debug)]
pub(crate) struct Guarded {
    pages: NonNull<u8>,
    /// Without the page that guards it.
    length: usize,
    words: usize,
}

const PAGE: usize = 4096;

impl Guarded {
    /// Room for that many 8-byte words, all zero.
    pub(crate) fn new(words: usize) -> io::Result<Self> {
        let too_many = || io::Error::from(io::ErrorKind::OutOfMemory);
        let bytes = words.max(1).checked_mul(size_of::<u64>()).ok_or_else(too_many)?;
        let length = bytes.checked_next_multiple_of(PAGE).ok_or_else(too_many)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let whole = length.checked_add(PAGE).ok_or_else(too_many)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), whole, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let pages = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        let guarded = Self { pages, length, words };
        // SAFETY: these are the mapping's own pages but for the last, which stays closed.
        if unsafe { libc::mprotect(start, length, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(guarded)
    }

    /// The words; the last one ends where the closed page begins.
    pub(crate) const fn words(&mut self) -> &mut [u64] {
        // SAFETY: that many words fit between the start and the closed page, which is a multiple of 8 bytes away; the
        // mapping is ours alone, and nobody else borrows it.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.words) }
    }

    const fn start(&self) -> *mut u64 {
        // SAFETY: the offset is inside the mapping.
        unsafe { self.pages.as_ptr().add(self.length - self.words * size_of::<u64>()).cast() }
    }
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Guarded {}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: it is the whole mapping, and nothing borrows from it any more. It cannot fail for such a range.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), self.length + PAGE) };
    }
}

/// Reads the first element of a per-CPU array: the kernel writes a value for each processor that may ever be there, of which
/// there must be room for all, or this is `EFAULT`. Allocates nothing.
pub(crate) fn lookup_per_cpu(map: BorrowedFd<'_>, per_cpu: &mut Guarded) -> io::Result<()> {
    let first = 0_u32;
    // SAFETY: all fields of bpf_attr are integers, for which zero is a value.
    let mut attr: bpf_attr = unsafe { zeroed() };
    // Writing to a field of a union is safe; these three belong to BPF_MAP_LOOKUP_ELEM.
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd().cast_unsigned();
    attr.__bindgen_anon_2.key = (&raw const first) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = per_cpu.start() as u64;
    // SAFETY: the kernel reads a u32 key. What it writes begins in memory of which there is no other user, since we
    // borrow it, and ends with the value or at a closed page.
    unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) }.map(drop)
}

/// How many processors may ever be there, by the kernel's own per-CPU arrays: each look-up gives a value for each. What
/// `/sys` says may be somebody else's file.
pub(crate) fn possible_processors() -> io::Result<usize> {
    /// The kernel's own limit on x86 (`CONFIG_NR_CPUS`), twice.
    const AT_MOST: usize = 2 * 8192;
    /// No value of a new array, which are all 0.
    const UNTOUCHED: u64 = u64::MAX;
    let map = create_map(bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32, [4, 8, 1, 0])?;
    let mut values = Guarded::new(AT_MOST)?;
    values.words().fill(UNTOUCHED);
    lookup_per_cpu(map.as_fd(), &mut values)?;
    Ok(values.words().iter().take_while(|value| **value != UNTOUCHED).count())
}

/// Makes a map of a type: the bytes of a key and of a value, the elements, the flags.
pub(crate) fn create_map(kind: u32, [key, value, entries, flags]: [u32; 4]) -> io::Result<OwnedFd> {
    // SAFETY: all fields of bpf_attr are integers, for which zero is a value.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.__bindgen_anon_1.map_type = kind;
    attr.__bindgen_anon_1.key_size = key;
    attr.__bindgen_anon_1.value_size = value;
    attr.__bindgen_anon_1.max_entries = entries;
    attr.__bindgen_anon_1.map_flags = flags;
    // SAFETY: the kernel reads these five numbers.
    let map = unsafe { bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr) }?;
    let map = i32::try_from(map).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(map) })
}

/// The elements of an array map that allows it, mapped into our memory: read without a system call, and so without
/// making the kernel leave programs out.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<AtomicU64>,
    words: usize,
}

impl Mapping {
    /// Maps the first `words` 8-byte words of a map made with `BPF_F_MMAPABLE`.
    pub(crate) fn new(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let length = words * size_of::<u64>();
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, words })
    }

    /// The words. The kernel writes them meanwhile, each in one piece.
    pub(crate) const fn words(&self) -> &[AtomicU64] {
        // SAFETY: that many words are mapped until self is dropped, aligned to a page; what the kernel writes
        // meanwhile is what atomics are for.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is the whole mapping, and nothing borrows from it any more. It cannot fail for such a range.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}

/// How often the kernel left a program out because it was already running on that processor
/// (`bpf_prog_info.recursion_misses`, Linux 5.12; 0 before).
pub(crate) fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: all fields of both structures are integers, for which zero is a value; zero
    // pointers ask for no arrays.
    let (mut attr, mut info): (bpf_attr, bpf_prog_info) = unsafe { (zeroed(), zeroed()) };
    attr.info.bpf_fd = program.as_raw_fd().cast_unsigned();
    attr.info.info_len = u32::try_from(size_of::<bpf_prog_info>()).unwrap_or(0);
    attr.info.info = (&raw mut info) as u64;
    // SAFETY: the kernel writes at most info_len bytes to info, which outlives the call.
    match unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) } {
        Ok(_) => Ok(info.recursion_misses),
        // Linux 4.11 and 4.12 do not know the command, and count no misses either.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Attaches a loaded trampoline or typed tracepoint again at the place that it was loaded for (a trampoline from Linux
/// 5.14 on); it is attached until the descriptor is closed.
pub(crate) fn attach_again(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: all fields of bpf_attr are integers, for which zero is a value.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.raw_tracepoint.prog_fd = program.as_raw_fd().cast_unsigned();
    // SAFETY: the name is NULL, which stands for the place in the program itself.
    let link = unsafe { bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr) }?;
    let link = i32::try_from(link).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Whether the kernel refuses (EPERM) to load a trampoline without having looked at it: this one has no target, which
/// every other kernel finds wrong with it first.
pub(crate) fn trampolines_are_refused() -> bool {
    let loaded = load_program(bpf_prog_type::BPF_PROG_TYPE_TRACING, bpf_attach_type::BPF_TRACE_FENTRY as u32, &NOTHING);
    loaded.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// Whether a program that is no trampoline is taken: one for a raw tracepoint, which every kernel with trampolines has.
pub(crate) fn programs_are_taken() -> bool {
    load_program(bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT, 0, &NOTHING).is_ok()
}

/// `r0 = 0; exit`
const NOTHING: [u64; 2] = [0xb7, 0x95];

/// Loads a program of two instructions that stands nowhere.
pub(crate) fn load_program(kind: bpf_prog_type, attach_type: u32, code: &[u64; 2]) -> io::Result<OwnedFd> {
    // SAFETY: all fields of bpf_attr are integers, for which zero is a value.
    let mut attr: bpf_attr = unsafe { zeroed() };
    // Field by field: to copy a whole structure may copy anything behind its last field, where newer kernels have another.
    attr.__bindgen_anon_3.prog_type = kind as u32;
    attr.__bindgen_anon_3.expected_attach_type = attach_type;
    attr.__bindgen_anon_3.insns = code.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = 2;
    attr.__bindgen_anon_3.license = c"GPL".as_ptr() as u64;
    // SAFETY: instructions and licence outlive the call.
    let loaded = unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr) }?;
    let loaded = i32::try_from(loaded).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(loaded) })
}

/// What comes back from a bpf(2) that is wrong whatever the command: arguments larger than a page are `E2BIG` before the
/// kernel asks a security module or charges memory.
pub(crate) fn wrong_bpf() -> io::Error {
    let too_large = u32::MAX;
    // SAFETY: the kernel refuses the size before it reads anything.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_PROG_LOAD, std::ptr::null::<bpf_attr>(), too_large) };
    error_of(result)
}

/// What comes back from a `perf_event_open(2)` that is wrong whatever the event: unknown flags are `EINVAL` before the
/// kernel looks at rights.
pub(crate) fn wrong_perf_event() -> io::Error {
    let no_attr = std::ptr::null::<PerfEventAttr>();
    // SAFETY: the kernel refuses the flags before it reads anything.
    let result = unsafe { libc::syscall(libc::SYS_perf_event_open, no_attr, 0, -1, -1, u64::MAX) };
    error_of(result)
}

/// Of a call that cannot succeed.
fn error_of(result: libc::c_long) -> io::Error {
    if result < 0 { io::Error::last_os_error() } else { io::Error::other("nothing is wrong with it") }
}

/// bpf(2).
///
/// # Safety
///
/// The fields of `attr` that belong to `cmd` must be what the kernel expects, pointers included.
pub(crate) unsafe fn bpf(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: attr is valid for its size; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, cmd, std::ptr::from_mut(attr), size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The part of `struct perf_event_attr` (`PERF_ATTR_SIZE_VER0`) that a tracepoint needs.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

const _: () = assert!(size_of::<PerfEventAttr>() == 64);

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: u64 = 8;
const PERF_EVENT_IOC_ENABLE: u64 = 0x2400;
const PERF_EVENT_IOC_SET_BPF: u64 = 0x4004_2408;

/// Attaches a program to a trace event by its tracefs id; it runs on every processor until the
/// descriptor is closed.
pub(crate) fn attach_to_event(event: u64, program: BorrowedFd<'_>, possible_cpus: usize) -> io::Result<OwnedFd> {
    let fd = on_first_online(possible_cpus, |cpu| open_event(event, cpu))?;
    for (request, argument) in [(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()), (PERF_EVENT_IOC_ENABLE, 0)] {
        // SAFETY: both requests take an integer.
        if unsafe { libc::ioctl(fd.as_raw_fd(), request, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(fd)
}

/// Opens a trace event's counter on one processor.
fn open_event(event: u64, cpu: i32) -> io::Result<OwnedFd> {
    let attr = PerfEventAttr { kind: PERF_TYPE_TRACEPOINT, size: 64, config: event, ..PerfEventAttr::default() };
    let (any_task, no_group) = (-1, -1);
    // SAFETY: attr has the size it states and outlives the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attr, any_task, cpu, no_group, PERF_FLAG_FD_CLOEXEC)
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A program is hung on the event itself, so one processor's counter serves all; but the kernel opens none on a
/// processor that is switched off (`ENODEV`), and that can be the first one.
fn on_first_online(possible_cpus: usize, open: impl Fn(i32) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let mut result = open(0);
    for cpu in (1..).take(possible_cpus.saturating_sub(1)) {
        match &result {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => result = open(cpu),
            _ => break,
        }
    }
    result
}

/// Starts a child, calls `before_exit` with its id, lets it end, and waits for it.
///
/// Sound while other threads run: the child has none of them and may find any of their locks held, and it takes none. It
/// makes three system calls that are allowed there (signal-safety(7)) and ends without running anything of ours. That
/// other threads fork or reap meanwhile changes nothing: it is waited for by its id, and nobody else waits for all.
pub(crate) fn fork_and_reap(before_exit: &mut dyn FnMut(u32) -> io::Result<()>) -> io::Result<()> {
    let (hold, release) = io::pipe()?;
    // SAFETY: the child calls nothing but close(2), read(2) and _exit(2), and allocates nothing.
    let pid = unsafe { libc::fork() };
    let Ok(id) = u32::try_from(pid) else { return Err(io::Error::last_os_error()) };
    if id == 0 {
        let mut byte = 0u8;
        // SAFETY: closes a descriptor of the child's own table, reads one byte into one byte; then ends the child without any destructor.
        unsafe {
            libc::close(release.as_raw_fd());
            libc::read(hold.as_raw_fd(), (&raw mut byte).cast(), 1);
            libc::_exit(0)
        }
    }
    let told = before_exit(id);
    drop(release);
    reap(pid)?;
    told
}

/// Forks a process that goes on without a program of its own: it runs `child`, and ends with what that returns, or with
/// [`PANICKED`], without a destructor of anything that it has inherited. Returns its process number.
///
/// Refused unless the calling thread is the only one of this process: then nobody else holds a lock that the child would
/// wait for, and the child may do everything. In the child all signals are blocked that can be: the handlers that it
/// has inherited speak of descriptors which it may have closed.
///
/// It lives in this crate because all unsafe code does; it has nothing to do with probes.
pub fn fork_alone(child: impl FnOnce() -> u8) -> io::Result<u32> {
    fork_with(|| (), |()| child())
}

/// The same of a child that keeps, of all descriptors, this one and its standard error: standard input and output are
/// `/dev/null`, the others are closed. What `child` has captured must own no descriptor.
pub fn fork_apart(kept: OwnedFd, child: impl FnOnce(OwnedFd) -> u8) -> io::Result<u32> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // Whoever was started without a standard error has something else at its number by now.
    let kept = if kept.as_raw_fd() > libc::STDERR_FILENO { kept } else { rustix::io::fcntl_dupfd_cloexec(&kept, 3)? };
    let alone = || {
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        close_all_but(&kept)
    };
    fork_with(alone, |closed| match closed {
        Ok(()) => {
            // The parent's copy is the parent's to close.
            // SAFETY: in the child the descriptor is open, and nobody else of this process will use or close it: the
            // parent's values are never dropped here.
            child(unsafe { OwnedFd::from_raw_fd(kept.as_raw_fd()) })
        }
        Err(_) => PANICKED,
    })
}

/// Sets every signal to its default and lets all of them through: what a program finds that is started from here. For a
/// forked child, whose handlers speak of its parent's affairs.
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // Those that cannot be set are at their default.
        // SAFETY: no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a set of signals is plain data, of which sigemptyset writes all.
    let mut none: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: the set outlives both calls.
    let error = unsafe {
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// How a forked process ends that has panicked.
pub const PANICKED: u8 = 101;

/// Forks; the child runs the one and then the other.
fn fork_with<T>(first: impl FnOnce() -> T, then: impl FnOnce(T) -> u8) -> io::Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    if !status.lines().any(|line| line.split_whitespace().eq(["Threads:", "1"])) {
        return Err(io::Error::other("this process has other threads, whose locks a child would wait for for ever"));
    }
    // SAFETY: a set of signals is plain data, of which sigfillset and pthread_sigmask write all.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { (zeroed(), zeroed()) };
    // SAFETY: both sets outlive the calls, which cannot fail for this way of changing the mask.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    // SAFETY: this is the only thread, so the child is a whole process: no lock is held by somebody who is not there.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let run = AssertUnwindSafe(|| then(first()));
        let code = std::panic::catch_unwind(run).unwrap_or(PANICKED);
        // SAFETY: ends the child at once; nothing of what it shares with its parent is flushed, deleted or unlocked.
        unsafe { libc::_exit(code.into()) }
    }
    let failed = io::Error::last_os_error();
    // SAFETY: the set is the one that was read above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    u32::try_from(pid).map_err(|_| failed)
}

/// Closes all descriptors but the standard ones and this one. For a child that has just been forked and owns none.
fn close_all_but(kept: &OwnedFd) -> io::Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd")?;
    // All are listed before any is closed; that of the list itself is closed by then.
    let open: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|open| *open > libc::STDERR_FILENO && *open != kept.as_raw_fd()) {
        // SAFETY: who owns the descriptors that this closes runs in the parent, which has its own; in the child nothing
        // of theirs is ever used or dropped.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

/// Waits for the end of a child. Where SIGCHLD is ignored (who starts us may have done that) the kernel reaps it by
/// itself: then waitpid(2) waits as well, and says `ECHILD` when it is gone.
fn reap(pid: libc::pid_t) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: status outlives the call. A signal handler may interrupt it.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => break,
            _ => return Err(error),
        }
    }
    Ok(())
}

/// Whether the process of a pidfd is gone to its last trace, so that its number may be another's; a zombie is not.
pub(crate) fn is_released(process: BorrowedFd<'_>) -> bool {
    let no_signal = 0;
    // SAFETY: signal 0 is sent to nobody, the kernel only looks whether it could be; no siginfo is read.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            no_signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    sent < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// Gives memory that is free back to the kernel: the allocator keeps tens of megabytes after type
/// information has been parsed and dropped.
pub(crate) fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches nothing but free memory and takes the allocator's locks itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has every large block of memory go back to the kernel as soon as it is freed, and grow where it is: glibc begins to
/// keep large blocks, and to copy them when they grow, once the first one was freed. From then on costs a block of more
/// than 128 KiB some system calls.
pub(crate) fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number of the allocator, under the allocator's lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Asks for a task that the kernel must refuse: shared signal handlers without shared memory.
pub(crate) fn fail_to_clone() {
    // SAFETY: CLONE_SIGHAND without CLONE_VM is EINVAL before anything is made.
    unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_SIGHAND, 0, 0, 0, 0) };
}

/// Asks for what of a file is written out to be written out, at once: of a file in memory nothing is.
pub(crate) fn sync_file_range(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is given.
    error_of_status(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) })
}

/// An msync(2) of no bytes.
pub(crate) fn msync_nothing() -> io::Result<()> {
    // SAFETY: no bytes of memory are given.
    error_of_status(unsafe { libc::msync(std::ptr::null_mut(), 0, libc::MS_ASYNC) })
}

/// Makes a system call that takes arguments in a way that it must refuse: all bits of each are set. Fails where it was
/// not the arguments that were looked at first: the kernel does not know the call (`ENOSYS`), or it is forbidden.
pub(crate) fn refused(call: Sysno) -> io::Result<()> {
    // SAFETY: neither an address, nor a descriptor, nor a size, nor flags are such.
    let result = unsafe { libc::syscall(call.id().into(), -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) };
    let error = error_of(result);
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EFAULT | libc::EBADF | libc::E2BIG) => Ok(()),
        _ => Err(error),
    }
}

/// Puts a filter of system calls on the calling thread, for good, and on every thread and process that it starts from then
/// on: instructions of classic BPF, each an operation, two jumps and an operand. With `log` what the filter refuses is told in the kernel's log, where the kernel can (Linux 4.14).
///
/// It is here because it is unsafe code. The thread must have `no_new_privs`, or the kernel refuses (`EACCES`); a kernel
/// without filters says `EINVAL` or `ENOSYS`, one that finds the program wrong `EINVAL`.
pub fn filter_system_calls(program: &[(u16, u8, u8, u32)], log: bool) -> io::Result<()> {
    let program: Vec<_> = program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    // The kernel reads it and writes nothing.
    let whole = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let install = |flags: libc::c_ulong| {
        // SAFETY: the kernel copies that many instructions from a list which outlives the call.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&whole))
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    match install(if log { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 }) {
        Err(error) if log && error.raw_os_error() == Some(libc::EINVAL) => install(0),
        outcome => outcome,
    }
}

fn error_of_status(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::fs::File;

    #[test]
    fn what_does_not_fit_is_refused_and_runs_over_nothing() {
        for words in [1, 3, PAGE / 8, PAGE / 8 + 1] {
            let mut guarded = Guarded::new(words).expect("memory");
            assert!(guarded.words().iter().all(|word| *word == 0));
            let zeroes = File::open("/dev/zero").expect("zeroes");
            guarded.words().fill(7);
            let bytes = words * 8;
            let read = |length: usize, to: *mut u64| {
                // SAFETY: a read that goes past the words is what is tried here: it ends at the closed page.
                unsafe { libc::read(zeroes.as_raw_fd(), to.cast(), length) }
            };
            let end = guarded.words().as_mut_ptr_range().end;
            assert_eq!((read(8, end), io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EFAULT)));
            // A file may fill what there is room for and say so; a look-up writes its value in one piece or fails.
            assert_eq!(read(bytes + PAGE, guarded.start()).cast_unsigned(), bytes);
            assert!(guarded.words().iter().all(|word| *word == 0), "{words} words");
        }
    }

    #[test]
    fn the_first_processor_that_is_switched_on_serves() {
        let asked = RefCell::new(Vec::new());
        let open = |online: i32| {
            let asked = &asked;
            move |cpu: i32| {
                asked.borrow_mut().push(cpu);
                let file = File::open("/dev/null").map(OwnedFd::from);
                if cpu == online { file } else { Err(io::Error::from_raw_os_error(libc::ENODEV)) }
            }
        };
        assert!(on_first_online(4, open(0)).is_ok());
        assert!(on_first_online(4, open(2)).is_ok());
        assert_eq!(on_first_online(2, open(9)).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(*asked.borrow(), [0, 0, 1, 2, 0, 1]);
    }

    #[test]
    fn a_child_that_the_kernel_has_reaped_itself_is_reaped() {
        fork_and_reap(&mut |_| Ok(())).expect("a child");
        // Process 1 is nobody's child: what waitpid(2) says where SIGCHLD is ignored, which a test may not do to others.
        reap(1).expect("gone is reaped");
    }

    #[test]
    fn nobody_forks_beside_other_threads() {
        let (hold, release) = io::pipe().expect("a pipe");
        std::thread::scope(|scope| {
            let wait = || io::Read::read(&mut &hold, &mut [0]).expect("the end");
            std::thread::Builder::new().spawn_scoped(scope, wait).expect("a thread");
            let refused = fork_alone(|| 0).expect_err("there are two threads at least");
            assert!(refused.to_string().contains("other threads"), "{refused}");
            drop(release);
        });
    }

    #[test]
    fn another_error_is_told_as_it_is() {
        let refused = |cpu| if cpu == 0 { Err(io::Error::from_raw_os_error(libc::EACCES)) } else { panic!("asked on") };
        assert_eq!(on_first_online(2, refused).unwrap_err().raw_os_error(), Some(libc::EACCES));
    }
}
