//! System calls by name, and their entries in the tables of the one program that sees them all.

use std::str::FromStr as _;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use syscalls::{x86, x86_64};

use crate::abi::Slot;

/// A system call that a counter counts: native, of the x32 ABI and of 32-bit programs alike.
///
/// It counts when it is over, once for each task that leaves it: a new process leaves the clone(2) that made it as well.
/// One that never returns, as exit(2), does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub(crate) name: &'static str,
    /// Whether its result is a number of bytes; else a status. Negative ones are errors, in either case.
    pub(crate) moves_bytes: bool,
    pub(crate) split: Option<Split>,
    /// Whether the calls whose bits are set are another operation, and count nothing here.
    pub(crate) drops_set: bool,
}

/// How one system call is two operations: by the bits of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Split {
    /// Counted from 0, below 3.
    pub(crate) argument: u32,
    /// Whether the argument is a pointer to the 64 bits that count.
    pub(crate) is_pointer: bool,
    pub(crate) bits: u64,
}

impl Call {
    /// One whose result is an `int`: below zero it failed. Not for one that returns an address or a size.
    pub const fn status(name: &'static str) -> Self {
        Self { name, moves_bytes: false, split: None, drops_set: false }
    }

    /// One whose result is a number of bytes, below zero if it failed.
    pub const fn size(name: &'static str) -> Self {
        Self { moves_bytes: true, ..Self::status(name) }
    }

    /// Counts only without these bits in an argument, the first (0) to the third (2).
    #[must_use]
    pub const fn without(self, argument: u32, bits: u64) -> Self {
        Self { split: Some(Split { argument, is_pointer: false, bits }), drops_set: true, ..self }
    }

    /// Counts in the counter's second part with one of these bits in an argument, the first (0) to the third (2), else
    /// in the first.
    #[must_use]
    pub const fn second_part_if(self, argument: u32, bits: u64) -> Self {
        Self { split: Some(Split { argument, is_pointer: false, bits }), drops_set: false, ..self }
    }

    /// The same by the first 64 bits to which the argument points. A pointer that cannot be read has no bits.
    #[must_use]
    pub const fn second_part_if_at(self, argument: u32, bits: u64) -> Self {
        Self { split: Some(Split { argument, is_pointer: true, bits }), drops_set: false, ..self }
    }

    /// What its trace events are called by, after `sys_exit_`: the kernel's function, which has another name here and
    /// there. `None` for a call of 32-bit programs alone, which has none.
    pub(crate) fn traced_as(self) -> Option<&'static str> {
        let numbers = Numbers::of(self.name).filter(|numbers| !numbers.native.is_empty());
        let other = TRACED_AS.iter().find(|(name, _)| *name == self.name).map(|(_, function)| *function);
        numbers.map(|_| other.unwrap_or(self.name))
    }

    /// The records by the counter's part.
    pub(crate) fn parts(self, record: Slot) -> impl Iterator<Item = (usize, Slot)> {
        let second = (self.split.is_some() && !self.drops_set).then_some((1, record + 1));
        std::iter::once((0, record)).chain(second)
    }
}

/// A system call with the record that it has in every table of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) call: Call,
    pub(crate) record: Slot,
}

/// `RECORDS` of abi.h.
pub(crate) const RECORDS: usize = 128;

/// `SYSCALL_LIMIT` of abi.h.
pub(crate) const SYSCALL_LIMIT: usize = 552;

/// Bits of an entry, of abi.h.
pub(crate) const CALL_SPLITS: u16 = 0x4000;
pub(crate) const CALL_SIZE: u16 = 0x8000;

/// Who has which record: a system call has one, whoever watches it. `None` is the second one of a call that splits, and
/// the first record of all, which is nobody's.
static KNOWN: Mutex<Vec<Option<Call>>> = Mutex::new(Vec::new());

/// Who has which record, for another process: the calls by name, in the order of their records.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordsText(Vec<Option<CallText>>);

#[derive(Debug, Serialize, Deserialize)]
struct CallText {
    name: String,
    moves_bytes: bool,
    split: Option<Split>,
}

impl RecordsText {
    /// As it is in this process.
    pub(crate) fn own() -> Self {
        let text =
            |call: &Call| CallText { name: call.name.to_owned(), moves_bytes: call.moves_bytes, split: call.split };
        Self(KNOWN.lock().iter().map(|call| call.as_ref().map(text)).collect())
    }

