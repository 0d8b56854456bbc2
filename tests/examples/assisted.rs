//! Probes that another process builds: they count exactly as those that a process builds itself, read by one that has no
//! rights left, and nothing stays behind. `tests/assistant.rs` and virtual machines run it.
//!
//! `ASSISTANT_TEST_ROLE` names a scenario: as root it starts a helper, this program once more, builds what it builds itself,
//! gives up user and all capabilities in a thread, and has the rest built by the helper.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ebpf_process_core::engine::{Agent, Clock as _, SystemClock};
use ebpf_process_core::{Assistant, BuildError, Message, Options, ProbePlugin as _, Unit, Value};
use ebpf_process_probes::{Call, Counter, FILE, Field, KernelProbe, Layer, MOUNT, Metric, Output, PROCESS, SYNC};
use ebpf_process_tests::cgroup::Cgroup;
use ebpf_process_tests::workload::{Launch, Place};
use ebpf_process_tests::{Failure, Outcome, wait};
use rustix::io::ReadWriteFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_res_gid, set_thread_res_uid,
};
use serde_json::{Value as Json, json};

/// A stranger's probes, which have objects and readers of their own.
#[path = "../out-of-tree-probe/src/launch.rs"]
#[expect(unreachable_pub, reason = "it is another crate's, and its own tests are not run here")]
mod launch;
#[path = "../out-of-tree-probe/src/users.rs"]
#[expect(unreachable_pub, reason = "it is another crate's, and its own tests are not run here")]
mod users;

/// Names the scenario that this process is.
const ROLE: &str = "ASSISTANT_TEST_ROLE";
/// The role of a helper.
const HELPER: &str = "helper";
/// Names the tier, where it is not chosen.
const HOOKS: &str = "ASSISTANT_TEST_HOOKS";

type Scenario = fn(&Scene) -> Outcome<()>;

const SCENARIOS: [(&str, Scenario); 6] = [
    ("assisted-counts-what-a-process-does", of_a_process),
    ("assisted-counts-by-process", by_process),
    ("assisted-counts-a-control-group", control_group),
    ("assisted-beside-its-own-under-load", under_load),
    ("assisted-strangers-probes", strangers),
    ("assisted-refuses-what-is-wrong", what_is_wrong),
];

fn main() -> ExitCode {
    let role = env::var(ROLE).unwrap_or_default();
    if role == HELPER {
        return help();
    }
    if let Some((_, scenario)) = SCENARIOS.iter().find(|(name, _)| role.starts_with(name)) {
        let object = role.rsplit('-').next().unwrap_or("core").to_owned();
        let done = Scene::begin(object).and_then(|mut scene| {
            let done = scenario(&scene);
            done.and_then(|()| scene.end())
        });
        return match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                let _ = writeln!(io::stderr(), "{failure}");
                ExitCode::FAILURE
            }
        };
    }
    let known: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(io::stderr(), "{ROLE}={role:?} is none of {}, each with -core or -floor", known.join(", "));
    ExitCode::FAILURE
}

// ---- the way between the two processes ----------------------------------------------------------------------------------

/// As many descriptors as one message may carry.
const AT_ONCE: usize = 200;

fn send(socket: BorrowedFd<'_>, texts: &[&[u8]], descriptors: &[OwnedFd]) -> io::Result<()> {
    let mut head: Vec<u8> = Vec::new();
    for length in texts.iter().map(|text| text.len()).chain([descriptors.len()]) {
        head.extend(u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes());
    }
    let mut stream = UnixStream::from(socket.try_clone_to_owned()?);
    stream.write_all(&head)?;
    for text in texts {
        stream.write_all(text)?;
    }
    for some in descriptors.chunks(AT_ONCE) {
        let borrowed: Vec<BorrowedFd<'_>> = some.iter().map(|descriptor| descriptor.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&borrowed));
        sendmsg(socket, &[IoSlice::new(b"d")], &mut control, SendFlags::empty())?;
    }
    Ok(())
}

