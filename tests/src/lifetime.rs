//! How long the agent takes to start and to stop, and how much memory it holds.

use crate::agent::{self, Agent};
use crate::{Failure, Outcome, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::{self, Write as _};
use std::fs;
use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const TIERS: [&str; 3] = ["fentry", "kprobe", "tracepoint"];
/// From the start to the first batch where every instruction is emulated: 1 to 4 s where three machines share two
/// processors, and trampolines twice that, whose self-test has to be let go before. An overloaded host is far slower, and
/// what this is to find is slower still: a start or a stop that waits for something in vain.
const EMULATED_START: Duration = Duration::from_secs(30);
/// The same from the signal to the end: below 1 s. Linux 6.1 to 6.12 takes trampolines down one after another under one
/// lock, and for each one waits until every task has left it, which it looks for ten times a second
/// (`rcu_tasks_kthread`): 0.15 s each, and there are ten.
const EMULATED_STOP: Duration = Duration::from_secs(10);
/// From the signal to the end, with every probe attached.
pub const STOP: Duration = Duration::from_secs(1);
/// Whatever else runs on the machine takes its time too: the best of some shows what the agent can do.
const TRIES: usize = 8;
/// Ticks after the start before its memory is looked at.
const TICKS: usize = 10;
/// In KiB: what is resident then, and what was at most. It was 10 MiB before the agent could change while it runs and had
/// a broker, which may take two more together.
const RESIDENT: u64 = 12 * 1024;
const PEAK: u64 = 24 * 1024;
/// Of that the pages of the program itself, in a release build. An unoptimized one is twice as large.
const PROGRAM: u64 = 8 * 1024;

/// An agent with every probe in return mode, after the first byte of its first batch.
#[derive(Debug)]
pub struct Started {
    child: Child,
    /// How long that took.
    pub first_byte: Duration,
}

impl Started {
    /// Starts `run` with these settings and an influx sink on stdout, and waits for its first byte.
    ///
    /// # Errors
    /// There is no binary, or it ends without a byte.
    pub fn new(settings: &[&str]) -> Outcome<Self> {
        let mut command = agent::command()?;
        command.arg("run");
        let sink = ["probes.mode=return", "sinks.out.type=influx", "sinks.out.options.url=stdout"];
        for setting in sink.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let start = Instant::now();
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(Failure::at("starting the agent"))?;
        let pipe = child.stdout.as_mut().ok_or_else(|| Failure::new("no pipe"))?;
        pipe.read_exact(&mut [0]).map_err(Failure::at("its first batch"))?;
        Ok(Self { child, first_byte: start.elapsed() })
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has let go of the programs of its self-test, for which it has a thread.
    ///
    /// # Errors
    /// It has not within the limit.
    pub fn settle(&self) -> Outcome<()> {
        let tasks = format!("/proc/{}/task", self.pid());
        wait::until("the end of the self-test", wait::LIMIT, || {
            let tasks = fs::read_dir(&tasks).map_err(Failure::at(&tasks))?;
            let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
            Ok(names.map(|name| name.trim() == "let-go").all(|letting_go| !letting_go).then_some(()))
        })
    }

    /// Sends a signal and waits; says how long that took and how it ended.
    ///
    /// # Errors
    /// It is gone already.
    pub fn end(mut self, signal: Signal) -> Outcome<(Duration, Option<i32>)> {
        let start = Instant::now();
        kill_process(Pid::from_child(&self.child), signal).map_err(Failure::at("a signal"))?;
        let status = self.child.wait().map_err(Failure::at("its end"))?;
        Ok((start.elapsed(), status.code()))
    }
}

/// Start, stop and memory of an agent in an emulated machine, in every tier.
///
/// # Errors
/// One of them is beyond its bound; the message has all numbers.
pub fn emulated() -> Outcome<String> {
    let mut details = String::new();
    let mut right = true;
    for tier in TIERS {
        let Best { start, stop, tries } = Best::of(tier)?;
        right &= start < EMULATED_START && stop < EMULATED_STOP;
        let (start, stop) = (start.as_millis(), stop.as_millis());
        // Writing to a string cannot fail.
        let _ = write!(details, "{tier}: start {start} ms, stop {stop} ms, best of {tries}; ");
    }
    let held = memory(&["probes.hooks=fentry"])?;
    right &= held.is_within_bounds();
    let _ = write!(details, "{held}");
    if right { Ok(details) } else { Err(Failure::new(details)) }
}

/// What an agent holds with these settings and every probe in return mode.
///
/// # Errors
/// It does not run, or holds too much.
pub fn holds_little(settings: &[&str]) -> Outcome<String> {
    let held = memory(settings)?;
    if held.is_within_bounds() { Ok(held.to_string()) } else { Err(Failure::new(held.to_string())) }
}

/// Resident memory in KiB.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// Ten ticks after the start.
    resident: u64,
    /// The most that it was until then.
    peak: u64,
    /// What of it are pages of the program and its libraries.
    program: u64,
}

impl Memory {
    const fn is_within_bounds(self) -> bool {
        let unoptimized = self.program.saturating_sub(PROGRAM);
        self.resident < RESIDENT + unoptimized && self.peak < PEAK + unoptimized
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident, peak, program } = self;
        write!(f, "VmRSS {resident} KiB, VmHWM {peak} KiB, of it {program} KiB the program's pages")
    }
}

/// The shortest start and the shortest stop of some.
struct Best {
    start: Duration,
    stop: Duration,
    tries: usize,
}

impl Best {
    /// Tries until both are within their bounds, but not for ever.
    fn of(tier: &str) -> Outcome<Self> {
        let hooks = format!("probes.hooks={tier}");
        let mut best = Self { start: Duration::MAX, stop: Duration::MAX, tries: 0 };
        while best.tries < TRIES && (best.start >= EMULATED_START || best.stop >= EMULATED_STOP) {
            let started = Started::new(&[&hooks])?;
            best.start = best.start.min(started.first_byte);
            started.settle()?;
            let (stop, code) = started.end(Signal::TERM)?;
            if code != Some(0) {
                return Err(Failure::new(format!("{tier}: the agent ended with code {code:?}")));
            }
            best.stop = best.stop.min(stop);
            best.tries += 1;
        }
        Ok(best)
    }
}

fn memory(settings: &[&str]) -> Outcome<Memory> {
    let settings: Vec<String> = ["probes.mode=return"].iter().chain(settings).map(|text| (*text).to_owned()).collect();
    let mut agent = Agent::start(&settings)?;
    agent.wait_for_first_batch()?;
    if !agent.watch(wait::LIMIT, |totals| totals.batches() > TICKS)? {
        return Err(Failure::new(format!("fewer than {TICKS} ticks in time")));
    }
    let path = format!("/proc/{}/status", agent.pid());
    let status = fs::read_to_string(&path).map_err(Failure::at(path))?;
    agent.stop()?;
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| Failure::new(format!("no {key} in the agent's status")))
    };
    Ok(Memory { resident: value("VmRSS:")?, peak: value("VmHWM:")?, program: value("RssFile:")? })
}
