//! A server tried out.

use std::time::{Duration, Instant};

use ebpf_process_core::{BuildError, Finding, SinkContext, TrialContext};
use ebpf_process_delivery::{Frame, Verdict};

use super::{Http, NOT_FOUND};
use crate::options::ServerOptions;

/// Asks a server whether it takes writes, by one without a line. Makes and leaves nothing.
pub(crate) fn try_out(server: ServerOptions, context: &TrialContext) -> Finding {
    let (name, place, create) = (server.name.clone(), server.place.to_string(), server.create_database);
    let end = Instant::now() + server.timeout.min(context.limit);
    let mut http = match Http::new(server, &SinkContext::new(&*context.name, Duration::from_secs(1))) {
        Ok(http) => http,
        Err(BuildError::Refused { problem, way_out, .. }) => return Finding::error(problem, way_out),
        Err(error) => return Finding::error(error.to_string(), "check the options of this sink"),
    };
    let verdict = http.request(&Frame::default(), true, end);
    // Messages end with the way out.
    let split = |problem: String| match problem.rsplit_once("; ") {
        Some((what, way_out)) => (format!("{name}: {what}"), way_out.to_owned()),
        None => (format!("{name}: {problem}"), "check the option url".to_owned()),
    };
    match verdict {
        // That there is nothing in it can be all that the server finds wrong: then it has let us in.
        Verdict::Accepted
        | Verdict::Sent
        | Verdict::Partly { .. }
        | Verdict::Again { .. }
        | Verdict::Rejected { .. }
        | Verdict::TooLarge { .. } => Finding::fine(format!("{name} answers and takes writes to the {place}")),
        Verdict::Misconfigured { .. } if create && http.status == NOT_FOUND => {
            Finding::fine(format!("{name} answers; the {place} does not exist, and `run` makes it (create_database)"))
        }
        Verdict::Doubtful { problem, .. } | Verdict::Misconfigured { problem } => {
            let (what, way_out) = split(problem);
            Finding::error(what, way_out)
        }
        Verdict::Retry { problem, .. } => {
            let (what, way_out) = split(problem);
            Finding::warning(what, way_out)
        }
    }
}
