//! Fifty processes of known numbers and the leader that starts them, told apart by process, name and control group.
//!
//! Thirty live for a millisecond or so, ten get other names, by prctl(2) and by execve(2), five have a control group of
//! their own that is removed after them, five have eight threads. Among them are some that exit with open files, some
//! whose thread executes, one whose first thread exits long before, and some that are moved between groups. They are
//! `workload/crew.c` and the files beside it: each counts its own calls, and no two do the same number of them.

use crate::agent::lines_of;
use crate::cgroup::Cgroup;
use crate::known::Counted;
use crate::workload::{Place, Workload};
use crate::{Failure, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// No crew takes longer, in an emulator neither.
const LIFE: Duration = Duration::from_mins(10);
/// Between two looks at something else meanwhile.
const NOW_AND_THEN: Duration = Duration::from_millis(200);

/// A crew before it begins: its leader stands still.
#[derive(Debug)]
pub struct Crew {
    leader: Workload,
    prefix: String,
    // Both outlive the processes in them.
    cgroup: Cgroup,
    _place: Place,
}

impl Crew {
    /// Makes one that makes a step each `pause`; there are ninety.
    ///
    /// # Errors
    /// No control groups of version 2, or as [`Place::new`].
    pub fn new(pause: Duration) -> Outcome<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (place, cgroup) = (Place::new()?, Cgroup::new()?);
        // Of no other test's processes at the same time; short enough for a name of 15 bytes.
        let prefix = format!("{:x}{:x}", process::id() & 0xf_ffff, MADE.fetch_add(1, Ordering::Relaxed) & 0xff);
        let prefix = format!("cr{prefix}");
        let program = place.path().join(format!("{prefix}-lead"));
        symlink(place.executable(), &program).map_err(Failure::at("the leader's name"))?;
        let mut command = Command::new(program);
        command.arg("crew").arg(place.path()).arg(&prefix).arg(cgroup.folder()).arg(cgroup.name());
        command.arg(pause.as_millis().to_string()).stdout(Stdio::piped());
        let leader = Workload::start(command)?;
        cgroup.add(leader.pid())?;
        Ok(Self { leader, prefix, cgroup, _place: place })
    }

    /// What the names of its processes begin with, and nobody else's.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The path of its control group; others are below it.
    pub fn cgroup(&self) -> &str {
        self.cgroup.name()
    }

    /// Lets it go on to its end.
    ///
    /// # Errors
    /// It does not end with 0 (with its own words), takes too long, or does not say what it has done.
    pub fn run(&mut self) -> Outcome<Told> {
        self.run_beside(|| Ok(()))
    }

    /// The same, while somebody else does something every now and then.
    ///
    /// # Errors
    /// As [`Crew::run`], and those of `beside`.
    pub fn run_beside(&mut self, mut beside: impl FnMut() -> Outcome<()>) -> Outcome<Told> {
        let lines = lines_of("crew-stdout", self.leader.stdout())?;
        self.leader.resume()?;
        let (start, mut told) = (Instant::now(), Told::default());
        loop {
            match lines.recv_timeout(NOW_AND_THEN) {
                Ok(line) => told.read(&line)?,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => beside()?,
            }
            if start.elapsed() > LIFE {
                return Err(Failure::new(format!("the crew is not done after {LIFE:?}")));
            }
        }
        self.leader.wait_for_end()?;
        Ok(told)
    }
}

/// What a crew says that it has done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// All but the leader.
    pub members: Vec<Member>,
    /// Each process under each name in each control group, in the order in which they began; the first is the leader.
    pub stages: Vec<Stage>,
}

/// A process of the crew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its process number.
    pub pid: u32,
    /// A moment before its start, since the boot.
    pub started: Duration,
    /// From then to when it was found dead.
    pub lived: Duration,
    /// How many programs it executed.
    pub execs: u64,
    /// What the kernel says of it at its end.
    pub io: Option<Io>,
}

/// `/proc/PID/io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Io {
    /// `rchar`: bytes.
    pub read: u64,
    /// `wchar`: bytes.
    pub written: u64,
    /// `syscr`: reads that came so far that they could move bytes.
    pub reads: u64,
    /// `syscw`: such writes.
    pub writes: u64,
}

