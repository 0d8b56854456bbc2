//! System calls: one program for all probes, and the tables by which it knows what is watched.
//!
//! Every system call of the machine pays for a program on `sys_exit`, so there is one for all that have the same filter.
//! What it counts is in tables that change while it runs: no program is replaced, and nobody else's number is touched.

mod tables;

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ebpf_process_core::chain;
use parking_lot::{Mutex, MutexGuard};

use crate::abi::Slot;
use crate::attach::{AttachLost, Links};
use crate::call::{Numbers, RECORDS, SYSCALL_LIMIT, Watched};
use crate::candidate::{Candidate, hooks_of_calls};
use crate::filter::{Aimed, Filter};
use crate::hook::Attach;
use crate::kernel::Kernel;
use crate::memory::{MapMemory, SharedMemory};
use crate::object::{Object, Objects};
use crate::object_maps::ObjectMaps;
use crate::options::Tier;
use crate::owner::Owner;
use crate::programs::Programs;
use crate::target::Target;
use crate::tracefs::Names;
use crate::vigil::Vigil;
use crate::who::{self, Sizes};
use crate::workshop::Source;

use tables::Tables;

/// The object of system calls.
pub(crate) static SYSCALLS: Objects = Objects {
    core: crate::aligned!("../bpf/objects/x86_64/syscalls.core.o"),
    floor: Some(crate::aligned!("../bpf/objects/x86_64/syscalls.floor.o")),
    who: Some(crate::aligned!("../bpf/objects/x86_64/syscalls.who.o")),
    slots: &[],
    needs: &[],
};

/// What is watched with one filter.
pub(crate) struct Calls {
    pub(crate) programs: Programs,
    pub(crate) filter: Filter,
    tables: Tables,
    /// The table as it is in the kernel: the native meaning in the lower half of an entry, the 32-bit one in the upper.
    entries: Vec<u32>,
    /// By record: how many counters read it.
    users: Vec<usize>,
    /// The records that some counter reads.
    read: Vec<Slot>,
    /// Whether what they hold together grows: then the programs fire.
    vigil: Vigil,
    loaded: Instant,
    walk: Walk,
    /// Why nothing guards the filter's target, where something should.
    pub(crate) unguarded: Option<String>,
    pub(crate) memory: SharedMemory,
}

/// A look at all numbers.
#[derive(Clone, Copy, Debug)]
struct Walk {
    number: u64,
    at: Instant,
}

/// Probes are read within this time of each other, and never so soon again.
const SAME_TICK: Duration = Duration::from_millis(50);

impl Walk {
    /// Whether whoever has had the numbers of another one finds those of this tick here.
    fn is_news_to(self, seen: u64, now: Instant) -> bool {
        self.number != seen && now.duration_since(self.at) < SAME_TICK
    }
}

/// Who shares a load: those of one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) object: Object,
    pub(crate) filter: String,
}

impl Key {
    pub(crate) fn of(object: Object, whose: &Whose<'_>) -> Self {
        Self { object, filter: whose.name() }
    }
}

/// The object of system calls that has the programs of a candidate: trace events are the floor's.
pub(crate) fn object_for(candidate: &Candidate) -> Object {
    if candidate.has(|attach| matches!(attach, Attach::Event(_))) { Object::Floor } else { Object::Core }
}

/// Whose calls are counted.
pub(crate) enum Whose<'a> {
    /// For good; by whom, so many processes have records of their own.
    Target(&'a Target, u32),
    /// Those of a self-test: the kind of its filter, and how it is aimed.
    Test(u32, &'a dyn Fn(&mut Filter) -> Result<Aimed, String>),
}

/// How the name of a self-test's filter begins.
const TEST: &str = "test ";

impl Whose<'_> {
    fn name(&self) -> String {
        match self {
            Self::Target(target, processes) => format!("{}, {processes}", target.identity()),
            Self::Test(kind, _) => format!("{TEST}{kind}"),
        }
    }
}

