//! `status`: what a running agent has counted, and what became of it.

mod described;
mod question;
mod report;
mod server;
mod watch;

use std::io;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use ebpf_process_config::{Sources, status_socket};
use ebpf_process_core::Registry;

use crate::exit::{Exit, Refusal};
use crate::{configuration, stdout};

use self::question::{Answer, Question, ask, unanswered};
pub(crate) use described::Described;
pub(crate) use report::{Report, Source};
pub(crate) use server::{Server, Socket, remove_dead};

/// How a status is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people at a terminal
    Table,
    /// For scripts: the agent's answer as it is
    Json,
}

/// Asks the running agent and prints its answer; with `watch` again and again, so long after each other.
pub(crate) fn main(
    registry: &Registry,
    sources: &Sources,
    format: Format,
    watch: Option<Duration>,
) -> Result<Exit, Refusal> {
    let Some(path) = configuration::plan(registry, sources)?.status else {
        return Err(Refusal::Usage("status is off: status.socket names no socket".to_owned()));
    };
    match (format, watch) {
        (Format::Json, Some(every)) => watch::lines(&path, every),
        (Format::Table, Some(every)) => watch::tables(&path, every),
        (Format::Json, None) => stdout::print(&answered(&path)?),
        (Format::Table, None) => stdout::print_for_people(&Report::read(&path, &answered(&path)?)?.table()),
    }
}

/// The status of the agent at this socket.
pub(crate) fn of(path: &Path) -> io::Result<Report> {
    Ok(serde_json::from_str(&ask(path, Question::Status)?)?)
}

/// Has the running agent take over its configuration, and prints what it did.
pub(crate) fn reload(registry: &Registry, sources: &Sources) -> Result<Exit, Refusal> {
    // Whatever is wrong beside is the agent's to say, to whoever looks at its status or its log.
    let Some(path) = status_socket(&sources.load(registry)?)? else {
        let problem = "status is off: status.socket names no socket; send the agent SIGHUP instead";
        return Err(Refusal::Usage(problem.to_owned()));
    };
    let answer = ask(&path, Question::Reload).map_err(|error| Refusal::lasting(unanswered(&path, &error)))?;
    let answer: Answer = serde_json::from_str(&answer).map_err(|error| {
        Refusal::lasting(format!("{} does not answer as an agent of this version: {error}", path.display()))
    })?;
    match answer {
        Answer::Done { changes } if changes.is_empty() => stdout::print("nothing has changed\n"),
        Answer::Done { changes } => stdout::print(&(changes.join("\n") + "\n")),
        Answer::Refused { error, usage } => {
            let problem = format!("nothing was taken over: {error}");
            Err(if usage { Refusal::Usage(problem) } else { Refusal::lasting(problem) })
        }
    }
}

fn answered(path: &Path) -> Result<String, Refusal> {
    ask(path, Question::Status).map_err(|error| Refusal::lasting(unanswered(path, &error)))
}