fn receive<const N: usize>(socket: BorrowedFd<'_>) -> io::Result<([Vec<u8>; N], Vec<OwnedFd>)> {
    let mut stream = UnixStream::from(socket.try_clone_to_owned()?);
    let mut number = || -> io::Result<usize> {
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes) as usize)
    };
    let mut lengths = [0; N];
    for length in &mut lengths {
        *length = number()?;
    }
    let count = number()?;
    let mut texts = lengths.map(|length| vec![0; length]);
    for text in &mut texts {
        stream.read_exact(text)?;
    }
    let mut descriptors = Vec::new();
    while descriptors.len() < count {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let before = descriptors.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        if descriptors.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((texts, descriptors))
}

/// The helper: answers until its socket is closed.
fn help() -> ExitCode {
    let probes = [&FILE, &PROCESS, &MOUNT, &SYNC, &STEADY, &SAME, &launch::LAUNCH, &users::USERS];
    let socket = io::stdin();
    loop {
        let Ok(([name, options, bytes], descriptors)) = receive(socket.as_fd()) else { return ExitCode::SUCCESS };
        let options: Json = serde_json::from_slice(&options).unwrap_or_default();
        let found = probes.iter().find(|probe| probe.name().as_bytes() == name);
        let answer = found.map(|probe| probe.assist(&Options::from_value(options), Message { bytes, descriptors }));
        let (text, answer) = match answer {
            Some(Ok(answer)) => (String::new(), answer),
            Some(Err(error)) => (error.to_string(), Message::default()),
            None => ("no such probe".to_owned(), Message::default()),
        };
        if send(socket.as_fd(), &[text.as_bytes(), &answer.bytes], &answer.descriptors).is_err() {
            return ExitCode::FAILURE;
        }
    }
}

/// The helper as its agent sees it.
#[derive(Debug)]
struct Helper {
    socket: UnixStream,
    /// What the configuration says.
    options: Mutex<Json>,
    /// Whether this process has given up its rights.
    needed: AtomicBool,
    asked: AtomicU64,
}

impl Assistant for Helper {
    fn assist(&self, probe: &str, request: Message) -> Result<Message, BuildError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let options = self.options.lock().unwrap_or_else(PoisonError::into_inner).to_string();
        let texts = [probe.as_bytes(), options.as_bytes(), &request.bytes];
        let asked = send(self.socket.as_fd(), &texts, &request.descriptors).and_then(|()| receive(self.socket.as_fd()));
        let ([text, bytes], descriptors) =
            asked.map_err(|error| BuildError::refused(error.to_string(), "restart the agent"))?;
        if text.is_empty() {
            return Ok(Message { bytes, descriptors });
        }
        Err(BuildError::refused(String::from_utf8_lossy(&text), "see above"))
    }
}

// ---- what the scenarios have in common ----------------------------------------------------------------------------------

struct Scene {
    object: String,
    helper: Arc<Helper>,
    process: Child,
}

impl Scene {
    fn begin(object: String) -> Outcome<Self> {
        let (ours, theirs) = UnixStream::pair().map_err(Failure::at("a pair of sockets"))?;
        let own = env::current_exe().map_err(Failure::at("this program"))?;
        let mut command = Command::new(own);
        command.env(ROLE, HELPER).stdin(Stdio::from(OwnedFd::from(theirs)));
        let process = command.spawn().map_err(Failure::at("the helper"))?;
        let helper = Helper {
            socket: ours,
            options: Mutex::default(),
            needed: AtomicBool::new(false),
            asked: AtomicU64::new(0),
        };
        Ok(Self { object, helper: Arc::new(helper), process })
    }

    /// Probes with an agent of their own. They count when this returns.
    fn start(&self, probes: &[&'static KernelProbe], more: Json) -> Outcome<Counting> {
        let hooks = forced().unwrap_or_else(|| "auto".to_owned());
        let mut settings = json!({"mode": "return", "hooks": hooks, "object": self.object});
        if let (Json::Object(settings), Json::Object(more)) = (&mut settings, more) {
            settings.extend(more);
        }
        self.helper.options.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&settings);
        let options = Options::from_value(settings);
        let mut agent = Agent::new(Arc::new(SystemClock), Duration::from_secs(1));
        if self.helper.needed.load(Ordering::SeqCst) {
            let assistant = Arc::clone(&self.helper);
            agent.set_assistant(assistant);
        }
        for probe in probes {
            agent.add_probe(*probe, &options).map_err(|error| Failure::new(error.to_string()))?;
        }
        Ok(Counting(agent))
    }

