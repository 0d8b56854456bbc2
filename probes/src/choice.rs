//! The tables of hooks, for documentation: what may serve each counter, on any kernel.

use crate::hook::{Candidate, Layer};
use crate::kernel_probe::KernelProbe;
use crate::options::Tier;

/// One way to count a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The counter's name.
    pub counter: &'static str,
    /// The mode in which it may serve: `entry` or `return`.
    pub mode: &'static str,
    /// How it is attached.
    pub tier: Tier,
    /// What it sees.
    pub layer: Layer,
    /// The functions or tracepoints; all of them together.
    pub functions: Vec<&'static str>,
}

impl KernelProbe {
    /// Every way to count every counter of this probe, by counter and mode, the cheapest first.
    pub fn choices(&self) -> impl Iterator<Item = Choice> {
        self.counters.iter().flat_map(|counter| {
            let modes = [("entry", counter.entry), ("return", counter.results)];
            modes.into_iter().flat_map(move |(mode, candidates)| {
                candidates.iter().map(move |candidate| choice(counter.name, mode, candidate))
            })
        })
    }
}

fn choice(counter: &'static str, mode: &'static str, candidate: &Candidate) -> Choice {
    let mut functions: Vec<_> = candidate.hooks.iter().map(|hook| hook.attach.target()).collect();
    functions.dedup();
    Choice { counter, mode, tier: candidate.tier, layer: candidate.layer, functions }
}