static SHARED: Mutex<Vec<(Key, Weak<Mutex<Calls>>)>> = Mutex::new(Vec::new());

fn known(shared: &[(Key, Weak<Mutex<Calls>>)], key: &Key) -> Option<Arc<Mutex<Calls>>> {
    shared.iter().find(|(other, _)| other == key).and_then(|(_, calls)| calls.upgrade())
}

/// The object in the kernel, with its filter aimed, before anything is watched.
pub(crate) struct LoadedCalls {
    pub(crate) key: Key,
    pub(crate) programs: Programs,
    /// By whom: so many processes have records of their own.
    pub(crate) processes: u32,
    /// Why nothing guards the filter's target, where something should.
    pub(crate) unguarded: Option<String>,
}

impl LoadedCalls {
    /// Loads the object with this filter. The names of its tracefs events would be these.
    pub(crate) fn load(
        kernel: &Kernel,
        object: Object,
        whose: &Whose<'_>,
        owner: Option<Owner>,
    ) -> Result<Self, String> {
        let (kind, target, prefix, processes) = match whose {
            Whose::Target(target, processes) => (target.kind(), Some(*target), "", *processes),
            Whose::Test(kind, _) => (*kind, None, "test_", 0),
        };
        let ebpf = SYSCALLS.load_one(object, kernel, kind, target, processes).map_err(|error| chain(&error))?;
        let bytes = SYSCALLS.bytes(object).unwrap_or_default();
        let unreadable = |error: io::Error| format!("the totals cannot be had: {error}");
        let maps = ObjectMaps::of(&ebpf, bytes).map_err(unreadable)?;
        who::vacate(&maps).map_err(unreadable)?;
        let mut filter = Filter::of(&maps, object).map_err(|error| error.to_string())?;
        let aimed = match whose {
            Whose::Target(target, _) => filter.close(target).map_err(|error| error.to_string())?,
            Whose::Test(_, aim) => aim(&mut filter)?,
        };
        let links = Links::new(Source::Object(Box::new(ebpf)), Names { prefix, owner }, aimed);
        let mut programs = Programs::new(links, maps, (object, bytes), kernel.possible_cpus).map_err(unreadable)?;
        let mut unguarded = None;
        if let Some(target) = target {
            if let Some(guard) = filter.guard(target, kernel.facts.version) {
                unguarded = programs.attach_guard(kernel, &guard).err();
            }
            if object == Object::Who {
                programs.follow(kernel)?;
            }
            // Nothing is watched yet, so nothing passes.
            filter.aim(target).map_err(|error| error.to_string())?;
        }
        // All at once: probes that come later find them loaded, whatever else is left of the object.
        programs.links.load_all(kernel, &hooks_of_calls(object == Object::Floor));
        Ok(Self { key: Key::of(object, whose), programs, processes, unguarded })
    }
}

/// Whether an object has records for all calls of a candidate; else why not.
pub(crate) fn has_records(object: Object, candidate: &Candidate) -> Result<(), String> {
    let limit = if object == Object::Who { who::records(SYSCALLS.bytes(object).unwrap_or_default()) } else { RECORDS };
    let last = candidate.calls.iter().flat_map(|watched| watched.call.parts(watched.record)).map(|(_, record)| record);
    if last.max().is_some_and(|last| last as usize >= limit) {
        return Err(format!("by whom at most {} system calls can be counted (probes.by)", limit - 1));
    }
    Ok(())
}

impl Calls {
    /// The load with this filter: somebody else's, or a new one that watches nothing yet.
    pub(crate) fn shared(kernel: &Kernel, object: Object, whose: &Whose<'_>) -> Result<Arc<Mutex<Self>>, String> {
        Self::known_or(&Key::of(object, whose), || LoadedCalls::load(kernel, object, whose, None))
    }

