//! A server tried out.

use std::time::Duration;

use ebpf_process_core::{Finding, SinkContext, TrialContext};
use ebpf_process_delivery::{Frame, Verdict};

use crate::carrier::HttpCarrier;
use crate::protocol::Protocol;
use crate::server::Server;

/// Asks a server whether it takes frames, by one without an item: for
/// [`SinkPlugin::try_out`](ebpf_process_core::SinkPlugin::try_out). Makes and leaves nothing.
pub fn try_out<P: Protocol>(server: Server, protocol: P, context: &TrialContext) -> Finding {
    let (name, deed) = (server.name().to_owned(), protocol.deed());
    let mut carrier =
        match HttpCarrier::new(server, protocol, &SinkContext::new(&*context.name, Duration::from_secs(1))) {
            Ok(carrier) => carrier,
            Err(error) if error.way_out().is_empty() => {
                return Finding::error(error.problem(), "check the options of this sink");
            }
            Err(error) => return Finding::error(error.problem(), error.way_out()),
        };
    let verdict = carrier.send_plain(&Frame::default(), context.limit);
    // Messages end with the way out.
    let split = |problem: String| match problem.rsplit_once("; ") {
        Some((what, way_out)) => (format!("{name}: {what}"), way_out.to_owned()),
        None => (format!("{name}: {problem}"), "check the option url".to_owned()),
    };
    if let (Verdict::Misconfigured { .. }, Some(made)) = (&verdict, carrier.mends()) {
        return Finding::fine(format!("{name} answers; {made}"));
    }
    match verdict {
        Verdict::Doubtful { problem, .. } | Verdict::Misconfigured { problem } => {
            let (what, way_out) = split(problem);
            Finding::error(what, way_out)
        }
        Verdict::Retry { problem, .. } => {
            let (what, way_out) = split(problem);
            Finding::warning(what, way_out)
        }
        // That there is nothing in it can be all that the server finds wrong: then it has let us in.
        _ => Finding::fine(format!("{name} answers and {deed}")),
    }
}
