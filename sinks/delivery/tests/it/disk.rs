//! A disk that is somebody else's, full, read-only or gone.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ebpf_process_core::testkit::context;
use ebpf_process_delivery::{Carrier, Delivery, DeliveryOptions, Frame, Spool, SpoolError, Verdict};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::rig::{Rig, SECOND, draw, frame, numbers, retry};

fn on(spool: &Path) -> DeliveryOptions {
    DeliveryOptions { spool: Some(spool.to_owned()), ..DeliveryOptions::default() }
}

/// A delivery whose receiver is away until the test says so.
fn away(options: &DeliveryOptions) -> (Rig, std::sync::Arc<parking_lot::Mutex<Option<Vec<u64>>>>) {
    let taken = std::sync::Arc::new(parking_lot::Mutex::new(None::<Vec<u64>>));
    let sink = std::sync::Arc::clone(&taken);
    let rig = Rig::new(options, move |frame| match &mut *sink.lock() {
        None => retry(),
        Some(taken) => {
            taken.extend(numbers(frame));
            Verdict::Accepted
        }
    });
    (rig, taken)
}

#[test]
fn two_never_share_a_directory() {
    struct Nobody;
    impl Carrier for Nobody {
        fn send(&mut self, _: &Frame, _: std::time::Duration) -> Verdict {
            retry()
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (first, _) = Spool::open(folder.path(), 1 << 20).expect("a spool");
    assert!(matches!(Spool::open(folder.path(), 1 << 20), Err(SpoolError::Locked(_))));
    let refusal = Delivery::new(Nobody, &on(folder.path()), &context("second")).expect_err("the first one has it");
    assert!(refusal.problem().contains("belongs to another") && refusal.way_out().contains("directory"));
    assert!(refusal.is_passing());
    drop(first);
    Spool::open(folder.path(), 1 << 20).expect("the first one is gone");
}

#[test]
fn nobody_else_can_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("a/b");
    let (mut spool, _) = Spool::open(&directory, 1 << 20).expect("a spool");
    spool.append(&frame(0..3)).expect("room");
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in fs::read_dir(&directory).expect("a folder") {
        assert_eq!(mode(&entry.expect("an entry").path()), 0o600);
    }
}

#[test]
fn a_path_that_is_no_directory_leaves_the_memory() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let (mut rig, taken) = away(&on(file.path()));
    rig.offer(frame(0..10));
    rig.delivery.work();
    assert_eq!(rig.tally().queued, 10);
    *taken.lock() = Some(Vec::new());
    rig.finish();
    assert_eq!(rig.tally().written, 10);
}

#[test]
fn a_spool_that_cannot_be_used_at_the_start_is_used_once_it_can_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("parent/spool");
    // An earlier process has left something there, and now a file is in the way.
    let (mut rig, _) = away(&on(&directory));
    rig.offer(frame(0..10));
    rig.delivery.close();
    drop(rig);
    let aside = folder.path().join("aside");
    fs::rename(folder.path().join("parent"), &aside).expect("a name");
    fs::write(folder.path().join("parent"), "").expect("a file");
    let (mut rig, taken) = away(&on(&directory));
    rig.offer(frame(10..20));
    rig.delivery.work();
    assert_eq!((rig.tally().queued, rig.tally().spooled), (10, 0), "data waits in memory");
    fs::remove_file(folder.path().join("parent")).expect("it was there");
    fs::rename(&aside, folder.path().join("parent")).expect("a name");
    rig.wait(120 * SECOND);
    rig.delivery.work();
    assert_eq!((rig.tally().queued, rig.tally().spooled), (0, 20), "and on disk, behind what was there");
    *taken.lock() = Some(Vec::new());
    rig.finish();
    assert_eq!(*taken.lock(), Some((0..20).collect()));
}

#[test]
fn a_spool_on_a_disk_that_is_read_only_at_the_start_is_used_once_it_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path();
    if mount("tmpfs", place, "tmpfs", MountFlags::RDONLY, None).is_err() {
        // Only root may do that.
        return;
    }
    let (mut rig, _) = away(&on(&place.join("spool")));
    rig.offer(frame(0..10));
    for _ in 0..3 {
        rig.delivery.work();
        rig.wait(120 * SECOND);
    }
    assert_eq!(rig.tally().queued, 10);
    mount_remount(place, MountFlags::empty(), "").expect("another mount");
    rig.delivery.work();
    assert_eq!(rig.tally().spooled, 10);
    drop(rig);
    unmount(place, UnmountFlags::DETACH).expect("a mount");
}