    /// All that count for good, by their keys.
    pub(crate) fn all_shared() -> Vec<(Key, Arc<Mutex<Self>>)> {
        let shared = SHARED.lock();
        let for_good = shared.iter().filter(|(key, _)| !key.filter.starts_with(TEST));
        for_good.filter_map(|(key, calls)| Some((key.clone(), calls.upgrade()?))).collect()
    }

    /// The load of this key: the one that there is, or else this one, which watches nothing yet.
    pub(crate) fn known_or(
        key: &Key,
        load: impl FnOnce() -> Result<LoadedCalls, String>,
    ) -> Result<Arc<Mutex<Self>>, String> {
        let mut shared = SHARED.lock();
        shared.retain(|(_, calls)| calls.strong_count() > 0);
        if let Some(calls) = known(&shared, key) {
            return Ok(calls);
        }
        let calls = Arc::new(Mutex::new(Self::of(load()?)?));
        shared.push((key.clone(), Arc::downgrade(&calls)));
        Ok(calls)
    }

    /// Whether somebody's programs with this filter stand on all trace events of a candidate.
    pub(crate) fn stand_on_events(target: &Target, candidate: &Candidate) -> bool {
        let key = Key::of(object_for(candidate), &Whose::Target(target, 0));
        let calls = known(&SHARED.lock(), &key);
        calls.is_some_and(|calls| calls.lock().programs.stand_on_events(candidate))
    }

    fn of(LoadedCalls { key, programs, processes, unguarded }: LoadedCalls) -> Result<Self, String> {
        let Key { object, filter } = key;
        let bytes = SYSCALLS.bytes(object).unwrap_or_default();
        let sizes = Sizes::if_by_whom(object, bytes, processes);
        let memory = MapMemory::of(bytes, programs.possible_cpus(), &sizes).map_err(|error| error.to_string())?;
        let tables =
            Tables::of(&programs.maps, object).map_err(|error| format!("the tables cannot be had: {error}"))?;
        Ok(Self {
            filter: Filter::of(&programs.maps, object).map_err(|error| error.to_string())?,
            programs,
            tables,
            entries: vec![0; SYSCALL_LIMIT],
            users: vec![0; RECORDS],
            read: Vec::new(),
            vigil: Vigil::new(Duration::ZERO),
            loaded: Instant::now(),
            walk: Walk { number: 0, at: Instant::now() },
            unguarded,
            memory: SharedMemory { maps: format!("{object:?}, {filter}"), memory },
        })
    }

    /// Attaches a candidate's hooks and counts its calls from now on. The error says why in words.
    pub(crate) fn attach(&mut self, kernel: &Kernel, candidate: &Candidate) -> Result<(), String> {
        has_records(self.programs.object, candidate)?;
        self.programs.attach(kernel, &candidate.hooks)?;
        self.count(candidate)
    }

    /// Counts the calls of a candidate whose hooks stand.
    fn count(&mut self, candidate: &Candidate) -> Result<(), String> {
        let new: Vec<_> = candidate.calls.iter().filter(|watched| !self.is_watched(watched)).copied().collect();
        if let Err(problem) = self.watch(&new) {
            // What stays in a table counts in a record that nobody reads.
            let _ = self.unwatch(&new);
            self.programs.detach(&candidate.hooks);
            return Err(problem);
        }
        self.count_users([candidate], |users| users + 1);
        Ok(())
    }

