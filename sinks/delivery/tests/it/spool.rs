//! What a damaged spool gives back.

use std::fs;
use std::path::{Path, PathBuf};

use ebpf_process_core::Direct;
use ebpf_process_delivery::{Frame, Recovery, Spool, SpoolError, inspect, is_of_a_spool, repair};
use proptest::prelude::*;

use crate::rig::{draw, frame, numbers};

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

/// What a look at each segment says: bytes, acknowledged bytes, records, samples and damaged bytes.
fn looked(folder: &Path) -> Vec<(Option<String>, [u64; 5])> {
    let reports = inspect(folder).expect("a spool").into_iter();
    reports.map(|it| (it.encoding, [it.size, it.acknowledged, it.records, it.samples, it.damaged])).collect()
}

#[test]
fn a_look_tells_to_the_byte_what_is_acknowledged_and_damaged_and_a_repair_leaves_the_rest() {
    const ENCODINGS: &[&str] = &["rows/1"];
    let folder = tempfile::tempdir().expect("a folder");
    let open =
        || Spool::open_by(std::sync::Arc::new(Direct::default()), folder.path(), LIMIT, ENCODINGS).expect("a spool");
    let (mut spool, _) = open();
    // Two of 96 bytes behind the 64 with which a segment begins.
    (0..8).for_each(|_| spool.append(&item(40)).expect("room"));
    let places: Vec<_> = std::iter::from_fn(|| spool.take()).map(|taken| taken.place).collect();
    for at in [0, 3] {
        spool.acknowledge(places[at]).expect("a cursor");
    }
    drop(spool);
    let named = Some("rows/1".to_owned());
    let whole = (named.clone(), [256, 64, 2, 2, 0]);
    let (first, second) = ((named.clone(), [256, 160, 1, 1, 0]), (named.clone(), [256, 160, 1, 1, 0]));
    assert_eq!(looked(folder.path()), [first.clone(), second, whole.clone(), whole]);

    // The beginning of the second one, the head of a record of the third, the frame of one of the fourth.
    let files = segments(folder.path());
    for (file, at) in [(1, 20), (2, 64 + 96 + 3), (3, 64 + 90)] {
        let mut bytes = fs::read(&files[file]).expect("a segment");
        bytes[at] ^= 1;
        fs::write(&files[file], bytes).expect("a write");
    }
    // One of an earlier version before the cursor, and one that was never begun.
    fs::write(folder.path().join("00000000000000000000.segment"), b"ebpfspl1").expect("a write");
    fs::write(folder.path().join("00000000000000000009.segment"), b"ebpfspl2").expect("a write");
    let old = (Some(String::new()), [8, 8, 0, 0, 0]);
    let damaged = [
        old.clone(),
        first.clone(),
        (None, [256, 8 + 96, 1, 1, 64]),
        (named.clone(), [256, 64, 1, 1, 96]),
        (named.clone(), [256, 64, 1, 1, 96]),
        (None, [8, 8, 0, 0, 8]),
    ];
    assert_eq!(looked(folder.path()), damaged);
    let before: Vec<_> = fs::read(&files[0]).expect("a segment");
    assert_eq!(repair(folder.path()).expect("a spool").len(), 6);
    assert_eq!(
        looked(folder.path()),
        [
            old,
            first,
            (named.clone(), [160, 64, 1, 1, 0]),
            (named.clone(), [160, 64, 1, 1, 0]),
            (named, [160, 64, 1, 1, 0]),
        ]
    );
    assert_eq!(fs::read(&files[0]).expect("a segment"), before, "what is whole is left as it is");
    let (spool, recovery) = open();
    assert_eq!((recovery, spool.samples()), (Recovery { samples: 4, torn: 0, damaged: 0 }, 4));
}

#[test]
fn what_was_acknowledged_can_neither_be_torn_nor_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    spool.append(&item(40)).expect("room");
    let [file] = segments(folder.path()).try_into().expect("one segment");
    let mut bytes = fs::read(&file).expect("a segment");
    let taken = spool.take().expect("a frame");
    spool.acknowledge(taken.place).expect("a cursor");
    drop(spool);
    bytes[20] ^= 1;
    fs::write(&file, &bytes).expect("a write");
    assert_eq!(looked(folder.path()), [(None, [160, 160, 0, 0, 0])]);
    fs::write(&file, b"ebpfspl2").expect("a write");
    assert_eq!(looked(folder.path()), [(None, [8, 8, 0, 0, 0])]);
}

