//! Kprobe events in tracefs: made, counted, removed and swept.
//!
//! The perf interface of kprobes cannot say how many calls of a function may be under way before a
//! kretprobe misses; a tracefs event can (`r4096:`), and counts what it missed. Events outlive
//! their maker, so ours carry who that is, and whoever starts next sweeps those of the dead.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::mounts;
use crate::owner::{Owner, Processes};
use crate::refusal::{self, NOT_MOUNTED};

/// The group of all our events.
const GROUP: &str = "ebpf_process";

/// Calls of one function that may be under way at once before its kretprobe misses one.
pub(crate) const MAX_ACTIVE: u32 = 4096;

/// Where tracefs is usually mounted, first the modern place.
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// How events are named.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names {
    /// What the names begin with: those of a test stand beside those that count.
    pub(crate) prefix: &'static str,
    /// With whom they shall end, if that is not this process.
    pub(crate) owner: Option<Owner>,
}

/// A mounted tracefs.
#[derive(Clone, Debug)]
pub(crate) struct Tracefs {
    root: PathBuf,
    processes: Processes,
    /// Whether a kretprobe's number of instances can be chosen here.
    takes_instances: bool,
    /// `kprobe_events`, open from the first command on: the right to open it is given up after the start, and the
    /// events have to be removed at the end.
    commands: Arc<OnceLock<File>>,
}

impl Tracefs {
    /// Finds a mounted tracefs, wherever that is.
    pub(crate) fn find() -> Result<Self, String> {
        let mounts = mounts::own();
        let usual = MOUNTS.iter().map(PathBuf::from);
        let elsewhere: Vec<PathBuf> = mounts::places(&mounts, "tracefs").collect();
        let below = mounts::places(&mounts, "debugfs").map(|debugfs| debugfs.join("tracing"));
        let mut last = None;
        for root in usual.chain(elsewhere.iter().cloned()).chain(below) {
            match fs::read_to_string(root.join("README")) {
                Ok(readme) => {
                    let processes = processes();
                    let takes_instances = takes_instances(&readme);
                    return Ok(Self { root, processes, takes_instances, commands: Arc::default() });
                }
                // A kernel that is locked down for confidentiality shows an empty one.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !elsewhere.contains(&root) => {}
                Err(error) => last = Some((root, error)),
            }
        }
        Err(last.map_or_else(
            || format!("{NOT_MOUNTED}; as root: mount -t tracefs tracefs {}", MOUNTS[0]),
            |(root, error)| refusal::hidden_tracefs(&root, &error),
        ))
    }

    /// Why no event can be made on a function.
    pub(crate) fn needs_kprobes(&self) -> Result<(), String> {
        if !self.root.join("kprobe_events").exists() {
            let root = self.root.display();
            return Err(format!("this kernel has no kprobes (CONFIG_KPROBE_EVENTS is off: no {root}/kprobe_events)"));
        }
        // It says "0" where somebody has switched all kprobes off: they attach, and never fire.
        let mounts = mounts::own();
        let mut switches = mounts::places(&mounts, "debugfs").map(|debugfs| debugfs.join("kprobes/enabled"));
        match switches.find(|switch| fs::read_to_string(switch).is_ok_and(|armed| armed.trim() == "0")) {
            Some(switch) => Err(format!("kprobes are switched off; as root: echo 1 > {}", switch.display())),
            None => Ok(()),
        }
    }

    /// Whether a kretprobe gets as many instances as it needs: with the kernel's own number, which is that of its
    /// processors, it misses what is called while a few calls wait.
    pub(crate) const fn takes_instances(&self) -> bool {
        self.takes_instances
    }

    /// The id of an event that the kernel itself has, as `category/name`.
    pub(crate) fn id_of(&self, event: &str) -> io::Result<u64> {
        read_id(&self.root.join("events").join(event))
    }

    /// Why there are none of these events, as `category/name`.
    pub(crate) fn no_such_events(&self, events: &[&str]) -> String {
        let of_calls = events.iter().any(|event| event.starts_with("syscalls/"));
        let off = of_calls && !self.root.join("events/syscalls").exists();
        let why = if off { " (CONFIG_FTRACE_SYSCALLS is off)" } else { "" };
        format!("this kernel has no such events{why}")
    }

