//! A delivery that takes the place of another one.

use std::path::Path;
use std::sync::Arc;

use ebpf_process_delivery::{Delivery, DeliveryOptions, Frame, Verdict};
use parking_lot::Mutex;
use proptest::prelude::*;

use crate::rig::{Rig, SECOND, frame, numbers, retry};

type Taken = Arc<Mutex<Vec<u64>>>;

/// A receiver that two deliveries have in common: away until the test says so.
#[derive(Clone, Default)]
struct Shared {
    taken: Taken,
    here: Arc<Mutex<bool>>,
}

impl Shared {
    fn rig(&self, options: &DeliveryOptions) -> Rig {
        let Self { taken, here } = self.clone();
        Rig::new(options, move |frame| {
            if !*here.lock() {
                return retry();
            }
            taken.lock().extend(numbers(frame));
            Verdict::Accepted
        })
    }

    fn all(&self) -> Vec<u64> {
        let mut taken = self.taken.lock().clone();
        taken.sort_unstable();
        taken
    }
}

fn on(spool: Option<&Path>) -> DeliveryOptions {
    DeliveryOptions { spool: spool.map(Path::to_owned), ..DeliveryOptions::default() }
}

/// The successor has in its book what the first one gives up, as the agent does it.
fn hand_over(first: &mut Rig, second: &mut Rig) {
    let undelivered = first.delivery.bequeath();
    assert_eq!(undelivered.samples(), first.tally().queued);
    ebpf_process_core::testkit::offer(&second.ledger, undelivered.samples());
    second.delivery.inherit(undelivered);
    second.tally();
}

#[test]
fn what_waits_in_memory_goes_along() {
    let shared = Shared::default();
    let mut first = shared.rig(&on(None));
    (0..3).for_each(|n| first.offer(frame(n * 10..(n + 1) * 10)));
    first.delivery.work();
    let mut second = shared.rig(&on(None));
    hand_over(&mut first, &mut second);
    assert_eq!(second.tally().queued, 30);
    *shared.here.lock() = true;
    second.finish();
    assert_eq!((shared.all(), second.tally().written), ((0..30).collect::<Vec<_>>(), 30));
}

#[test]
fn what_has_no_room_in_a_smaller_memory_is_dropped_and_counted() {
    let shared = Shared::default();
    let mut first = shared.rig(&on(None));
    (0..30).for_each(|n| first.offer(frame(n * 10..(n + 1) * 10)));
    first.delivery.work();
    let mut second = shared.rig(&DeliveryOptions { memory: 1000, ..on(None) });
    hand_over(&mut first, &mut second);
    let tally = second.tally();
    assert!(tally.queued > 0 && tally.queued < 100 && tally.queued + tally.dropped_total() == 300, "{tally:?}");
}

#[test]
fn a_record_of_which_the_receiver_has_a_part_is_not_sent_as_a_whole_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (taken, refuse) = (Taken::default(), Arc::new(Mutex::new(true)));
    let rig = || {
        let (taken, refuse) = (Arc::clone(&taken), Arc::clone(&refuse));
        let mut asked = 0;
        Rig::new(&on(Some(folder.path())), move |frame: &Frame| {
            asked += 1;
            match asked {
                // It goes to disk, comes back, is too large, and its first half arrives.
                _ if !*refuse.lock() => {}
                1 | 4.. => return retry(),
                2 => return Verdict::TooLarge { problem: "half of it".to_owned() },
                _ => {}
            }
            taken.lock().extend(numbers(frame));
            Verdict::Accepted
        })
    };
    let mut first = rig();
    first.offer(frame(0..10));
    for _ in 0..4 {
        first.delivery.work();
        first.wait(100 * SECOND);
    }
    assert_eq!((first.tally().written, first.tally().spooled), (5, 5));
    let undelivered = first.delivery.bequeath();
    assert_eq!((undelivered.samples(), first.tally().spooled), (5, 0));
    let mut second = rig();
    assert_eq!(second.tally().offered, 0, "it is on disk no more");
    ebpf_process_core::testkit::offer(&second.ledger, undelivered.samples());
    *refuse.lock() = false;
    second.delivery.inherit(undelivered);
    second.finish();
    assert_eq!((taken.lock().clone(), second.tally().written), ((0..10).collect::<Vec<_>>(), 5));
}

#[test]
fn what_has_no_room_stays_in_the_spool_of_the_predecessor() {
    let folder = tempfile::tempdir().expect("a folder");
    let (directory, shared) = (folder.path().join("spool"), Shared::default());
    let mut first = shared.rig(&on(Some(&directory)));
    (0..30).for_each(|n| first.offer(frame(n * 10..(n + 1) * 10)));
    first.delivery.work();
    assert_eq!(first.tally().spooled, 300);
    let memory = 3 * frame(0..10).size() as u64;
    let mut second = shared.rig(&DeliveryOptions { memory, ..on(None) });
    hand_over(&mut first, &mut second);
    let tally = second.tally();
    assert_eq!((tally.queued, tally.offered), (30, 30), "three frames have room");
    // Whoever has it as a spool of his own has the rest.
    let third = shared.rig(&on(Some(&directory)));
    assert_eq!(third.tally().spooled, 300 - tally.queued);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// From one delivery to the next, with this spool, another one or none, everything arrives, and every book balances.
    #[test]
    fn nothing_is_lost_on_the_way_from_one_to_the_next(
        steps in prop::collection::vec((prop::sample::select(&[None, Some("a"), Some("b")][..]), 0..4_u64, any::<bool>()), 1..6),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let shared = Shared::default();
        let options = |name: Option<&str>| on(name.map(|name| folder.path().join(name)).as_deref());
        let mut rig = shared.rig(&options(None));
        let (mut next, mut settled) = (0, 0);
        for (spool, frames, is_here) in steps {
            *shared.here.lock() = is_here;
            for _ in 0..frames {
                rig.offer(frame(next..next + 7));
                next += 7;
                rig.delivery.work();
                rig.wait(100 * SECOND);
            }
            let undelivered = rig.delivery.bequeath();
            settled += rig.tally().written;
            rig = shared.rig(&options(spool));
            ebpf_process_core::testkit::offer(&rig.ledger, undelivered.samples());
            rig.delivery.inherit(undelivered);
            rig.tally();
        }
        *shared.here.lock() = true;
        rig.finish();
        settled += rig.tally().written;
        prop_assert_eq!(shared.all(), (0..next).collect::<Vec<_>>());
        prop_assert_eq!(settled, next);
        prop_assert!(Delivery::due(&rig.delivery).is_none());
    }
}
