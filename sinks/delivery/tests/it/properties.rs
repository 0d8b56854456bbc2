//! Random verdicts, restarts and crashes: the books balance and the order is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use ebpf_process_delivery::{DeliveryOptions, Verdict};
use parking_lot::Mutex;
use proptest::prelude::*;

use crate::rig::{Rig, SECOND, frame, numbers, retry};

#[derive(Clone, Debug)]
enum Step {
    /// A frame of so many lines.
    Offer(u64),
    /// An attempt, if it is time, with this outcome.
    Work(Outcome),
    /// So many seconds pass.
    Wait(u32),
    /// The process is asked to stop; a receiver that is there takes what it is sent.
    Stop(bool),
    /// The process is killed.
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Accepted,
    Partly,
    Rejected,
    TooLarge,
    Doubtful,
    Retry,
    Misconfigured,
}

impl Outcome {
    fn verdict(self) -> Verdict {
        let problem = String::new();
        match self {
            Self::Accepted => Verdict::Accepted,
            Self::Partly => Verdict::Partly { rejected: 1, reason: "partial write", problem },
            Self::Rejected => Verdict::Rejected { reason: "malformed", problem },
            Self::TooLarge => Verdict::TooLarge { problem },
            Self::Doubtful => Verdict::Doubtful { reason: "malformed", problem },
            Self::Retry => retry(),
            Self::Misconfigured => Verdict::Misconfigured { problem },
        }
    }
}

/// What the receiver saw.
#[derive(Debug)]
struct Seen {
    next: Outcome,
    /// The lines of frames that it took or took in part.
    taken: Vec<u64>,
    /// The lines of frames that it wanted in pieces or that others may have passed: an agent that ends
    /// meanwhile sends the whole again.
    in_pieces: BTreeSet<u64>,
}

fn start(options: &DeliveryOptions, seen: &Arc<Mutex<Seen>>) -> Rig {
    let seen = Arc::clone(seen);
    Rig::new(options, move |frame| {
        let mut seen = seen.lock();
        match seen.next {
            Outcome::Accepted | Outcome::Partly => seen.taken.extend(numbers(frame)),
            Outcome::Rejected | Outcome::TooLarge | Outcome::Doubtful => seen.in_pieces.extend(numbers(frame)),
            Outcome::Retry | Outcome::Misconfigured => {}
        }
        seen.next.verdict()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Outcome::{Accepted, Doubtful, Misconfigured, Partly, Rejected, Retry, TooLarge};
    let outcome = prop::sample::select(vec![
        Accepted,
        Accepted,
        Accepted,
        Partly,
        Rejected,
        TooLarge,
        Doubtful,
        Doubtful,
        Retry,
        Retry,
        Misconfigured,
    ]);
    let step = prop_oneof![
        6 => (1..20_u64).prop_map(Step::Offer),
        6 => outcome.prop_map(Step::Work),
        2 => (0..40_u32).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Stop),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_but_what_is_counted_and_nothing_comes_twice(
        steps in steps(),
        on_disk in any::<bool>(),
        memory in prop_oneof![Just(300_u64), Just(2_000), Just(1 << 20)],
        spool_size in prop_oneof![Just(1_000_u64), Just(4_000), Just(1 << 20)],
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = on_disk.then(|| folder.path().to_owned());
        let options = DeliveryOptions { memory, spool, spool_size, ..DeliveryOptions::default() };
        let seen = Arc::new(Mutex::new(Seen { next: Outcome::Accepted, taken: Vec::new(), in_pieces: BTreeSet::new() }));
        let mut rig = start(&options, &seen);
        let (mut line, mut killed, mut counted) = (0, false, 0);
        for step in steps {
            match step {
                Step::Offer(lines) => {
                    rig.offer(frame(line..line + lines));
                    line += lines;
                }
                Step::Work(outcome) => {
                    seen.lock().next = outcome;
                    rig.delivery.work();
                }
                Step::Wait(seconds) => rig.wait(SECOND * seconds),
                Step::Stop(there) => {
                    seen.lock().next = if there { Outcome::Accepted } else { Outcome::Retry };
                    rig.delivery.close();
                    let tally = rig.tally();
                    prop_assert_eq!(tally.queued, 0);
                    counted += tally.written + tally.dropped_total() + tally.rejected_total();
                    drop(rig);
                    rig = start(&options, &seen);
                    // What is split is in the spool as a whole, and all of it is found again.
                    prop_assert!(rig.tally().offered >= tally.spooled);
                    if rig.tally().offered > tally.spooled {
                        killed = true;
                    }
                }
                Step::Kill => {
                    killed = true;
                    let spooled = rig.tally().spooled;
                    drop(rig);
                    rig = start(&options, &seen);
                    prop_assert!(rig.tally().offered + rig.tally().dropped_total() >= spooled);
                }
            }
            rig.tally();
        }
        seen.lock().next = Outcome::Accepted;
        rig.finish();
        let tally = rig.tally();
        prop_assert_eq!((tally.queued, tally.spooled), (0, 0));
        counted += tally.written + tally.dropped_total() + tally.rejected_total();

        let seen = seen.lock();
        let mut last = None;
        for &number in &seen.taken {
            if !seen.in_pieces.contains(&number) {
                prop_assert!(last < Some(number), "{} after {:?}", number, last);
                last = Some(number);
            }
        }
        if !killed {
            prop_assert_eq!(counted, line, "what was offered is what was counted");
        }
    }
}