#[test]
fn a_directory_that_vanishes_costs_what_was_in_it_alone_and_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("spool");
    let (mut rig, taken) = away(&on(&directory));
    rig.offer(frame(0..10));
    rig.delivery.work();
    rig.offer(frame(10..20));
    assert_eq!(rig.tally().spooled, 20);
    fs::remove_dir_all(&directory).expect("a directory");
    rig.offer(frame(20..30));
    // The first one is being delivered: it is written to the new directory, before all others.
    let tally = rig.tally();
    assert_eq!((tally.spooled, tally.queued, &tally.dropped[..]), (20, 0, &[("spool damaged", 10)][..]));
    assert!(matches!(Spool::open(&directory, 1 << 20), Err(SpoolError::Locked(_))), "it is locked as before");
    *taken.lock() = Some(Vec::new());
    rig.finish();
    assert_eq!((rig.tally().written, rig.tally().queued), (20, 0));
    assert_eq!(*taken.lock(), Some((0..10).chain(20..30).collect()));
}

#[test]
fn a_directory_that_is_made_anew_is_locked_again_or_left_to_who_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("spool");
    let (mut rig, taken) = away(&on(&directory));
    rig.offer(frame(0..10));
    rig.delivery.work();
    rig.offer(frame(10..20));
    fs::remove_dir_all(&directory).expect("a directory");
    // Somebody else is faster.
    let (mut other, _) = Spool::open(&directory, 1 << 20).expect("a spool");
    other.append(&frame(500..510)).expect("room");
    // To send is no right to what is there, not even where it has the names of what was ours.
    *taken.lock() = Some(Vec::new());
    rig.wait(SECOND);
    rig.delivery.work();
    rig.delivery.work();
    let tally = rig.tally();
    assert_eq!((tally.written, tally.spooled, &tally.dropped[..]), (10, 0, &[("spool damaged", 10)][..]));
    assert_eq!(*taken.lock(), Some((0..10).collect()), "what is being delivered is in memory as well");
    *taken.lock() = None;
    rig.offer(frame(20..30));
    rig.delivery.work();
    rig.offer(frame(10..10));
    assert_eq!((rig.tally().spooled, rig.tally().queued), (0, 10), "what is new waits in memory");
    let theirs = other.take().map(|taken| numbers(&taken.frame));
    assert_eq!(theirs, Some((500..510).collect()), "their frames are left alone");
    drop(other);
    rig.offer(frame(30..40));
    let tally = rig.tally();
    assert_eq!((tally.offered, tally.spooled, tally.queued, tally.dropped_total()), (50, 30, 0, 10));
    assert!(matches!(Spool::open(&directory, 1 << 20), Err(SpoolError::Locked(_))));
    *taken.lock() = Some(Vec::new());
    rig.finish();
    // What the other one left goes first.
    assert_eq!(*taken.lock(), Some((500..510).chain(20..40).collect()));
}

#[test]
fn what_somebody_else_took_over_is_theirs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _) = Spool::open(folder.path(), 1 << 20).expect("a spool");
    for n in 0..3 {
        spool.append(&frame(n * 10..n * 10 + 10)).expect("room");
    }
    let taken = spool.take().expect("a frame");
    assert_eq!(numbers(&taken.frame), (0..10).collect::<Vec<_>>());
    // Only the lock goes, and somebody else finds the rest.
    fs::remove_file(folder.path().join("lock")).expect("a lock");
    let (mut other, found) = Spool::open(folder.path(), 1 << 20).expect("a spool");
    assert_eq!(found.samples, 30);
    spool.acknowledge(taken.place).expect("it is not ours to acknowledge");
    assert!(spool.take().is_none());
    assert_eq!((spool.take_losses().damaged, spool.samples()), (20, 0));
    for n in 0..3 {
        assert_eq!(draw(&mut other), Some((n * 10..n * 10 + 10).collect()));
    }
}

#[test]
fn a_directory_that_could_not_be_taken_over_at_first_is_taken_over_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("spool");
    let (mut spool, _) = Spool::open(&directory, 1 << 20).expect("a spool");
    fs::remove_dir_all(&directory).expect("a directory");
    let (mut other, _) = Spool::open(&directory, 1 << 20).expect("a spool");
    other.append(&frame(500..510)).expect("room");
    drop(other);
    // No file, so that it cannot be read.
    let obstacle = directory.join(format!("{:020}.segment", 7));
    fs::create_dir(&obstacle).expect("a directory");
    for _ in 0..2 {
        spool.append(&frame(0..10)).expect_err("not all can be taken over");
        assert!(spool.take().is_none(), "half of it is not taken over");
    }
    fs::remove_dir(&obstacle).expect("a directory");
    spool.append(&frame(0..10)).expect("room");
    assert_eq!((spool.take_found(), spool.take_losses().damaged), (10, 0));
    for expected in [500..510, 0..10] {
        assert_eq!(draw(&mut spool), Some(expected.collect()));
    }
}

