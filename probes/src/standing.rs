//! How a counter stands while it counts: whether it is exact, and why not, as metrics of their own.
//!
//! The label `exact` of `hook.info` says how it stood at the start. What changes later changes values, never a series'
//! name.

use ebpf_process_core::{Recorder, RowId};
use tracing::{info, warn};

use crate::catalog::HookColumns;
use crate::doubt::Doubt;

/// The standing of one counter.
pub(crate) struct Standing {
    counter: &'static str,
    row: RowId,
    columns: HookColumns,
    misses_are_a_bound: bool,
    firing: bool,
    /// Every doubt that there ever was, and whether it holds.
    doubts: Vec<(Doubt, bool)>,
}

impl Standing {
    pub(crate) fn new(
        counter: &'static str,
        row: RowId,
        columns: &HookColumns,
        doubts: &[Doubt],
        misses_are_a_bound: bool,
    ) -> Self {
        // Room for all, so that a tick that finds one allocates nothing.
        let mut held = Vec::with_capacity(Doubt::ALL.len());
        held.extend(doubts.iter().map(|doubt| (*doubt, true)));
        Self { counter, row, columns: *columns, misses_are_a_bound, firing: true, doubts: held }
    }

    /// Takes over whether a doubt holds, and says so in the log when that is new.
    pub(crate) fn update(&mut self, doubt: Doubt, holds: bool) {
        if !self.set(doubt, holds) {
            return;
        }
        let counter = self.counter;
        if holds {
            warn!(counter, "not exact any more: {}", doubt.explained());
        } else {
            info!(counter, "no longer so: {}", doubt.explained());
        }
    }

    /// Takes over whether its hooks fire: whoever was silent once lacks what happened meanwhile.
    pub(crate) fn fires(&mut self, fires: bool) {
        self.firing = fires;
        if !fires {
            self.set(Doubt::Silent, true);
        }
    }

    /// Whether its hooks are taken to fire.
    pub(crate) const fn is_firing(&self) -> bool {
        self.firing
    }

    /// Writes how it stands.
    pub(crate) fn record(&self, recorder: &mut Recorder) {
        let exact = !self.doubts.iter().any(|(_, holds)| *holds);
        let columns = &self.columns;
        let own =
            [(columns.exact, exact), (columns.missed_is_bound, self.misses_are_a_bound), (columns.firing, self.firing)];
        let doubts = self.doubts.iter().map(|(doubt, holds)| (columns.doubt(*doubt), *holds));
        for (column, holds) in own.into_iter().chain(doubts) {
            recorder.gauge(self.row, column, if holds { 1.0 } else { 0.0 });
        }
    }

    /// Whether that is a change.
    fn set(&mut self, doubt: Doubt, holds: bool) -> bool {
        if let Some((_, held)) = self.doubts.iter_mut().find(|(known, _)| *known == doubt) {
            return std::mem::replace(held, holds) != holds;
        }
        if holds {
            self.doubts.push((doubt, true));
        }
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Selection, Value, View};

    fn standing(recorder: &mut Recorder) -> Standing {
        let columns = HookColumns::declare(recorder).expect("columns");
        let row = columns.row(recorder, "vfs.read").expect("a row");
        Standing::new("vfs.read", row, &columns, &[], false)
    }

    fn levels(view: View<'_>) -> Vec<String> {
        let samples = view.metrics().flat_map(|metric| {
            metric.samples().map(move |sample| {
                let labels: Vec<_> = sample.labels().map(|(_, value)| value).collect();
                let Value::Gauge(level) = sample.value() else { panic!("a gauge") };
                format!("{} {} {level}", metric.name(), labels.join(","))
            })
        });
        samples.collect()
    }

    #[test]
    fn a_change_of_the_finding_changes_values_and_no_name() {
        let mut bench = Bench::new();
        let mut known = None;
        let mut tick = |change: &[(Doubt, bool)]| {
            let mut seen = Vec::new();
            let record = |recorder: &mut Recorder| {
                let known = known.get_or_insert_with(|| standing(recorder));
                for (doubt, holds) in change {
                    known.update(*doubt, *holds);
                }
                known.record(recorder);
            };
            bench.tick(&Selection::default(), record, |view| seen = levels(*view));
            seen
        };
        let (exact, inexact) = ("hook.exact vfs.read 1", "hook.exact vfs.read 0");
        let (bound, doubt) = ("hook.missed_is_bound vfs.read 0", "hook.doubt vfs.read,preempted");
        let firing = "hook.firing vfs.read 1";
        assert_eq!(tick(&[]), [exact, bound, firing]);
        assert_eq!(tick(&[(Doubt::Missed, false)]), [exact, bound, firing]);
        assert_eq!(tick(&[(Doubt::Preempted, true)]), [inexact, bound, firing, &format!("{doubt} 1")]);
        assert_eq!(tick(&[(Doubt::Preempted, false)]), [exact, bound, firing, &format!("{doubt} 0")]);
        assert_eq!(tick(&[(Doubt::Preempted, true)]), [inexact, bound, firing, &format!("{doubt} 1")]);
    }

    #[test]
    fn who_was_silent_fires_again_and_lacks_what_happened_meanwhile() {
        let mut bench = Bench::new();
        let mut known = None;
        let mut seen = Vec::new();
        for fires in [false, true] {
            let record = |recorder: &mut Recorder| {
                let known = known.get_or_insert_with(|| standing(recorder));
                known.fires(fires);
                known.record(recorder);
            };
            bench.tick(&Selection::default(), record, |view| seen.push(levels(*view)));
        }
        let silent = "hook.doubt vfs.read,silent 1".to_owned();
        assert!(seen[0].contains(&"hook.firing vfs.read 0".to_owned()) && seen[0].contains(&silent), "{seen:?}");
        assert!(seen[1].contains(&"hook.firing vfs.read 1".to_owned()) && seen[1].contains(&silent), "{seen:?}");
    }
}
