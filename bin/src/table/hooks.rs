//! What a table says of the hooks: which serve the counters, how exact they are, and what they missed.

use std::collections::BTreeMap;

use ebpf_process_core::{Sample, Value};

use super::text::clean;
use super::units;

/// Which hooks serve the counters, and what they missed.
#[derive(Default)]
pub(super) struct Hooks {
    /// By counter: its tier, and whether it was exact at the start.
    serving: BTreeMap<String, (String, bool)>,
    /// By counter: whether it is exact now.
    exact: BTreeMap<String, bool>,
    missed: Vec<(String, u64)>,
    /// Reasons, and the counters that they concern.
    doubts: BTreeMap<String, Vec<String>>,
}

impl Hooks {
    pub(super) fn serve(&mut self, sample: &Sample<'_>) {
        let entry = (label(sample, "tier"), label(sample, "exact") == "yes");
        self.serving.insert(label(sample, "counter"), entry);
    }

    /// How a counter stands now; `hook.info` says how it stood at the start.
    pub(super) fn stand(&mut self, sample: &Sample<'_>) {
        self.exact.insert(label(sample, "counter"), holds(sample));
    }

    pub(super) fn doubt(&mut self, sample: &Sample<'_>) {
        if holds(sample) {
            self.doubts.entry(label(sample, "reason")).or_default().push(label(sample, "counter"));
        }
    }

    pub(super) fn miss(&mut self, sample: &Sample<'_>) {
        if let Value::Counter(total @ 1..) = sample.value() {
            let counter = sample.own_labels().map(|(_, value)| clean(value)).collect::<Vec<_>>().join(" ");
            self.missed.push((counter, total));
        }
    }

    /// Which tiers serve the counters, and which of these are not exact and why.
    pub(super) fn standing(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.serving.is_empty() {
            // How many there are, and how many of them are exact.
            let mut tiers: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
            for (counter, (tier, was_exact)) in &self.serving {
                let (all, exact_ones) = tiers.entry(tier).or_default();
                *all += 1;
                *exact_ones += usize::from(*self.exact.get(counter).unwrap_or(was_exact));
            }
            let tiers = tiers.iter().map(|(tier, (all, exact))| match all - exact {
                0 => format!("{all} by {tier}, exact"),
                inexact if inexact == *all => format!("{all} by {tier}, not exact"),
                _ => format!("{all} by {tier}, {exact} of them exact"),
            });
            remarks.push(format!("counters: {}", tiers.collect::<Vec<_>>().join("; ")));
        }
        for (reason, counters) in &self.doubts {
            remarks.push(format!("not exact: {} ({reason})", counters.join(", ")));
        }
        remarks
    }

    /// How often each counter missed an event, if one did.
    pub(super) fn missed(&self) -> Option<String> {
        let missed = self.missed.iter().map(|(counter, count)| format!("{} of {counter}", units::total(*count)));
        let missed: Vec<String> = missed.collect();
        (!missed.is_empty()).then(|| format!("missed so far: {}", missed.join(", ")))
    }
}

fn label(sample: &Sample<'_>, key: &str) -> String {
    sample.own_labels().find(|(known, _)| *known == key).map_or_else(String::new, |(_, value)| clean(value))
}

fn holds(sample: &Sample<'_>) -> bool {
    matches!(sample.value(), Value::Gauge(level) if level > 0.0)
}