    /// Does something in a thread that is nobody's and can do nothing that others cannot. To the kernel, user and
    /// capabilities are a thread's.
    fn without_rights<R: Send>(&self, work: impl FnOnce() -> Outcome<R> + Send) -> Outcome<R> {
        self.helper.needed.store(true, Ordering::SeqCst);
        let done = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                give_up()?;
                work()
            });
            thread.join().map_err(|_| Failure::new("the thread without rights panicked"))?
        });
        self.helper.needed.store(false, Ordering::SeqCst);
        done
    }

    fn requests(&self) -> u64 {
        self.helper.asked.load(Ordering::SeqCst)
    }

    /// Nothing is left when all are gone: no program, no link and no map of either process, no event in tracefs.
    fn end(&mut self) -> Outcome<()> {
        let helper = self.process.id().to_string();
        for process in ["self", &helper] {
            wait::until("the last program to go", wait::LIMIT, || Ok(held(process)?.is_empty().then_some(())))?;
        }
        let events = fs::read_to_string("/sys/kernel/tracing/kprobe_events").unwrap_or_default();
        equal("events of ours", events.lines().any(|line| line.contains("ebpf_process/")), false)?;
        drop(self.helper.socket.shutdown(std::net::Shutdown::Both));
        let status = self.process.wait().map_err(Failure::at("the helper"))?;
        equal("the helper ends well", status.success(), true)
    }
}

/// The tier, where it is not chosen.
fn forced() -> Option<String> {
    env::var(HOOKS).ok()
}

fn give_up() -> Outcome<()> {
    let (user, group) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    let done = set_thread_res_gid(group, group, group)
        .and_then(|()| set_thread_res_uid(user, user, user))
        .and_then(|()| set_capabilities(None, sets))
        .and_then(|()| set_no_new_privs(true));
    done.map_err(|error| Failure::new(format!("giving up all rights: {error}")))?;
    equal("root's file can be opened", File::open("/etc/shadow").is_ok(), false)
}

/// What of the kernel's programs, links and maps a process holds, by its descriptors.
fn held(process: &str) -> Outcome<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let folder = Path::new("/proc").join(process).join("fdinfo");
    for entry in fs::read_dir(&folder).map_err(Failure::at(folder.display()))?.flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        for line in
            text.lines().filter(|line| ["link_id", "prog_id", "map_id"].iter().any(|kind| line.starts_with(kind)))
        {
            found.insert(line.to_owned());
        }
    }
    Ok(found)
}

struct Counting(Agent);

