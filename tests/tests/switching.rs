//! Probes that come and go beside others that count: no program is replaced, no event is lost or counted twice.
//!
//! All of them look at system calls, so they share one program. What a test counts is its own process's, or a workload's,
//! so that numbers are equal whatever else the machine does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ebpf_process_core::engine::{Agent, Clock as _, Parts, ProbePart, SystemClock};
use ebpf_process_core::{Options, Unit, Value};
use ebpf_process_probes::{Call, Counter, FILE, Field, KernelProbe, Layer, Metric, Output, PROCESS};
use ebpf_process_tests::workload::{Place, int80_works};
use ebpf_process_tests::{Failure, Outcome, agent, live, wait};
use rustix::fs::{Advice, FallocateFlags, MemfdFlags, fadvise, fallocate, memfd_create};
use rustix::io::{ReadWriteFlags, preadv2, pwritev2};
use serde_json::{Value as Json, json};

/// The tests of this file count what one process does, which they share.
static ALONE: Mutex<()> = Mutex::new(());

/// Threads that make calls meanwhile.
const WORKERS: usize = 2;

/// How often a probe is built, read and dropped.
const SWITCHES: u64 = 4;

/// Calls that nothing else in this process makes: begun and done, whoever made them.
struct Made {
    begun: AtomicU64,
    done: AtomicU64,
}

impl Made {
    const fn new() -> Self {
        Self { begun: AtomicU64::new(0), done: AtomicU64::new(0) }
    }

    fn make<R>(&self, call: impl FnOnce() -> R) -> R {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let result = call();
        self.done.fetch_add(1, Ordering::SeqCst);
        result
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }
}

static READS: Made = Made::new();
static WRITES: Made = Made::new();
static ADVICE: Made = Made::new();

fn read(file: &File) -> io::Result<usize> {
    let made = READS.make(|| preadv2(file, &mut [IoSliceMut::new(&mut [0; 7])], 0, ReadWriteFlags::empty()));
    Ok(made?)
}

fn write(file: &File) -> io::Result<usize> {
    let made = WRITES.make(|| pwritev2(file, &[IoSlice::new(&[0; 11])], 0, ReadWriteFlags::empty()));
    Ok(made?)
}

/// Asks for advice that does not exist for a pipe's end, so it fails.
fn advise(pipe: &impl rustix::fd::AsFd) -> bool {
    ADVICE.make(|| fadvise(pipe, 0, None, Advice::Normal)).is_err()
}

/// An empty file in memory with room for both.
fn scratch() -> io::Result<File> {
    let file = File::from(memfd_create("switching", MemfdFlags::CLOEXEC)?);
    fallocate(&file, FallocateFlags::empty(), 0, 64)?;
    Ok(file)
}

static CALLS: Metric = Metric::new("switching.calls", Unit::CALLS, "Calls", "operation");
static ERRORS: Metric = Metric::new("switching.errors", Unit::CALLS, "Calls that failed", "operation");
static BYTES: Metric = Metric::new("switching.bytes", Unit::BYTES, "Bytes moved", "operation");

const fn outputs(operation: &'static str) -> [Output; 3] {
    [
        Output::new(&CALLS, operation, Field::Calls),
        Output::new(&ERRORS, operation, Field::Errors),
        Output::new(&BYTES, operation, Field::Bytes),
    ]
}

const READ: Counter = Counter::new("switching.read", Layer::Syscall, |_| read(&scratch()?).map(drop))
    .calls(&[Call::size("preadv2")])
    .outputs(&outputs("read"));
const WRITE: Counter = Counter::new("switching.write", Layer::Syscall, |_| write(&scratch()?).map(drop))
    .calls(&[Call::size("pwritev2")])
    .outputs(&outputs("write"));
const ADVISE: Counter = Counter::new("switching.advise", Layer::Syscall, |_| {
    advise(&io::pipe()?.0);
    Ok(())
})
.calls(&[Call::status("fadvise64")])
.outputs(&outputs("advise"));

