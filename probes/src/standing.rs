//! How a counter stands while it counts: whether it is exact, and why not, as series of their own.
//!
//! The label `exact` of `hook.info` says how it stood at the start. What changes later changes values, never a series'
//! name.

use ebpf_process_core::{Recorder, SeriesId};
use tracing::{info, warn};

use crate::catalog::{hook_doubt, hook_exact, hook_firing, hook_missed_is_bound};
use crate::exactness::Doubt;

/// The standing of one counter.
pub(crate) struct Standing {
    counter: &'static str,
    exact: Option<SeriesId>,
    bound: Option<SeriesId>,
    misses_are_a_bound: bool,
    firing: (Option<SeriesId>, bool),
    /// Every doubt that there ever was, with its series and whether it holds.
    doubts: Vec<(Doubt, Option<SeriesId>, bool)>,
}

impl Standing {
    pub(crate) fn new(
        recorder: &mut Recorder,
        counter: &'static str,
        doubts: &[Doubt],
        misses_are_a_bound: bool,
    ) -> Self {
        let mut standing = Self {
            counter,
            exact: recorder.series(&hook_exact(), &[counter]).ok(),
            bound: recorder.series(&hook_missed_is_bound(), &[counter]).ok(),
            misses_are_a_bound,
            firing: (recorder.series(&hook_firing(), &[counter]).ok(), true),
            doubts: Vec::new(),
        };
        for doubt in doubts {
            standing.set(recorder, *doubt, true);
        }
        standing
    }

    /// Takes over whether a doubt holds, and says so in the log when that is new.
    pub(crate) fn update(&mut self, recorder: &mut Recorder, doubt: Doubt, holds: bool) {
        if !self.set(recorder, doubt, holds) {
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
    pub(crate) fn fires(&mut self, recorder: &mut Recorder, fires: bool) {
        self.firing.1 = fires;
        if !fires {
            self.set(recorder, Doubt::Silent, true);
        }
    }

    /// Whether its hooks are taken to fire.
    pub(crate) const fn is_firing(&self) -> bool {
        self.firing.1
    }

    /// Writes how it stands.
    pub(crate) fn record(&self, recorder: &mut Recorder) {
        let flag = |holds: bool| if holds { 1.0 } else { 0.0 };
        let exact = !self.doubts.iter().any(|(_, _, holds)| *holds);
        let doubts = self.doubts.iter().map(|(_, id, holds)| (*id, *holds));
        for (id, holds) in
            [(self.exact, exact), (self.bound, self.misses_are_a_bound), self.firing].into_iter().chain(doubts)
        {
            if let Some(id) = id {
                recorder.gauge(id, flag(holds));
            }
        }
    }

    /// Whether that is a change.
    fn set(&mut self, recorder: &mut Recorder, doubt: Doubt, holds: bool) -> bool {
        if let Some((_, _, held)) = self.doubts.iter_mut().find(|(known, ..)| *known == doubt) {
            return std::mem::replace(held, holds) != holds;
        }
        if holds {
            let id = recorder.series(&hook_doubt(), &[self.counter, doubt.as_str()]).ok();
            self.doubts.push((doubt, id, true));
        }
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Selection, Value, View};

    fn levels(view: &View<'_>) -> Vec<String> {
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
        let mut standing = None;
        let mut tick = |change: &[(Doubt, bool)]| {
            let mut seen = Vec::new();
            let record = |recorder: &mut Recorder| {
                let standing = standing.get_or_insert_with(|| Standing::new(recorder, "vfs.read", &[], false));
                for (doubt, holds) in change {
                    standing.update(recorder, *doubt, *holds);
                }
                standing.record(recorder);
            };
            bench.tick(&Selection::default(), record, |view| seen = levels(view));
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
        let mut standing = None;
        let mut seen = Vec::new();
        for fires in [false, true] {
            let record = |recorder: &mut Recorder| {
                let standing = standing.get_or_insert_with(|| Standing::new(recorder, "vfs.read", &[], false));
                standing.fires(recorder, fires);
                standing.record(recorder);
            };
            bench.tick(&Selection::default(), record, |view| seen.push(levels(view)));
        }
        let silent = "hook.doubt vfs.read,silent 1".to_owned();
        assert!(seen[0].contains(&"hook.firing vfs.read 0".to_owned()) && seen[0].contains(&silent), "{seen:?}");
        assert!(seen[1].contains(&"hook.firing vfs.read 1".to_owned()) && seen[1].contains(&silent), "{seen:?}");
    }
}