    /// Gives the calls the records that they have in the other process. A call that has another one here already is an
    /// error: it may be watched.
    pub(crate) fn adopt(self) -> Result<(), String> {
        if self.0.len() > RECORDS {
            return Err(format!("at most {RECORDS} records of system calls can be known"));
        }
        let call = |CallText { name, moves_bytes, split }: CallText| {
            let native = x86_64::Sysno::from_str(&name).ok().map(|call| call.name());
            let i386 = || x86::Sysno::from_str(&name).ok().map(|call| call.name());
            let known = native.or_else(i386).ok_or_else(|| format!("no system call is named {name:?}"))?;
            Ok(Call { moves_bytes, split, ..Call::status(known) })
        };
        let theirs = self.0.into_iter().map(|other| other.map(call).transpose()).collect::<Result<Vec<_>, String>>()?;
        let mut known = KNOWN.lock();
        let same = |ours: &Option<Call>, theirs: &Option<Call>| {
            let told = |call: &Call| (call.name, call.moves_bytes, call.split);
            ours.as_ref().map(told) == theirs.as_ref().map(told)
        };
        if let Some((ours, _)) = known.iter().zip(&theirs).find(|(ours, theirs)| !same(ours, theirs)) {
            let name = ours.map_or("a second part", |call| call.name);
            return Err(format!("{name} has another record in this process"));
        }
        let known_before = known.len();
        known.extend(theirs.into_iter().skip(known_before));
        Ok(())
    }
}

impl Watched {
    /// The call with its record: a new one if nobody has watched it before.
    pub(crate) fn new(call: Call) -> Result<Self, String> {
        let mut known = KNOWN.lock();
        if known.is_empty() {
            known.push(None);
        }
        let named = known.iter().position(|other| other.is_some_and(|other| other.name == call.name));
        if let Some(record) = named {
            let other = known[record].unwrap_or(call);
            if (other.split, other.moves_bytes) != (call.split, call.moves_bytes) {
                return Err(format!("another counter tells the calls of {} apart in another way", call.name));
            }
            return Ok(Self { call, record: slot(record) });
        }
        if call.split.is_some_and(|split| split.argument > 2) {
            return Err(format!("of {} only the first three arguments can be looked at, from 0 to 2", call.name));
        }
        if Numbers::of(call.name).is_none() {
            return Err(format!("no system call is named {}", call.name));
        }
        let takes = 1 + usize::from(call.split.is_some());
        if known.len() + takes > RECORDS {
            return Err(format!("at most {} system calls can be watched", RECORDS - 1));
        }
        let record = known.len();
        known.push(Some(call));
        if call.split.is_some() {
            known.push(None);
        }
        Ok(Self { call, record: slot(record) })
    }

    /// Its half of an entry of the table.
    pub(crate) fn entry(&self) -> u16 {
        let flags = if self.call.moves_bytes { CALL_SIZE } else { 0 };
        let flags = flags | if self.call.split.is_some() { CALL_SPLITS } else { 0 };
        flags | u16::try_from(self.record).unwrap_or(0)
    }
}

fn slot(record: usize) -> Slot {
    Slot::try_from(record).unwrap_or(0)
}

/// Calls whose function has another name (`arch/x86/entry/syscalls/syscall_64.tbl`).
const TRACED_AS: [(&str, &str); 7] = [
    ("stat", "newstat"),
    ("fstat", "newfstat"),
    ("lstat", "newlstat"),
    ("sendfile", "sendfile64"),
    ("uname", "newuname"),
    ("_sysctl", "sysctl"),
    ("umount2", "umount"),
];

/// The numbers of a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// In a 64-bit call, without the bit of the x32 ABI: some have a second number there.
    pub(crate) native: Vec<usize>,
    /// In a 32-bit call.
    pub(crate) i386: Option<usize>,
}

impl Numbers {
    /// `None` where no ABI has such a call.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let native = x86_64::Sysno::from_str(name).ok().map(|call| call.id());
        let i386 = x86::Sysno::from_str(name).ok().map(|call| call.id());
        let x32 = X32.iter().find(|(other, _)| *other == name).map(|(_, number)| *number);
        let below = |number: i32| usize::try_from(number).ok().filter(|number| *number < SYSCALL_LIMIT);
        let native: Vec<_> = native.into_iter().chain(x32).filter_map(below).collect();
        let i386 = i386.and_then(below);
        (!native.is_empty() || i386.is_some()).then_some(Self { native, i386 })
    }
}

