//! From a view to packets.

use ebpf_process_core::{
    Before, ColumnCache, Editions, Histogram, KindView, MetricKind, RowCache, RowView, Scaled, Seen, Value, View,
};

use crate::dialect::Syntax;
use crate::names::Naming;
use crate::number::{Parts, push_level};
use crate::packets::{Batch, Due, Fate, Packets, Packing, Returned, Settled, TooLong};
use crate::rows::{InUse, RowState};
use crate::text::ColumnText;

/// Makes the packets for each view, in a buffer that it uses again.
///
/// What it sends depends on the views it has seen, on the fates it was told and on nothing else. It remembers a text
/// for each row and one for each column, and for each cell what was sent. A view in which nothing comes or goes
/// allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    naming: Naming,
    /// What a counter that was recorded in another unit is sent in.
    parts: Parts,
    /// Whether some line was the same on two hosts.
    adds_up: bool,
    rows: RowCache<RowState>,
    columns: ColumnCache<ColumnText>,
    in_use: InUse,
    editions: Editions,
    /// Whether what counts before the first view is not to be sent.
    joins: bool,
    packets: Packets,
    /// Digits of a number that are not written yet.
    digits: Vec<u8>,
    /// Samples of the last view with nothing to send.
    idle: u64,
}

impl Encoder {
    /// An encoder whose names start with `namespace` and whose packets have at most `max_packet`
    /// bytes.
    pub fn new(syntax: Syntax, namespace: &str, max_packet: usize) -> Self {
        Self {
            naming: Naming { syntax, namespace: namespace.to_owned(), host: None, host_is_tag: false },
            parts: if syntax.has_fractions() { Parts::Billionths } else { Parts::Whole },
            adds_up: false,
            rows: RowCache::default(),
            columns: ColumnCache::default(),
            in_use: InUse::default(),
            editions: Editions::default(),
            joins: false,
            packets: Packets::new(max_packet),
            digits: Vec::new(),
            idle: 0,
        }
    }

    /// `{host}` in a metric's name or in the namespace becomes this host's name, as one part of a name;
    /// where `is_tag`, and the dialect has tags, it is a tag as well.
    #[must_use]
    pub fn with_host(mut self, host: &str, is_tag: bool) -> Self {
        self.naming.host = Some(host.to_owned());
        self.naming.host_is_tag = is_tag;
        self
    }

    /// Counts in whole units alone: the receiver cuts off a counter's decimals.
    #[must_use]
    pub const fn in_whole_units(mut self) -> Self {
        self.parts = Parts::Whole;
        self
    }

    /// The counters have counted for longer than there is this encoder: what they have in the first view is where they
    /// begin, and is not sent.
    #[must_use]
    pub const fn joining(mut self) -> Self {
        self.joins = true;
        self
    }

    /// Goes on where another encoder with the same naming has stopped, whatever the selection is now.
    pub(crate) fn succeed(&mut self, former: Self) {
        let Self { rows, in_use, editions, joins, .. } = self;
        (*rows, *in_use, *editions, *joins) = (former.rows, former.in_use, former.editions, former.joins);
        editions.forget();
    }

    /// The host may have been renamed: from now on it is called this. Totals that were sent under the old
    /// name are not sent again.
    pub fn set_host(&mut self, host: &str) {
        if self.naming.host.as_deref().is_some_and(|known| known != host) {
            self.naming.host = Some(host.to_owned());
            self.columns.clear();
        }
    }

    /// Whether two hosts would have sent one of the lines so far under one name.
    pub(crate) const fn adds_up(&self) -> bool {
        self.adds_up
    }

    /// How many of the last view's written samples had nothing to send.
    pub(crate) const fn idle(&self) -> u64 {
        self.idle
    }

    /// Sends a view packet by packet: whole lines with line breaks between them. `send` says what
    /// became of each.
    pub fn encode(&mut self, view: &View<'_>, send: &mut dyn FnMut(&[u8]) -> Fate) -> Settled {
        self.encode_batches(*view, Packing::Close, &mut |batch, fates| fates.extend(batch.iter().map(&mut *send)))
    }

    /// Hands out the lines of each sample that has some, with line breaks between them. None of them is lost: what is
    /// handed out is never due again. What `Settled` has as written, less what was handed out, had nothing to send.
    pub fn encode_samples(&mut self, view: &View<'_>, take: &mut dyn FnMut(&[u8])) -> Settled {
        self.encode_batches(*view, Packing::Samples, &mut |batch, fates| {
            fates.extend(batch.iter().map(|lines| {
                take(lines);
                Fate::Sent
            }));
        })
    }

