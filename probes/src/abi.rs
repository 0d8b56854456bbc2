//! What the kernel programs share with us: mirrors of `bpf/include/abi.h`.

/// `struct record`: totals of one hook on one processor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) interrupted: u64,
    pub(crate) bytes: u64,
}

const _: () = assert!(size_of::<Record>() == 32 && align_of::<Record>() == 8);

impl Record {
    /// How many 8-byte words the kernel writes for one.
    pub(crate) const WORDS: usize = size_of::<Self>() / size_of::<u64>();

    /// Of its words in order.
    pub(crate) fn of_words(mut word: impl FnMut(usize) -> u64) -> Self {
        Self { calls: word(0), errors: word(1), interrupted: word(2), bytes: word(3) }
    }

    /// The sum of two records; totals wrap as the kernel's do.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.wrapping_add(other.calls),
            errors: self.errors.wrapping_add(other.errors),
            interrupted: self.interrupted.wrapping_add(other.interrupted),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }

    /// What came since a baseline.
    pub(crate) const fn since(self, base: Self) -> Self {
        Self {
            calls: self.calls.wrapping_sub(base.calls),
            errors: self.errors.wrapping_sub(base.errors),
            interrupted: self.interrupted.wrapping_sub(base.interrupted),
            bytes: self.bytes.wrapping_sub(base.bytes),
        }
    }
}

/// `struct target`: what counts, in two words as the kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TargetSetting {
    pub(crate) tgid: u32,
    pub(crate) named: u32,
    pub(crate) reborn: u64,
}

impl TargetSetting {
    pub(crate) const fn words(self) -> [u64; 2] {
        [self.tgid as u64 | (self.named as u64) << 32, self.reborn]
    }

    #[expect(clippy::cast_possible_truncation, reason = "two numbers of 32 bits in one word")]
    pub(crate) const fn of_words([tgids, reborn]: [u64; 2]) -> Self {
        Self { tgid: tgids as u32, named: (tgids >> 32) as u32, reborn }
    }
}

/// Bytes of `cgroup_name`: the longest name of a file, and a zero.
pub(crate) const CGROUP_NAME: usize = 256;

/// No number of a thread group.
pub(crate) const NOBODY: u32 = u32::MAX;

/// `struct filter_setting` of the floor objects: kind of the filter, thread group.
pub(crate) type FilterSetting = [u32; 2];

/// Index of a record in an object's `totals` map.
pub(crate) type Slot = u32;

/// `enum file_slot`.
pub(crate) mod file_slot {
    use super::Slot;

    pub(crate) const OPEN: Slot = 0;
    pub(crate) const CLOSE: Slot = 1;
    pub(crate) const READ: Slot = 2;
    pub(crate) const READV: Slot = 3;
    pub(crate) const WRITE: Slot = 4;
    pub(crate) const WRITEV: Slot = 5;
    pub(crate) const UNLINK: Slot = 6;
    pub(crate) const SYS_OPEN: Slot = 7;
    pub(crate) const SYS_CLOSE: Slot = 8;
    pub(crate) const SYS_READ: Slot = 9;
    pub(crate) const SYS_WRITE: Slot = 10;
    pub(crate) const SYS_UNLINK: Slot = 11;
    pub(crate) const EITHER_READV: Slot = 12;
    pub(crate) const EITHER_WRITEV: Slot = 13;
}

/// `enum process_slot`.
pub(crate) mod process_slot {
    use super::Slot;

    pub(crate) const STARTED: Slot = 0;
    pub(crate) const STARTED_THREAD: Slot = 1;
    pub(crate) const FORK: Slot = 2;
    pub(crate) const FORK_THREAD: Slot = 3;
    pub(crate) const EXIT: Slot = 4;
    pub(crate) const RELEASE: Slot = 5;
    pub(crate) const SYS_FORK: Slot = 6;
    pub(crate) const SYS_FORK_THREAD: Slot = 7;
    pub(crate) const FORKED: Slot = 8;
    pub(crate) const FORKED_THREAD: Slot = 9;
}

#[cfg(test)]
mod tests {
    use super::{file_slot as f, process_slot as p};

    /// The names of an enum of `abi.h`, in order.
    fn names(of: &str) -> Vec<&'static str> {
        let header = include_str!("../bpf/include/abi.h");
        let body = header.split_once(&format!("enum {of} {{")).expect("the enum").1;
        let body = body.split_once('}').expect("its end").0;
        let body = body.split(',').map(|name| name.rsplit("*/").next().unwrap_or(name).trim());
        body.filter(|name| !name.is_empty()).collect()
    }

    #[test]
    fn a_target_is_two_words() {
        let target = super::TargetSetting { tgid: 7, named: super::NOBODY, reborn: 9 };
        assert_eq!(target.words(), [0xffff_ffff_0000_0007, 9]);
        assert_eq!(super::TargetSetting::of_words(target.words()), target);
        let header = include_str!("../bpf/include/abi.h");
        assert!(header.contains("struct target {\n\tu32 tgid;") && header.contains("#define NOBODY 0xffffffff"));
        assert!(header.contains(&format!("#define CGROUP_NAME {}", super::CGROUP_NAME)));
    }

    #[test]
    fn slots_are_those_of_the_header() {
        let file = [
            ("FILE_OPEN", f::OPEN),
            ("FILE_CLOSE", f::CLOSE),
            ("FILE_READ", f::READ),
            ("FILE_READV", f::READV),
            ("FILE_WRITE", f::WRITE),
            ("FILE_WRITEV", f::WRITEV),
            ("FILE_UNLINK", f::UNLINK),
            ("FILE_SYS_OPEN", f::SYS_OPEN),
            ("FILE_SYS_CLOSE", f::SYS_CLOSE),
            ("FILE_SYS_READ", f::SYS_READ),
            ("FILE_SYS_WRITE", f::SYS_WRITE),
            ("FILE_SYS_UNLINK", f::SYS_UNLINK),
            ("FILE_EITHER_READV", f::EITHER_READV),
            ("FILE_EITHER_WRITEV", f::EITHER_WRITEV),
            ("FILE_SLOTS", 14),
        ];
        let process = [
            ("PROCESS_STARTED", p::STARTED),
            ("PROCESS_STARTED_THREAD", p::STARTED_THREAD),
            ("PROCESS_FORK", p::FORK),
            ("PROCESS_FORK_THREAD", p::FORK_THREAD),
            ("PROCESS_EXIT", p::EXIT),
            ("PROCESS_RELEASE", p::RELEASE),
            ("PROCESS_SYS_FORK", p::SYS_FORK),
            ("PROCESS_SYS_FORK_THREAD", p::SYS_FORK_THREAD),
            ("PROCESS_FORKED", p::FORKED),
            ("PROCESS_FORKED_THREAD", p::FORKED_THREAD),
            ("PROCESS_SLOTS", 10),
        ];
        for (of, mirror) in [("file_slot", &file[..]), ("process_slot", &process[..])] {
            let header: Vec<_> = names(of).into_iter().zip(0u32..).collect();
            assert_eq!(header, mirror, "{of}");
        }
    }
}
