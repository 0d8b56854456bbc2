//! What a run comes to: a table for a person, and whether it is good.

use std::fmt::{self, Write as _};

use ebpf_process_core::engine::Closed;

use crate::measure::{COLLECTING, Run, Spent};
use crate::order::{Order, Way};

/// Growth of memory says nothing in a shorter run: queues and pools have not had their worst moment.
const LONG: u32 = 60;

/// The text, and what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) text: String,
    /// Bounds that are passed.
    pub(crate) passed: Vec<String>,
    /// Losses.
    pub(crate) lost: Vec<String>,
}

impl Report {
    pub(crate) fn of(order: &Order, run: &Run) -> Self {
        let mut report = Self::default();
        // Writing to text does not fail.
        let _ = report.threads(order, run);
        let _ = report.memory(order, run);
        let _ = report.ledgers(run);
        report
    }

    fn threads(&mut self, order: &Order, run: &Run) -> fmt::Result {
        let values = float(run.values) / f64::from(run.ticks);
        let shape = order.shape.describe();
        writeln!(self.text, "{shape}: {values:.0} values a tick, {} ticks\n", run.ticks)?;
        let head = ["CPU ms a tick", "most", "ns a value", "bound", "MB a tick"];
        writeln!(self.text, "{:<14}{:>14}{:>9}{:>12}{:>9}{:>11}", "", head[0], head[1], head[2], head[3], head[4])?;
        for (name, Spent { total, most }) in &run.threads {
            let average = total.as_secs_f64() * 1e3 / f64::from(run.ticks);
            let each = average * 1e6 / values;
            let is_cost_of_values = order.way == Way::Still && name != COLLECTING;
            let (measured, unit) = if is_cost_of_values { (each, "ns a value") } else { (average, "ms a tick") };
            let bound = self.bind(order, name, measured, unit).map_or_else(String::new, |bound| bound.to_string());
            let bytes = run
                .bytes
                .get(name)
                .map_or_else(String::new, |bytes| format!("{:.2}", float(*bytes) / 1e6 / f64::from(run.ticks)));
            let most = most.as_secs_f64() * 1e3;
            writeln!(self.text, "{name:<14}{average:>14.2}{most:>9.2}{each:>12.0}{bound:>9}{bytes:>11}")?;
        }
        if run.missed > 0 {
            writeln!(self.text, "{} datagrams were sent and found no room at our receiver", run.missed)?;
        }
        Ok(())
    }

    fn memory(&mut self, order: &Order, run: &Run) -> fmt::Result {
        let memory = run.memory;
        writeln!(
            self.text,
            "\nresident MiB: {:.1} at the start, {:.1} at half time, {:.1} at the end, {:.1} at most\n",
            memory.start, memory.half_time, memory.end, memory.most
        )?;
        self.bind(order, "resident", memory.most, "MiB");
        if run.ticks >= LONG {
            self.bind(order, "growth", memory.end - memory.half_time, "MiB since half time");
        }
        Ok(())
    }

    fn ledgers(&mut self, run: &Run) -> fmt::Result {
        let head = ["offered", "written", "superseded", "unconfirmed", "failed", "dropped", "rejected"];
        write!(self.text, "{:<12}", "ledger")?;
        head.iter().try_for_each(|column| write!(self.text, "{column:>13}"))?;
        self.text.push('\n');
        for Closed { name, tally, in_time } in &run.closed {
            let (dropped, rejected) = (tally.dropped_total(), tally.rejected_total());
            let columns = [tally.offered, tally.written, tally.superseded, tally.unconfirmed, tally.failed];
            write!(self.text, "{name:<12}")?;
            columns.iter().chain([&dropped, &rejected]).try_for_each(|column| write!(self.text, "{column:>13}"))?;
            self.text.push('\n');
            if tally.unconfirmed + tally.failed + dropped + rejected > 0 {
                let reasons = [&tally.dropped[..], &tally.rejected[..]].concat();
                self.lost.push(format!("{name} has lost samples: {reasons:?}"));
            }
            if !tally.balances() || tally.queued > 0 {
                self.lost.push(format!("the ledger of {name} does not add up: {tally:?}"));
            }
            if !in_time {
                self.lost.push(format!("{name} did not end in time"));
            }
        }
        if run.overruns > 0 {
            self.lost.push(format!("{} ticks were left out", run.overruns));
        }
        if run.errors > 0 {
            self.lost.push(format!("{} collections failed or were left out", run.errors));
        }
        Ok(())
    }

    /// Compares with the bound, if there is one, and returns it.
    fn bind(&mut self, order: &Order, what: &str, measured: f64, unit: &str) -> Option<f64> {
        let bound = *order.bounds.get(what)?;
        if measured > bound {
            self.passed.push(format!("{what}: {measured:.1} {unit}, more than {bound}"));
        }
        Some(bound)
    }

    /// The text with what is wrong, and whether that is nothing.
    pub(crate) fn finish(mut self, order: &Order) -> (String, bool) {
        for (what, reasons) in [("LOST", &self.lost), ("BOUND", &self.passed)] {
            for reason in reasons {
                // As above.
                let _ = writeln!(self.text, "{what} {reason}");
            }
        }
        (self.text, self.lost.is_empty() && (order.warns || self.passed.is_empty()))
    }
}

/// A count for a person to read.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}
