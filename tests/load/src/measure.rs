//! A run: a tick a second, and after each a look at what it has cost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_process_core::engine::{Agent, Closed, SystemClock, Ticker};
use ebpf_process_core::{Options, VITALS};
use ebpf_process_tests::{Failure, Outcome};

use crate::crowd::Crowd;
use crate::order::{Order, Way};
use crate::receivers::THREAD;
use crate::sinks::{self, Receivers};
use crate::threads::{self, Threads};

const INTERVAL: Duration = Duration::from_secs(1);

/// Ticks before the first that counts: all is declared in the first, and buffers have their size after some.
const WARM_UP: u32 = 5;

/// From a tick to the look at what it has cost: all sinks are through by then.
const LOOK: Duration = Duration::from_millis(850);

/// For the sinks to finish.
const GRACE: Duration = Duration::from_secs(10);

/// The name under which the collecting thread stands among the threads.
pub(crate) const COLLECTING: &str = "collecting";

/// What was spent in some ticks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) total: Duration,
    /// In one tick.
    pub(crate) most: Duration,
}

impl Spent {
    fn add(&mut self, spent: Duration) {
        self.total += spent;
        self.most = self.most.max(spent);
    }
}

/// Resident memory in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) start: f64,
    pub(crate) half_time: f64,
    pub(crate) most: f64,
    pub(crate) end: f64,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) ticks: u32,
    /// Values of all ticks that count.
    pub(crate) values: u64,
    /// By what the threads are there for.
    pub(crate) threads: BTreeMap<String, Spent>,
    pub(crate) memory: Memory,
    /// Bytes that each receiver took in the ticks that count.
    pub(crate) bytes: BTreeMap<String, u64>,
    /// Datagrams that our own receiver was too slow for.
    pub(crate) missed: u64,
    pub(crate) closed: Vec<Closed>,
    /// Ticks that were left out because the one before was not over.
    pub(crate) overruns: u64,
    /// Collections that failed.
    pub(crate) errors: u64,
}

/// Collects as often as is asked for.
pub(crate) fn run(order: &Order) -> Outcome<Run> {
    let (start, _) = threads::resident()?;
    let clock = Arc::new(SystemClock);
    let mut agent = Agent::new(Arc::clone(&clock) as _, INTERVAL);
    agent.add_probe(&VITALS, &Options::none()).map_err(Failure::at("the probe vitals"))?;
    agent.push_probe("crowd", Box::new(Crowd::new(order.shape)));
    let mut receivers = Receivers::default();
    if let Way::Plugin(_) = order.way {
        sinks::add(&mut agent, "netdata", &Options::none(), INTERVAL)?;
    } else {
        for name in &order.sinks {
            receivers.add(&mut agent, name, INTERVAL)?;
        }
    }
    let vitals = Arc::clone(agent.vitals());
    let (_ticker, moments) =
        Ticker::start(clock, INTERVAL, Arc::clone(&vitals)).map_err(Failure::at("the ticker's thread"))?;

    let (mut spent, mut memory) = (BTreeMap::new(), Memory { start, ..Memory::default() });
    let (mut values, mut bytes) = (0, BTreeMap::new());
    let mut before = Threads::default();
    for number in 0..WARM_UP + order.seconds {
        let moment = moments.recv().map_err(Failure::at("the next tick"))?;
        let ticked = Instant::now();
        let collecting = threads::own();
        agent.tick(moment);
        let collecting = threads::own().saturating_sub(collecting);
        // The last one is not left to nobody.
        receivers.after_tick(number % order.scrape == 0 || number + 1 == WARM_UP + order.seconds);
        while let Some(rest) = LOOK.checked_sub(ticked.elapsed()) {
            thread::park_timeout(rest);
        }
        let now = Threads::read()?;
        receivers.rotate();
        if number >= WARM_UP {
            note(&mut spent, collecting, now.since(&before));
            values += agent.last_batch().look(|view| view.len() as u64).unwrap_or_default();
        }
        before = now;
        (memory.end, memory.most) = threads::resident()?;
        if number + 1 == WARM_UP + order.seconds / 2 {
            memory.half_time = memory.end;
        }
        if number + 1 == WARM_UP {
            bytes = receivers.bytes().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        }
    }
    for (name, now) in receivers.bytes() {
        bytes.entry(name.to_owned()).and_modify(|before| *before = now - *before);
    }
    Ok(Run {
        ticks: order.seconds,
        values,
        threads: spent,
        memory,
        bytes,
        missed: receivers.missed(),
        overruns: vitals.overruns(),
        errors: vitals.probes().iter().map(|probe| probe.errors + probe.skips).sum(),
        closed: agent.close(GRACE),
    })
}

/// Enters what a tick has cost.
fn note<'a>(
    book: &mut BTreeMap<String, Spent>,
    collecting: Duration,
    threads: impl Iterator<Item = (&'a str, Duration)>,
) {
    let mut tick = BTreeMap::from([(COLLECTING, collecting)]);
    for (name, spent) in threads {
        *tick.entry(purpose(name)).or_default() += spent;
    }
    for (name, spent) in tick {
        book.entry(name.to_owned()).or_default().add(spent);
    }
}

/// What a thread is there for: a sink, whose server has a thread of the sink's name, a receiver, or the agent.
fn purpose(thread: &str) -> &str {
    match thread.strip_prefix("sink ") {
        Some(sink) => sink,
        None if thread.starts_with(THREAD) => "(receivers)",
        None => thread,
    }
}
