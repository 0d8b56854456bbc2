//! What a damaged spool gives back.

use std::fs;
use std::path::{Path, PathBuf};

use ebpf_process_delivery::{Frame, Recovery, Spool, SpoolError, inspect, repair};
use proptest::prelude::*;

use crate::rig::{draw, frame};

const LIMIT: u64 = 4 << 10;

/// A spool of ten frames of three lines, two in a segment, of which the first three are
/// acknowledged.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    for n in 0..10 {
        spool.append(&frame(n * 3..n * 3 + 3)).expect("room");
    }
    for n in 0..3 {
        assert_eq!(draw(&mut spool).map(|numbers| numbers[0]), Some(n * 3));
    }
    folder
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "segment")).collect();
    segments.sort();
    segments
}

/// Everything that a spool gives back. What it found at the start is what it gives and loses.
fn drain(folder: &Path) -> (Recovery, Vec<u64>) {
    let (mut spool, recovery) = Spool::open(folder, LIMIT).expect("a spool");
    let mut given = Vec::new();
    while let Some(numbers) = draw(&mut spool) {
        given.extend(numbers);
    }
    assert_eq!(given.len() as u64 + spool.take_losses().damaged, recovery.samples);
    assert!(spool.is_empty() && spool.samples() == 0);
    assert!(given.is_sorted_by(|a, b| a < b), "{given:?}");
    (recovery, given)
}

/// Runs on a copy of the spool with one file changed.
fn with_changed(folder: &Path, file: &Path, bytes: &[u8], run: impl FnOnce(&Path)) {
    let copy = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    fs::write(copy.path().join(file.file_name().expect("a name")), bytes).expect("a write");
    run(copy.path());
}

#[test]
fn a_restart_does_not_give_back_what_was_acknowledged() {
    let folder = filled();
    let (recovery, given) = drain(folder.path());
    assert_eq!(given, (9..30).collect::<Vec<_>>());
    assert_eq!(recovery, Recovery { samples: 21, torn: 0, damaged: 0 });
    assert!(segments(folder.path()).is_empty());
    assert_eq!(drain(folder.path()), (Recovery::default(), Vec::new()));
}

#[test]
fn a_segment_cut_at_any_byte_costs_what_was_cut_off() {
    let folder = filled();
    for file in segments(folder.path()) {
        let whole = fs::read(&file).expect("a segment");
        for cut in 0..whole.len() {
            with_changed(folder.path(), &file, &whole[..cut], |copy| {
                let (_, given) = drain(copy);
                // Two frames at most were in the segment; the others are all there.
                assert!((15..21).contains(&given.len()), "{cut}: {given:?}");
                assert_eq!(given.len() % 3, 0, "half a frame");
                assert!(segments(copy).is_empty());
                // It can be used as before.
                let (mut spool, _) = Spool::open(copy, LIMIT).expect("a spool");
                spool.append(&frame(30..33)).expect("room");
                drop(spool);
                assert_eq!(drain(copy).1, [30, 31, 32]);
            });
        }
    }
}

#[test]
fn a_cursor_cut_at_any_byte_costs_nothing() {
    let folder = filled();
    let file = folder.path().join("cursor");
    let whole = fs::read(&file).expect("a cursor");
    for cut in 0..whole.len() {
        with_changed(folder.path(), &file, &whole[..cut], |copy| {
            let given = drain(copy).1;
            assert!(given.ends_with(&(9..30).collect::<Vec<_>>()), "{cut}: {given:?}");
        });
    }
}

#[test]
fn a_flipped_byte_costs_one_frame_and_forges_nothing() {
    let folder = filled();
    for file in segments(folder.path()) {
        let whole = fs::read(&file).expect("a segment");
        for byte in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[byte] ^= flip;
                with_changed(folder.path(), &file, &changed, |copy| {
                    let (recovery, given) = drain(copy);
                    assert!((18..=21).contains(&given.len()), "{byte}: {given:?}");
                    assert!(given.iter().all(|number| (9..30).contains(number)));
                    assert!(recovery.torn == 0 || given.len() < 21);
                });
            }
        }
    }
}

#[test]
fn files_that_are_not_its_own_do_not_disturb_it() {
    let folder = filled();
    for (name, content) in [
        ("notes.txt", &b"mine"[..]),
        ("x.segment", b"ebpfspl1"),
        ("7.segment", b"ebpfspl1"),
        ("00000000000000000099.segment", b""),
        ("00000000000000000098.segment", b"something else entirely"),
    ] {
        fs::write(folder.path().join(name), content).expect("a write");
    }
    let (recovery, given) = drain(folder.path());
    assert_eq!(given, (9..30).collect::<Vec<_>>());
    assert_eq!(recovery.damaged, 1);
    assert!(folder.path().join("notes.txt").exists() && folder.path().join("x.segment").exists());
}

