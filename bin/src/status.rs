//! `status`: what a running agent has counted, and what became of it.

mod described;
mod report;
mod server;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use ebpf_process_config::Sources;
use ebpf_process_core::Registry;

use crate::exit::{Exit, Refusal};
use crate::{configuration, stdout};

pub(crate) use described::Described;
pub(crate) use report::{Report, Source};
pub(crate) use server::Server;

/// An agent answers at once; one that does not has other troubles.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than any answer: 64 sinks and all counters are a few dozen KiB.
const LONGEST_ANSWER: u64 = 1 << 20;

/// How a status is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people at a terminal
    Table,
    /// For scripts: the agent's answer as it is
    Json,
}

/// Asks the running agent and prints its answer.
pub(crate) fn main(registry: &Registry, sources: &Sources, format: Format) -> Result<Exit, Refusal> {
    let Some(path) = configuration::plan(registry, sources)?.status else {
        return Err(Refusal::Usage("status is off: status.socket names no socket".to_owned()));
    };
    let answer = ask(&path, server::STATUS).map_err(|error| unanswered(&path, &error))?;
    match format {
        Format::Json => stdout::print(&answer),
        Format::Table => {
            let report: Report = serde_json::from_str(&answer).map_err(|error| {
                Refusal::lasting(format!("{} does not answer as an agent of this version: {error}", path.display()))
            })?;
            stdout::print_for_people(&report.table())
        }
    }
}

/// The status of the agent at this socket.
pub(crate) fn of(path: &Path) -> io::Result<Report> {
    Ok(serde_json::from_str(&ask(path, server::STATUS)?)?)
}

/// Has the running agent take over its configuration, and prints what it did.
pub(crate) fn reload(registry: &Registry, sources: &Sources) -> Result<Exit, Refusal> {
    let Some(path) = configuration::plan(registry, sources)?.status else {
        let problem = "status is off: status.socket names no socket; send the agent SIGHUP instead";
        return Err(Refusal::Usage(problem.to_owned()));
    };
    let answer = ask(&path, server::RELOAD).map_err(|error| unanswered(&path, &error))?;
    let answer: server::Answer = serde_json::from_str(&answer).map_err(|error| {
        Refusal::lasting(format!("{} does not answer as an agent of this version: {error}", path.display()))
    })?;
    match answer {
        server::Answer::Done { changes } if changes.is_empty() => stdout::print("nothing has changed\n"),
        server::Answer::Done { changes } => stdout::print(&(changes.join("\n") + "\n")),
        server::Answer::Refused { error, usage } => {
            let problem = format!("nothing was taken over: {error}");
            Err(if usage { Refusal::Usage(problem) } else { Refusal::lasting(problem) })
        }
    }
}

fn ask(path: &Path, request: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    // A reload may attach probes.
    stream.set_read_timeout(Some(if request == server::RELOAD { server::LONGEST_RELOAD } else { PATIENCE }))?;
    match stream.write_all(request.as_bytes()) {
        // Whoever may not ask is hung up on, perhaps before he has asked.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    // Whoever may not ask is hung up on.
    if answer.is_empty() { Err(ErrorKind::PermissionDenied.into()) } else { Ok(answer) }
}

fn unanswered(path: &Path, error: &io::Error) -> Refusal {
    let way_out = match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            "start the agent, or name the status.socket that it was started with"
        }
        ErrorKind::PermissionDenied => "ask as root or as the agent's user",
        _ => "see the agent's log",
    };
    Refusal::lasting(format!("no agent answers at {}: {error}; {way_out}", path.display()))
}