#[test]
fn a_repair_keeps_the_place_of_what_is_acknowledged() {
    let folder = filled();
    // Of the second segment the first frame is acknowledged; the second one is damaged.
    let [first, rest @ ..] = &segments(folder.path())[..] else { panic!("several") };
    let mut bytes = fs::read(first).expect("a segment");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(first, bytes).expect("a write");
    repair(folder.path()).expect("a spool");
    assert!(!first.exists() && rest.iter().all(|file| file.exists()), "nothing of it is left");
    assert_eq!(drain(folder.path()), (Recovery { samples: 18, torn: 0, damaged: 0 }, (12..30).collect()));

    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _) = Spool::open(folder.path(), 16 * LIMIT).expect("a spool");
    (0..4).for_each(|n| spool.append(&frame(n..n + 1)).expect("room"));
    assert_eq!(draw(&mut spool), Some(vec![0]));
    drop(spool);
    let file = &segments(folder.path())[0];
    let mut bytes = fs::read(file).expect("a segment");
    let third = 64 + 2 * (bytes.len() - 64) / 4;
    bytes[third + 50] ^= 1;
    fs::write(file, bytes).expect("a write");
    repair(folder.path()).expect("a spool");
    assert_eq!(drain(folder.path()), (Recovery { samples: 2, torn: 0, damaged: 0 }, vec![1, 3]));
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

/// One item of so many bytes and one sample, whose record takes 56 more.
fn item(bytes: usize) -> Frame {
    let mut frame = Frame::default();
    frame.push(&vec![b'x'; bytes], 1);
    frame
}

#[test]
fn a_spool_takes_as_much_as_its_limit_and_a_segment_a_sixteenth() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    // A segment begins with 64 bytes, and has 256 at most.
    (0..4).for_each(|_| spool.append(&item(40)).expect("room"));
    assert_eq!((segments(folder.path()).len(), spool.size()), (2, 512));
    let error = spool.append(&item(4096 - 64 - 55)).expect_err("it is larger than all of the spool");
    assert_eq!((error.kind(), spool.samples()), (std::io::ErrorKind::FileTooLarge, 4));
    spool.append(&item(4096 - 64 - 56)).expect("it is as large as the spool");
    assert_eq!((spool.size(), spool.samples(), spool.take_losses().full), (LIMIT, 1, 4));

    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _) = Spool::open(folder.path(), LIMIT + 64).expect("a spool");
    (0..32).for_each(|_| spool.append(&item(40)).expect("room"));
    assert_eq!((spool.size(), spool.take_losses().full), (LIMIT, 0));
    drop(spool);
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    assert_eq!((spool.size(), spool.take_losses().full), (LIMIT, 0), "it has room for what it has");
    spool.append(&item(40)).expect("room");
    assert_eq!((spool.size(), spool.take_losses().full), (LIMIT - 256 + 160, 2));
}

#[test]
fn a_torn_record_is_cut_off_and_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    (0..2).for_each(|n| spool.append(&frame(n..n + 1)).expect("room"));
    drop(spool);
    let [file] = segments(folder.path()).try_into().expect("one segment");
    let whole = fs::read(&file).expect("a segment");
    fs::write(&file, &whole[..whole.len() - 1]).expect("a write");
    let (mut spool, recovery) = Spool::open(folder.path(), LIMIT).expect("a spool");
    assert_eq!(recovery, Recovery { samples: 1, torn: 1, damaged: 0 });
    assert_eq!((draw(&mut spool), draw(&mut spool)), (Some(vec![0]), None));
}

#[test]
fn a_segment_that_could_not_be_removed_is_removed_by_the_next_process() {
    let folder = filled();
    let first = segments(folder.path())[0].clone();
    let kept = fs::read(&first).expect("a segment");
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    // The first of these was in it.
    (0..2).for_each(|_| assert!(draw(&mut spool).is_some()));
    drop(spool);
    fs::write(&first, kept).expect("a write");
    let (spool, recovery) = Spool::open(folder.path(), LIMIT).expect("a spool");
    assert_eq!((recovery.samples, spool.samples(), first.exists()), (15, 15, false));
}

#[test]
fn a_segment_that_somebody_removes_is_not_written_to_any_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    spool.append(&frame(0..1)).expect("room");
    fs::remove_file(&segments(folder.path())[0]).expect("a segment");
    assert_eq!(spool.append(&frame(1..2)).expect_err("it is gone").kind(), std::io::ErrorKind::NotFound);
    spool.append(&frame(2..3)).expect("another segment");
    assert_eq!((draw(&mut spool), spool.take_losses().damaged, draw(&mut spool)), (Some(vec![2]), 1, None));
}

#[test]
fn nothing_is_taken_from_a_directory_that_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("spool");
    let (mut spool, _) = Spool::open(&directory, LIMIT).expect("a spool");
    (0..3).for_each(|n| spool.append(&frame(n..n + 1)).expect("room"));
    assert_eq!(draw(&mut spool), Some(vec![0]));
    fs::remove_dir_all(&directory).expect("a directory");
    assert_eq!((draw(&mut spool), spool.take_losses().damaged), (None, 2));
}

