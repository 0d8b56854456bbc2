//! The reasons why a counter's number may lack events.

use serde::{Serialize, Serializer};

/// A reason why a counter's number may lack events.
///
/// The order is that of the harm: where nothing is exact, the hooks whose worst doubt is the first are taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Doubt {
    /// What happens while a sandbox's own first process is current is shown to no program.
    Sandbox,
    /// Another program's bpf(2) can make a breakpoint be left out, and this kernel does not count that.
    OtherPrograms,
    /// A real-time kernel, on which nothing of this was tried.
    RealTime,
    /// The self-test could not be made.
    Unproven,
    /// Another tool on the same trace event ends this one.
    SharedEvent,
    /// The program that notices at once that what `only` names has ended or come back cannot be attached.
    Unguarded,
    /// A kretprobe has too few places for calls under way, and misses the others.
    Instances,
    /// Calls of 32-bit programs do not show.
    Calls32Bit,
    /// Nothing says whether a program can be preempted.
    PreemptionUnknown,
    /// A program that is preempted is left out for everybody else on that processor.
    Preempted,
    /// It has missed events, see `hook.missed`.
    Missed,
    /// Its hooks were found not to fire.
    Silent,
}

impl Doubt {
    /// The word in `hook.doubt`, in `status` and in `check`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::OtherPrograms => "other-programs",
            Self::RealTime => "real-time",
            Self::Unproven => "unproven",
            Self::SharedEvent => "shared-event",
            Self::Unguarded => "unguarded",
            Self::Instances => "instances",
            Self::Calls32Bit => "32-bit-calls",
            Self::PreemptionUnknown => "preemption-unknown",
            Self::Preempted => "preempted",
            Self::Missed => "missed",
            Self::Silent => "silent",
        }
    }

    /// What it means, to stand behind "not exact:".
    pub const fn explained(self) -> &'static str {
        match self {
            Self::Sandbox => {
                "this kernel is a sandbox's, which shows programs nothing that happens while its own first process is current"
            }
            Self::OtherPrograms => {
                "another tool's bpf(2) can make the kernel leave a kprobe out, which Linux counts from 6.7 on only"
            }
            Self::RealTime => "this is a real-time kernel, on which it was never shown that nothing is missed",
            Self::Unproven => {
                "the self-test could not do the operation here, or the counter has no record: nothing proves that the hook fires"
            }
            Self::SharedEvent => "before Linux 4.15 another tool on the same trace event ends this one unseen",
            Self::Unguarded => {
                "the kernel does not tell at once when what `only` names ends or is made anew, so until the next look \
                 strangers can count or events be lost"
            }
            Self::Instances => {
                "before Linux 4.12 a kretprobe misses calls while some dozens are blocked; what is missed is counted in \
                 hook.missed"
            }
            Self::Calls32Bit => {
                "calls of 32-bit programs do not show: none of them in trace events of system calls, and before Linux \
                 5.10 no readv and writev in functions that have no part for them"
            }
            Self::PreemptionUnknown => {
                "nothing tells whether tasks can be preempted inside the kernel; if so, what is missed is counted in \
                 hook.missed"
            }
            Self::Preempted => {
                "tasks can be preempted inside the kernel, and an interrupted program is left out meanwhile; what is \
                 missed is counted in hook.missed"
            }
            Self::Missed => "events were missed, see hook.missed",
            Self::Silent => "its hooks were found not to fire, and what happened meanwhile is in no number",
        }
    }

    /// Of a word of [`as_str`](Self::as_str).
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|doubt| doubt.as_str() == word)
    }

    /// All of them, the least harm first.
    pub const ALL: [Self; 12] = [
        Self::Sandbox,
        Self::OtherPrograms,
        Self::RealTime,
        Self::Unproven,
        Self::SharedEvent,
        Self::Unguarded,
        Self::Instances,
        Self::Calls32Bit,
        Self::PreemptionUnknown,
        Self::Preempted,
        Self::Missed,
        Self::Silent,
    ];
}

impl Serialize for Doubt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_one_reason_and_the_order_is_that_of_the_harm() {
        for doubt in Doubt::ALL {
            assert_eq!(Doubt::of_word(doubt.as_str()), Some(doubt));
            assert!(!doubt.explained().ends_with('.'), "{doubt:?}");
        }
        assert!(Doubt::ALL.is_sorted());
        assert_eq!(Doubt::of_word("yes"), None);
    }
}