/// A process under one name in one control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its process number.
    pub pid: u32,
    /// Its name. What it did between fork and exec is under the name of the exec.
    pub comm: String,
    /// The path of its control group.
    pub cgroup: String,
    /// What it did.
    pub counted: Counted,
}

impl Told {
    /// Takes in a line: a member or a stage.
    fn read(&mut self, line: &str) -> Outcome<()> {
        let wrong = || Failure::new(format!("not a crew's line: {line:?}"));
        let value: Value = serde_json::from_str(line).map_err(Failure::at(format!("not an object: {line:?}")))?;
        let number = |key: &str| value[key].as_u64().ok_or_else(wrong);
        let text = |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(wrong);
        let pid = u32::try_from(number("pid")?).map_err(Failure::at("a process number"))?;
        let counts = &value["counts"];
        if counts.is_object() {
            let counted = Counted::read(|name| counts[name].as_u64()).ok_or_else(wrong)?;
            self.stages.push(Stage { pid, comm: text("comm")?, cgroup: text("cgroup")?, counted });
            return Ok(());
        }
        let io = |index: usize| value["io"][index].as_u64();
        self.members.push(Member {
            pid,
            started: Duration::from_nanos(number("started")?),
            lived: Duration::from_nanos(number("lived")?),
            execs: number("execs")?,
            io: (|| Some(Io { read: io(0)?, written: io(1)?, reads: io(2)?, writes: io(3)? }))(),
        });
        Ok(())
    }

    /// What was done by each process under each of its names.
    pub fn by_process(&self) -> BTreeMap<(u32, &str), Counted> {
        self.by(|stage| (stage.pid, stage.comm.as_str()))
    }

    /// What was done under each name.
    pub fn by_app(&self) -> BTreeMap<&str, Counted> {
        self.by(|stage| stage.comm.as_str())
    }

    /// What was done in each control group, by its path: one that is made anew under its path goes on.
    pub fn by_cgroup(&self) -> BTreeMap<&str, Counted> {
        self.by(|stage| stage.cgroup.as_str())
    }

    /// What was done in all.
    pub fn sum(&self) -> Counted {
        self.by(|_| ()).remove(&()).unwrap_or_default()
    }

    fn by<'a, K: Ord>(&'a self, key: impl Fn(&'a Stage) -> K) -> BTreeMap<K, Counted> {
        let mut sums: BTreeMap<K, Counted> = BTreeMap::new();
        for stage in &self.stages {
            *sums.entry(key(stage)).or_default() += stage.counted;
        }
        sums
    }

