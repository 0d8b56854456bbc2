//! Whatever the bytes on disk: a spool opens, gives back or counts every sample that it found, and
//! works as before.
#![no_main]

use std::fs;
use std::path::Path;

use ebpf_process_delivery::{Frame, Spool, inspect, repair};
use fuzz::scratch;
use libfuzzer_sys::fuzz_target;

/// How the names of the formats begin, of this version and of those before it.
const MAGIC: &[u8] = b"ebpfspl";
const CURSOR: usize = 320;
const LIMIT: u64 = 1 << 20;

// A cursor's bytes, then those of segments, each of which begins with the name of the format.
fuzz_target!(|bytes: &[u8]| {
    let (cursor, rest) = bytes.split_at(bytes.len().min(CURSOR));
    let segments = segments(rest);
    let fill = |directory: &Path| {
        scratch::file(directory, "cursor", cursor);
        for (number, segment) in (1..).zip(&segments) {
            scratch::file(directory, &format!("{number:020}.segment"), segment);
        }
    };
    let given = scratch::in_directory(|directory| {
        fill(directory);
        let reports = inspect(directory).expect("a look");
        let given = drain(directory);
        let records: u64 = reports.iter().map(|report| report.records).sum();
        assert_eq!(given.len() as u64, records, "what the look found");
        given
    });
    scratch::in_directory(|directory| {
        fill(directory);
        repair(directory).expect("a repair");
        let reports = inspect(directory).expect("a look");
        assert!(reports.iter().all(|report| report.damaged == 0), "nothing is damaged any more");
        assert_eq!(drain(directory), given, "the repair kept what the spool would have given");
    });
});

/// Cuts before each name of the format.
fn segments(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut segments = Vec::new();
    while let Some(cut) = (1..rest.len()).find(|at| rest[*at..].starts_with(MAGIC)) {
        let (segment, behind) = rest.split_at(cut);
        segments.push(segment);
        rest = behind;
    }
    segments.push(rest);
    segments
}

/// Everything that a spool gives back; what it found is what it gives and loses.
fn drain(directory: &Path) -> Vec<Frame> {
    let (mut spool, recovery) = Spool::open(directory, LIMIT).expect("a spool");
    let mut given = Vec::new();
    // As many at a time as may be taken, the newest one acknowledged first.
    loop {
        let taken: Vec<_> = std::iter::from_fn(|| spool.take()).collect();
        if taken.is_empty() {
            break;
        }
        for taken in taken.iter().rev() {
            spool.acknowledge(taken.place).expect("room");
        }
        given.extend(taken.into_iter().map(|taken| taken.frame));
    }
    let losses = spool.take_losses();
    let sum = given.iter().fold(losses.damaged, |sum, frame| sum.saturating_add(frame.samples()));
    // Forged records may have more samples than can be counted.
    assert!(recovery.samples == u64::MAX || sum == recovery.samples, "every sample is given or lost");
    assert_eq!(losses.full, 0, "there was room");
    assert!(spool.is_empty() && spool.samples() == 0 && spool.size() == 0);
    let mut frame = Frame::default();
    frame.push(b"one line\n", 1);
    // Where segments are numbered up to the end there is no room for one more.
    if spool.append(&frame).is_ok() {
        let taken = spool.take().expect("it was put there");
        assert_eq!(taken.frame, frame);
        spool.acknowledge(taken.place).expect("room");
    }
    drop(spool);
    let left = fs::read_dir(directory).expect("a directory").filter_map(Result::ok);
    assert!(left.map(|entry| entry.file_name()).all(|name| name == "lock" || name == "cursor"), "no segment is left");
    given
}
