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

/// The map with the records.
pub(crate) const TOTALS: &str = "totals";

/// The map with the breakpoints' records; the floor objects have none.
pub(crate) const KPROBE_TOTALS: &str = "kprobe_totals";

/// Bytes of `cgroup_name`: the longest name of a file, and a zero.
pub(crate) const CGROUP_NAME: usize = 256;

/// No number of a thread group.
pub(crate) const NOBODY: u32 = u32::MAX;

/// `struct filter_setting` of the floor objects: kind of the filter, thread group.
pub(crate) type FilterSetting = [u32; 2];

/// Index of a record in an object's `totals`: a number of its `enum slot`, or a system call's.
pub type Slot = u32;

/// Names the records of an object in the order of its `enum slot`: a constant for each, and `SLOTS` with all names, by
/// which a test compares the two.
#[macro_export]
macro_rules! slots {
    ($($name:ident),+ $(,)?) => {
        /// The records' names in order.
        pub(crate) const SLOTS: &[&str] = &[$(stringify!($name)),+];
        $crate::slots!(@numbered 0; $($name),+);
    };
    (@numbered $number:expr; $name:ident $(, $rest:ident)*) => {
        /// The record of this name.
        pub(crate) const $name: $crate::Slot = $number;
        $crate::slots!(@numbered $number + 1; $($rest),*);
    };
    (@numbered $number:expr;) => {};
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_target_is_two_words() {
        let target = super::TargetSetting { tgid: 7, named: super::NOBODY, reborn: 9 };
        assert_eq!(target.words(), [0xffff_ffff_0000_0007, 9]);
        assert_eq!(super::TargetSetting::of_words(target.words()), target);
        let header = include_str!("../bpf/include/abi.h");
        assert!(header.contains("struct target {\n\tu32 tgid;") && header.contains("#define NOBODY 0xffffffff"));
        assert!(header.contains(&format!("#define CGROUP_NAME {}", super::CGROUP_NAME)));
    }
}
