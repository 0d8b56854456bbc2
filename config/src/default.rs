//! The built-in default as a person reads it.

use std::fmt::Write as _;

use ebpf_process_core::{Registry, identity};

/// The built-in default, the lowest layer, as it is installed: with the probes that come with the agent.
pub const DEFAULT: &str = include_str!("../ebpf-process.toml");

/// Where the probes' own tables begin, and what comes behind them.
const MARKS: (&str, &str) = ("# Probe ", "# Where the numbers go");

/// The built-in default with this program's name and a table for each probe of a registry; `config default` prints it.
pub fn default_text(registry: &Registry) -> String {
    let default = identity().adapt(DEFAULT);
    let (Some(start), Some(end)) = (default.find(MARKS.0), default.find(MARKS.1)) else { return default };
    let mut text = default[..start].to_owned();
    for probe in registry.probes().filter(|probe| !probe.is_named()) {
        let (name, summary, enabled) = (probe.name(), probe.summary(), probe.is_default());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# Probe {name}: {summary}.\n[probes.{name}]\nenabled = {enabled}\n");
    }
    text + &default[end..]
}