    /// Makes an event on the start or the end of a function and returns it with its id.
    pub(crate) fn create(&self, names: Names, function: &str, at_return: bool) -> io::Result<(Event, u64)> {
        let Names { prefix, owner } = names;
        let letter = if at_return { 'r' } else { 'p' };
        let number = number(CREATED.fetch_add(1, Ordering::Relaxed), owner.map(|_| since_boot()));
        let owner = owner.unwrap_or_else(|| self.processes.own());
        let name = event_name(&format!("{prefix}{letter}_"), function, &number, owner);
        let instances = if at_return && self.takes_instances { MAX_ACTIVE.to_string() } else { String::new() };
        self.command(&format!("{letter}{instances}:{GROUP}/{name} {function}"))?;
        let event = Event { by: By::Us(self.clone()), name };
        let id = self.id_of_ours(&event.name)?;
        Ok((event, id))
    }

    /// Removes what dead agents left behind. Nobody else's events are touched. One that cannot be removed (`EBUSY`: its
    /// maker lives after all, where we cannot see it) stays, and the sweep goes on; the first error is told.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let events = match fs::read_to_string(self.root.join("kprobe_events")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // no kprobes
            events => events?,
        };
        let ours = events.lines().filter_map(event_of_ours);
        let dead = ours.filter(|name| Owner::of_event(name).is_some_and(|owner| self.processes.know_dead(owner)));
        dead.map(|name| self.remove(name)).fold(Ok(()), io::Result::and)
    }

    /// Whether an event of ours was made by this process or for one that it comes from.
    pub(crate) fn may_touch(&self, name: &str) -> bool {
        let is_plain = name.len() <= LONGEST && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_plain && Owner::of_event(name).is_some_and(|owner| self.processes.descend_from(owner))
    }

    /// The id of an event of ours.
    pub(crate) fn id_of_ours(&self, name: &str) -> io::Result<u64> {
        read_id(&self.root.join("events").join(GROUP).join(name))
    }

    /// Removes an event of ours, on which nothing stands any more.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        self.command(&format!("-:{GROUP}/{name}"))
    }

    /// Opens the file with what every event missed.
    pub(crate) fn profile(&self) -> io::Result<Profile> {
        Ok(Profile { file: File::open(self.root.join("kprobe_profile"))?, text: Vec::new() })
    }

    /// Where it is mounted.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn command(&self, line: &str) -> io::Result<()> {
        if let Some(mut commands) = self.commands.get() {
            return commands.write_all(line.as_bytes());
        }
        // Without appending it would remove everybody's events.
        let mut commands = OpenOptions::new().append(true).open(self.root.join("kprobe_events"))?;
        let done = commands.write_all(line.as_bytes());
        // Another thread's is as good.
        let _ = self.commands.set(commands);
        done
    }
}

/// Removes what agents that have ended left behind in tracefs: for a process that outlives one which could not do that
/// itself, because it was killed.
///
/// # Errors
/// An event cannot be removed; the others are.
pub fn sweep() -> io::Result<()> {
    // Without tracefs there is nothing in it.
    Tracefs::find().map_or(Ok(()), |tracefs| tracefs.sweep())
}

/// This process, as an owner of events.
pub(crate) fn own_number() -> Owner {
    processes().own()
}

/// Whether this process is an owner, or comes from it.
pub(crate) fn descend_from(owner: Owner) -> bool {
    processes().descend_from(owner)
}

fn processes() -> Processes {
    Processes::at(Path::new("/proc"), std::process::id())
}

/// How many events this process has made: several probes may look at one function, each by an event of its own.
static CREATED: AtomicU64 = AtomicU64::new(0);

/// What tells the events of an owner apart. Those that another process makes for it are numbered by the time as well: the
/// owner counts its own, and whoever made some for it before counted from 0, too.
fn number(number: u64, made_for_another: Option<Duration>) -> String {
    made_for_another.map_or_else(|| number.to_string(), |time| format!("{number}at{:x}", time.as_millis()))
}

fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

/// The longest name of an event (`MAX_EVENT_NAME_LEN`, a zero included).
const LONGEST: usize = 63;

/// What tells it apart stands at the end; of a long function's name there is as much as there is room for.
fn event_name(start: &str, function: &str, number: &str, owner: Owner) -> String {
    let end = format!("_{number}_{owner}");
    let room = LONGEST.saturating_sub(start.len() + end.len());
    // The compiler's copies of a function have points in their names, which no event may have.
    let function = function.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    start.chars().chain(function.take(room)).chain(end.chars()).collect()
}

