//! Which system calls the agent makes once it has begun: all others are refused (`EPERM`) and told in the kernel's log.
//!
//! Nothing is ended for a call that is refused: a probe or a sink gets an error. What a counter does to see whether its
//! hooks fire is in the list, or it would be taken for a hook that has stopped firing.

use std::collections::BTreeMap;

use ebpf_process_probes::filter_system_calls;
use rustix::process::getpid;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use syscalls::x86_64::Sysno;

/// A list of system calls by their names.
macro_rules! calls {
    ($($name:ident)*) => { &[$(Sysno::$name),*] };
}

/// Let through whatever their arguments: what the standard library, the C library and our own code call on Linux 4.11 to
/// now. Which file or receiver it is is for the file system's rights and Landlock to say.
const ALLOWED: [&[Sysno]; 7] = [
    // Memory.
    calls! { brk munmap mremap madvise msync mincore memfd_create membarrier mseal },
    // Threads, a child that only ends (the proof of the probe `process`), and the end. What makes threads is looked at
    // elsewhere.
    calls! {
        clone3 set_robust_list get_robust_list set_tid_address rseq futex futex_waitv futex_wake futex_wait futex_requeue
        wait4 waitid exit exit_group sched_yield
        sched_getaffinity getcpu restart_syscall
    },
    // Handling signals.
    calls! { rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait rt_sigpending rt_sigsuspend sigaltstack pause },
    // Time, and who and where it is.
    calls! {
        clock_gettime clock_getres gettimeofday time nanosleep clock_nanosleep getpid getppid gettid getpgrp getuid geteuid
        getgid getegid getresuid getresgid getgroups capget getrlimit getrusage sysinfo uname times getrandom pidfd_open
    },
    // Files and pipes.
    calls! {
        open openat openat2 creat close close_range read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2
        lseek stat lstat fstat newfstatat statx statfs fstatfs access faccessat faccessat2 getdents64 readlink readlinkat
        getcwd fcntl flock dup dup2 dup3 pipe pipe2 truncate ftruncate fallocate fadvise64 rename renameat renameat2 unlink
        unlinkat mkdir mkdirat rmdir fsync fdatasync sync syncfs sync_file_range copy_file_range sendfile splice tee umask
        name_to_handle_at
    },
    // Waiting.
    calls! {
        poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2
        timerfd_create timerfd_settime timerfd_gettime
    },
    // The network.
    calls! {
        connect bind listen accept accept4 getsockname getpeername getsockopt setsockopt sendto sendmsg sendmmsg recvfrom
        recvmsg recvmmsg shutdown
    },
];

/// Calls that the probe `mount` makes to see whether its hooks fire: with all bits of every argument set, which no kernel
/// takes for a path or a descriptor.
const REFUSED_ANYWAY: &[Sysno] = calls! {
    mount umount2 open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr open_tree_attr
};

/// The flags by which clone(2) makes a namespace: mounts, control groups, host name, IPC, users, processes, network.
const NAMESPACES: u64 = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;

/// Commands of bpf(2) (`enum bpf_cmd`) that read and write elements of maps that are there, and tell about an object.
const ELEMENTS: [u64; 9] = [1, 2, 3, 4, 15, 21, 24, 25, 26];

/// Commands that attach a program that is loaded, to a raw tracepoint or by a link.
const ATTACHING: [u64; 2] = [17, 28];

/// `FIONREAD`, `FIONBIO`, `FIOCLEX`, `FIONCLEX`, `TIOCOUTQ`: what waits in a pipe or a socket, and how it is used;
/// `TCGETS`, `TIOCGWINSZ`: whether it is a terminal, and how large. None that types something into one.
const IOCTLS: [u64; 7] = [0x541b, 0x5421, 0x5451, 0x5450, 0x5411, 0x5401, 0x5413];

/// `PERF_EVENT_IOC_ENABLE` and `PERF_EVENT_IOC_SET_BPF`.
const IOCTLS_ATTACHING: [u64; 2] = [0x2400, 0x4004_2408];

/// `AF_UNIX`, `AF_INET`, `AF_INET6`, and `AF_NETLINK`, which tells the C library what addresses the machine has.
const FAMILIES: [u64; 4] = [1, 2, 10, 16];

/// `PR_SET_NAME`, `PR_GET_NAME`, `PR_GET_SECCOMP`, `PR_CAPBSET_READ`, `PR_GET_NO_NEW_PRIVS`, `PR_SET_VMA`.
const PRCTLS: [u64; 6] = [15, 16, 21, 23, 39, 0x5356_4d41];

const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;

