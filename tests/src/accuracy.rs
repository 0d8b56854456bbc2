//! What others count of the same processes: the claims of `docs/accuracy.md`.
//!
//! The load is `accuracy/load.py` or a [`crew`](crate::crew); beside it stand `count.bt`, `taskstats.py` and `poll.py` of
//! the same folder. A name that nobody else has tells the load from whatever the machine does meanwhile.

mod account;
mod ours;

use crate::crew::Crew;
use crate::observer::Observer;
use crate::{Failure, Outcome};
use account::Account;
use ours::Ours;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/accuracy");
const PYTHON: &str = "/usr/bin/python3";
/// Programs that live for a millisecond; the document has more of them.
const PROGRAMS: u64 = 200;
/// The kernel tells such multiples only: a task's number is rounded down.
const TASKSTATS_STEP: u64 = 1024;

/// Ours, bpftrace's, `/proc/PID/io` and a poller's beside the load.
///
/// # Errors
/// Numbers differ of which the document says that they are equal; or they could not be had.
pub fn load() -> Outcome<()> {
    let prefix = prefix();
    let ours = Ours::start()?;
    let (bpftrace, looks) = (count()?, python("poll.py", &prefix, "looking")?);
    let load = run_load(&prefix)?;
    let theirs = Bpftrace::read(&bpftrace.stop()?);
    let met = last_object(&looks.stop()?)?;
    let ours = ours.stop()?;

    let mut wrong = Wrong::default();
    let mut counted = BTreeMap::new();
    for name in ["dd", "true", "grep"] {
        let full = format!("{prefix}{name}");
        let (by_us, by_them) = (ours.of(&full), theirs.of(&full));
        wrong.unless_equal(&format!("ours and bpftrace's of {name}"), &by_us, &by_them);
        wrong.unless_equal(&format!("processes of {name}"), &of(&by_us, "tasks"), &number(&load[&full]["processes"])?);
        counted.insert(name, by_us);
    }
    // What the loader does is in no program's hands, and the same for each of the two.
    let alike = |word: &str| of(&counted["true"], word) / PROGRAMS;
    let told = |word: &str| number(&load[&format!("{prefix}dd")]["told"][word]);
    let processes = of(&counted["dd"], "tasks");
    for word in ["reads", "bytes read", "writes", "bytes written", "opens"] {
        let truth = told(word)? + processes * alike(word);
        wrong.unless_equal(&format!("{word} of dd"), &of(&counted["dd"], word), &truth);
    }
    for word in ["failed reads", "failed opens"] {
        wrong.unless_equal(&format!("{word} of grep"), &of(&counted["grep"], word), &1);
    }
    let kernel = |name: &str, word: &str| number(&load[&format!("{prefix}{name}")]["proc"][word]);
    for word in ["writes", "bytes written"] {
        wrong.unless_equal(&format!("{word} of dd in /proc"), &of(&counted["dd"], word), &kernel("dd", word)?);
    }
    for word in ["reads", "bytes read"] {
        // What the kernel reads of a program before it runs, which is no call of the program's.
        let of_execs = |name: &str, processes| {
            let more = kernel(name, word)?.checked_sub(of(&counted[name], word));
            let more = more.ok_or_else(|| Failure::new(format!("/proc has fewer {word} of {name}")))?;
            Ok((more / processes, more % processes))
        };
        wrong.unless_equal(&format!("{word} at an exec"), &of_execs("dd", processes)?, &of_execs("true", PROGRAMS)?);
    }
    let met = met[&format!("{prefix}true")]["processes"].as_u64().unwrap_or(0);
    if met > PROGRAMS / 2 {
        wrong.0.push(format!("a look each second met {met} of {PROGRAMS} processes"));
    }
    wrong.verdict()
}

/// taskstats and `/proc/PID/io` of the same load: two ways to the same numbers of the kernel, one of them rounded.
///
/// # Errors
/// As [`load`].
pub fn taskstats() -> Outcome<()> {
    let prefix = prefix();
    let observer = listen(&prefix)?;
    let load = run_load(&prefix)?;
    let told = last_object(&observer.stop()?)?;

    let mut wrong = Wrong::default();
    wrong.unless_equal("losses", &number(&told["lost"])?, &0);
    for name in ["dd", "true", "grep"] {
        let (of_load, of_tasks) = (&load[&format!("{prefix}{name}")], &told[&format!("{prefix}{name}")]);
        let processes = number(&of_load["processes"])?;
        wrong.unless_equal(&format!("processes of {name}"), &number(&of_tasks["processes"])?, &processes);
        for word in ["reads", "bytes read", "writes", "bytes written"] {
            let (whole, rounded) = (number(&of_load["proc"][word])?, number(&of_tasks[word])?);
            if rounded % TASKSTATS_STEP != 0 || rounded > whole || whole - rounded > processes * (TASKSTATS_STEP - 1) {
                wrong.0.push(format!("{word} of {name}: {rounded} of {processes} tasks, and {whole} in /proc"));
            }
        }
    }
    wrong.verdict()
}

