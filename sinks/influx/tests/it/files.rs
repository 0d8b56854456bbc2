//! Lines at the end of a file.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ebpf_process_core::testkit::{Bench, context, offer};
use ebpf_process_core::{Column, HostName, Ledger, Recorder, Selection, SinkContext, SinkPlugin as _, Unit};
use ebpf_process_sink_influx::PLUGIN;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::server::LIMIT;
use crate::sink::Running;

fn options(path: &Path) -> String {
    format!("url = \"file://{}\"", path.display())
}

#[test]
fn lines_are_appended_to_a_file_that_may_be_rotated() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lines");
    fs::write(&path, "before\n").expect("a write");
    let mut running = Running::start(&options(&path)).expect("a sink");
    running.tick(1);
    running.until("the first batch", |tally| tally.written == 10);
    fs::rename(&path, folder.path().join("old")).expect("a rename");
    running.tick(2);
    assert_eq!(running.settle().written, 30);
    let count = |name: &str| fs::read_to_string(folder.path().join(name)).expect("a file").lines().count();
    assert_eq!((count("old"), count("lines")), (11, 20));
}

#[test]
fn a_total_that_an_integer_cannot_say_is_in_the_book_with_the_reason_in_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lines");
    for (integers, written, stored) in [("i", 1, vec!["1i"]), ("u", 2, vec!["1u", "18446744073709551615u"])] {
        let ledger = Arc::new(Ledger::default());
        let context = SinkContext { ledger: Arc::clone(&ledger), ..context("db") };
        let options = crate::sink::options(&format!("{}\nintegers = \"{integers}\"", options(&path)));
        let mut sink = PLUGIN.build(&options, context).expect("a sink");
        let mut bench = Bench::new();
        let cells = ["a.calls", "b.calls"].map(|name| bench.host(Column::counter(name, Unit::CALLS, "")));
        let record = |recorder: &mut Recorder| {
            cells[0].counter(recorder, 1);
            cells[1].counter(recorder, u64::MAX);
        };
        offer(&ledger, 2);
        bench.tick(&Selection::default(), record, |view| sink.write(view)).expect("it takes the batch");
        sink.close().expect("an end");
        let tally = ledger.tally();
        let rejected: &[_] = if written == 1 { &[("above 2^63-1, the most with integers = i", 1)] } else { &[] };
        assert_eq!((tally.written, &tally.rejected[..], tally.balances()), (written, rejected, true));
        let text = fs::read_to_string(&path).expect("a file");
        let values = text.lines().map(|line| line.split(['=', ' ']).rev().nth(1).expect("a value"));
        assert_eq!(values.collect::<Vec<_>>(), stored, "{text}");
        fs::remove_file(&path).expect("a removal");
    }
}

#[test]
fn a_host_that_is_renamed_is_told_by_its_new_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lines");
    let name = Arc::new(Mutex::new("old"));
    let now = Arc::clone(&name);
    let host = HostName::of(move || (*now.lock().expect("a lock")).to_owned());
    let mut running = Running::start_on(host, &options(&path)).expect("a sink");
    running.tick(1);
    running.until("the first batch", |tally| tally.written == 10);
    *name.lock().expect("a lock") = "new";
    running.tick(1);
    assert_eq!(running.settle().written, 20);
    let text = fs::read_to_string(&path).expect("a file");
    let hosts = ["host=old", "host=new"].map(|host| text.lines().filter(|line| line.contains(host)).count());
    assert_eq!(hosts, [10, 10], "{text}");
}

#[test]
fn a_folder_that_is_missing_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("later/lines");
    let mut running = Running::start(&options(&path)).expect("a sink");
    running.tick(1);
    running.until("the batch in hand", |tally| tally.queued == 10);
    fs::create_dir(folder.path().join("later")).expect("a folder");
    assert_eq!(running.settle().written, 10);
    assert_eq!(fs::read_to_string(path).expect("a file").lines().count(), 10);
}

#[test]
fn what_is_no_file_is_not_written_to() {
    let mut running = Running::start(&options(Path::new("/dev/null"))).expect("a sink");
    running.tick(1);
    running.until("the batch in hand", |tally| tally.queued == 10);
    assert_eq!(running.stop(LIMIT).dropped, [("agent stopped", 10)]);
}

#[test]
fn a_fifo_is_refused_and_never_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fifo");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a FIFO");
    let mut running = Running::start(&options(&path)).expect("a sink");
    running.tick(1);
    running.until("the batch in hand", |tally| tally.queued == 10);
    // Opening it without a reader would hold the sink's thread past any limit.
    assert_eq!(running.stop(LIMIT).dropped, [("agent stopped", 10)]);
}

/// A file system that is gone when the test is over.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_takes_whole_batches_and_the_rest_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    if let Err(error) = mount("tmpfs", folder.path(), "tmpfs", MountFlags::NODEV, c"size=8k") {
        // Not eprintln: the test harness would keep it to itself as long as the test passes.
        let reason = format!("cannot mount a file system of 8 KiB: {error}");
        let _ = writeln!(std::io::stderr(), "SKIPPED live test influx-disk-full: {reason}");
        return;
    }
    let _mount = Mount(folder.path());
    let path = folder.path().join("lines");
    let mut running = Running::start(&format!("{}\nmax_lines = 10", options(&path))).expect("a sink");
    running.tick(50);
    let full = running.until("a full disk", |tally| tally.offered == 500 && tally.written > 0);
    mount_remount(folder.path(), MountFlags::NODEV, c"size=1m").expect("a remount");
    let tally = running.settle();
    let text = fs::read_to_string(&path).expect("a file");
    assert!(full.written < 500);
    assert_eq!(tally.written, 500);
    let lines: BTreeSet<_> = text.lines().collect();
    assert_eq!((lines.len(), text.lines().count()), (500, 500));
    assert!(lines.iter().all(|line| line.starts_with("vfs,host=host,n=")));
}