/// Calls that have a number of their own in the x32 ABI (`arch/x86/entry/syscalls/syscall_64.tbl`).
const X32: [(&str, i32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_each_abi() {
        for (name, native, i386) in [
            ("read", &[0][..], Some(3)),
            ("readv", &[19, 515], Some(145)),
            ("preadv2", &[327, 546], Some(378)),
            ("pwritev2", &[328, 547], Some(379)),
            ("openat2", &[437], Some(437)),
            ("unlinkat", &[263], Some(301)),
            ("clone", &[56], Some(120)),
            ("clone3", &[435], Some(435)),
            ("umount2", &[166], Some(52)),
            ("umount", &[], Some(22)),
            ("move_mount", &[429], Some(429)),
        ] {
            let numbers = Numbers::of(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!((numbers.native.as_slice(), numbers.i386), (native, i386), "{name}");
        }
        assert_eq!(Numbers::of("no_such_call"), None);
    }

    #[test]
    fn records_of_another_process_are_taken_over_where_nothing_speaks_against_it() {
        Watched::new(Call::status("getpriority")).expect("a record");
        RecordsText::own().adopt().expect("the same");
        let text = |name: &str, moves_bytes| CallText { name: name.to_owned(), moves_bytes, split: None };
        // Tests that run beside this one may add some between the two.
        let record = loop {
            let mut longer = RecordsText::own();
            let record = longer.0.len();
            longer.0.push(Some(text("munlockall", false)));
            if longer.adopt().is_ok() {
                break record;
            }
        };
        assert_eq!(Watched::new(Call::status("munlockall")).expect("a record").record as usize, record);
        let others = RecordsText(vec![None, Some(text("no_such_call", false))]);
        assert!(others.adopt().expect_err("no call").contains("no_such_call"));
        let others = RecordsText(vec![None, Some(text("mlockall", true))]);
        assert!(others.adopt().expect_err("another record").contains("another record"));
        assert!(RecordsText((0..=RECORDS).map(|_| None).collect()).adopt().is_err());
    }

    #[test]
    fn trace_events_are_called_by_the_kernels_function() {
        let traced_as = |name| Call::status(name).traced_as();
        assert_eq!((traced_as("read"), traced_as("umount2")), (Some("read"), Some("umount")));
        assert_eq!(traced_as("umount"), None, "32-bit programs' alone, and not what umount2 is traced as");
        for (name, _) in TRACED_AS {
            assert!(Numbers::of(name).is_some_and(|numbers| !numbers.native.is_empty()), "{name}");
        }
        // Where there is a tracefs to ask, it has them; _sysctl is gone from 5.9 on.
        let events = std::path::Path::new("/sys/kernel/tracing/events/syscalls");
        for (name, function) in TRACED_AS.into_iter().filter(|(name, _)| events.exists() && *name != "_sysctl") {
            assert!(!events.join(format!("sys_exit_{name}")).exists(), "{name}");
            assert!(events.join(format!("sys_exit_{function}")).exists(), "{function}");
        }
    }

    #[test]
    fn a_call_has_one_record_whoever_watches_it() {
        let first = Watched::new(Call::status("getpriority")).expect("a record");
        assert_eq!(Watched::new(Call::status("getpriority")), Ok(first));
        assert!(first.record > 0 && first.entry() & 0x7f == u16::try_from(first.record).expect("small"));
        let split = Watched::new(Call::status("setpriority").second_part_if(0, 1)).expect("two records");
        let next = Watched::new(Call::size("getrandom")).expect("a record");
        assert!(next.record >= split.record + 2 || next.record < split.record);
        assert_eq!(next.entry() & CALL_SIZE, CALL_SIZE);
        assert_eq!(split.call.parts(split.record).collect::<Vec<_>>(), [(0, split.record), (1, split.record + 1)]);
        // What is told apart in the kernel is the same for everybody; what is made of it need not be.
        assert!(Watched::new(Call::status("setpriority").without(0, 1)).is_ok());
        assert!(Watched::new(Call::status("setpriority")).is_err());
        assert!(Watched::new(Call::status("no_such_call")).is_err());
        let problem = Watched::new(Call::status("renameat2").without(4, 1)).expect_err("a fifth argument");
        assert!(problem.contains("renameat2") && problem.contains("first three"), "{problem}");
    }
}
