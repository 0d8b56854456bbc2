//! A sink that nobody reads from, in a whole agent: the tick and the other sink do not notice.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ebpf_process_tests::{Failure, Outcome, agent, live};
use rustix::process::{Pid, Signal, kill_process};

/// Enough batches to fill a pipe (64 KiB) and the queue behind it many times over.
const TICKS: usize = 60;
const LIMIT: Duration = Duration::from_mins(1);
const GRACE: Duration = Duration::from_millis(500);

fn a_stuck_pipe() -> Outcome<()> {
    let lan = UdpSocket::bind("127.0.0.1:0").map_err(Failure::at("a UDP socket"))?;
    lan.set_read_timeout(Some(LIMIT)).map_err(Failure::at("its time limit"))?;
    let address = lan.local_addr().map_err(Failure::at("its address"))?;
    let mut command = agent::command()?;
    command.arg("run");
    for setting in [
        "interval=\"100ms\"".to_owned(),
        "grace=\"500ms\"".to_owned(),
        "sinks.stuck.type=influx".to_owned(),
        "sinks.stuck.options.url=stdout".to_owned(),
        "sinks.lan.type=statsd".to_owned(),
        format!("sinks.lan.options.address=\"udp://{address}\""),
    ] {
        command.args(["--set", &setting]);
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(Failure::at("starting the agent"))?;

    // Every batch counts one tick, so a batch that is missing shows as a step of two.
    let (mut ticks, mut dropped) = (Vec::new(), 0);
    let mut datagram = [0; 2048];
    while ticks.len() < TICKS {
        let length = lan.recv(&mut datagram).map_err(Failure::at("receiving"))?;
        let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
        for line in text.lines() {
            let count = |name: &str| line.strip_prefix(name)?.strip_suffix("|c")?.parse::<u64>().ok();
            ticks.extend(count("ebpf_process.agent.ticks:"));
            dropped += count("ebpf_process.agent.stuck.dropped.samples:").unwrap_or(0);
        }
    }
    let stop = Instant::now();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| Failure::new("no pid"))?;
    kill_process(pid, Signal::TERM).map_err(Failure::at("stopping the agent"))?;
    let status = child.wait().map_err(Failure::at("its end"))?;
    let took = stop.elapsed();
    let log = child.stderr.take().map(BufReader::new).into_iter().flat_map(|pipe| pipe.lines().map_while(Result::ok));
    let log: Vec<String> = log.collect();

    let fail = |problem: String| Err(Failure::new(format!("{problem}; the log:\n{}", log.join("\n"))));
    if ticks.iter().any(|step| *step != 1) {
        return fail(format!("the healthy sink misses batches: {ticks:?}"));
    }
    let told =
        log.iter().filter(|line| line.contains("samples are dropped: queue full") && line.contains("sink stuck"));
    if told.count() != 1 {
        return fail("the first loss is not in the log, or not once".to_owned());
    }
    if dropped == 0 {
        return fail("the stuck sink's loss was not told".to_owned());
    }
    if status.code() != Some(0) || took > GRACE + Duration::from_secs(1) {
        return fail(format!("the stop took {took:?} and ended with {status}"));
    }
    for sink in ["stuck", "lan"] {
        let Some(book) = log.iter().find_map(|line| Book::read(line, sink)) else {
            return fail(format!("no account of sink {sink}"));
        };
        if book.offered != book.settled + book.failed + book.dropped + book.rejected {
            return fail(format!("the ledger of {sink} does not add up: {book:?}"));
        }
    }
    Ok(())
}

/// The account that the agent logs at its end.
#[derive(Debug)]
struct Book {
    offered: u64,
    /// Written, unconfirmed or superseded.
    settled: u64,
    failed: u64,
    dropped: u64,
    rejected: u64,
}

impl Book {
    /// Reads `... 50 samples: 40 written, 0 unconfirmed, 0 superseded, 0 failed, 10 dropped, 0 rejected, 0 spooled (sink NAME)`.
    fn read(line: &str, sink: &str) -> Option<Self> {
        if !line.ends_with(&format!("(sink {sink})")) {
            return None;
        }
        let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let before = |what: &str| words[words.iter().position(|word| *word == what)?.checked_sub(1)?].parse().ok();
        Some(Self {
            offered: before("samples:")?,
            settled: before("written")? + before("unconfirmed")? + before("superseded")?,
            failed: before("failed")?,
            dropped: before("dropped")?,
            rejected: before("rejected")?,
        })
    }
}

#[test]
fn a_pipe_that_nobody_reads_delays_nobody() {
    live::test("stuck-pipe", agent::can_run(), a_stuck_pipe);
}