/// What goes on counting.
static STEADY: KernelProbe = KernelProbe::new("steady", "reads and writes").counters(&[READ, WRITE]);
/// What comes and goes: of the same calls, and of others.
static SAME: KernelProbe = KernelProbe::new("same", "reads and advice").counters(&[READ, ADVISE]);
static OTHER: KernelProbe = KernelProbe::new("other", "advice").counters(&[ADVISE]);

/// Probes with an agent of their own.
struct Counting(Agent);

impl Counting {
    /// They count when this returns.
    fn start(probes: &[&'static KernelProbe], object: &str, only: Option<u32>) -> Outcome<Self> {
        let mut settings = json!({"mode": "return", "hooks": "tracepoint", "object": object});
        if let (Some(only), Json::Object(settings)) = (only, &mut settings) {
            settings.insert("only".to_owned(), json!({"pid": only}));
        }
        let options = Options::from_value(settings);
        let mut agent = Agent::new(Arc::new(SystemClock), Duration::from_secs(1));
        for probe in probes {
            agent.add_probe(*probe, &options).map_err(|error| Failure::new(error.to_string()))?;
        }
        Ok(Self(agent))
    }

    /// The totals of now, by metric and label.
    fn totals(&mut self) -> BTreeMap<String, u64> {
        self.0.tick_whole(SystemClock.now());
        let look = self.0.last_batch().look(|view| {
            let counters = view.samples().filter_map(|sample| {
                let Value::Counter(total) = sample.value() else { return None };
                let labels: Vec<_> = sample.labels().map(|(_, value)| value).collect();
                Some((format!("{} {}", sample.name(), labels.join(" ")), total))
            });
            counters.collect()
        });
        look.unwrap_or_default()
    }
}

fn of(totals: &BTreeMap<String, u64>, name: &str) -> u64 {
    totals.get(name).copied().unwrap_or(u64::MAX)
}

fn equal<T: Copy + PartialEq + std::fmt::Debug>(what: &str, is: T, should_be: T) -> Outcome<()> {
    if is == should_be { Ok(()) } else { Err(Failure::new(format!("{what}: {is:?} instead of {should_be:?}"))) }
}

/// The programs that this process has on `sys_exit`: each link with the number of its program.
fn programs() -> Outcome<BTreeSet<(String, String)>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fdinfo").map_err(Failure::at("/proc/self/fdinfo"))?.flatten() {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        if let (Some("sys_exit"), Some(link), Some(program)) =
            (field("tp_name").as_deref(), field("link_id"), field("prog_id"))
        {
            found.insert((link, program));
        }
    }
    Ok(found)
}

/// The one program on `sys_exit`, as soon as those of the self-test are let go.
fn the_program() -> Outcome<(String, String)> {
    wait::until("the programs of the self-test to go", Duration::from_secs(10), || {
        let mut programs = programs()?.into_iter();
        Ok(programs.next().filter(|_| programs.next().is_none()))
    })
}

/// Builds a probe, makes calls of its own, reads it and drops it: it has counted what happened meanwhile.
fn switch(probe: &'static KernelProbe, object: &str, calls: u64) -> Outcome<()> {
    let pipe = io::pipe().map_err(Failure::at("a pipe"))?.0;
    let directory = File::open("/").map_err(Failure::at("/"))?;
    let reads_before = READS.done();
    let mut counting = Counting::start(&[probe], object, Some(std::process::id()))?;
    let reads_at_start = READS.begun();
    let sees_reads = std::ptr::eq(probe, &raw const SAME);
    for _ in 0..calls {
        let failed = advise(&pipe);
        equal("advice for a pipe fails", failed, true)?;
        // No thread beside reads what cannot be read.
        equal("reading a directory fails", read(&directory).is_err(), true)?;
    }
    let reads_at_end = READS.done();
    let totals = counting.totals();
    let reads_after = READS.begun();
    equal("advice", of(&totals, "switching.calls advise"), calls)?;
    equal("advice that failed", of(&totals, "switching.errors advise"), calls)?;
    if sees_reads {
        equal("reads that failed", of(&totals, "switching.errors read"), calls)?;
        let reads = of(&totals, "switching.calls read");
        let (fewest, most) = (reads_at_end.saturating_sub(reads_at_start), reads_after - reads_before);
        if !(fewest..=most).contains(&reads) {
            return Err(Failure::new(format!("{reads} reads are not between {fewest} and {most}")));
        }
        // Each worker may be in the middle of one, whose call is counted and whose bytes are not, or are already.
        let bytes = of(&totals, "switching.bytes read");
        if !bytes.is_multiple_of(7) || (bytes / 7).abs_diff(reads - calls) > WORKERS as u64 {
            return Err(Failure::new(format!("{bytes} bytes in {} reads of 7", reads - calls)));
        }
    }
    Ok(())
}