/// From Linux 4.12 on (696ced4fb1d7, "tracing/kprobes: expose maxactive for kretprobe"), which README says. 4.11 takes
/// `r4096:GROUP/NAME` for a plain `r`: no error, no number, and an event of another name that nobody removes.
fn takes_instances(readme: &str) -> bool {
    readme.contains("r[maxactive]")
}

fn read_id(event: &Path) -> io::Result<u64> {
    let id = fs::read_to_string(event.join("id"))?;
    id.trim().parse().map_err(|_| io::Error::other("tracefs gave no event id"))
}

/// An event of ours; removed when dropped, which must come after its perf descriptor is closed.
pub(crate) struct Event {
    by: By,
    name: String,
}

/// Has another process remove events of these names; an error says why that failed.
pub(crate) type Remove = Arc<dyn Fn(&[&str]) -> Result<(), String> + Send + Sync>;

/// Who removes an event.
enum By {
    Us(Tracefs),
    Another(Remove),
    /// It is another process's now.
    Nobody,
}

impl Event {
    /// One that another process has made for this one.
    pub(crate) fn of_another(name: String, remove: &Remove) -> Self {
        Self { by: By::Another(Arc::clone(remove)), name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Gives it to whoever has its name.
    pub(crate) fn hand_over(mut self) -> String {
        self.by = By::Nobody;
        std::mem::take(&mut self.name)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Event").field(&self.name).finish()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let removed = match std::mem::replace(&mut self.by, By::Nobody) {
            By::Us(tracefs) => tracefs.remove(&self.name).map_err(|error| error.to_string()),
            By::Another(remove) => remove(&[&self.name]),
            By::Nobody => Ok(()),
        };
        if let Err(problem) = removed {
            tracing::warn!(event = %self.name, "cannot remove a kprobe event: {problem}");
        }
    }
}

/// Removes events. Those that another process removes go to it in one request.
pub(crate) fn remove(events: impl IntoIterator<Item = Event>) {
    let mut another: Option<(Remove, Vec<String>)> = None;
    for mut event in events {
        if let By::Another(remove) = &event.by {
            let (_, names) = another.get_or_insert_with(|| (Arc::clone(remove), Vec::new()));
            names.push(std::mem::take(&mut event.name));
            event.by = By::Nobody;
        }
    }
    let Some((remove, names)) = another else { return };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Err(problem) = remove(&names) {
        tracing::warn!(events = names.join(" "), "cannot remove kprobe events: {problem}");
    }
}

/// tracefs's `kprobe_profile`: per event its hits and misses.
#[derive(Debug)]
pub(crate) struct Profile {
    file: File,
    /// Reused from tick to tick.
    text: Vec<u8>,
}

impl From<OwnedFd> for Profile {
    fn from(file: OwnedFd) -> Self {
        Self { file: file.into(), text: Vec::new() }
    }
}

impl From<Profile> for OwnedFd {
    fn from(profile: Profile) -> Self {
        profile.file.into()
    }
}

impl Profile {
    /// Reads the file anew.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.text.clear();
        self.file.read_to_end(&mut self.text).map(drop)
    }

    /// What an event missed until the last refresh: the third word of its line.
    pub(crate) fn missed(&self, event: &str) -> u64 {
        let lines = self.text.split(|byte| *byte == b'\n');
        let words = lines.map(|line| line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()));
        words
            .filter_map(|mut words| (words.next()? == event.as_bytes()).then(|| words.nth(1))?)
            .find_map(|missed| std::str::from_utf8(missed).ok()?.parse().ok())
            .unwrap_or(0)
    }
}