/// A filter of system calls, ready to be installed.
pub(crate) struct Filter {
    refusing: Vec<Instruction>,
}

impl Filter {
    /// A filter; with `attaches` one under which the agent attaches programs again that are loaded. None lets it load any.
    pub(crate) fn new(attaches: bool) -> Result<Self, String> {
        refusing(attaches).map(|refusing| Self { refusing }).map_err(|error| error.to_string())
    }

    /// Puts it on the calling thread and on all that it starts, for good. The thread must have `no_new_privs`.
    pub(crate) fn install(&self) -> Result<(), String> {
        let installed = filter_system_calls(&HIDING, false).and_then(|()| filter_system_calls(&self.refusing, true));
        installed.map_err(|error| error.to_string())
    }
}

/// Whether this kernel has filters of system calls; the error says why not.
pub(crate) fn applies() -> Result<(), String> {
    // Written down wherever there are filters (Linux 4.14); older ones do not tell.
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) if status.contains("\nSeccomp:") => Ok(()),
        _ => Err("this kernel has no filters of system calls (CONFIG_SECCOMP_FILTER)".to_owned()),
    }
}

/// An instruction of a filter: operation, two jumps, operand.
type Instruction = (u16, u8, u8, u32);

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_JMP | BPF_JGE | BPF_K`, `BPF_RET | BPF_K`.
const LOAD: u16 = 0x20;
const JUMP_IF: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Where `struct seccomp_data` has the number and the architecture.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const X86_64: u32 = 0xc000_003e;
/// The bit in the number of a call with pointers of 32 bits.
const X32: u32 = 0x4000_0000;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// What the C library takes for missing, so that it goes another way. It starts a thread by clone(2), whose flags can be
/// looked at, where the kernel has no `clone3`; and it tries calls that are newer than this list.
const HIDING: [Instruction; 8] = [
    (LOAD, 0, 0, ARCHITECTURE),
    (JUMP_IF, 0, 5, X86_64),
    (LOAD, 0, 0, NUMBER),
    (JUMP_IF, 2, 0, Sysno::clone3.id().unsigned_abs()),
    (JUMP_IF_AT_LEAST, 2, 0, X32),
    (JUMP_IF_AT_LEAST, 0, 1, Sysno::open_tree_attr.id().unsigned_abs() + 1),
    (RETURN, 0, 0, ERRNO | ENOSYS),
    (RETURN, 0, 0, ALLOW),
];

/// Calls of 32-bit programs have other numbers, and what is compiled from rules would end the process for one.
const NATIVE: [Instruction; 3] = [(LOAD, 0, 0, ARCHITECTURE), (JUMP_IF, 1, 0, X86_64), (RETURN, 0, 0, ERRNO | EPERM)];

fn refusing(attaches: bool) -> Result<Vec<Instruction>, BackendError> {
    let refused = SeccompAction::Errno(EPERM);
    let filter = SeccompFilter::new(rules(attaches)?, refused, SeccompAction::Allow, TargetArch::x86_64)?;
    let compiled: BpfProgram = filter.try_into()?;
    let compiled: Vec<Instruction> = compiled.iter().map(|one| (one.code, one.jt, one.jf, one.k)).collect();
    Ok([&NATIVE[..], &compiled].concat())
}

type Conditions = Result<SeccompCondition, BackendError>;

/// By call: the ways in which it is let through, none for any. A way is several conditions on arguments that all hold.
fn rules(attaches: bool) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    rules.extend(ALLOWED.concat().iter().map(|call| (number(*call), Vec::new())));
    let mut limit = |call: Sysno, ways: Vec<Vec<Conditions>>| {
        let ways = ways.into_iter().map(|way| SeccompRule::new(way.into_iter().collect::<Result<_, _>>()?));
        rules.insert(number(call), ways.collect::<Result<_, _>>()?);
        Ok::<_, BackendError>(())
    };
    let own = u64::from(getpid().as_raw_nonzero().get().unsigned_abs());
    let one_of = |argument, values: &[u64]| values.iter().map(|value| vec![is(argument, *value)]).collect::<Vec<_>>();

    // Memory can be written or executed, not both: a library that the C library loads is a file.
    limit(Sysno::mmap, vec![vec![lacks(2, PROT_EXEC)], vec![lacks(2, PROT_WRITE)]])?;
    limit(Sysno::mprotect, vec![vec![lacks(2, PROT_EXEC)]])?;
    limit(Sysno::clone, vec![vec![lacks(0, NAMESPACES)]])?;
    // To itself; and to others signal 0, which asks whether there is such a process.
    limit(Sysno::kill, vec![vec![is(0, own)], vec![is(1, 0)]])?;
    limit(Sysno::tgkill, vec![vec![is(0, own)]])?;
    limit(Sysno::pidfd_send_signal, vec![vec![is(1, 0)]])?;
    // Its own limits.
    limit(Sysno::prlimit64, one_of(0, &[0, own]))?;
    limit(Sysno::prctl, one_of(0, &PRCTLS))?;
    limit(Sysno::socket, one_of(0, &FAMILIES))?;
    limit(Sysno::socketpair, one_of(0, &FAMILIES[..1]))?;
    let attaching = |values: &[u64]| if attaches { values.to_vec() } else { Vec::new() };
    limit(Sysno::ioctl, one_of(1, &[&IOCTLS[..], &attaching(&IOCTLS_ATTACHING)].concat()))?;
    limit(Sysno::bpf, one_of(0, &[&ELEMENTS[..], &attaching(&ATTACHING)].concat()))?;
    if attaches {
        limit(Sysno::perf_event_open, Vec::new())?;
    }
    for call in REFUSED_ANYWAY {
        limit(*call, vec![vec![is_all_ones(0), is_all_ones(1)]])?;
    }
    Ok(rules)
}

fn number(call: Sysno) -> i64 {
    call.id().into()
}

/// The argument's lower half is this, which is all that the kernel looks at for an `int`.
fn is(argument: u8, value: u64) -> Conditions {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn is_all_ones(argument: u8) -> Conditions {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, u64::MAX)
}

/// None of these bits is set.
fn lacks(argument: u8, bits: u64) -> Conditions {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bits), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a call: the filter's answer for its number and arguments.
    fn answer(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = [0_u32; 16];
        (data[0], data[1]) = (number, architecture);
        for (index, argument) in arguments.iter().enumerate() {
            data[4 + 2 * index] = u32::try_from(argument & 0xffff_ffff).expect("half of it");
            data[5 + 2 * index] = u32::try_from(argument >> 32).expect("half of it");
        }
        let (mut at, mut loaded) = (0, 0_u32);
        loop {
            let (code, jt, jf, k) = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            match code {
                0x20 => loaded = data[k as usize / 4],
                0x54 => loaded &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(loaded == k),
                0x25 => at += jump(loaded > k),
                0x35 => at += jump(loaded >= k),
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const REFUSED: u32 = ERRNO | EPERM;
    const UNKNOWN: u32 = ERRNO | ENOSYS;

    fn ask(attaches: bool, call: Sysno, arguments: [u64; 6]) -> u32 {
        let filter = Filter::new(attaches).expect("a filter");
        let answers = [&filter.refusing[..], &HIDING];
        // The kernel takes the one that refuses more.
        let answers = answers.map(|program| answer(program, X86_64, call.id().unsigned_abs(), arguments));
        answers.into_iter().min().expect("two answers")
    }

    #[test]
    fn what_the_agent_does_is_let_through_and_everything_else_refused() {
        let own = u64::from(std::process::id());
        let ones = [u64::MAX; 6];
        let first = |value| [value, 0, 0, 0, 0, 0];
        let second = |value| [7, value, 0, 0, 0, 0];
        let third = |value| [0, 4096, value, 0, 0, 0];
        for (call, arguments, expected) in [
            (Sysno::read, ones, ALLOW),
            (Sysno::openat, [0; 6], ALLOW),
            (Sysno::clone, first(0x003d_0f00), ALLOW),
            (Sysno::clone, first(0x0120_0011), ALLOW),
            (Sysno::clone, first(0x1000_0011), REFUSED),
            (Sysno::clone3, [0; 6], UNKNOWN),
            (Sysno::mmap, third(1 | 2), ALLOW),
            (Sysno::mmap, third(1 | 4), ALLOW),
            (Sysno::mmap, third(1 | 2 | 4), REFUSED),
            (Sysno::mprotect, third(1 | 2), ALLOW),
            (Sysno::mprotect, third(1 | 4), REFUSED),
            (Sysno::kill, first(own), ALLOW),
            (Sysno::kill, second(0), ALLOW),
            (Sysno::kill, second(15), REFUSED),
            (Sysno::tgkill, [own, own, 6, 0, 0, 0], ALLOW),
            (Sysno::tgkill, [1, 1, 6, 0, 0, 0], REFUSED),
            (Sysno::tkill, [own, 6, 0, 0, 0, 0], REFUSED),
            (Sysno::pidfd_send_signal, second(0), ALLOW),
            (Sysno::pidfd_send_signal, second(9), REFUSED),
            (Sysno::prlimit64, first(0), ALLOW),
            (Sysno::prlimit64, first(1), REFUSED),
            (Sysno::prctl, first(15), ALLOW),
            (Sysno::prctl, first(4), REFUSED),
            (Sysno::socket, first(2), ALLOW),
            (Sysno::socket, first(16), ALLOW),
            (Sysno::socket, first(17), REFUSED),
            (Sysno::ioctl, second(0x541b), ALLOW),
            (Sysno::ioctl, second(0x5412), REFUSED),
            (Sysno::mount, ones, ALLOW),
            (Sysno::mount, [1, u64::MAX, 0, 0, 0, 0], REFUSED),
            (Sysno::mount, [0xffff_ffff, 0xffff_ffff, 0, 0, 0, 0], REFUSED),
        ] {
            for attaches in [false, true] {
                assert_eq!(ask(attaches, call, arguments), expected, "{call} {arguments:x?}");
            }
        }
        for call in calls! {
            execve execveat ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp rt_sigqueueinfo
            rt_tgsigqueueinfo keyctl add_key request_key unshare setns pivot_root chroot init_module finit_module
            delete_module kexec_load kexec_file_load io_uring_setup io_uring_enter io_uring_register userfaultfd reboot
            swapon setuid setresuid setgid setgroups capset personality seccomp landlock_restrict_self chmod fchmod chown
            fchown link linkat symlink mknod mknodat open_by_handle_at fork vfork quotactl syslog settimeofday
            clock_settime adjtimex sethostname iopl ioperm modify_ldt
        } {
            assert_eq!(ask(true, *call, [0; 6]), REFUSED, "{call}");
        }
    }

    #[test]
    fn what_the_c_library_may_do_without_is_hidden_from_it() {
        let newest = Sysno::open_tree_attr.id().unsigned_abs();
        for (number, expected) in [
            (Sysno::clone3.id().unsigned_abs(), UNKNOWN),
            (newest + 1, UNKNOWN),
            (1 << 20, UNKNOWN),
            (newest, ALLOW),
            (Sysno::clone3.id().unsigned_abs() + 1, ALLOW),
            (Sysno::clone3.id().unsigned_abs() - 1, ALLOW),
            (X32 | 1, ALLOW),
            (u32::MAX, ALLOW),
        ] {
            assert_eq!(answer(&HIDING, X86_64, number, [0; 6]), expected, "{number}");
        }
    }

    #[test]
    fn programs_that_are_loaded_are_attached_again_by_who_has_nobody_for_it_and_none_is_loaded() {
        for (command, elements, attaching) in [
            // Map create, program load, pin, get, load type information, by id, freeze, enable statistics, a token.
            (0, REFUSED, REFUSED),
            (5, REFUSED, REFUSED),
            (6, REFUSED, REFUSED),
            (7, REFUSED, REFUSED),
            (13, REFUSED, REFUSED),
            (14, REFUSED, REFUSED),
            (18, REFUSED, REFUSED),
            (22, REFUSED, REFUSED),
            (32, REFUSED, REFUSED),
            (36, REFUSED, REFUSED),
            (1, ALLOW, ALLOW),
            (2, ALLOW, ALLOW),
            (15, ALLOW, ALLOW),
            (24, ALLOW, ALLOW),
            (17, REFUSED, ALLOW),
            (28, REFUSED, ALLOW),
        ] {
            let of = |attaches| ask(attaches, Sysno::bpf, [command, 0, 0, 0, 0, 0]);
            assert_eq!((of(false), of(true)), (elements, attaching), "{command}");
        }
        let of = |attaches| {
            (ask(attaches, Sysno::perf_event_open, [0; 6]), ask(attaches, Sysno::ioctl, [7, 0x2400, 0, 0, 0, 0]))
        };
        assert_eq!((of(false), of(true)), ((REFUSED, REFUSED), (ALLOW, ALLOW)));
    }

    #[test]
    fn calls_of_other_programs_forms_are_refused_and_end_nothing() {
        let filter = Filter::new(true).expect("a filter");
        let (i386, x32) = (0x4000_0003, X32);
        assert_eq!(answer(&filter.refusing, i386, Sysno::read.id().unsigned_abs(), [0; 6]), REFUSED);
        assert_eq!(answer(&HIDING, i386, Sysno::clone3.id().unsigned_abs(), [0; 6]), ALLOW);
        assert_eq!(answer(&filter.refusing, X86_64, Sysno::read.id().unsigned_abs() | x32, [0; 6]), REFUSED);
    }
}
