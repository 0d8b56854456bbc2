//! Hostile names into a sink as its plugin builds it, and what the receiver must hold afterwards.

use crate::point::{self, Point};
use ebpf_process_core::testkit::{Bench, context, offer};
use ebpf_process_core::{Column, EntityKind, Ledger, Options, Recorder, Selection, Sink, SinkPlugin, Unit};
use ebpf_process_tests::{Failure, Outcome, hostile, wait};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any receiver keeps a number to itself.
const SETTLE: Duration = Duration::from_secs(30);

/// Every hostile name as a label's value, all in one batch of one sink: a name that breaks out of its line would take
/// its neighbours along. `stored` is what the receiver holds of it.
pub(crate) fn as_label_values(
    plugin: &dyn SinkPlugin,
    options: &Value,
    mut stored: impl FnMut() -> Outcome<Vec<Point>>,
) -> Outcome<()> {
    let mut names = hostile::names();
    let mut source = Source::new(plugin, options, Selection::default(), &["id", "of"])?;
    source.send(names.iter().map(|name| vec![name.as_str()]).enumerate())?;
    wait_for_one_point_each(names.len(), &mut stored)?;
    names.push("harmless".to_owned());
    source.send(names.iter().map(|name| vec![name.as_str()]).enumerate())?;
    wait_for_one_point_each(names.len(), stored)
}

/// Every hostile name as the key of a tag, each from a sink of its own.
pub(crate) fn as_tag_names(
    plugin: &dyn SinkPlugin,
    options: &Value,
    mut stored: impl FnMut() -> Outcome<Vec<Point>>,
) -> Outcome<()> {
    let send = |id: usize, name: &str| {
        let tags = [(name.to_owned(), "x".to_owned())].into();
        let mut source = Source::new(plugin, options, Selection { tags, ..Selection::default() }, &["id"])?;
        source.send([(id, Vec::new())])
    };
    let names = hostile::names();
    names.iter().enumerate().try_for_each(|(id, name)| send(id, name))?;
    wait_for_one_point_each(names.len(), &mut stored)?;
    send(names.len(), "harmless")?;
    wait_for_one_point_each(names.len() + 1, stored)
}

/// Returns when the receiver holds the points 0 to `count`, each once and with its own value, and nothing else.
pub(crate) fn wait_for_one_point_each(count: usize, mut stored: impl FnMut() -> Outcome<Vec<Point>>) -> Outcome<()> {
    let mut differences = String::new();
    let equal = wait::until("one point each", SETTLE, || {
        differences = point::differences(count, &stored()?);
        Ok(differences.is_empty().then_some(()))
    });
    equal.map_err(|failure| Failure::new(format!("{failure}\n{differences}")))
}

/// A sink with batches of its own.
pub(crate) struct Source {
    bench: Bench,
    kind: EntityKind,
    selection: Selection,
    sink: Box<dyn Sink>,
    ledger: Arc<Ledger>,
}

impl Source {
    /// The plugin's sink; its counter `calls` has these labels.
    pub(crate) fn new(
        plugin: &dyn SinkPlugin,
        options: &Value,
        selection: Selection,
        keys: &'static [&str],
    ) -> Outcome<Self> {
        let kind = EntityKind::new("call").keys(keys.iter().copied()).names_as_they_are();
        let context = context("lan");
        let ledger = Arc::clone(&context.ledger);
        let sink = plugin.build(&Options::from_value(options), context).map_err(Failure::at("building a sink"))?;
        Ok(Self { bench: Bench::new(), kind, selection, sink, ledger })
    }

    /// Sends a batch of these series: the number of each, which says its value, and its labels behind that.
    ///
    /// # Errors
    /// The sink says that something of it is lost. What it has handed over and still watches is not: whether it arrived
    /// is what the receiver tells.
    pub(crate) fn send<'a>(&mut self, series: impl IntoIterator<Item = (usize, Vec<&'a str>)>) -> Outcome<()> {
        let Self { bench, kind, selection, sink, ledger } = self;
        let mut totals = Vec::new();
        for (id, labels) in series {
            let number = id.to_string();
            let labels = [&[number.as_str()], &*labels].concat();
            let calls = Column::counter("calls", Unit::CALLS, "Calls");
            totals.push((bench.cell(kind, &labels, calls), point::value(id)));
        }
        offer(ledger, totals.len() as u64);
        let record = |recorder: &mut Recorder| {
            for (cell, total) in &totals {
                cell.counter(recorder, *total);
            }
        };
        bench.tick(selection, record, |view| sink.write(view)).map_err(Failure::at("writing"))?;
        sink.flush().map_err(Failure::at("flushing"))?;
        let tally = ledger.tally();
        if tally.written + tally.queued == tally.offered && tally.balances() {
            return Ok(());
        }
        Err(Failure::new(format!("not all is kept: {tally:?}")))
    }
}