impl Counting {
    /// The totals of now, by metric and labels.
    fn totals(&mut self) -> BTreeMap<String, u64> {
        self.0.tick_whole(SystemClock.now());
        let look = self.0.last_batch().look(|view| {
            let counters = view.samples().filter_map(|sample| {
                let total = match sample.value() {
                    Value::Counter(total) => total,
                    Value::Histogram(histogram) => histogram.count(),
                    _ => return None,
                };
                let labels: Vec<_> = sample.labels().map(|(_, value)| value).collect();
                Some((format!("{} {}", sample.name(), labels.join(" ")).trim_end().to_owned(), total))
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

/// What was counted between two looks, of what begins with one of these words.
fn gained(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, words: &[&str]) -> BTreeMap<String, u64> {
    let of_interest = after.iter().filter(|(name, _)| words.iter().any(|word| name.starts_with(word)));
    of_interest.map(|(name, total)| (name.clone(), total - before.get(name).copied().unwrap_or(0))).collect()
}

const OURS: [&KernelProbe; 4] = [&FILE, &PROCESS, &MOUNT, &SYNC];
const OPERATIONS: [&str; 8] =
    ["openat", "close", "close-bad", "pwritev2", "unlinkat", "fork", "clone3", "clone3-thread-bad"];
const TIMES: u64 = 16;

/// What one process has done, to the unit.
fn expected() -> BTreeMap<&'static str, u64> {
    [
        ("file.calls open", 1),
        ("file.calls close", 2),
        ("file.errors close", 1),
        ("vfs.calls write", 1),
        ("vfs.bytes write", 3),
        ("vfs.calls delete", 1),
        ("task.started process", 2),
        ("task.start_errors process", 0),
        ("task.start_errors thread", 1),
    ]
    .map(|(name, count)| (name, count * TIMES))
    .into()
}

// ---- the scenarios -----------------------------------------------------------------------------------------------------

/// Our own probes, one set built by this process and one by the helper: the numbers of one process, to the unit.
fn of_a_process(scene: &Scene) -> Outcome<()> {
    let words = ["file.", "vfs.", "task.", "mount.", "sync."];
    let place = Place::new()?;
    let mut worker = place.operations(Path::new("-"), TIMES, &OPERATIONS)?;
    let only = json!({"only": {"pid": worker.pid()}});
    // The others have no functions to stand on.
    let ours = if forced().is_some() { &OURS[..2] } else { &OURS };
    let mut own = scene.start(ours, only.clone())?;
    equal("requests of who builds itself", scene.requests(), 0)?;
    scene.without_rights(|| {
        let mut assisted = scene.start(ours, only)?;
        equal("requests", scene.requests(), ours.len() as u64)?;
        let (own_before, before) = (own.totals(), assisted.totals());
        for (name, count) in gained(&BTreeMap::new(), &before, &words) {
            equal(&name, count, 0)?;
        }
        for _ in OPERATIONS {
            worker.run_to_next_stop()?;
        }
        let (own_after, after) = (own.totals(), assisted.totals());
        let counted = gained(&before, &after, &words);
        equal("as many as by its own", &counted, &gained(&own_before, &own_after, &words))?;
        for (name, count) in expected() {
            equal(name, of(&counted, name), count)?;
        }
        // How they are hooked is told in the same words.
        let hooks = |totals: &BTreeMap<String, u64>| {
            let of_hooks = totals.keys().filter(|name| name.starts_with("hook.")).cloned();
            of_hooks.collect::<Vec<_>>()
        };
        equal("hooks", &hooks(&after), &hooks(&own_after))
    })
}

/// Rows of processes are those of a probe that was built here.
fn by_process(scene: &Scene) -> Outcome<()> {
    let words = ["file.", "vfs.", "task.", "process.", "app."];
    let place = Place::new()?;
    let mut worker = place.operations(Path::new("-"), TIMES, &OPERATIONS)?;
    let settings = json!({"only": {"pid": worker.pid()}, "by": ["process", "app"], "processes": 64});
    let mut own = scene.start(&[&FILE, &PROCESS], settings.clone())?;
    scene.without_rights(|| {
        let mut assisted = scene.start(&[&FILE, &PROCESS], settings)?;
        let (own_before, before) = (own.totals(), assisted.totals());
        for _ in OPERATIONS {
            worker.run_to_next_stop()?;
        }
        let (own_after, after) = (own.totals(), assisted.totals());
        let counted = gained(&before, &after, &words);
        equal("as many as by its own", &counted, &gained(&own_before, &own_after, &words))?;
        for (name, count) in expected().into_iter().filter(|(_, count)| *count > 0) {
            equal(name, of(&counted, name), count)?;
            let (metric, label) = name.split_once(' ').unwrap_or((name, ""));
            let is_row = |name: &str| name.starts_with(&format!("process.{metric} ")) && name.ends_with(label);
            let of_rows: u64 = counted.iter().filter(|(name, _)| is_row(name)).map(|(_, count)| *count).sum();
            equal(&format!("rows of {name}"), of_rows, count)?;
        }
        Ok(())
    })
}

/// A control group, and one that is made anew under its name: who reads without rights aims the filter at it.
fn control_group(scene: &Scene) -> Outcome<()> {
    const COUNT: u64 = 1000;
    let place = Place::new()?;
    let group = Cgroup::new()?;
    let only = json!({"only": {"cgroup": group.name()}});
    let (mut first, mut second) = (place.reads(COUNT)?, place.reads(COUNT)?);
    let mut own = scene.start(&[&FILE], only.clone())?;
    let mut assisted = scene.without_rights(|| scene.start(&[&FILE], only))?;
    let mut both = |reads: u64| {
        let (own, assisted) = (own.totals(), scene.without_rights(|| Ok(assisted.totals()))?);
        equal("reads of its own", of(&own, "vfs.calls read"), reads)?;
        equal("reads", of(&assisted, "vfs.calls read"), reads)
    };
    both(0)?;
    group.add(first.pid())?;
    first.run_to_next_stop()?;
    both(COUNT)?;
    first.run_to_end()?;
    group.remove()?;
    both(COUNT)?;
    group.make_anew()?;
    // It is aimed at now, if it was not at once.
    both(COUNT)?;
    group.add(second.pid())?;
    second.run_to_next_stop()?;
    both(2 * COUNT)
}

/// Calls that nothing else in this process makes.
static READS: AtomicU64 = AtomicU64::new(0);
static WRITES: AtomicU64 = AtomicU64::new(0);

fn read(file: &File) -> io::Result<usize> {
    READS.fetch_add(1, Ordering::SeqCst);
    Ok(rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut [0; 7])], 0, ReadWriteFlags::empty())?)
}

fn write(file: &File) -> io::Result<usize> {
    WRITES.fetch_add(1, Ordering::SeqCst);
    Ok(rustix::io::pwritev2(file, &[IoSlice::new(&[0; 11])], 0, ReadWriteFlags::empty())?)
}

/// A file in memory with something in it.
fn scratch() -> io::Result<File> {
    let file = File::from(rustix::fs::memfd_create("assisted", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.set_len(64)?;
    Ok(file)
}

fn advise(pipe: &impl rustix::fd::AsFd) -> bool {
    rustix::fs::fadvise(pipe, 0, None, rustix::fs::Advice::Normal).is_err()
}

static CALLS: Metric = Metric::new("assisted.calls", Unit::CALLS, "Calls", "operation");
static BYTES: Metric = Metric::new("assisted.bytes", Unit::BYTES, "Bytes moved", "operation");

const fn outputs(operation: &'static str) -> [Output; 2] {
    [Output::new(&CALLS, operation, Field::Calls), Output::new(&BYTES, operation, Field::Bytes)]
}

const READ: Counter = Counter::new("assisted.read", Layer::Syscall, |_| read(&scratch()?).map(drop))
    .calls(&[Call::size("preadv2")])
    .outputs(&outputs("read"));
const WRITE: Counter = Counter::new("assisted.write", Layer::Syscall, |_| write(&scratch()?).map(drop))
    .calls(&[Call::size("pwritev2")])
    .outputs(&outputs("write"));
const ADVISE: Counter = Counter::new("assisted.advise", Layer::Syscall, |_| {
    advise(&io::pipe()?.0);
    Ok(())
})
.calls(&[Call::status("fadvise64")])
.outputs(&outputs("advise"));

static STEADY: KernelProbe = KernelProbe::new("steady", "reads and writes").counters(&[READ, WRITE]);
static SAME: KernelProbe = KernelProbe::new("same", "writes and advice").counters(&[WRITE, ADVISE]);

/// A probe of this process's making and one of the helper's share the program on system calls. The second comes and goes
/// under load; then the first goes, while the second goes on.
fn under_load(scene: &Scene) -> Outcome<()> {
    const ROUNDS: u64 = 4;
    let only = json!({"only": {"pid": std::process::id()}});
    let mut steady = scene.start(&[&STEADY], only.clone())?;
    let made = || (READS.load(Ordering::SeqCst), WRITES.load(Ordering::SeqCst));
    let (reads, writes) = made();
    equal("reads at first", of(&steady.totals(), "assisted.calls read"), 0)?;
    scene.without_rights(|| {
        let stop = AtomicBool::new(false);
        let pipe = io::pipe().map_err(Failure::at("a pipe"))?.0;
        let mut last = None;
        thread::scope(|scope| {
            let work = || -> io::Result<()> {
                let file = scratch()?;
                while !stop.load(Ordering::Relaxed) {
                    read(&file)?;
                    write(&file)?;
                }
                Ok(())
            };
            let workers = [(); 2].map(|()| scope.spawn(work));
            let switched = (0..ROUNDS).try_for_each(|round| {
                let mut same = scene_start(scene, &only)?;
                for _ in 0..=round {
                    equal("advice for a pipe fails", advise(&pipe), true)?;
                }
                equal("advice", of(&same.totals(), "assisted.calls advise"), round + 1)?;
                // With no filter, and so another program.
                drop(scene_start(scene, &json!({}))?);
                last = Some(same);
                Ok(())
            });
            stop.store(true, Ordering::Relaxed);
            for worker in workers {
                worker.join().map_err(|_| Failure::new("a worker panicked"))?.map_err(Failure::at("a worker"))?;
            }
            switched
        })?;
        let totals = steady.totals();
        let (read, written) = (made().0 - reads, made().1 - writes);
        equal("reads", of(&totals, "assisted.calls read"), read)?;
        equal("bytes read", of(&totals, "assisted.bytes read"), 7 * read)?;
        equal("writes", of(&totals, "assisted.calls write"), written)?;
        equal("bytes written", of(&totals, "assisted.bytes write"), 11 * written)?;
        let mut same = last.ok_or_else(|| Failure::new("no round"))?;
        let before = same.totals();
        drop(steady);
        let file = scratch().map_err(Failure::at("a file"))?;
        for _ in 0..9 {
            write(&file).map_err(Failure::at("writing"))?;
        }
        let counted = gained(&before, &same.totals(), &["assisted."]);
        equal("writes when the first is gone", of(&counted, "assisted.calls write"), 9)
    })
}

fn scene_start(scene: &Scene, more: &Json) -> Outcome<Counting> {
    scene.start(&[&SAME], more.clone())
}

/// Probes that are somebody else's, with maps and readers of their own.
fn strangers(scene: &Scene) -> Outcome<()> {
    let words = ["exec.", "symlink.", "user."];
    let probes = [&launch::LAUNCH, &users::USERS];
    let place = Place::new()?;
    let mut worker = place.launch(&Launch { made: 21, existing: 7, refused: 0, programs: 11 })?;
    let only = json!({"only": {"pid": worker.pid()}});
    let mut own = scene.start(&probes, only.clone())?;
    scene.without_rights(|| {
        let mut assisted = scene.start(&probes, only)?;
        let (own_before, before) = (own.totals(), assisted.totals());
        worker.run_to_next_stop()?;
        worker.run_to_end()?;
        let (own_after, after) = (own.totals(), assisted.totals());
        let counted = gained(&before, &after, &words);
        equal("as many as by its own", &counted, &gained(&own_before, &own_after, &words))?;
        // A link that exists is refused by the function that makes one, or before.
        let links = of(&counted, "symlink.calls make");
        equal("links", links == 21 || links == 21 + 7, true)?;
        equal("programs", of(&counted, "exec.calls"), 11)?;
        equal("programs by their arguments", of(&counted, "exec.arguments"), 11)
    })
}

/// Requests that nobody should make are refused, and the helper goes on.
fn what_is_wrong(scene: &Scene) -> Outcome<()> {
    let only = json!({"only": {"pid": std::process::id()}});
    scene.without_rights(|| {
        for request in [
            &b""[..],
            b"{",
            b"null",
            b"\"Build\"",
            br#"{"Build":{"options":"","owner":"1_1_1","records":[],"shared":[]}}"#,
            br#"{"AttachAgain":[{"place":{"program":"sys_exit","attach":"Tracepoint(\"sys_exit\")"},"program":0,"event":null}]}"#,
            br#"{"AttachAgain":[{"place":{"program":"sys_exit","attach":"Kprobe(\"x\")"},"program":0,"event":null}]}"#,
            br#"{"Remove":["p_vfs_read_0_1_1_1"]}"#,
            br#"{"Remove":["../x"]}"#,
        ] {
            let message = Message { bytes: request.to_vec(), descriptors: Vec::new() };
            let refused = scene.helper.assist("steady", message).is_err();
            equal(&String::from_utf8_lossy(request), refused, true)?;
        }
        drop(scene.start(&[&STEADY], only)?);
        // An answer that is none.
        let broken = Broken(Mutex::new(vec![b"{}".to_vec(), b"[]".to_vec(), Vec::new()]));
        let mut agent = Agent::new(Arc::new(SystemClock), Duration::from_secs(1));
        agent.set_assistant(Arc::new(broken));
        for _ in 0..3 {
            let options = Options::from_value(json!({"hooks": "tracepoint"}));
            let told = agent.add_probe(&STEADY, &options).err().map(|error| error.to_string()).unwrap_or_default();
            equal(&told, told.contains("do not understand each other"), true)?;
        }
        Ok(())
    })
}

/// Answers with what nobody understands.
#[derive(Debug)]
struct Broken(Mutex<Vec<Vec<u8>>>);

impl Assistant for Broken {
    fn assist(&self, _: &str, _: Message) -> Result<Message, BuildError> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Ok(Message { bytes, descriptors: Vec::new() })
    }
}
