//! The shipped unit under a real systemd, as it is: how it starts, reloads, is watched over and ends.

use ebpf_process_tests::cgroup::Cgroup;
use ebpf_process_tests::configured::newest;
use ebpf_process_tests::systemd::{Entry, Machine};
use ebpf_process_tests::workload::Place;
use ebpf_process_tests::{Failure, Outcome, agent, held, kernel_objects, live};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;

/// The group whose reads are counted.
const GROUP: &str = "known";
/// What the processes in it read, a byte at a time.
const READS: [u64; 3] = [1_111, 2_222, 333];
/// The counters of the probe of files.
const COUNTING: &str = "counting 5 counters";

#[test]
fn the_unit_starts_reloads_rotates_spools_and_ends() {
    live::test("systemd-unit", needs(), lives_and_ends);
}

#[test]
fn the_unit_is_started_again_when_the_agent_or_its_broker_is_killed() {
    live::test("systemd-killed", needs(), || {
        let machine = Machine::boot(&configuration(""))?;
        let _group = machine.group(GROUP)?;
        machine.unit(&["start"])?;
        for (killed, restarts) in [(0, "1"), (1, "2")] {
            let both = machine.agent_and_broker()?;
            kill(both[killed], Signal::KILL)?;
            is_started_again(&machine, both, restarts)?;
        }
        Ok(())
    });
}

/// It takes the unit's `WatchdogSec=` and `RestartSec=`, 35 seconds.
#[test]
fn the_unit_is_ended_and_started_again_when_the_agent_stands_still() {
    live::test("systemd-watchdog", needs(), || {
        let machine = Machine::boot(&configuration(""))?;
        let _group = machine.group(GROUP)?;
        machine.unit(&["start"])?;
        let both = machine.agent_and_broker()?;
        kill(both[0], Signal::STOP)?;
        is_started_again(&machine, both, "1")?;
        has_logged(&machine, "3", "ebpf-process.service: Watchdog timeout (limit 30s)!")
            .and_then(|()| has_logged(&machine, "4", "ebpf-process.service: Failed with result 'watchdog'."))
    });
}

fn needs() -> Outcome<()> {
    agent::can_run().and_then(|()| Machine::needs()).and_then(|()| kernel_objects::all().map(drop))
}

/// Counts what the group reads.
fn configuration(more: &str) -> String {
    format!(
        "interval = \"100ms\"\n[probes]\nonly = {{ cgroup = \"/{GROUP}\" }}\n[probes.process]\nenabled = false\n\
         [sinks.lines]\ntype = \"json\"\nqueue = 512\noptions.path = \"/var/log/ebpf-process/lines\"\n{more}"
    )
}

/// A sink that writes elsewhere, and one whose receiver nobody will ever be.
const MORE: &str = "\
[sinks.more]
type = \"json\"
options.path = \"/var/log/ebpf-process/more\"
[sinks.away]
type = \"influx\"
options.url = \"http://127.0.0.1:9\"
options.database = \"d\"
options.delivery.spool = \"/var/lib/ebpf-process/db\"
";

/// A part of the machine's log directory, as systemd lays it.
fn log(name: &str) -> String {
    format!("/var/log/private/ebpf-process/{name}")
}

fn lives_and_ends() -> Outcome<()> {
    let (machine, place) = (Machine::boot(&configuration(""))?, Place::new()?);
    let group = machine.group(GROUP)?;
    machine.unit(&["start"])?;
    // It is started when it counts, and says so at once.
    is(&machine, "Type", "notify-reload")?;
    is(&machine, "ActiveState", "active")?;
    says(&machine, &format!("{COUNTING}, 1 sink: 1 working"))?;
    has_logged(&machine, "6", "info: counting, one batch every 100ms")?;
    let both = machine.agent_and_broker()?;
    is_shut_in(both)?;
    reads(&place, &group, READS[0])?;
    has_counted(&machine, "lines", READS[0])?;

    // What comes with a reload begins with the total, and what was there goes on with it.
    machine.configure(&configuration(MORE))?;
    machine.unit(&["reload"])?;
    equal("the line after a reload", &machine.property("StatusText")?, &"the configuration was read again: 2 changes")?;
    reads(&place, &group, READS[1])?;
    for name in ["lines", "more"] {
        has_counted(&machine, name, READS[0] + READS[1])?;
    }
    machine.wait("frames in the spool", || {
        let files = fs::read_dir(machine.path("/var/lib/private/ebpf-process/db")).into_iter().flatten().flatten();
        let mut lengths = files.filter_map(|file| Some((file.file_name(), file.metadata().ok()?.len())));
        Ok(lengths.any(|(name, length)| name.to_string_lossy().starts_with('0') && length > 0).then_some(()))
    })?;

    // For systemd no reload fails. The line for people and the journal say that this one did.
    machine.configure("nonsense = 1\n")?;
    machine.unit(&["reload"])?;
    let refused = "the configuration was not taken over, and nothing has changed: nonsense ";
    let line = machine.property("StatusText")?;
    if !line.starts_with(refused) {
        return Err(Failure::new(format!("after a reload that is refused the line is {line:?}")));
    }
    has_logged(&machine, "3", &format!("error: {refused}"))?;
    machine.wait("the line to keep it", || {
        let line = machine.property("StatusText")?;
        Ok(line.starts_with("last reload refused (nonsense ").then_some(()))
    })?;

    // A file is moved away, and SIGHUP reaches both processes.
    let lines = machine.path(&log("lines"));
    fs::rename(&lines, machine.path(&log("lines.1"))).map_err(Failure::at("rotating"))?;
    machine.configure(&configuration(""))?;
    machine.unit(&["kill", "--signal=HUP"])?;
    machine.wait("what a signal has taken over", || {
        Ok(machine.property("StatusText")?.starts_with(&format!("{COUNTING}, 1 sink: ")).then_some(()))
    })?;
    reads(&place, &group, READS[2])?;
    has_counted(&machine, "lines", READS.iter().sum())?;
    equal("who runs after all that", &machine.agent_and_broker()?, &both)?;

    let mut objects = kernel_objects::held_by(both[0])?;
    objects.extend(kernel_objects::held_by(both[1])?);
    if objects.is_empty() || !objects.is_subset(&kernel_objects::all()?) {
        return Err(Failure::new(format!("the processes hold {objects:?}")));
    }
    machine.unit(&["stop"])?;
    is(&machine, "Result", "success")?;
    is(&machine, "ExecMainStatus", "0")?;
    is(&machine, "NRestarts", "0")?;
    for pid in both {
        equal("whether a process has ended", &fs::exists(format!("/proc/{pid}")).ok(), &Some(false))?;
    }
    equal("whether its directory is gone", &machine.path("/run/ebpf-process").exists(), &false)?;
    machine.wait("the kernel to forget the agent", || Ok(kernel_objects::all()?.is_disjoint(&objects).then_some(())))
}

