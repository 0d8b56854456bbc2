//! `spool`: what waits on disk for a receiver that is away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Subcommand;
use ebpf_process_config::Sources;
use ebpf_process_core::{Ledger, Registry, Sink, SinkContext, SinkError, Waker, chain, identity, nearest_of, size};
use ebpf_process_delivery::{SegmentReport, inspect, repair};

use crate::common::Common;
use crate::exit::{Exit, Refusal};
use crate::list::{plain, rendered};
use crate::{configuration, stdout};

/// How long a receiver may take to answer before it is given up. A sink that waits for answers has a shorter limit of its own.
const ANSWER: Duration = Duration::from_mins(1);

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
    let mut table = plain(&["SEGMENT", "ENCODING", "SIZE", "SENT", "RECORDS", "SAMPLES", "DAMAGED"]);
    for report in reports {
        let SegmentReport { number, encoding, size, acknowledged, records, samples, damaged, .. } = report;
        let [size, acknowledged, damaged] = [size, acknowledged, damaged].map(|bytes| size::show(*bytes));
        let encoding = match encoding.as_deref() {
            Some("") => "-",
            Some(name) => name,
            None => "?",
        };
        table.add_row([
            number.to_string(),
            encoding.to_owned(),
            size,
            acknowledged,
            records.to_string(),
            samples.to_string(),
            damaged,
        ]);
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
    let waker = context.waker();
    let mut sink = planned.plugin.build(&planned.options, context)?;
    let refusal = |error: SinkError| Refusal::lasting(error.to_string());
    send_all(&mut *sink, &ledger, &waker).map_err(refusal)?;
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

/// Has a sink send what waits, one frame per flush. What is due later was not taken, and what waits with nothing due waits for
/// an answer.
fn send_all(sink: &mut dyn Sink, ledger: &Ledger, waker: &Waker) -> Result<(), SinkError> {
    loop {
        let due = sink.due();
        let now = Instant::now();
        match due {
            Some(due) if due > now => return Ok(()),
            None if ledger.read(|tally| tally.queued + tally.spooled == 0) => return Ok(()),
            None if !waker.wait(now + ANSWER) => return Ok(()),
            Some(_) | None => sink.flush()?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use ebpf_process_core::testkit::context;
    use ebpf_process_core::{Settlement, View};
    use ebpf_process_delivery::{Delivery, DeliveryOptions, Frame, Spool, Submit, Ticket, Verdict};

    use super::*;

    /// Has frames answered on another thread, four at a time.
    struct Later(Sender<Ticket>);

    impl Submit for Later {
        fn submit(&mut self, ticket: Ticket, _: &Frame, _: Duration) {
            self.0.send(ticket).expect("somebody answers");
        }

        fn window(&self) -> usize {
            4
        }

        fn overwrites(&self) -> bool {
            true
        }
    }

    struct Sends(Delivery<Later>);

    impl Sink for Sends {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            Ok(())
        }

        fn flush(&mut self) -> Result<(), SinkError> {
            self.0.work();
            Ok(())
        }

        fn due(&self) -> Option<Instant> {
            self.0.due()
        }

        fn settles(&self) -> Settlement {
            Settlement::BySink
        }
    }

    #[test]
    fn what_is_answered_on_another_thread_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut spool, _) = Spool::open(folder.path(), 1 << 20).expect("a spool");
        for _ in 0..100 {
            let mut frame = Frame::default();
            frame.push(b"a line\n", 1);
            spool.append(&frame).expect("room");
        }
        drop(spool);
        let context = context("later");
        let options = DeliveryOptions { spool: Some(folder.path().to_owned()), ..DeliveryOptions::default() };
        let (sender, tickets) = channel::<Ticket>();
        std::thread::scope(|scope| {
            scope.spawn(|| tickets.into_iter().for_each(|ticket| ticket.settle(Verdict::Accepted)));
            let mut sink = Sends(Delivery::new(Later(sender), &options, &context).expect("a delivery"));
            send_all(&mut sink, &context.ledger, &context.waker()).expect("a sink that works");
        });
        let tally = context.ledger.tally();
        assert_eq!((tally.offered, tally.written, tally.spooled, tally.queued), (100, 100, 0, 0));
    }
}