    /// Sends a view in batches of packets. `send` says what became of each packet.
    pub(crate) fn encode_batches(
        &mut self,
        view: View<'_>,
        packing: Packing,
        send: &mut dyn FnMut(Batch<'_>, &mut Vec<Fate>),
    ) -> Settled {
        self.idle = 0;
        self.packets.packing = packing;
        let mut settled = Settled::default();
        let in_use = &mut self.in_use;
        self.rows.update(&view, |mut row| row.let_go(in_use));
        if let Some(before) = self.editions.update(&view) {
            self.renew(view, &before);
        } else if std::mem::take(&mut self.joins) {
            let Self { rows, naming, in_use, .. } = self;
            rows.renew(&view, |kind, row, _| Some(untold(naming, kind, row, in_use)), drop);
        }
        for kind in view.kinds() {
            self.encode_kind(&kind, send, &mut settled);
        }
        self.packets.send(true, send, &mut settled);
        for Returned { row, due } in self.packets.returned.drain(..) {
            if let Some(state) = self.rows.get_mut(row) {
                state.restore(due.column, due.slot, due.before);
            }
        }
        settled
    }

    /// The names may be others from this view on, and other counters may be selected. What was sent of those that were
    /// before is not sent again; the others begin with what they are now.
    fn renew(&mut self, view: View<'_>, before: &Seen) {
        let Self { naming, rows, columns, in_use, .. } = self;
        columns.clear();
        in_use.forget_gauges();
        let mut gone = Vec::new();
        let keep = |kind: &KindView<'_>, row: &RowView<'_>, state: Option<RowState>| {
            let Some(mut state) = state else {
                return before.was_there(row).then(|| untold(naming, kind, row, in_use));
            };
            for column in kind.columns() {
                match (column.column().kind(), before.of(&column)) {
                    (MetricKind::Gauge, _) => state.rename_gauge(column.index()),
                    (of, Before::Unselected) => state.is_untold(column.index(), of == MetricKind::Histogram),
                    (_, Before::New | Before::Renamed | Before::Same) => {}
                }
            }
            Some(state)
        };
        rows.renew(&view, keep, |row| gone.push(row));
        for mut row in gone {
            row.let_go(in_use);
        }
    }

    fn encode_kind(
        &mut self,
        kind: &KindView<'_>,
        send: &mut dyn FnMut(Batch<'_>, &mut Vec<Fate>),
        settled: &mut Settled,
    ) {
        let Self { naming, parts, adds_up, rows, columns, in_use, packets, digits, idle, .. } = self;
        let index = kind.index();
        for row in kind.rows() {
            let state = rows.entry(&row, || RowState::new(naming, &row, index, in_use));
            if row.is_final() {
                state.end(row.tick().wall, in_use);
            }
            packets.start_row(row.id());
            for (column, value) in row.cells() {
                if columns.get(index, column).is_none()
                    && let Some(seen) = kind.column(column)
                {
                    *adds_up |= !naming.tells_hosts_apart(&seen);
                    columns.entry(&seen, || ColumnText::new(naming, &seen));
                }
                let Some(text) = columns.get(index, column) else { continue };
                packets.start_sample();
                let outcome = match value {
                    Value::Counter(total) => push_counter(packets, text, state, column, total),
                    Value::Scaled(scaled) => push_scaled(packets, text, state, column, scaled, *parts, digits),
                    Value::Histogram(histogram) => push_histogram(packets, text, state, column, &histogram),
                    Value::Gauge(level) => {
                        let adds = naming.syntax.adds_signed_gauges();
                        if !owns_name(text, state, column, row.is_final(), digits, in_use) {
                            settled.twins += 1;
                            continue;
                        }
                        push_gauge(packets, text, state, column, level, adds, digits)
                    }
                };
                match outcome {
                    Ok(Some(())) => packets.end_sample(),
                    Ok(None) => {
                        settled.written += 1;
                        *idle += 1;
                    }
                    Err(TooLong) => settled.too_long += 1,
                }
                packets.send(false, send, settled);
            }
        }
    }
}

/// What is kept for a row that was there before and of which nothing was sent.
fn untold(naming: &Naming, kind: &KindView<'_>, row: &RowView<'_>, in_use: &mut InUse) -> RowState {
    let mut state = RowState::new(naming, row, kind.index(), in_use);
    let counts = kind.columns().filter(|column| column.column().kind() != MetricKind::Gauge);
    counts.for_each(|column| {
        state.is_untold(column.index(), column.column().kind() == MetricKind::Histogram);
    });
    state
}

/// Whether a sample has a line: none where it has nothing to send.
type Lines = Result<Option<()>, TooLong>;

/// A counter's total.
#[inline]
fn push_counter(packets: &mut Packets, text: &ColumnText, state: &mut RowState, column: usize, total: u64) -> Lines {
    let (row, sent) = state.cell(column);
    if RowState::begins(sent, total) {
        return Ok(None);
    }
    let before = reset(sent, total);
    if total == before {
        return Ok(None);
    }
    let mut grown = itoa::Buffer::new();
    let number = text.push(packets.start_line(), row, b"", grown.format(total - before).as_bytes());
    packets.end_line(number, Some(Due { column, slot: None, before }))?;
    *sent = total;
    Ok(Some(()))
}

/// A counter's total that was recorded in another unit.
fn push_scaled(
    packets: &mut Packets,
    text: &ColumnText,
    state: &mut RowState,
    column: usize,
    scaled: Scaled,
    parts: Parts,
    digits: &mut Vec<u8>,
) -> Lines {
    let (row, sent) = state.cell(column);
    if RowState::begins(sent, scaled.total) {
        return Ok(None);
    }
    let before = reset(sent, scaled.total);
    digits.clear();
    if !parts.push_growth(digits, before, scaled) {
        return Ok(None);
    }
    let number = text.push(packets.start_line(), row, b"", digits);
    packets.end_line(number, Some(Due { column, slot: None, before }))?;
    *sent = scaled.total;
    Ok(Some(()))
}

/// Whether no other gauge has this one's name; what it is called is made but once.
fn owns_name(
    text: &ColumnText,
    state: &mut RowState,
    column: usize,
    is_final: bool,
    name: &mut Vec<u8>,
    in_use: &mut InUse,
) -> bool {
    if !state.knows_gauge(column) {
        name.clear();
        text.push(name, state.cell(column).0, b"", b"");
    }
    state.owns_gauge(column, is_final, name, in_use)
}

/// A gauge's level; `adds` says whether one with a sign is a change.
fn push_gauge(
    packets: &mut Packets,
    text: &ColumnText,
    state: &mut RowState,
    column: usize,
    level: f64,
    adds: bool,
    digits: &mut Vec<u8>,
) -> Lines {
    digits.clear();
    let negative = push_level(digits, level);
    let (row, _) = state.cell(column);
    let bytes = packets.start_line();
    if negative && adds {
        // Both lines count as one, so that no packet ends between them.
        text.push(bytes, row, b"", b"0");
        bytes.push(b'\n');
    }
    let number = text.push(bytes, row, if negative { b"-" } else { b"" }, digits);
    packets.end_line(number, None).map(Some)
}

/// What was sent of a counter. A total that fell was reset: all of it is new, and still is if it does not arrive.
#[inline]
fn reset(sent: &mut u64, total: u64) -> u64 {
    if total < *sent {
        *sent = 0;
    }
    *sent
}

/// The lines of a histogram's slots. It is one sample, however many lines and packets it takes.
fn push_histogram(
    packets: &mut Packets,
    text: &ColumnText,
    state: &mut RowState,
    column: usize,
    histogram: &Histogram<'_>,
) -> Lines {
    let mut lines = None;
    let (row, slots) = state.slots(column, histogram.first(), histogram.counts());
    for (bucket, sent) in histogram.buckets().zip(slots) {
        let before = reset(sent, bucket.count);
        if bucket.count == before {
            continue;
        }
        let (mut bound, mut digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        let bound = bound.format(bucket.bound).as_bytes();
        let number = text.push_slot(packets.start_line(), row, bound, digits.format(bucket.count - before).as_bytes());
        let slot = u8::try_from(bucket.slot).ok();
        packets.end_line(number, Some(Due { column, slot, before }))?;
        *sent = bucket.count;
        lines = Some(());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Column, Selection, Unit};

    use super::*;

    #[test]
    fn lines_add_up_where_nothing_tells_the_host_from_others() {
        let named = |namespace: &str, is_tag| Encoder::new(Syntax::Telegraf, namespace, 1432).with_host("web1", is_tag);
        for (mut encoder, prefix, tag, expected) in [
            (Encoder::new(Syntax::Plain, "ns", 1432), "", None, true),
            (named("ns", false), "", None, true),
            (named("ns", false), "", Some(("rack", "web2")), true),
            (named("ns", false), "", Some(("rack", "web1")), false),
            (named("ns", false), "", Some(("host", "h")), false),
            (named("ns", false), "{host}.", None, false),
            (named("ns.{host}", false), "", None, false),
            (named("ns", true), "", None, false),
        ] {
            assert!(!encoder.adds_up(), "nothing was sent yet");
            let mut bench = Bench::new();
            let calls = bench.host(Column::counter("vfs.calls", Unit::CALLS, "Calls"));
            let tags: BTreeMap<_, _> = tag.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            let selection = Selection { prefix: prefix.into(), tags, ..Selection::default() };
            bench.tick(
                &selection,
                |recorder| calls.counter(recorder, 1),
                |view| encoder.encode(view, &mut |_| Fate::Sent),
            );
            assert_eq!(encoder.adds_up(), expected, "{prefix:?} {tag:?} {:?}", encoder.naming);
        }
    }
}
