//! What the kernel programs say of a process: mirrors of `bpf/include/who.h`.

/// `struct head`, in 8-byte words.
pub(crate) const HEAD_WORDS: usize = 8;

/// Words before the head in `struct taken`.
pub(super) const TAKEN_WORDS: usize = 1;

/// Places that are no process's: what found no place, and what was lost on its way to us.
pub(super) const OTHER: usize = 0;
pub(super) const LOST: usize = 1;
pub(super) const FIRST_PLACE: usize = 2;

const HEAD_KERNEL: u32 = 1;
const HEAD_FRESH: u32 = 2;

/// Before the path in `struct group`.
pub(super) const GROUP_HEAD: usize = 16;

/// Room for a path there: one that fills it may be longer.
pub(super) const GROUP_PATH: usize = 496;

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Doer {
    /// A process under a name in a control group.
    Process {
        /// Its number in the initial namespace.
        tgid: u32,
        /// When it started, in ns since the boot: no other process has both.
        started: u64,
        /// The name of its leader.
        comm: [u8; 16],
        /// The id of its leader's control group in the v2 hierarchy.
        cgroup: u64,
        /// In the initial namespace, when it got its name.
        uid: u32,
    },
    /// The threads of the kernel together, in a control group.
    Kernel {
        /// As above.
        cgroup: u64,
    },
    /// Whoever found no place in the table.
    Other,
}

/// `struct head` as it was at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) turn: u64,
    pub(super) doer: Doer,
    /// It has run no program since it was forked.
    pub(super) is_fresh: bool,
    /// Of the place [`LOST`] alone.
    pub(super) lost: u32,
}

impl Head {
    #[expect(clippy::cast_possible_truncation, reason = "two numbers of 32 bits in one word")]
    pub(super) fn of_words(word: impl Fn(usize) -> u64) -> Self {
        let [turn, started, cgroup, ids, flags] = [0, 1, 2, 3, 4].map(&word);
        let doer = if flags as u32 & HEAD_KERNEL != 0 {
            Doer::Kernel { cgroup }
        } else {
            let mut comm = [0; 16];
            comm[..8].copy_from_slice(&word(5).to_ne_bytes());
            comm[8..].copy_from_slice(&word(6).to_ne_bytes());
            // What is behind the end of the name is left of a longer one.
            let end = comm.iter().position(|byte| *byte == 0).unwrap_or(16);
            comm[end..].fill(0);
            Doer::Process { tgid: ids as u32, started, comm, cgroup, uid: (ids >> 32) as u32 }
        };
        Self { turn, doer, is_fresh: flags as u32 & HEAD_FRESH != 0, lost: (flags >> 32) as u32 }
    }

    /// Whether it has its parent's name, has begun at this time or later, and may still run a program, which is what all
    /// that it did belongs to: it is left alone, unless it is over.
    pub(super) fn is_new(&self, since: u64) -> bool {
        match self.doer {
            Doer::Process { started, .. } => self.is_fresh && started > since,
            _ => false,
        }
    }
}

/// Whether an element under this turn is one process's under one name in one control group.
pub(super) const fn is_whole(turn: u64) -> bool {
    turn != 0 && turn.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_eight_words() {
        let comm = u64::from_ne_bytes(*b"a name\0x");
        let words = [4, 99, 7, (1000 << 32) + 12, (5 << 32) + 2, comm, u64::MAX, 0];
        let head = Head::of_words(|index| words[index]);
        let mut expected = [0; 16];
        expected[..6].copy_from_slice(b"a name");
        assert_eq!(head.doer, Doer::Process { tgid: 12, started: 99, comm: expected, cgroup: 7, uid: 1000 });
        assert_eq!((head.turn, head.lost, head.is_fresh), (4, 5, true));
        assert_eq!([0, 98, 99, 100].map(|since| head.is_new(since)), [true, true, false, false]);
        let kernel = Head::of_words(|index| if index == 4 { 1 } else { words[index] });
        assert_eq!(kernel.doer, Doer::Kernel { cgroup: 7 });
        assert_eq!([0, 4, 5].map(is_whole), [false, true, false]);
    }

    #[test]
    fn the_header_says_the_same() {
        let header = include_str!("../../bpf/include/who.h");
        for line in [
            "_Static_assert(sizeof(struct head) == 64",
            "#define HEAD_KERNEL 1 ",
            "#define HEAD_FRESH 2 ",
            "#define OTHER 0 ",
            "#define LOST 1 ",
            "#define PLACES 2 ",
            "#define GROUP_PATH 496\nstruct group {\n\tu64 id;\n\tu64 length;",
            "struct taken {\n\tu32 place;\n\tu32 is_over;",
        ] {
            assert!(header.contains(line), "{line}");
        }
    }
}
