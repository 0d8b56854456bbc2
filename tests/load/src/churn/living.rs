//! Processes that live at the same time: what reading them costs, and a tick to three sinks.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ebpf_process_tests::agent::Agent;
use ebpf_process_tests::receivers::free_tcp_port;
use ebpf_process_tests::usage::{processor_time, resident};
use ebpf_process_tests::workload::Place;
use ebpf_process_tests::{Failure, Outcome, wait};
use rustix::process::{Pid, Signal, kill_process};

use super::order::Order;
use super::report::{Report, failure, float, say};
use crate::receivers::{Database, Datagrams, Scraper};

/// Bounds at so many processes, and how many times more the largest number may cost than a tenth of it.
const AT: u32 = 10_000;
const READING: f64 = 5.0;
const CALLS: f64 = 100.0;
const TICK: f64 = 60.0;
const LINEAR: f64 = 12.0;

/// Ticks that are measured, and that are counted by strace.
const TICKS: usize = 15;
const TRACED: u64 = 5;

const INTERVAL: Duration = Duration::from_secs(1);
/// How often each process does something, where it does.
const EVERY: Duration = Duration::from_secs(1);

/// What so many processes cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Milliseconds that collecting takes: the best tick, and half of all.
    reading: [f64; 2],
    /// System calls of the collecting thread at a tick.
    calls: Option<f64>,
    /// Milliseconds of processor time of all threads at a tick, the mean: where a tick ends cannot be told from outside.
    tick: f64,
}

pub(super) fn run(order: &Order, report: &mut Report) -> Outcome<()> {
    for (what, every) in [("that stand still", None), ("that each open, read and close once a second", Some(EVERY))] {
        let mut costs = Vec::new();
        for count in &order.living {
            let cost = cost(*count, every, what)?;
            if *count == AT {
                report.bind("  reading", cost.reading[0], READING, "ms");
                report.bind("  a tick to three sinks", cost.tick, TICK, "ms of processor time");
                if let Some(calls) = cost.calls {
                    report.bind("  system calls of the collecting thread", calls, CALLS, "a tick");
                }
            }
            costs.push((*count, cost));
        }
        for (few, many) in costs.iter().flat_map(|few| costs.iter().map(move |many| (few, many))) {
            if many.0 == 10 * few.0 && many.0 == AT {
                let ratio = |of: fn(&Cost) -> f64| of(&many.1) / of(&few.1);
                report.bind("  reading, times a tenth of them", ratio(|cost| cost.reading[0]), LINEAR, "");
                report.bind("  a tick, times a tenth of them", ratio(|cost| cost.tick), LINEAR, "");
            }
        }
    }
    Ok(())
}