/// Threads read and write without pause while probes of the same calls and of others come and go.
fn under_load(object: &str) -> Outcome<()> {
    let mut steady = Counting::start(&[&STEADY], object, Some(std::process::id()))?;
    let (reads, writes) = (READS.begun(), WRITES.begun());
    equal("calls before the first", (READS.done(), WRITES.done()), (reads, writes))?;
    equal("reads at first", of(&steady.totals(), "switching.calls read"), 0)?;
    let program = if object == "core" { Some(the_program()?) } else { None };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = || -> io::Result<()> {
            let file = scratch()?;
            while !stop.load(Ordering::Relaxed) {
                read(&file)?;
                write(&file)?;
            }
            Ok(())
        };
        let workers = [(); WORKERS].map(|()| scope.spawn(work));
        // Trace events come and go one by one, and the kernel takes its time for each.
        let rounds = if object == "core" { SWITCHES } else { SWITCHES / 4 };
        let switched = (0..rounds).try_for_each(|round| {
            switch(&SAME, object, round % 7)?;
            switch(&OTHER, object, round % 5)?;
            // With no filter, and so another program; and the agent's own probe, of the same calls and more.
            drop(Counting::start(&[&OTHER], object, None)?);
            drop(Counting::start(&[&FILE], object, Some(std::process::id()))?);
            let still = programs()?;
            equal("the steady program is there", program.iter().all(|program| still.contains(program)), true)
        });
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().map_err(|_| Failure::new("a worker panicked"))?.map_err(Failure::at("a worker"))?;
        }
        switched
    })?;
    let totals = steady.totals();
    let (reads, writes) = (READS.done() - reads, WRITES.done() - writes);
    equal("reads", of(&totals, "switching.calls read"), reads)?;
    let failed = of(&totals, "switching.errors read");
    equal("bytes read", of(&totals, "switching.bytes read"), 7 * (reads - failed))?;
    equal("writes", of(&totals, "switching.calls write"), writes)?;
    equal("bytes written", of(&totals, "switching.bytes write"), 11 * writes)?;
    if let Some(program) = program {
        equal("it is the program on sys_exit", the_program()? == program, true)?;
    }
    Ok(())
}

