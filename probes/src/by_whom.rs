//! What a probe's counters feed of the rows of those who did it.

use std::sync::atomic::{AtomicU64, Ordering};

use ebpf_process_core::{ColumnId, KindId, Recorder, Refused};

use crate::abi::Record;
use crate::attachment::Inboxes;
use crate::built::Chosen;
use crate::counter::{Field, Output};
use crate::options::Mode;
use crate::who::{Feeds, Rows, WhoOptions};

/// The rows, and which words of the records are which columns.
pub(crate) struct ByWhom {
    rows: Rows,
    /// Of the probe's own records, and of those of system calls.
    own: Feeds,
    calls: Feeds,
    /// By chosen counter: what its hooks missed and what is a call all the same goes to these, for each kind.
    missed: Vec<Missed>,
}

struct Missed {
    columns: Vec<Vec<ColumnId>>,
    told: u64,
}

static READERS: AtomicU64 = AtomicU64::new(0);

impl ByWhom {
    pub(crate) fn new(
        options: &WhoOptions,
        chosen: &[Chosen],
        mode: Mode,
        recorder: &mut Recorder,
    ) -> Result<Self, Refused> {
        let rows = Rows::new(options, READERS.fetch_add(1, Ordering::Relaxed), recorder)?;
        let kinds = rows.ids();
        let (mut own, mut calls) = (Feeds::default(), Feeds::default());
        let mut missed = Vec::new();
        for chosen in chosen {
            let feeds = if chosen.candidate.is_of_calls() { &mut calls } else { &mut own };
            let mut of_calls = Vec::new();
            for output in chosen.counter.outputs_in(mode) {
                let columns = columns(output, &kinds, recorder)?;
                for slot in chosen.candidate.parts.get(output.part).into_iter().flatten() {
                    let word = *slot as usize * Record::WORDS + output.field.word();
                    feeds.add(word, columns.clone());
                    if output.field == Field::Calls {
                        feeds.add_calls(word);
                    }
                }
                if output.field == Field::Calls {
                    of_calls.push(columns);
                }
            }
            missed.push(Missed { columns: of_calls, told: 0 });
        }
        Ok(Self { rows, own, calls, missed })
    }

    /// Adds what was gained since the last time.
    pub(crate) fn record(&mut self, inboxes: &Inboxes, recorder: &mut Recorder) -> Result<(), Refused> {
        self.rows.begin(recorder);
        let tables = [(&inboxes.own, &mut self.own), (&inboxes.calls, &mut self.calls)];
        for (inbox, feeds) in tables.into_iter().filter_map(|(inbox, feeds)| Some((inbox.as_ref()?, feeds))) {
            let mut inbox = inbox.lock();
            let done = self.rows.record(&inbox, feeds, recorder);
            inbox.clear();
            done?;
        }
        Ok(())
    }

    /// Of a counter: so many calls in all that its hooks missed.
    pub(crate) fn record_missed(&mut self, index: usize, total: u64, recorder: &mut Recorder) -> Result<(), Refused> {
        let Some(missed) = self.missed.get_mut(index) else { return Ok(()) };
        let by = total.saturating_sub(missed.told);
        if by == 0 {
            return Ok(());
        }
        missed.told = total;
        missed.columns.iter().try_for_each(|columns| self.rows.record_other(columns, by, recorder))
    }
}

fn columns(output: &Output, kinds: &[KindId], recorder: &mut Recorder) -> Result<Vec<ColumnId>, Refused> {
    kinds.iter().map(|kind| recorder.column(*kind, output.metric.column(output.label))).collect()
}