/// Ours, bpftrace's and the crew's own count. One thread of the crew has a name of its own, which is bpftrace's word for
/// what it does from then on, and not ours.
///
/// # Errors
/// As [`load`].
pub fn crew() -> Outcome<()> {
    let mut crew = Crew::new(Duration::ZERO)?;
    let (ours, bpftrace) = (Ours::start()?, count()?);
    let told = crew.run()?.sum();
    let bpftrace = Bpftrace::read(&bpftrace.stop()?);
    let expected = [
        // At the system call a descriptor that is not open is seen as well.
        ("reads", told.reads + told.bad_reads),
        ("failed reads", told.read_errors + told.bad_reads),
        ("bytes read", told.read_bytes),
        ("writes", told.writes + told.bad_writes),
        ("bytes written", told.write_bytes),
        ("opens", told.opens),
        ("failed opens", told.open_errors),
        ("tasks", told.exits),
    ];
    let expected: Account = expected.map(|(word, number)| (word.to_owned(), number)).into();
    let mut wrong = Wrong::default();
    wrong.unless_equal("ours and the crew's", &ours.stop()?.of(crew.prefix()), &expected);
    // Another crew at the same time has a thread of the same name.
    let (theirs, renamed) = (bpftrace.of(crew.prefix()), bpftrace.of("thread"));
    wrong.unless_equal("bpftrace's tasks and all but one of the crew's", &(of(&theirs, "tasks") + 1), &told.exits);
    for (word, number) in &expected {
        let least = of(&theirs, word);
        if !(least..=least + of(&renamed, word)).contains(number) {
            wrong.0.push(format!(
                "{word}: bpftrace says {least} and of a thread {}, the crew {number}",
                of(&renamed, word)
            ));
        }
    }
    wrong.verdict()
}

/// Whether the kernel tells of tasks at their end, and whom.
///
/// # Errors
/// Why not.
pub fn has_taskstats() -> Outcome<()> {
    listen("-")?.stop().map(drop)
}

/// Whether the load can be run here.
///
/// # Errors
/// Why not.
pub fn has_python() -> Outcome<()> {
    let output = Command::new(PYTHON).arg("--version").output().map_err(Failure::at(PYTHON))?;
    let io = std::fs::metadata("/proc/self/io").map(drop).map_err(Failure::at("/proc/self/io"));
    if output.status.success() { io } else { Err(Failure::new(format!("{PYTHON}: {}", output.status))) }
}

/// What the names of one load begin with, short enough for a name of 15 bytes.
fn prefix() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("a{:x}{:x}-", process::id() & 0xf_ffff, MADE.fetch_add(1, Ordering::Relaxed) & 0xff)
}

fn script(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

fn run_load(prefix: &str) -> Outcome<Value> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    let mut command = Command::new(PYTHON);
    command.arg(script("load.py")).arg(folder.path()).arg(prefix).arg(PROGRAMS.to_string());
    let output = command.output().map_err(Failure::at("running the load"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(Failure::new(format!("the load: {}: {}", output.status, words.trim_end())));
    }
    serde_json::from_slice(&output.stdout).map_err(Failure::at("what the load says"))
}

fn count() -> Outcome<Observer> {
    Observer::start(Command::new("bpftrace").args(["-B", "line"]).arg(script("count.bt")), says("counting"))
}

fn listen(prefix: &str) -> Outcome<Observer> {
    python("taskstats.py", prefix, "listening")
}

fn python(name: &str, prefix: &str, ready: &'static str) -> Outcome<Observer> {
    Observer::start(Command::new(PYTHON).arg(script(name)).arg(prefix), says(ready))
}

fn says(word: &'static str) -> impl Fn(&[String]) -> bool {
    move |lines| lines.iter().any(|line| line == word)
}

fn last_object(lines: &[String]) -> Outcome<Value> {
    let last = lines.last().map_or("", String::as_str);
    serde_json::from_str(last).map_err(Failure::at(format!("not an object: {last:?}")))
}

fn number(value: &Value) -> Outcome<u64> {
    value.as_u64().ok_or_else(|| Failure::new(format!("not a number: {value}")))
}

fn of(account: &Account, word: &str) -> u64 {
    account.get(word).copied().unwrap_or(0)
}

/// What `count.bt` has written at its end: by what it is, and by name.
#[derive(Debug, Default, PartialEq)]
struct Bpftrace(BTreeMap<String, BTreeMap<String, u64>>);

impl Bpftrace {
    /// Takes in `@bytes_read[NAME]: NUMBER`, whatever the name is.
    fn read(lines: &[String]) -> Self {
        let mut seen = Self::default();
        for line in lines {
            let Some((map, rest)) = line.strip_prefix('@').and_then(|line| line.split_once('[')) else { continue };
            let Some((name, value)) = rest.rsplit_once("]: ") else { continue };
            let Ok(value) = value.parse() else { continue };
            seen.0.entry(map.replace('_', " ")).or_default().insert(name.to_owned(), value);
        }
        seen
    }

    /// Of all names that begin so together.
    fn of(&self, prefix: &str) -> Account {
        let sum = |names: &BTreeMap<String, u64>| {
            names.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, number)| number).sum()
        };
        self.0.iter().map(|(word, names)| (word.clone(), sum(names))).filter(|(_, sum)| *sum > 0).collect()
    }
}

/// What was found to be wrong.
#[derive(Debug, Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless_equal<T: PartialEq + Debug>(&mut self, what: &str, left: &T, right: &T) {
        if left != right {
            self.0.push(format!("{what}: {left:?}, and {right:?}"));
        }
    }

    fn verdict(self) -> Outcome<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Failure::new(self.0.join("; "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_bpftrace_add_up_by_the_beginnings_of_names() {
        let lines =
            ["Attaching 9 probes...", "", "@bytes_read[a-x]: 7", "@bytes_read[a-]: 1: 2", "@bytes_read[a-y]]: 5"];
        let seen = Bpftrace::read(&lines.map(str::to_owned));
        assert_eq!(seen.of("a-"), Account::from([("bytes read".to_owned(), 12)]));
        assert_eq!(seen.of("b"), Account::new());
    }
}