/// What the agent's own probes count of processes, while probes with the same filters come and go: each operation is done
/// once while one more counts and once when that is gone.
fn of_a_process(object: &str) -> Outcome<()> {
    const READS: u64 = 2_000_000;
    const TIMES: u64 = 16;
    const OPERATIONS: [[&str; 2]; 6] = [
        ["openat", "openat"],
        ["close", "close-bad"],
        ["pwritev2", "pwritev2"],
        ["unlinkat", "unlink"],
        ["fork", "clone3"],
        ["clone3-thread-bad", "clone3-thread-bad"],
    ];
    let place = Place::new()?;
    let mut reader = place.reads(READS)?;
    let mut worker = place.operations(Path::new("-"), TIMES, OPERATIONS.as_flattened())?;
    let mut reading = Counting::start(&[&FILE, &PROCESS], object, Some(reader.pid()))?;
    let mut working = Counting::start(&[&FILE, &PROCESS], object, Some(worker.pid()))?;
    reading.totals();
    let (pid, another) = (reader.pid(), worker.pid());
    thread::scope(|scope| {
        let drive = scope.spawn(|| reader.run_to_next_stop());
        let done = OPERATIONS.iter().try_for_each(|_| {
            drop(Counting::start(&[&SAME, &FILE], object, Some(pid))?);
            let mut more = Counting::start(&[&FILE, &SAME], object, Some(another))?;
            let before = working.totals();
            worker.run_to_next_stop()?;
            let (after, counted) = (working.totals(), more.totals());
            drop(more);
            for (name, total) in &after {
                if name.starts_with("file.") || name.starts_with("vfs.") {
                    equal(name, of(&counted, name), total - of(&before, name))?;
                }
            }
            worker.run_to_next_stop()
        });
        drive.join().map_err(|_| Failure::new("the driver panicked"))?.and(done)
    })?;
    let (read, operated) = (reading.totals(), working.totals());
    equal("reads", of(&read, "vfs.calls read"), READS)?;
    equal("bytes", of(&read, "vfs.bytes read"), READS)?;
    for (name, count) in [
        ("file.calls open", 2),
        ("file.calls close", 2),
        ("file.errors close", 1),
        ("vfs.calls write", 2),
        ("vfs.bytes write", 2 * 3),
        ("vfs.calls delete", 2),
        ("task.started process", 2),
        ("task.start_errors process", 0),
        ("task.start_errors thread", 2),
    ] {
        equal(name, of(&operated, name), count * TIMES)?;
    }
    Ok(())
}

static PARTS: Metric = Metric::new("parts.calls", Unit::CALLS, "Calls by what an argument says", "what");

const fn both(first: &'static str, second: &'static str) -> [Output; 2] {
    [Output::new(&PARTS, first, Field::Calls), Output::new(&PARTS, second, Field::Calls).of_part(1)]
}

/// Nobody proves these.
const UNPROVEN: fn(&mut dyn FnMut(u32) -> io::Result<()>) -> io::Result<()> =
    |_| Err(io::ErrorKind::Unsupported.into());
const CLONE_THREAD: u64 = 0x0001_0000;
const AT_REMOVEDIR: u64 = 0x200;

static SPLIT: KernelProbe = KernelProbe::new("split", "calls that are two operations").counters(&[
    Counter::new("split.unlinkat", Layer::Syscall, UNPROVEN)
        .calls(&[Call::status("unlinkat").second_part_if(2, AT_REMOVEDIR)])
        .outputs(&both("file", "folder")),
    Counter::new("split.clone", Layer::Syscall, UNPROVEN)
        .calls(&[Call::status("clone").second_part_if(0, CLONE_THREAD)])
        .outputs(&both("process", "thread")),
    Counter::new("split.clone3", Layer::Syscall, UNPROVEN)
        .calls(&[Call::status("clone3").second_part_if_at(0, CLONE_THREAD)])
        .outputs(&both("process3", "thread3")),
]);

/// Calls whose argument says what they are count in the right part: those of 64-bit programs and of 32-bit ones.
fn parts(object: &str) -> Outcome<()> {
    const TIMES: u64 = 13;
    let native = [
        ("unlinkat", "file"),
        ("unlinkat-folder", "folder"),
        ("clone-bad", "process"),
        ("thread-bad", "thread"),
        ("clone3-bad", "process3"),
        ("clone3-thread-bad", "thread3"),
        ("clone3-refused", "process3"),
    ];
    let by_int80 = [
        ("unlinkat-int80", "file"),
        ("unlinkat-folder-int80", "folder"),
        ("clone-bad-int80", "process"),
        ("thread-bad-int80", "thread"),
        ("clone3-bad-int80", "process3"),
        ("clone3-thread-bad-int80", "thread3"),
    ];
    let place = Place::new()?;
    // Trace events of single calls show none of them.
    let int80 = object == "core" && int80_works(&place)?;
    let rows: Vec<_> = native.iter().chain(by_int80.iter().filter(|_| int80)).collect();
    let names: Vec<_> = rows.iter().map(|(name, _)| *name).collect();
    let mut target = place.operations(Path::new("-"), TIMES, &names)?;
    let mut counting = Counting::start(&[&SPLIT], object, Some(target.pid()))?;
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, part) in rows {
        target.run_to_next_stop()?;
        *expected.entry(part).or_default() += TIMES;
        let totals = counting.totals();
        for part in ["file", "folder", "process", "thread", "process3", "thread3"] {
            let count = expected.get(part).copied().unwrap_or(0);
            equal(&format!("{part} after {name}"), of(&totals, &format!("parts.calls {part}")), count)?;
        }
    }
    Ok(())
}