#[test]
fn the_cursor_of_somebody_else_is_left_alone() {
    let folder = filled();
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    let taken = spool.take().expect("a frame");
    fs::remove_file(folder.path().join("lock")).expect("a lock");
    let (mut other, recovery) = Spool::open(folder.path(), LIMIT).expect("nobody has it, as far as is known");
    let before = fs::read(folder.path().join("cursor")).expect("a cursor");
    spool.acknowledge(taken.place).expect("it is nobody's any more");
    assert_eq!(fs::read(folder.path().join("cursor")).expect("a cursor"), before);
    assert_eq!((recovery.samples, draw(&mut other)), (21, Some(vec![9, 10, 11])));
}

#[test]
fn a_lock_that_was_removed_is_made_again_and_nothing_is_lost() {
    let folder = filled();
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    let taken = spool.take().expect("a frame");
    fs::remove_file(folder.path().join("lock")).expect("a lock");
    spool.append(&frame(30..31)).expect("room");
    assert!(matches!(Spool::open(folder.path(), LIMIT), Err(SpoolError::Locked(_))));
    spool.acknowledge(taken.place).expect("a cursor");
    let given: Vec<_> = std::iter::from_fn(|| draw(&mut spool)).flatten().collect();
    assert_eq!((given, spool.take_losses().damaged), ((12..31).collect(), 0));
}

#[test]
fn frames_are_taken_on_and_on_and_each_stays_until_it_is_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    assert!(spool.is_empty());
    // Two are in a segment.
    (0..3).for_each(|_| spool.append(&item(40)).expect("room"));
    let mut places: Vec<_> = std::iter::from_fn(|| spool.take()).map(|taken| taken.place).collect();
    assert_eq!((places.len(), spool.is_empty(), spool.samples()), (3, false, 3));
    for _ in 0..2 {
        spool.append(&item(40)).expect("room");
        places.extend(spool.take().map(|taken| taken.place));
    }
    assert_eq!((places.len(), spool.take().is_none()), (5, true));
    assert_eq!(places, (places[0]..places[0] + 5).collect::<Vec<_>>());
    for place in &places[1..4] {
        spool.acknowledge(*place).expect("a cursor");
    }
    assert_eq!((segments(folder.path()).len(), spool.samples(), spool.is_empty()), (3, 2, false));
    drop(spool);
    // The first and the last one come again.
    let (mut spool, recovery) = Spool::open(folder.path(), LIMIT).expect("a spool");
    assert_eq!((recovery.samples, spool.is_empty()), (2, false));
    for _ in 0..2 {
        let taken = spool.take().expect("a frame");
        spool.acknowledge(taken.place).expect("a cursor");
    }
    assert!(spool.is_empty() && segments(folder.path()).is_empty());
}

#[test]
fn what_made_room_is_no_longer_taken_and_the_next_one_is_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    // Two are in a segment.
    let mut appended = (0..).map(|n| frame(n * 2..n * 2 + 2));
    appended.by_ref().take(10).for_each(|frame| spool.append(&frame).expect("room"));
    let taken: Vec<_> = (0..4).filter_map(|_| spool.take()).collect();
    let first = segments(folder.path())[0].clone();
    let mut samples = spool.samples();
    while first.exists() {
        spool.append(&appended.next().expect("one more")).expect("room");
        samples += 2;
    }
    assert_eq!((spool.samples(), spool.take_losses().full), (samples - 4, 0), "they were taken");
    // An acknowledgement of what is gone hits nothing else.
    spool.acknowledge(taken[0].place).expect("nothing");
    assert_eq!(spool.samples(), samples - 4);
    let next = spool.take().expect("a frame");
    assert_eq!((next.place, numbers(&next.frame)), (taken[3].place + 1, vec![8, 9]));
    spool.acknowledge(taken[2].place).expect("a cursor");
    assert_eq!(spool.samples(), samples - 6);
}

#[test]
fn an_error_has_its_cause_and_the_files_of_a_spool_are_known() {
    use std::error::Error as _;

    let folder = filled();
    let (_spool, _) = Spool::open(folder.path(), LIMIT).expect("a spool");
    assert!(Spool::open(folder.path(), LIMIT).expect_err("locked").source().is_none());
    assert!(Spool::open(&folder.path().join("lock"), LIMIT).expect_err("a file").source().is_some());
    for entry in fs::read_dir(folder.path()).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        assert!(is_of_a_spool(&name), "{}", name.display());
    }
    for name in ["notes", "7.segment", "cursors"] {
        assert!(!is_of_a_spool(name.as_ref()), "{name}");
    }
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