    /// Counts what nobody else watches no more, and lets go of the hooks.
    pub(crate) fn detach<'a>(&mut self, candidates: impl IntoIterator<Item = &'a Candidate>) {
        let candidates: Vec<_> = candidates.into_iter().collect();
        self.count_users(candidates.iter().copied(), |users| users.saturating_sub(1));
        let watched = candidates.iter().flat_map(|candidate| &candidate.calls);
        let free: Vec<_> = watched.filter(|watched| !self.is_watched(watched)).copied().collect();
        // As above.
        let _ = self.unwatch(&free);
        self.programs.detach(candidates.iter().flat_map(|candidate| &candidate.hooks));
    }

    /// Takes the numbers of now, unless another probe has done so in this tick: by whom that is a walk over all processes.
    pub(crate) fn refresh_for(&mut self, seen: &mut u64, patience: Duration) -> io::Result<()> {
        if self.programs.object != Object::Who || !self.walk.is_news_to(*seen, Instant::now()) {
            self.refresh(patience)?;
        }
        *seen = self.walk.number;
        Ok(())
    }

    /// Takes the numbers of now.
    pub(crate) fn refresh(&mut self, patience: Duration) -> io::Result<()> {
        self.programs.refresh(patience)?;
        self.walk = Walk { number: self.walk.number + 1, at: Instant::now() };
        let calls = self.programs.sum(Tier::Tracepoint, &self.read)?.calls;
        // What is to be done about a counter alone decides its own.
        let _ = self.vigil.look(self.loaded.elapsed(), calls);
        Ok(())
    }

    /// The number of the look at all numbers that there was last.
    pub(crate) const fn walked(&self) -> u64 {
        self.walk.number
    }

    /// Lets go of a candidate's hooks and attaches them again, unless its program counts for somebody: then it fires, and to
    /// let go of it would cost that one events. Whether it was done.
    pub(crate) fn attach_again(&mut self, candidate: &Candidate, attach: &mut AttachLost<'_>) -> io::Result<bool> {
        if candidate.sees_every_call() && self.vigil.moves(self.loaded.elapsed()) {
            return Ok(false);
        }
        self.programs.links.attach_again(&candidate.hooks, attach).map(|()| true)
    }

    fn is_watched(&self, watched: &Watched) -> bool {
        self.users[watched.record as usize] > 0
    }

    fn count_users<'a>(&mut self, candidates: impl IntoIterator<Item = &'a Candidate>, count: impl Fn(usize) -> usize) {
        for watched in candidates.into_iter().flat_map(|candidate| &candidate.calls) {
            for (_, record) in watched.call.parts(watched.record) {
                let users = &mut self.users[record as usize];
                *users = count(*users);
            }
        }
        self.read.clear();
        self.read.extend((0..).zip(&self.users).filter(|(_, users)| **users > 0).map(|(record, _)| record));
        self.programs.read_only(&self.read);
    }

    /// A call that reads an entry while it changes must find a whole one, and the kernel promises no more than whole
    /// bytes: first come the flags, with which alone nothing is counted, then the record.
    fn watch(&mut self, calls: &[Watched]) -> Result<(), String> {
        let set = |error: io::Error| format!("cannot watch system calls: {error}");
        for watched in calls {
            self.tables.set_split(watched).map_err(set)?;
        }
        self.change(calls, |watched| watched.entry() & FLAGS).map_err(set)?;
        self.change(calls, Watched::entry).map_err(set)
    }

    fn unwatch(&mut self, calls: &[Watched]) -> io::Result<()> {
        self.change(calls, |watched| watched.entry() & FLAGS)?;
        self.change(calls, |_| 0)
    }

    fn change(&mut self, calls: &[Watched], entry: impl Fn(&Watched) -> u16) -> io::Result<()> {
        let mut changed = Vec::new();
        for watched in calls {
            let (numbers, half) = (Numbers::of(watched.call.name), u32::from(entry(watched)));
            let Some(Numbers { native, i386 }) = numbers else { continue };
            for number in &native {
                self.entries[*number] = self.entries[*number] & 0xffff_0000 | half;
            }
            if let Some(number) = i386 {
                self.entries[number] = self.entries[number] & 0xffff | half << 16;
            }
            changed.extend(native.into_iter().chain(i386));
        }
        self.tables.set_entries(&self.entries, &changed)
    }
}

