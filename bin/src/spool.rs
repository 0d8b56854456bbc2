//! `spool`: what waits on disk for a receiver that is away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Subcommand;
use ebpf_process_config::Sources;
use ebpf_process_core::{Ledger, Registry, SinkContext, SinkError, chain, identity, nearest_of, size};
use ebpf_process_delivery::{SegmentReport, inspect, repair};

use crate::common::Common;
use crate::exit::{Exit, Refusal};
use crate::list::{plain, rendered};
use crate::{configuration, stdout};

/// What is done with a spool.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Show what waits in a spool, and touch nothing; an agent may be using it
    Inspect {
        /// The directory that a sink's option delivery.spool names
        directory: PathBuf,
    },
    /// Cut the damage out of a spool and keep what is whole; no agent may be using it
    Repair {
        /// The directory that a sink's option delivery.spool names
        directory: PathBuf,
    },
    /// Send what waits in a sink's spool, and count nothing; the agent must not be running
    Drain {
        /// The sink's name in the configuration
        sink: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Shows or mends a directory.
pub(crate) fn main(directory: &Path, mend: bool) -> Result<Exit, Refusal> {
    let reports = if mend { repair(directory) } else { inspect(directory) };
    let reports = reports.map_err(|error| Refusal::lasting(chain(&error)))?;
    let damaged: u64 = reports.iter().map(|report| report.damaged).sum();
    let waiting: u64 = reports.iter().map(|report| report.samples).sum();
    let state = match (damaged, mend) {
        (0, _) => ", nothing is damaged",
        (_, true) => ", the damage is cut out",
        (_, false) => "; `ebpf-process spool repair` cuts the damage out",
    };
    let text = format!("{}{waiting} samples wait{}\n", segments(&reports), identity().adapt(state));
    stdout::print(&text)
}

fn segments(reports: &[SegmentReport]) -> String {
    if reports.is_empty() {
        return String::new();
    }
    let mut table = plain(&["SEGMENT", "SIZE", "SENT", "RECORDS", "SAMPLES", "DAMAGED"]);
    for report in reports {
        let SegmentReport { number, size, acknowledged, records, samples, damaged } = report;
        let [size, acknowledged, damaged] = [size, acknowledged, damaged].map(|bytes| size::show(*bytes));
        table.add_row([number.to_string(), size, acknowledged, records.to_string(), samples.to_string(), damaged]);
    }
    rendered(&table)
}

/// Sends what waits in one sink's spool until nothing does, or the receiver does not take it.
pub(crate) fn drain(registry: &Registry, sources: &Sources, name: &str) -> Result<Exit, Refusal> {
    let plan = configuration::plan(registry, sources)?;
    let Some(planned) = plan.sinks.iter().find(|sink| sink.spec.name == name) else {
        let nearest = nearest_of(name, plan.sinks.iter().map(|sink| sink.spec.name.as_str()));
        let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean \"{nearest}\"?"));
        return Err(Refusal::Usage(format!("no sink of the name {name} is configured{hint}")));
    };
    let ledger = Arc::new(Ledger::default());
    let context = SinkContext {
        instance: plan.instance.clone(),
        scope: plan.scope,
        ledger: Arc::clone(&ledger),
        ..SinkContext::new(name, plan.interval)
    };
    let mut sink = planned.plugin.build(&planned.options, context)?;
    let refusal = |error: SinkError| Refusal::lasting(error.to_string());
    // One frame per flush. What is due later was not taken.
    while sink.due().is_some_and(|due| due <= Instant::now()) {
        sink.flush().map_err(refusal)?;
    }
    sink.close().map_err(refusal)?;
    let tally = ledger.tally();
    let lost = tally.dropped_total() + tally.rejected_total();
    stdout::print(&format!("{} samples waited: {} are sent, {lost} lost\n", tally.offered, tally.written))?;
    match tally.spooled {
        0 => Ok(Exit::Fine),
        left => {
            Err(Refusal::lasting(format!("{left} samples still wait: the receiver of sink {name} does not take them")))
        }
    }
}