#[test]
fn a_frame_in_hand_whose_directory_vanished_is_kept_by_a_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("spool");
    let (mut rig, _) = away(&on(&directory));
    for n in 0..3 {
        rig.offer(frame(n * 10..n * 10 + 10));
        rig.wait(SECOND * 60);
        rig.delivery.work();
    }
    // The first one is in hand, and all are on disk.
    assert_eq!(rig.tally().spooled, 30);
    fs::remove_dir_all(&directory).expect("a directory");
    rig.offer(frame(30..40));
    rig.delivery.close();
    let tally = rig.tally();
    assert_eq!((tally.spooled, tally.queued, &tally.dropped[..]), (20, 0, &[("spool damaged", 20)][..]));
    drop(rig);
    let (mut rig, taken) = away(&on(&directory));
    *taken.lock() = Some(Vec::new());
    rig.finish();
    let mut taken = taken.lock().clone().expect("a receiver");
    taken.sort_unstable();
    assert_eq!(taken, (0..10).chain(30..40).collect::<Vec<_>>());
}

#[test]
fn a_frame_in_hand_outlives_the_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("spool");
    let (mut spool, _) = Spool::open(&directory, 1 << 20).expect("a spool");
    spool.append(&frame(0..10)).expect("room");
    let taken = spool.take().expect("a frame");
    fs::remove_dir_all(&directory).expect("a directory");
    spool.append(&frame(10..20)).expect("room");
    spool.append(&frame(20..30)).expect("room");
    spool.acknowledge(taken.place).expect("nothing to acknowledge");
    let mut left = Vec::new();
    while let Some(numbers) = draw(&mut spool) {
        left.extend(numbers);
    }
    assert_eq!(left, (10..30).collect::<Vec<_>>());
    assert!(spool.is_empty());
}

/// A file system of its own, for the life of a test.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    /// None, said loudly, where mounting is not allowed.
    fn tiny(path: &'a Path, name: &str) -> Option<Self> {
        match mount("tmpfs", path, "tmpfs", MountFlags::NODEV, c"size=64k") {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                // Not eprintln: the test harness would keep it to itself as long as the test passes.
                let skipped = format!("SKIPPED live test {name}: cannot mount a file system of 64 KiB: {error}");
                let _ = writeln!(std::io::stderr(), "{skipped}");
                None
            }
        }
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_leaves_the_memory_and_nothing_torn_on_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(_mount) = Mount::tiny(folder.path(), "delivery-disk-full") else { return };
    let memory = 8 * frame(0..100).size() as u64;
    let (mut rig, taken) = away(&DeliveryOptions { memory, ..on(folder.path()) });
    for n in 0..100 {
        rig.offer(frame(n * 100..n * 100 + 100));
        rig.delivery.work();
        rig.tally();
    }
    let tally = rig.tally();
    assert!(tally.spooled > 1000 && tally.queued > 500, "{tally:?}");
    assert_eq!(tally.dropped, [("memory full", 10_000 - tally.spooled - tally.queued)]);
    *taken.lock() = Some(Vec::new());
    rig.finish();
    let tally = rig.tally();
    assert_eq!(tally.written + tally.dropped_total(), 10_000);
    let taken = taken.lock();
    let taken = taken.as_ref().expect("a receiver");
    assert_eq!(taken.len() as u64, tally.written);
    assert!(taken.is_sorted() && taken.ends_with(&[9_999]));
}

#[test]
fn a_disk_that_becomes_read_only_leaves_the_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(_mount) = Mount::tiny(folder.path(), "delivery-read-only") else { return };
    let (mut rig, taken) = away(&on(folder.path()));
    rig.offer(frame(0..10));
    rig.delivery.work();
    rig.delivery.close();
    drop(rig);
    mount_remount(folder.path(), MountFlags::RDONLY, c"").expect("a remount");
    // What is there cannot be marked as sent, so it is not read either.
    let (mut rig, _) = away(&on(folder.path()));
    rig.offer(frame(10..20));
    rig.delivery.work();
    assert_eq!((rig.tally().queued, rig.tally().spooled), (10, 0));
    drop(rig);
    mount_remount(folder.path(), MountFlags::NODEV, c"").expect("a remount");
    *taken.lock() = Some(Vec::new());
    let (mut rig, taken) = away(&on(folder.path()));
    *taken.lock() = Some(Vec::new());
    rig.finish();
    assert_eq!(rig.tally().written, 10);
}