/// What one probe counts by the shared programs, until it is dropped: others may go on with them.
pub(crate) struct Share {
    calls: Arc<Mutex<Calls>>,
    held: Vec<Candidate>,
}

impl Share {
    pub(crate) const fn new(calls: Arc<Mutex<Calls>>) -> Self {
        Self { calls, held: Vec::new() }
    }

    /// The programs.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock()
    }

    /// The same, for somebody else.
    pub(crate) fn programs(&self) -> Arc<Mutex<Calls>> {
        Arc::clone(&self.calls)
    }

    /// The programs of another process's making, which are shared from now on.
    pub(crate) fn taken_over(loaded: LoadedCalls) -> Result<Self, String> {
        let key = loaded.key.clone();
        Calls::known_or(&key, || Ok(loaded)).map(Self::new)
    }

    /// Counts the calls of a candidate whose hooks stand. The error says why in words.
    pub(crate) fn join(&mut self, candidate: &Candidate) -> Result<(), String> {
        let mut calls = self.calls.lock();
        has_records(calls.programs.object, candidate)?;
        calls.programs.links.join(&candidate.hooks)?;
        calls.count(candidate)?;
        drop(calls);
        self.held.push(candidate.clone());
        Ok(())
    }

    /// Attaches a candidate's hooks and counts its calls from now on. The error says why in words.
    pub(crate) fn attach(&mut self, kernel: &Kernel, candidate: &Candidate) -> Result<(), String> {
        self.lock().attach(kernel, candidate)?;
        self.held.push(candidate.clone());
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.calls.lock().detach(&self.held);
    }
}

/// The byte of an entry that does not hold the record.
const FLAGS: u16 = 0xff00;

