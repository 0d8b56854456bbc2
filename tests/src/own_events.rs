//! What the agent itself adds to the counters, tick by tick.

use crate::agent::{self, Agent};
use crate::totals::Totals;
use crate::{Failure, Outcome, expect, wait};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Child, Stdio};
use std::thread;

/// Ticks over which the mean is taken, at least.
const TICKS: usize = 20;
/// How many times that is tried.
const WINDOWS: usize = 5;

/// An agent to look at, and what it does per tick.
#[derive(Debug)]
pub struct Subject {
    /// Its sinks, for people.
    pub text: &'static str,
    /// Its settings.
    pub settings: &'static [&'static str],
    /// Metric, label, and how much a tick adds; what is not named stands still.
    pub per_tick: &'static [(&'static str, &'static str, u64)],
}

/// What stands in `docs/metrics.md`.
pub const SUBJECTS: &[Subject] = &[
    Subject {
        text: "InfluxDB lines to standard output",
        settings: &["sinks.out.type=influx", "sinks.out.options.url=stdout"],
        per_tick: &[("vfs.calls", "write", 1)],
    },
    Subject {
        text: "netdata's protocol to standard output",
        settings: &["sinks.out.type=netdata"],
        per_tick: &[("vfs.calls", "write", 1)],
    },
    Subject {
        text: "StatsD over UDP",
        settings: &["sinks.out.type=statsd", "sinks.out.options.address=\"udp://127.0.0.1:9\""],
        per_tick: &[],
    },
];

/// The table of the document.
pub fn markdown() -> String {
    let mut text = String::from("| sink | events per tick |\n|---|---|\n");
    for subject in SUBJECTS {
        let events = subject.per_tick.iter().map(|(metric, label, count)| format!("{count} × `{metric}` {label}"));
        let events: Vec<String> = events.collect();
        let events = if events.is_empty() { "none".to_owned() } else { events.join(", ") };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {events} |", subject.text);
    }
    text
}

/// Looks at a subject's agent with a second one.
///
/// # Errors
/// It could not be measured, or the mean is another one.
pub fn check(subject: &Subject) -> Outcome<()> {
    let mut subject_agent = Watched::start(subject)?;
    let only = format!("probes.only={{pid={}}}", subject_agent.0.id());
    let mut watcher = Agent::start(&["probes.mode=return".to_owned(), "probes.hooks=tracepoint".to_owned(), only])?;
    watcher.wait_for_first_batch()?;
    // The agent under observation may still be starting: the first windows may hold more than its ticks.
    let mut wrong = String::new();
    for _ in 0..WINDOWS {
        wrong = window(&mut watcher, subject)?;
        if wrong.is_empty() {
            break;
        }
    }
    watcher.stop()?;
    subject_agent.end()?;
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(format!("{}: {wrong}", subject.text))) }
}

/// What differs from the document in the next ticks; nothing when they are as they should be.
fn window(watcher: &mut Agent, subject: &Subject) -> Outcome<String> {
    let before = watcher.totals()?.clone();
    let (before, first) = (counts(&before), before.batches());
    let enough = first + TICKS;
    if !watcher.watch(wait::LIMIT, |totals| totals.batches() >= enough)? {
        return Err(Failure::new("the watching agent is too slow"));
    }
    let after = watcher.totals()?.clone();
    let (after, last) = (counts(&after), after.batches());
    let ticks = u32::try_from(last - first).map_or(f64::INFINITY, f64::from);
    let mut wrong = Vec::new();
    for (key, value) in &after {
        let per_tick = (value - before.get(key).copied().unwrap_or(0.0)) / ticks;
        let wanted = subject.per_tick.iter().find(|(metric, label, _)| key == &(*metric, *label));
        let wanted = wanted.map_or(0.0, |(_, _, count)| f64::from(u32::try_from(*count).unwrap_or(u32::MAX)));
        // The two agents' ticks are not the same: one more or less may be in between, at either end.
        if (per_tick - wanted).abs() * ticks > 2.0 {
            wrong.push(format!("{} {}: {per_tick} per tick, not {wanted}", key.0, key.1));
        }
    }
    Ok(wrong.join("; "))
}

/// Bytes are not events.
fn counts(totals: &Totals) -> BTreeMap<(&'static str, &'static str), f64> {
    let metrics = expect::nothing().into_iter().map(|e| e.metric).filter(|metric| metric.name != "vfs.bytes");
    let value = |metric: expect::Metric| {
        Some(((metric.name, metric.label.map_or("", |(_, value)| value)), totals.get(metric.name, metric.label)?))
    };
    metrics.filter_map(value).collect()
}

/// The agent that is looked at, its output read and thrown away. Killed when it is dropped.
struct Watched(Child);

impl Watched {
    fn start(subject: &Subject) -> Outcome<Self> {
        let mut command = agent::command()?;
        command.arg("run").args(["--set", "interval=\"100ms\"", "--set", "probes.mode=return"]);
        for setting in subject.settings {
            command.args(["--set", setting]);
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(Failure::at("starting the agent"))?;
        let pipe = child.stdout.take();
        let drain = move || pipe.map(|mut pipe| std::io::copy(&mut pipe, &mut std::io::sink()));
        thread::Builder::new().name("drain".into()).spawn(drain).map_err(Failure::at("a thread"))?;
        Ok(Self(child))
    }

    fn end(&mut self) -> Outcome<()> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(Failure::at("stopping the agent"))?;
        wait::until("the agent's end", wait::LIMIT, || self.0.try_wait().map_err(Failure::at("the agent's state")))
            .map(drop)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what they are for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