fn cost(count: u32, every: Option<Duration>, what: &str) -> Outcome<Cost> {
    let (database, datagrams) = (Database::start()?, Datagrams::start()?);
    let page: SocketAddr = ([127, 0, 0, 1], free_tcp_port()?).into();
    let all = "kinds=[\"host\",\"process\",\"app\",\"cgroup\"]";
    let settings = [
        "interval=\"1s\"".to_owned(),
        "probes.mode=return".to_owned(),
        "probes.by=[\"process\",\"app\",\"cgroup\"]".to_owned(),
        "probes.processes=16384".to_owned(),
        "sinks.out.kinds=[\"probe\"]".to_owned(),
        "sinks.influx.type=influx".to_owned(),
        format!("sinks.influx.{all}"),
        format!("sinks.influx.options.url=http://{}", database.address),
        "sinks.influx.options.database=churn".to_owned(),
        "sinks.statsd.type=statsd".to_owned(),
        format!("sinks.statsd.{all}"),
        format!("sinks.statsd.options.address=udp://{}", datagrams.address),
        "sinks.prometheus.type=prometheus".to_owned(),
        format!("sinks.prometheus.{all}"),
        format!("sinks.prometheus.options.listen={page}"),
    ];
    let mut agent = Agent::start(&settings)?;
    agent.wait_for_first_batch()?;
    let place = Place::new()?;
    let mut population = place.population(count as usize, every)?;
    let scraper = Scraper::start(page)?;
    let rows = wait::until("the rows of all", wait::LIMIT, || {
        let rows = rows(page)?;
        agent.totals()?;
        Ok((rows >= count as usize).then_some(rows))
    })?;

    let mut reading = Vec::new();
    let mut batches = next_tick(&mut agent, 0)?;
    let (first, before) = (batches, processor_time(agent.pid())?);
    while reading.len() < TICKS {
        batches = next_tick(&mut agent, batches)?;
        scraper.scrape();
        let totals = agent.totals()?;
        let times = totals.series().filter(|(name, ..)| *name == "agent.probe_time").map(|(.., seconds)| seconds);
        reading.push(1e3 * times.sum::<f64>());
    }
    let spent = processor_time(agent.pid())?.saturating_sub(before);
    let tick = 1e3 * spent.as_secs_f64() / float((batches - first) as u64);
    let calls = system_calls(agent.pid());
    let memory = float(resident(agent.pid())?) / 1024.0;
    agent.stop()?;
    population.run_to_end()?;
    let cost = Cost { reading: best_and_half(reading), calls: calls.as_ref().ok().copied(), tick };
    let [best, half] = cost.reading;
    let calls = calls.map_or_else(|reason| format!("not counted ({reason})"), |calls| format!("{calls:.0}"));
    say(&format!(
        "{count} processes {what}, {rows} rows: reading {best:.2} ms at best, {half:.2} half of the ticks; \
         {calls} system calls a tick; a tick {tick:.1} ms of processor time; \
         {memory:.0} MiB of the agent's own"
    ));
    Ok(cost)
}

fn next_tick(agent: &mut Agent, batches: usize) -> Outcome<usize> {
    wait::until("a tick", wait::LIMIT, || {
        let now = agent.totals()?.batches();
        Ok((now > batches).then_some(now))
    })
}

/// The rows of processes that a page has.
fn rows(page: SocketAddr) -> Outcome<usize> {
    let mut text = String::new();
    let mut server = TcpStream::connect(page).map_err(Failure::at("the page"))?;
    server
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: churn\r\nConnection: close\r\n\r\n")
        .map_err(Failure::at("the page"))?;
    server.read_to_string(&mut text).map_err(Failure::at("the page"))?;
    let lines = text.lines().filter(|line| line.starts_with("ebpf_process_process_file_calls_total{"));
    Ok(lines.filter(|line| line.contains("operation=\"open\"")).count())
}

/// System calls of a thread at a tick, its waiting included, by strace.
fn system_calls(thread: u32) -> Outcome<f64> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    let path = folder.path().join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-c", "-o"]).arg(&path).args(["-p", &thread.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut strace = strace.spawn().map_err(Failure::at("strace"))?;
    thread::park_timeout(INTERVAL * u32::try_from(TRACED).unwrap_or(1));
    kill_process(Pid::from_child(&strace), Signal::INT).map_err(Failure::at("stopping strace"))?;
    strace.wait().map_err(Failure::at("the end of strace"))?;
    let text = std::fs::read_to_string(&path).map_err(Failure::at("what strace says"))?;
    // "100.00    0.000123           1       120         2 total"
    let total = text.lines().rfind(|line| line.ends_with(" total")).and_then(|line| line.split_whitespace().nth(3));
    let total: u64 = total.and_then(|calls| calls.parse().ok()).ok_or_else(|| failure("strace counts nothing"))?;
    Ok(float(total) / float(TRACED))
}

/// The least, and what half of all are at most.
fn best_and_half(mut all: Vec<f64>) -> [f64; 2] {
    all.sort_by(f64::total_cmp);
    [all.first(), all.get(all.len() / 2)].map(|value| value.copied().unwrap_or(f64::NAN))
}
