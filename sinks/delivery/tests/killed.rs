//! A process that is killed while it spools, at a moment that nobody chose.
//!
//! Alone in its process: a child holds what its parent has open from the fork to the exec, the lock of a spool too, and
//! a test beside this one could not open its own again.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use ebpf_process_delivery::{Frame, Spool};

const CHILD: &str = "DELIVERY_TEST_SPOOL";

/// Not a promise of its own: the process that the next test kills.
#[test]
fn child_that_spools_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let (mut spool, _) = Spool::open(Path::new(&directory), 64 << 20).expect("a spool");
    for n in 0.. {
        spool.append(&frame(n * 100..n * 100 + 100)).expect("room");
        eprintln!("{n}");
    }
}

#[test]
fn an_agent_killed_while_it_spools_has_what_it_has_spooled() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..5 {
        let directory = folder.path().join(round.to_string());
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "child_that_spools_until_it_is_killed", "--nocapture"]);
        let mut child = command.env(CHILD, &directory).stderr(Stdio::piped()).spawn().expect("a child");
        let mut lines = BufReader::new(child.stderr.take().expect("its errors")).lines();
        let mut spooled = None;
        for line in lines.by_ref().take(200 * (round + 1)) {
            spooled = line.expect("text").parse::<u64>().ok();
        }
        child.kill().expect("a child");
        child.wait().expect("a child");
        spooled = lines.map_while(Result::ok).filter_map(|line| line.parse().ok()).last().or(spooled);
        let spooled = spooled.expect("a number");

        let (mut spool, recovery) = Spool::open(&directory, 64 << 20).expect("a spool");
        assert_eq!(recovery.damaged, 0);
        let mut given = Vec::new();
        while let Some(taken) = spool.take() {
            given.extend(numbers(&taken.frame));
            spool.acknowledge(taken.place).expect("a write");
        }
        assert!(given.len() as u64 >= (spooled + 1) * 100);
        assert_eq!(given, (0..given.len() as u64).collect::<Vec<_>>());
    }
}

/// A frame of numbered lines.
fn frame(numbers: Range<u64>) -> Frame {
    let mut frame = Frame::default();
    for number in numbers {
        frame.push(format!("{number}\n").as_bytes(), 1);
    }
    frame
}

fn numbers(frame: &Frame) -> Vec<u64> {
    let text = std::str::from_utf8(frame.bytes()).expect("text");
    text.lines().map(|line| line.parse().expect("a number")).collect()
}
