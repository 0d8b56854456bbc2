//! A receiver that is away for ten minutes, or for ever.

use std::sync::Arc;

use ebpf_process_delivery::{DeliveryOptions, Verdict};
use parking_lot::Mutex;

use crate::rig::{Rig, SECOND, frame, numbers, retry};

/// A receiver that can be switched off, and what it took.
#[derive(Clone, Default)]
struct Switch {
    off: Arc<Mutex<bool>>,
    taken: Arc<Mutex<Vec<u64>>>,
}

impl Switch {
    fn rig(&self, options: &DeliveryOptions) -> Rig {
        let Self { off, taken } = self.clone();
        Rig::new(options, move |frame| {
            if *off.lock() {
                return retry();
            }
            taken.lock().extend(numbers(frame));
            Verdict::Accepted
        })
    }

    fn set(&self, off: bool) {
        *self.off.lock() = off;
    }
}

/// 600 ticks of 100 lines, of which the first and the last few find the receiver there.
fn outage(options: &DeliveryOptions, mut each_tick: impl FnMut(&Rig)) -> (Rig, Switch) {
    let switch = Switch::default();
    let mut rig = switch.rig(options);
    for tick in 0..600 {
        switch.set((3..590).contains(&tick));
        rig.offer(frame(tick * 100..tick * 100 + 100));
        rig.delivery.work();
        rig.wait(SECOND);
        each_tick(&rig);
    }
    rig.finish();
    (rig, switch)
}

#[test]
fn after_ten_minutes_in_memory_every_frame_arrives_once_and_in_order() {
    let (rig, switch) = outage(&DeliveryOptions::default(), |_| {});
    assert_eq!(*switch.taken.lock(), (0..60_000).collect::<Vec<_>>());
    assert_eq!(rig.tally().written, 60_000);
}

#[test]
fn after_ten_minutes_on_disk_every_frame_arrives_once_and_in_order_and_memory_stays_flat() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = Some(folder.path().join("spool"));
    let size = frame(0..100).size() as u64;
    // Two frames fit into memory, hundreds are waiting.
    let options = DeliveryOptions { memory: 2 * size, spool, ..DeliveryOptions::default() };
    let mut longest = 0;
    let (rig, switch) = outage(&options, |rig| {
        let tally = rig.tally();
        assert_eq!(tally.dropped_total(), 0);
        assert!(tally.queued <= 200, "{tally:?}");
        longest = longest.max(tally.spooled);
    });
    assert_eq!(*switch.taken.lock(), (0..60_000).collect::<Vec<_>>());
    assert_eq!(rig.tally().written, 60_000);
    assert!(longest > 50_000, "{longest}");
    assert_eq!(segments(folder.path()), 0, "an empty spool has no segments");
}

#[test]
fn a_spool_that_is_full_drops_its_oldest_segment_and_the_rest_arrives_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let options = DeliveryOptions { spool: Some(path.clone()), spool_size: 256 << 10, ..DeliveryOptions::default() };
    let (rig, switch) = outage(&options, |_| {
        let used: u64 = files(&path).iter().filter(|(name, _)| name.ends_with(".segment")).map(|(_, size)| size).sum();
        assert!(used <= 256 << 10, "{used}");
    });
    let tally = rig.tally();
    let taken = switch.taken.lock();
    assert!(taken.is_sorted() && taken.ends_with(&[59_998, 59_999]));
    assert_eq!(taken.len() as u64, tally.written);
    let [("spool full", dropped)] = tally.dropped[..] else { panic!("{tally:?}") };
    assert_eq!(dropped + tally.written, 60_000);
    // A full spool holds fifteen segments of sixteen at least.
    assert!(tally.written > 60_000 / 10, "{tally:?}");
}

#[test]
fn what_a_stop_leaves_on_disk_goes_first_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = DeliveryOptions { spool: Some(folder.path().to_owned()), ..DeliveryOptions::default() };
    let switch = Switch::default();
    switch.set(true);
    let mut first = switch.rig(&options);
    for n in 0..5 {
        first.offer(frame(n * 10..n * 10 + 10));
        first.delivery.work();
    }
    first.delivery.close();
    let tally = first.tally();
    assert_eq!((tally.spooled, tally.queued, tally.dropped_total()), (50, 0, 0));
    drop(first);

    switch.set(false);
    let mut second = switch.rig(&options);
    assert_eq!((second.tally().offered, second.tally().spooled), (50, 50));
    second.offer(frame(50..60));
    second.delivery.work();
    second.delivery.work();
    assert_eq!(second.tally().written, 20);
    // A killed agent says nothing to anybody.
    drop(second);

    let mut third = switch.rig(&options);
    assert_eq!(third.tally().offered, 30);
    third.finish();
    assert_eq!(*switch.taken.lock(), (0..50).collect::<Vec<_>>());
}

fn files(folder: &std::path::Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let file = |entry: std::fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("a file").len())
    };
    entries.map(file).collect()
}

fn segments(folder: &std::path::Path) -> usize {
    files(&folder.join("spool")).iter().filter(|(name, _)| name.ends_with(".segment")).count()
}