    /// Compares each member's own count with the kernel's, which knows of reads and writes; says what it compared.
    ///
    /// # Errors
    /// They differ; or the kernel keeps no such count.
    pub fn compare_with_the_kernel(&self) -> Outcome<String> {
        let by_pid = self.by(|stage| stage.pid);
        // The kernel's own reads of an executable's first page are the process's, too: some at each exec.
        let mut of_exec = None;
        for Member { pid, execs, io, .. } in &self.members {
            let io = io.ok_or_else(|| Failure::new(format!("this kernel has no /proc/{pid}/io")))?;
            let counted = by_pid.get(pid).copied().unwrap_or_default();
            // A file that is not open for it is found out before.
            let own = Io {
                read: counted.read_bytes,
                written: counted.write_bytes,
                reads: counted.reads,
                writes: counted.writes - counted.write_errors,
            };
            let more = [io.read.checked_sub(own.read), io.reads.checked_sub(own.reads)];
            let differ = || Failure::new(format!("process {pid} says {own:?}, and the kernel {io:?}"));
            let [Some(bytes), Some(reads)] = more else { return Err(differ()) };
            let each = (*execs > 0).then(|| *of_exec.get_or_insert((bytes / execs, reads / execs)));
            let (each_bytes, each_reads) = each.unwrap_or_default();
            if (own.written, own.writes) != (io.written, io.writes)
                || (bytes, reads) != (execs * each_bytes, execs * each_reads)
                || each_reads > 4
            {
                return Err(differ());
            }
        }
        let (bytes, reads) = of_exec.unwrap_or_default();
        Ok(format!("{} processes, {reads} reads of {bytes} bytes at each exec", self.members.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live;
    use std::collections::BTreeSet;

    fn told() -> Outcome<Told> {
        Crew::new(Duration::ZERO)?.run()
    }

    #[test]
    fn what_the_crew_says_is_what_the_kernel_says_of_reads_and_writes() {
        let needs = std::fs::metadata("/proc/self/io").map(drop).map_err(Failure::at("/proc/self/io"));
        let needs = needs.and_then(|()| Cgroup::new().map(drop));
        live::test("crew-and-kernel", needs, || told()?.compare_with_the_kernel().map(drop));
    }

    #[test]
    fn there_are_fifty_and_no_two_have_done_the_same() {
        live::test("crew-of-fifty", Cgroup::new().map(drop), || {
            let told = told()?;
            let by_pid = told.by(|stage| stage.pid);
            assert_eq!((told.members.len(), by_pid.len()), (50, 51));
            let numbers = |count: fn(&Counted) -> u64| by_pid.values().map(count).collect::<BTreeSet<u64>>().len();
            for (count, what) in [
                ((|c| c.opens) as fn(&Counted) -> u64, "opens"),
                (|c| c.reads, "reads"),
                (|c| c.read_bytes, "bytes read"),
                (|c| c.write_bytes, "bytes written"),
            ] {
                assert!(numbers(count) >= 45, "{what}: {} of 51 numbers differ", numbers(count));
            }
            let all: BTreeSet<String> = by_pid.values().map(|counted| format!("{counted:?}")).collect();
            assert_eq!(all.len(), 51);
            let sum = told.sum();
            assert_eq!((sum.processes, sum.threads, sum.exits), (50, 35, 86));
            // What is left open at an exit is closed by nobody.
            assert!(sum.opens - sum.open_errors > sum.closes - sum.close_errors);
            Ok(())
        });
    }

    #[test]
    fn some_change_their_names_and_some_their_groups() {
        live::test("crew-of-names", Cgroup::new().map(drop), || {
            let mut crew = Crew::new(Duration::ZERO)?;
            let told = crew.run()?;
            let mut names: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
            let mut groups: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
            for stage in told.stages.iter().filter(|stage| stage.counted != Counted::default()) {
                names.entry(stage.pid).or_default().insert(&stage.comm);
                groups.entry(stage.pid).or_default().insert(&stage.cgroup);
                assert!(stage.comm.starts_with(crew.prefix()) && stage.comm.len() < 16, "{}", stage.comm);
                assert!(stage.cgroup.starts_with(crew.cgroup()), "{}", stage.cgroup);
            }
            // Ten, and the two whose thread executes.
            assert_eq!(names.values().filter(|names| names.len() > 1).count(), 12);
            assert_eq!(groups.values().filter(|groups| groups.len() > 1).count(), 3);
            assert_eq!(told.by_cgroup().len(), 8);
            let shared = format!("{}-pair", crew.prefix());
            let of_shared: BTreeSet<u32> =
                told.stages.iter().filter(|stage| stage.comm == shared).map(|stage| stage.pid).collect();
            assert_eq!(of_shared.len(), 10);
            Ok(())
        });
    }

    #[test]
    fn numbers_add_up_by_process_app_and_group() {
        let stage = |pid, comm: &str, cgroup: &str, reads| Stage {
            pid,
            comm: comm.into(),
            cgroup: cgroup.into(),
            counted: Counted { reads, ..Counted::default() },
        };
        let told = Told {
            members: Vec::new(),
            stages: vec![
                stage(1, "a", "/x", 1),
                stage(1, "b", "/x", 2),
                stage(1, "a", "/y", 4),
                stage(2, "a", "/y", 8),
            ],
        };
        let reads = |counted: &Counted| counted.reads;
        assert_eq!(told.by_process().values().map(reads).collect::<Vec<_>>(), [5, 2, 8]);
        assert_eq!(told.by_app().values().map(reads).collect::<Vec<_>>(), [13, 2]);
        assert_eq!(told.by_cgroup().values().map(reads).collect::<Vec<_>>(), [3, 12]);
        assert_eq!(told.sum().reads, 15);
    }

    #[test]
    fn a_line_of_another_form_is_refused() {
        for line in ["", "{}", "{\"pid\":1}", "{\"pid\":1,\"comm\":\"a\",\"cgroup\":\"/\",\"counts\":{\"opens\":1}}"] {
            assert!(Told::default().read(line).is_err(), "{line}");
        }
    }
}