#[test]
fn a_smaller_limit_drops_the_oldest_at_the_start() {
    let folder = filled();
    let (mut spool, recovery) = Spool::open(folder.path(), LIMIT / 8).expect("a spool");
    assert_eq!(recovery.samples, 21);
    assert!(spool.size() <= LIMIT / 8);
    let losses = spool.take_losses();
    assert_eq!((losses.full + spool.samples(), losses.damaged), (21, 0));
    assert!(spool.samples() > 0);
}

#[test]
fn an_inspection_says_what_waits_and_touches_nothing() {
    let folder = filled();
    let before: Vec<_> = segments(folder.path()).iter().map(|path| fs::read(path).expect("a segment")).collect();
    let reports = inspect(folder.path()).expect("a spool");
    assert_eq!(reports.iter().map(|report| (report.records, report.samples)).collect::<Vec<_>>()[0], (1, 3));
    assert_eq!(reports.iter().map(|report| report.samples).sum::<u64>(), 21);
    assert!(reports.iter().all(|report| report.damaged == 0 && report.encoding.as_deref() == Some("")));
    let after: Vec<_> = segments(folder.path()).iter().map(|path| fs::read(path).expect("a segment")).collect();
    assert_eq!(before, after);
    let nothing = tempfile::tempdir().expect("a folder");
    assert_eq!(inspect(nothing.path()).expect("an empty folder"), []);
    assert!(inspect(&nothing.path().join("nowhere")).is_err() && repair(&nothing.path().join("nowhere")).is_err());
}

#[test]
fn a_repair_saves_every_record_that_is_whole() {
    let folder = filled();
    for (index, file) in segments(folder.path()).iter().enumerate() {
        let whole = fs::read(file).expect("a segment");
        for byte in 0..whole.len() {
            let mut changed = whole.clone();
            changed[byte] ^= 0x10;
            with_changed(folder.path(), file, &changed, |copy| {
                let reports = repair(copy).expect("a spool");
                let whole: u64 = reports.iter().map(|report| report.samples).sum();
                // One frame at most is hit.
                assert!((18..=21).contains(&whole), "{index} {byte}: {reports:?}");
                assert!(inspect(copy).expect("a spool").iter().all(|report| report.damaged == 0));
                let (recovery, given) = drain(copy);
                assert_eq!((given.len() as u64, recovery.torn, recovery.damaged), (whole, 0, 0), "{index} {byte}");
            });
        }
    }
}

#[test]
fn a_record_inside_a_damaged_one_is_not_found_by_anybody() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("00000000000000000001.segment");
    let segment = |frame: &Frame| {
        let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
        spool.append(frame).expect("room");
        fs::read(&file).expect("a segment")
    };
    let inner = segment(&frame(0..3));
    fs::remove_file(&file).expect("a segment");
    let mut outer = Frame::default();
    outer.push(&[&inner[64..], b"x"].concat(), 1);
    let mut damaged = segment(&outer);
    *damaged.last_mut().expect("a byte") = b'y';
    fs::write(&file, damaged).expect("a write");

    assert_eq!(inspect(folder.path()).expect("a spool")[0].records, 0);
    repair(folder.path()).expect("a spool");
    assert!(drain(folder.path()).1.is_empty());
}

#[test]
fn a_spool_in_use_is_not_repaired() {
    let folder = filled();
    let (_spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    assert!(matches!(repair(folder.path()), Err(SpoolError::Locked(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_on_the_disk_it_opens_and_takes_frames(
        segment in prop::collection::vec(any::<u8>(), 0..400),
        cursor in prop::collection::vec(any::<u8>(), 0..400),
        begin in prop::sample::select(vec![&b""[..], b"ebpfspl1", b"ebpfspl2"]),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("00000000000000000003.segment"), [begin, &segment[..]].concat()).expect("a write");
        fs::write(folder.path().join("cursor"), cursor).expect("a write");
        inspect(folder.path()).expect("a folder");
        repair(folder.path()).expect("a folder");
        prop_assert!(drain(folder.path()).1.is_empty());
        let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
        spool.append(&frame(0..3)).expect("room");
        drop(spool);
        prop_assert_eq!(drain(folder.path()).1, [0, 1, 2]);
    }
}