/// The name of one of our events in a line of `kprobe_events`: `r4096:ebpf_process/NAME function`.
fn event_of_ours(line: &str) -> Option<&str> {
    let (_, event) = line.split_whitespace().next()?.split_once(':')?;
    event.strip_prefix(GROUP)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FILE;
    use crate::building::candidates;
    use crate::exactness::Facts;
    use crate::hook::Layer;
    use crate::kernel::Kernel;
    use crate::options::{Mode, ProbeOptions, Tier};
    use crate::preemption::Preemption;
    use crate::release::Version;
    use std::collections::HashMap;

    const README: &str = "\t   Format: p[:[<group>/]<event>] <place>\n\t   r[maxactive][:[<group>/]<event>] <place>\n";
    const README_4_11: &str = "\t   Format: p|r[:[<group>/]<event>] <place> [<args>]\n";

    #[test]
    fn without_the_number_a_result_is_exact_by_trace_events_only() {
        let options = ProbeOptions { mode: Mode::Return, ..ProbeOptions::default() };
        for (readme, layer) in [(README, Layer::Function), (README_4_11, Layer::Syscall)] {
            let kernel = Kernel {
                btf: Err("no type information".to_owned()),
                arities: HashMap::new(),
                tracefs: Ok(folder(readme, "", &[]).1),
                facts: Facts {
                    version: Version(4, if readme == README { 14 } else { 11 }),
                    preemption: Preemption::Possible,
                    sandboxed: false,
                    runs_32_bit: true,
                    takes_instances: takes_instances(readme),
                },
                possible_cpus: 2,
            };
            for counter in FILE.counters {
                let all = candidates(&kernel, counter, &options).0;
                let mut on_the_floor = all.into_iter();
                let first = on_the_floor.find(|candidate| candidate.tier != Tier::Fentry).expect("a candidate");
                assert_eq!(first.layer, layer, "{}", counter.name);
            }
        }
    }

    /// A folder that takes every command and makes no event: those that shall be there are given.
    fn folder(readme: &str, lines: &str, events: &[&str]) -> (tempfile::TempDir, Tracefs) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("kprobe_events"), lines).expect("a list");
        for event in events {
            let event = folder.path().join("events").join(event);
            fs::create_dir_all(&event).expect("an event");
            fs::write(event.join("id"), "1234\n").expect("its id");
        }
        let processes = Processes::at(Path::new("/proc"), std::process::id());
        let root = folder.path().to_owned();
        let takes_instances = takes_instances(readme);
        let tracefs = Tracefs { root, processes, takes_instances, commands: Arc::default() };
        (folder, tracefs)
    }

    fn commands(folder: &tempfile::TempDir) -> String {
        fs::read_to_string(folder.path().join("kprobe_events")).expect("a list")
    }

    #[test]
    fn a_kernel_that_ignores_the_number_and_the_name_with_it_is_given_none() {
        for (readme, number) in [(README, "4096"), (README_4_11, "")] {
            let (folder, tracefs) = folder(readme, "", &[]);
            assert_eq!(tracefs.takes_instances(), !number.is_empty());
            assert!(tracefs.create(Names::default(), "vfs_read", true).is_err(), "it gets no id here");
            let commands = commands(&folder);
            let (made, removed) = commands.split_once(" vfs_read-:").expect("made and removed");
            assert_eq!(made, format!("r{number}:{removed}"), "by the same name");
            let owner = Processes::at(Path::new("/proc"), std::process::id()).own();
            assert!(removed.starts_with("ebpf_process/r_vfs_read_") && removed.ends_with(&format!("_{owner}")));
        }
    }

    #[test]
    fn two_events_on_one_function_have_two_names_and_one_owner() {
        let owner = Processes::at(Path::new("/proc"), std::process::id()).own();
        let (folder, tracefs) = folder(README, "", &[]);
        for _ in 0..2 {
            assert!(tracefs.create(Names::default(), "vfs_read", false).is_err(), "it gets no id here");
        }
        let commands = commands(&folder);
        let mut names: Vec<&str> = commands.split("p:").filter_map(|made| made.split(' ').next()).skip(1).collect();
        assert!(names.iter().all(|name| Owner::of_event(name) == Some(owner)), "{commands}");
        names.dedup();
        assert_eq!(names.len(), 2, "{commands}");
    }

    #[test]
    fn what_is_made_for_another_process_has_no_name_that_it_gives_itself() {
        let owner = Owner::of_event("x_4026531836_4194304_1234567890").expect("an owner");
        let (folder, tracefs) = folder(README, "", &[]);
        for names in [Names::default(), Names { owner: Some(tracefs.processes.own()), prefix: "" }] {
            assert!(tracefs.create(names, "vfs_read", false).is_err(), "it gets no id here");
        }
        let commands = commands(&folder);
        let mut made = commands.split("p:").filter_map(|made| made.split(' ').next()).skip(1);
        let (own, others) = (made.next().unwrap_or_default(), made.next().unwrap_or_default());
        assert!(!own.contains("at") && others.contains("at"), "{commands}");
        assert_eq!(Owner::of_event(own), Owner::of_event(others));
        assert_eq!(number(3, None), "3");
        // A year and the longest function: it is still known whose it is.
        let year = Duration::from_secs(365 * 24 * 3600);
        let name = event_name("r_", "a_function_with_a_name_that_is_longer_than_that", &number(99, Some(year)), owner);
        assert_eq!(name, "r_a_function_with_a_99at757b12c00_4026531836_4194304_1234567890");
        assert!(name.len() <= LONGEST && Owner::of_event(&name) == Some(owner));
    }

    #[test]
    fn a_name_is_no_longer_than_the_kernel_takes_and_has_no_point() {
        let owner = Owner::of_event("x_4026531836_4194304_1234567890").expect("an owner");
        let name =
            event_name("test_r_", "a_function_whose_name_alone_has_more_than_sixty_characters.isra.0", "7", owner);
        assert_eq!(name, "test_r_a_function_whose_name_al_7_4026531836_4194304_1234567890");
        assert!(name.len() <= LONGEST && Owner::of_event(&name) == Some(owner));
        assert!(event_name("p_", "vfs_read.cold", "0", owner).starts_with("p_vfs_read_cold_0_"));
    }

    #[test]
    fn only_a_kernel_without_events_of_system_calls_is_said_to_have_none() {
        let (_folder, without) = folder(README, "", &["task/task_newtask"]);
        let (_folder, with) = folder(README, "", &["syscalls/sys_exit_read"]);
        let fork = ["syscalls/sys_exit_fork", "syscalls/sys_exit_vfork"];
        assert_eq!(without.no_such_events(&fork), "this kernel has no such events (CONFIG_FTRACE_SYSCALLS is off)");
        assert_eq!(with.no_such_events(&fork), "this kernel has no such events");
        assert_eq!(without.no_such_events(&["task/task_newtask"]), "this kernel has no such events");
    }

    #[test]
    fn an_event_that_gets_no_id_is_removed_again() {
        let (folder, tracefs) = folder(README, "", &[]);
        assert!(tracefs.create(Names::default(), "vfs_read", false).is_err());
        assert!(commands(&folder).contains("-:ebpf_process/p_vfs_read_"));
    }

    #[test]
    fn the_sweep_takes_the_dead_and_leaves_the_living_and_strangers() {
        let own = Processes::at(Path::new("/proc"), std::process::id()).own();
        let strangers = "p:kprobes/aya_12_p_vfs_read_0x0_1 vfs_read\np:ebpf_process2/x_1_2 vfs_read\n";
        let ours = format!("r4096:ebpf_process/r_f_4026531836_4194304_1 f\np:ebpf_process/p_f_{own} f\n");
        let lines = format!("{strangers}{ours}p:ebpf_process/p_g_4194304_1 g\n");
        let (folder, tracefs) = folder(README, &lines, &[]);
        tracefs.sweep().expect("swept");
        let removed = commands(&folder);
        let removed = removed.strip_prefix(&lines).expect("the list as it was");
        assert!(removed.ends_with("-:ebpf_process/p_g_4194304_1"), "{removed}");
        assert!(!removed.contains(&own.to_string()) && !removed.contains("aya") && !removed.contains("process2"));
    }

    #[test]
    fn only_our_own_events_are_recognized() {
        let ours = "r4096:ebpf_process/r_vfs_read_123_456 vfs_read";
        assert_eq!(event_of_ours(ours), Some("r_vfs_read_123_456"));
        for other in ["p:kprobes/aya_12_p_vfs_read_0x0_1 vfs_read", "p:ebpf_process2/x_1_2 vfs_read", "", "p"] {
            assert_eq!(event_of_ours(other), None, "{other}");
        }
    }

    #[test]
    fn misses_are_the_third_word() {
        let mut file = tempfile();
        file.write_all(b"  p_open_1_2                 17               0\n  r_open_1_2    5   3\n").expect("write");
        let mut profile = Profile { file, text: Vec::new() };
        profile.refresh().expect("read");
        assert_eq!((profile.missed("p_open_1_2"), profile.missed("r_open_1_2"), profile.missed("r_open")), (0, 3, 0));
    }

    fn tempfile() -> File {
        let fd = rustix::fs::memfd_create("profile", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        File::from(fd)
    }
}
