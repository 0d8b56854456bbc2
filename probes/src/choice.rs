//! The tables of hooks, for documentation: what may serve each counter, on any kernel.

use crate::candidate::Candidate;
use crate::hook::Layer;
use crate::kernel_probe::KernelProbe;
use crate::options::{Mode, Tier};
use crate::release::Version;
use crate::way::Way;

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
    pub functions: Vec<String>,
}

impl KernelProbe {
    /// Every way to count every counter of this probe, by counter and mode, the cheapest first.
    pub fn choices(&self) -> impl Iterator<Item = Choice> {
        self.counters.iter().flat_map(|counter| {
            let modes = [("entry", Mode::Entry), ("return", Mode::Return)].into_iter();
            modes.filter(|(_, mode)| *mode == Mode::Return || !counter.return_only).flat_map(move |(name, mode)| {
                let candidates = counter.candidates(mode).unwrap_or_default();
                candidates.into_iter().map(move |candidate| choice(counter.name, name, &candidate))
            })
        })
    }
}

/// A kernel function that a counter is seen by, in one range of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// The function.
    pub symbol: &'static str,
    /// The first version that has it, by this commit, where there was one before.
    pub since: Option<(Version, &'static str)>,
    /// The first version that does not go by it any more, by this commit.
    pub until: Option<(Version, &'static str)>,
}

impl KernelProbe {
    /// The functions of every counter of this probe, as its rows have them.
    pub fn history(&self) -> impl Iterator<Item = Chapter> {
        let rows = self.counters.iter().flat_map(|counter| counter.ways).filter_map(|way| match way {
            Way::Functions(rows) => Some(*rows),
            Way::Tracepoint(..) | Way::Event(..) => None,
        });
        rows.flatten().map(|row| Chapter { symbol: row.symbol, since: row.since, until: row.until })
    }
}

fn choice(counter: &'static str, mode: &'static str, candidate: &Candidate) -> Choice {
    let functions = candidate.targets().into_iter().map(ToOwned::to_owned).collect();
    Choice { counter, mode, tier: candidate.tier, layer: candidate.layer, functions }
}