/// Threads read and write without pause while two probes that count the same calls get other options again and again.
fn with_other_options(object: &str) -> Outcome<()> {
    let parts = |patience: u64| {
        let options = Options::from_value(json!({
            "mode": "return", "hooks": "tracepoint", "object": object, "patience": format!("{patience}s"),
            "only": {"pid": std::process::id()},
        }));
        let part = |plugin: &'static KernelProbe, name: &str| ProbePart {
            name: name.into(),
            plugin: Arc::new(*plugin),
            options: options.clone(),
        };
        vec![part(&STEADY, "steady"), part(&OTHER, "other"), part(&SAME, "same")]
    };
    let mut agent = Agent::new(Arc::new(SystemClock), Duration::from_secs(1));
    for part in parts(0) {
        agent.start_probe(part).map_err(|error| Failure::new(error.to_string()))?;
    }
    let mut counting = Counting(agent);
    let before = (READS.done(), WRITES.done(), ADVICE.done());
    equal("calls before the first", (READS.begun(), WRITES.begun(), ADVICE.begun()), before)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = || -> io::Result<()> {
            let file = scratch()?;
            while !stop.load(Ordering::Relaxed) {
                read(&file)?;
                write(&file)?;
                advise(&file);
            }
            Ok(())
        };
        let workers = [(); WORKERS].map(|()| scope.spawn(work));
        // As above.
        let rounds = if object == "core" { SWITCHES } else { SWITCHES / 4 };
        let changed = (1..=rounds).try_for_each(|patience| {
            let probes = parts(patience);
            let interval = Duration::from_secs(1);
            let said = counting.0.apply(Parts { interval, grace: interval, probes, sinks: Vec::new() });
            counting.totals();
            let all = said.len() == 3 && said.iter().all(|said| said.contains("is attached ("));
            if all { Ok(()) } else { Err(Failure::new(format!("{said:?}"))) }
        });
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().map_err(|_| Failure::new("a worker panicked"))?.map_err(Failure::at("a worker"))?;
        }
        changed
    })?;
    let totals = counting.totals();
    let (reads, writes, advice) = (READS.done() - before.0, WRITES.done() - before.1, ADVICE.done() - before.2);
    equal("writes", of(&totals, "switching.calls write"), writes)?;
    equal("bytes written", of(&totals, "switching.bytes write"), 11 * writes)?;
    // Those of the self-tests, which are calls of this process as well, are among all.
    equal("reads", of(&totals, "switching.calls read"), reads)?;
    equal("advice", of(&totals, "switching.calls advise"), advice)
}

/// A live test of both objects, alone in this process.
fn both_objects(name: &str, test: fn(&str) -> Outcome<()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for object in ["core", "floor"] {
        let needs = agent::can_run();
        live::test(&format!("{name}-{object}"), needs, || test(object));
    }
}

#[test]
fn no_event_is_lost_or_counted_twice_while_probes_come_and_go() {
    both_objects("switching-under-load", under_load);
}

#[test]
fn no_event_is_lost_or_counted_twice_while_probes_get_other_options() {
    both_objects("switching-options", with_other_options);
}

#[test]
fn what_a_process_does_is_counted_while_probes_of_the_same_filter_come_and_go() {
    both_objects("switching-beside-a-process", of_a_process);
}

#[test]
fn a_call_that_is_two_operations_counts_in_the_right_part() {
    both_objects("parts-of-calls", parts);
}
