//! What every kernel probe says beside its counters: how their hooks stand, and what `only` names.

use ebpf_process_core::{Column, ColumnId, Declared, EntityKind, KindId, Recorder, Refused, RowId, Unit, identity_of};

use crate::doubt::Doubt;

/// The kind whose rows are the counters that a hook serves.
fn hook_kind() -> EntityKind {
    EntityKind::new("hook").keys(["counter"]).names_as_they_are()
}

/// The kind whose rows are what `only` names, by probe.
fn target_kind() -> EntityKind {
    EntityKind::new("target").keys(["probe", "target"]).names_as_they_are()
}

/// `hook.info`: which hook serves a counter, by tier, layer, function and whether it was exact at the start.
fn hook_info([tier, layer, function, exact]: [&str; 4]) -> Column {
    let labels = [("tier", tier), ("layer", layer), ("function", function), ("exact", exact)];
    Column::gauge("hook.info", Unit::ONE, "Which hook serves a counter; always 1").labels(labels)
}

/// `hook.missed`: counted + missed = events.
fn hook_missed() -> Column {
    Column::counter(
        "hook.missed",
        Unit::EVENTS,
        "Events that a counter's hooks missed and that its numbers lack, as the kernel counts them",
    )
}

/// `hook.missed_is_bound`: how `hook.missed` is to be read.
fn hook_missed_is_bound() -> Column {
    Column::gauge(
        "hook.missed_is_bound",
        Unit::ONE,
        "1 where hook.missed is an upper bound of what the counter lacks, 0 where it is the number itself",
    )
}

/// `hook.exact`: whether a counter is exact, as found now.
fn hook_exact() -> Column {
    Column::gauge("hook.exact", Unit::ONE, "1 while nothing is known by which a counter could lack events, else 0")
}

/// `hook.doubt`: why a counter is not exact.
fn hook_doubt(doubt: Doubt) -> Column {
    Column::gauge("hook.doubt", Unit::ONE, "1 while this is a reason why a counter may lack events, else 0")
        .labels([("reason", doubt.as_str())])
}

/// `hook.firing`: whether a counter's hooks fire.
fn hook_firing() -> Column {
    Column::gauge("hook.firing", Unit::ONE, "0 while a counter's hooks were found not to fire, else 1")
}

/// `target.present`: only where `only` names something.
fn target_present() -> Column {
    Column::gauge(
        "target.present",
        Unit::ONE,
        "Whether the process or control group that `only` names is there (1) or not (0)",
    )
}

/// What every kernel probe has beside its counters. What hook serves is known when it is attached: of `hook.info` the
/// keys are told, and values that stand for none.
pub(crate) fn of_every_probe() -> impl Iterator<Item = Declared> {
    let hook = |column| Declared::new(hook_kind(), column);
    let first = [hook_info([""; 4]), hook_missed(), hook_exact(), hook_missed_is_bound(), hook_firing()].into_iter();
    let hooks = first.chain(Doubt::ALL.map(hook_doubt)).map(hook);
    hooks.chain([Declared::new(target_kind(), target_present())])
}

/// A kind that the probes have in common: whoever is built first declares it.
fn common(recorder: &mut Recorder, kind: EntityKind) -> Result<KindId, Refused> {
    recorder.existing_kind(kind.name()).map_or_else(|| recorder.kind(kind), Ok)
}

/// The kind of hooks with its columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HookColumns {
    kind: KindId,
    pub(crate) missed: ColumnId,
    pub(crate) exact: ColumnId,
    pub(crate) missed_is_bound: ColumnId,
    pub(crate) firing: ColumnId,
    doubts: [ColumnId; Doubt::ALL.len()],
}

impl HookColumns {
    pub(crate) fn declare(recorder: &mut Recorder) -> Result<Self, Refused> {
        let kind = common(recorder, hook_kind())?;
        let missed = recorder.column(kind, hook_missed())?;
        let exact = recorder.column(kind, hook_exact())?;
        let missed_is_bound = recorder.column(kind, hook_missed_is_bound())?;
        let firing = recorder.column(kind, hook_firing())?;
        let mut doubts = [firing; Doubt::ALL.len()];
        for (column, doubt) in doubts.iter_mut().zip(Doubt::ALL) {
            *column = recorder.column(kind, hook_doubt(doubt))?;
        }
        Ok(Self { kind, missed, exact, missed_is_bound, firing, doubts })
    }

    /// The row of a counter.
    pub(crate) fn row(&self, recorder: &mut Recorder, counter: &str) -> Result<RowId, Refused> {
        recorder.row(self.kind, identity_of(counter), &[counter])
    }

    /// The column of `hook.info` for hooks like this one.
    pub(crate) fn info(&self, recorder: &mut Recorder, labels: [&str; 4]) -> Result<ColumnId, Refused> {
        recorder.column(self.kind, hook_info(labels))
    }

    /// The column of a reason.
    pub(crate) const fn doubt(&self, doubt: Doubt) -> ColumnId {
        self.doubts[doubt as usize]
    }
}

/// The cell that says whether what `only` names is there.
pub(crate) fn presence(recorder: &mut Recorder, probe: &str, target: &str) -> Result<(RowId, ColumnId), Refused> {
    let kind = common(recorder, target_kind())?;
    let column = recorder.column(kind, target_present())?;
    Ok((recorder.row(kind, identity_of(&format!("{probe}\0{target}")), &[probe, target])?, column))
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::Selection;
    use ebpf_process_core::testkit::Bench;

    use super::*;

    #[test]
    fn two_probes_share_the_kind_of_hooks_and_names_and_labels_are_as_documented() {
        let mut bench = Bench::new();
        let record = |recorder: &mut Recorder| {
            for (counter, function) in [("vfs.read", "vfs_read"), ("task.exit", "do_exit")] {
                let columns = HookColumns::declare(recorder).expect("columns");
                let row = columns.row(recorder, counter).expect("a row");
                let info = columns.info(recorder, ["fentry", "function", function, "yes"]).expect("a column");
                recorder.gauge(row, info, 1.0);
                recorder.counter(row, columns.missed, 2);
                recorder.gauge(row, columns.doubt(Doubt::Missed), 1.0);
            }
            let (row, column) = presence(recorder, "file", "pid 7").expect("a cell");
            recorder.gauge(row, column, 1.0);
        };
        let lines = bench.tick(&Selection::default(), record, |view| {
            let lines = view.samples().map(|sample| format!("{} {}", sample.name(), sample.labels()));
            lines.collect::<Vec<_>>()
        });
        let expected = [
            "hook.missed counter=vfs.read",
            "hook.missed counter=task.exit",
            "hook.doubt counter=vfs.read,reason=missed",
            "hook.doubt counter=task.exit,reason=missed",
            "hook.info counter=vfs.read,tier=fentry,layer=function,function=vfs_read,exact=yes",
            "hook.info counter=task.exit,tier=fentry,layer=function,function=do_exit,exact=yes",
            "target.present probe=file,target=pid 7",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn each_doubt_has_the_column_of_its_word() {
        let mut bench = Bench::new();
        for doubt in Doubt::ALL {
            let record = |recorder: &mut Recorder| {
                let columns = HookColumns::declare(recorder).expect("columns");
                let row = columns.row(recorder, "vfs.read").expect("a row");
                recorder.gauge(row, columns.doubt(doubt), 1.0);
            };
            let words = bench.tick(&Selection::default(), record, |view| {
                let labels = view.samples().flat_map(|sample| sample.own_labels());
                labels.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
            });
            assert_eq!(words, ["vfs.read", doubt.as_str()]);
        }
    }
}