/// Tests whose filter is this process share what is loaded with it.
#[cfg(test)]
pub(crate) static ALONE: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write as _;

    use super::tables::key;
    use super::*;
    use crate::call::Call;
    use crate::counter::Counter;
    use crate::hook::Layer;
    use crate::kernel_probe::KernelProbe;
    use crate::only::Only;
    use crate::options::Mode;
    use crate::wanted::wanted_by;

    impl Calls {
        /// The numbers that are watched, in 64-bit calls and in 32-bit ones, as the kernel has them.
        fn watched(&self) -> (BTreeSet<usize>, BTreeSet<usize>) {
            let mut bytes = vec![0; 4 * SYSCALL_LIMIT];
            match &self.tables {
                Tables::Core { calls, .. } => calls.look_up(&key(0), &mut bytes).expect("the table"),
                Tables::Floor { calls, .. } => (0..).zip(bytes.chunks_exact_mut(4)).for_each(|(number, entry)| {
                    calls.look_up(&key(number), entry).expect("an entry");
                }),
            }
            let entries: Vec<u32> =
                bytes.chunks_exact(4).map(|entry| u32::from_ne_bytes(entry.try_into().expect("four"))).collect();
            assert_eq!(entries, self.entries);
            let half =
                |half: u32| (0..).zip(&entries).filter(|(_, entry)| **entry & half != 0).map(|(n, _)| n).collect();
            (half(0xffff), half(0xffff_0000))
        }
    }

    const ONE: Counter = Counter::new("calls.one", Layer::Syscall, |_| Ok(()))
        .calls(&[Call::size("read"), Call::status("unlinkat").without(2, 0x200)]);
    const OTHER: Counter = Counter::new("calls.other", Layer::Syscall, |_| Ok(())).calls(&[
        Call::size("read"),
        Call::status("unlinkat").second_part_if(2, 0x200),
        Call::status("umount"),
    ]);
    static PROBE: KernelProbe = KernelProbe::new("calls", "of a test").counters(&[ONE, OTHER]);

    /// The way to count by this object.
    fn candidate(counter: &Counter, object: Object) -> Candidate {
        let all = counter.candidates(Mode::Return).expect("candidates");
        all.into_iter().find(|candidate| object_for(candidate) == object).expect("a candidate")
    }

    #[test]
    fn a_tick_is_one_walk_whoever_comes_first() {
        let start = Instant::now();
        let walk = Walk { number: 7, at: start };
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        assert!(walk.is_news_to(6, after(1)) && walk.is_news_to(0, after(49)));
        assert!(!walk.is_news_to(7, after(1)), "its own: the next tick");
        // Another probe was read after this one in the tick before.
        assert!(!walk.is_news_to(6, after(99)));
    }

    #[test]
    fn what_nobody_watches_is_in_no_table() {
        let kernel = Kernel::shared(wanted_by(&PROBE)).expect("a kernel");
        for object in [Object::Core, Object::Floor] {
            let shared = || Calls::shared(&kernel, object, &Whose::Target(&Target::Everything, 0));
            let calls = match shared() {
                Ok(calls) => calls,
                Err(problem) if !rustix::process::geteuid().is_root() => {
                    let _ = writeln!(io::stderr(), "SKIPPED what_nobody_watches_is_in_no_table: {problem}");
                    return;
                }
                Err(problem) => panic!("{object:?}: {problem}"),
            };
            assert!(Arc::ptr_eq(&calls, &shared().expect("the same")));
            let (one, other) = (candidate(&ONE, object), candidate(&OTHER, object));
            let set = |numbers: &[usize]| numbers.iter().copied().collect::<BTreeSet<_>>();
            let mut calls = calls.lock();
            // Twice: programs are loaded again when nobody stood on them.
            for _ in 0..2 {
                calls.attach(&kernel, &one).expect("attached");
                assert_eq!(calls.watched(), (set(&[0, 263]), set(&[3, 301])));
                calls.attach(&kernel, &other).expect("attached");
                assert_eq!(calls.watched(), (set(&[0, 263]), set(&[3, 22, 301])));
                assert_eq!(calls.read.len(), 4, "unlinkat has two records");
                calls.detach([&one]);
                assert_eq!(calls.watched(), (set(&[0, 263]), set(&[3, 22, 301])));
                calls.detach([&other]);
                assert_eq!(calls.watched(), (set(&[]), set(&[])));
                assert!(calls.read.is_empty());
            }
            // All of one probe at once.
            for counter in [&one, &other] {
                calls.attach(&kernel, counter).expect("attached");
            }
            calls.detach([&one, &other]);
            assert_eq!(calls.watched(), (set(&[]), set(&[])));
        }
    }

    #[test]
    fn events_on_which_another_probe_stands_are_known() {
        let _alone = ALONE.lock();
        let kernel = Kernel::shared(wanted_by(&PROBE)).expect("a kernel");
        let everything = Target::Everything;
        let one = candidate(&ONE, Object::Floor);
        // A filter of its own, and so not the load of another test that runs beside this one.
        let myself = Only::Process { pid: std::process::id(), start_time: None };
        let target = Target::open(Some(&myself)).expect("this process");
        let calls = match Calls::shared(&kernel, Object::Floor, &Whose::Target(&target, 0)) {
            Ok(calls) => calls,
            Err(problem) if !rustix::process::geteuid().is_root() => {
                let _ = writeln!(io::stderr(), "SKIPPED events_on_which_another_probe_stands_are_known: {problem}");
                return;
            }
            Err(problem) => panic!("{problem}"),
        };
        assert!(!Calls::stand_on_events(&target, &one));
        calls.lock().attach(&kernel, &one).expect("attached");
        let same = Target::open(Some(&myself)).expect("this process");
        assert!(Calls::stand_on_events(&same, &one));
        assert!(!Calls::stand_on_events(&everything, &one), "those are another filter's");
        calls.lock().detach([&one]);
        assert!(!Calls::stand_on_events(&same, &one));
        drop(calls);
        assert!(!Calls::stand_on_events(&same, &one));
    }
}