/// Both processes are what the unit makes of them.
fn is_shut_in([agent, broker]: [u32; 2]) -> Outcome<()> {
    held::what_the_unit_leaves(agent)?;
    for pid in [agent, broker] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(Failure::at("a process"))?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        equal("a filter of system calls", &field("Seccomp:\t"), &"2")?;
        let users: BTreeSet<u32> = field("Uid:\t").split('\t').filter_map(|user| user.parse().ok()).collect();
        // Of those that systemd gives to `DynamicUser=`.
        if users.len() != 1 || !users.iter().all(|user| (61_184..=65_519).contains(user)) {
            return Err(Failure::new(format!("process {pid} is {users:?}")));
        }
        for (place, writable) in PLACES {
            equal(place, &is_writable(pid, place)?, &Some(writable))?;
        }
    }
    Ok(())
}

/// What the unit's processes may write to at all, and what not.
const PLACES: [(&str, bool); 5] = [
    ("/", false),
    ("/usr", false),
    ("/run/ebpf-process", true),
    ("/var/lib/private/ebpf-process", true),
    ("/var/log/private/ebpf-process", true),
];

/// Whether what is mounted at a place can be written to, as a process has it.
fn is_writable(pid: u32, place: &str) -> Outcome<Option<bool>> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).map_err(Failure::at("its mounts"))?;
    // The fifth word is the place, the sixth its options.
    let mut words = mounts.lines().rev().map(|line| line.split(' ').skip(4));
    Ok(words
        .find_map(|mut words| (words.next()? == place).then(|| words.next())?)
        .map(|options| options.starts_with("rw")))
}

/// A process in the group reads so many bytes.
fn reads(place: &Place, group: &Cgroup, count: u64) -> Outcome<()> {
    let mut process = place.reads(count)?;
    group.add(process.pid())?;
    process.run_to_next_stop()?;
    process.run_to_end()
}

fn has_counted(machine: &Machine, name: &str, reads: u64) -> Outcome<()> {
    let path = machine.path(&log(name));
    machine.wait(&format!("{reads} reads in {name}"), || {
        Ok(newest(&path, "vfs.calls", ("operation", "read"))?.filter(|seen| *seen == reads).map(drop))
    })
}

/// Two other processes are what runs, and nobody has started them but systemd.
fn is_started_again(machine: &Machine, before: [u32; 2], restarts: &str) -> Outcome<()> {
    machine.wait("another agent", || {
        let counts = machine.property("ActiveState")? == "active" && machine.property("NRestarts")? == restarts;
        Ok(counts.then_some(()))
    })?;
    let after = machine.agent_and_broker()?;
    if after.iter().any(|pid| before.contains(pid)) {
        return Err(Failure::new(format!("after {before:?} there are {after:?}")));
    }
    says(machine, &format!("{COUNTING}, 1 sink: 1 working"))
}

fn says(machine: &Machine, line: &str) -> Outcome<()> {
    machine.wait(&format!("the line {line:?}"), || Ok((machine.property("StatusText")? == line).then_some(())))
}

fn has_logged(machine: &Machine, priority: &str, begin: &str) -> Outcome<()> {
    machine.wait(&format!("{begin:?} with priority {priority}"), || {
        let journal = machine.journal()?;
        let is_it = |entry: &&Entry| entry.message.starts_with(begin);
        match journal.iter().find(is_it) {
            Some(entry) => equal(begin, &entry.priority.as_str(), &priority).map(Some),
            None => Ok(None),
        }
    })
}

fn is(machine: &Machine, property: &str, value: &str) -> Outcome<()> {
    equal(property, &machine.property(property)?.as_str(), &value)
}

fn equal<T: Debug + PartialEq<U>, U: Debug>(what: &str, is: &T, known: &U) -> Outcome<()> {
    if is == known { Ok(()) } else { Err(Failure::new(format!("{what}: {is:?}, not {known:?}"))) }
}

fn kill(pid: u32, signal: Signal) -> Outcome<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| Failure::new("no process number"))?;
    kill_process(pid, signal).map_err(Failure::at("a signal"))
}
