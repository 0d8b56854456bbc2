//! `list`: what this build contains.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use ebpf_process_core::{Descriptor, Options, ProbePlugin, Registry};

use crate::exit::{Exit, Refusal};
use crate::stdout;

/// What can be listed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum What {
    /// What can be measured: the tables of [probes]
    Probes,
    /// Where it can go: the types of [sinks]
    Sinks,
    /// The metrics of all probes
    Metrics,
}

/// Prints a list.
pub(crate) fn main(registry: &Registry, what: What) -> Result<Exit, Refusal> {
    let mut table = plain(match what {
        What::Probes => &["PROBE", "WHAT IT MEASURES"],
        What::Sinks => &["TYPE", "WHAT IT WRITES"],
        What::Metrics => &["METRIC", "KIND", "UNIT", "LABELS", "PROBE", "MODE", "WHAT IT COUNTS"],
    });
    match what {
        What::Probes => {
            table.add_rows(registry.probes().map(|probe| [probe.name(), probe.summary()]));
        }
        What::Sinks => {
            table.add_rows(registry.sinks().map(|sink| [sink.name(), sink.summary()]));
        }
        What::Metrics => {
            for probe in registry.probes() {
                for (metric, mode) in metrics(probe)? {
                    let labels: Vec<&str> = metric.label_keys().collect();
                    table.add_row([
                        metric.name(),
                        metric.kind().as_str(),
                        metric.unit().as_str(),
                        &labels.join(", "),
                        probe.name(),
                        mode,
                        metric.help(),
                    ]);
                }
            }
        }
    }
    stdout::print(&rendered(&table))
}

/// A probe's metrics, each with the mode that it takes.
fn metrics(probe: &dyn ProbePlugin) -> Result<Vec<(Arc<Descriptor>, &'static str)>, Refusal> {
    let usual = probe.catalog(&Options::none())?;
    if !probe.common_keys().contains(&"mode") {
        return Ok(usual.into_iter().map(|metric| (metric, "both")).collect());
    }
    let all = probe.catalog(&Options::from_value(BTreeMap::from([("mode", "return")])))?;
    let mode = |metric: &Arc<Descriptor>| {
        if usual.iter().any(|usual| usual.name() == metric.name()) { "both" } else { "return" }
    };
    Ok(all.into_iter().map(|metric| (Arc::clone(&metric), mode(&metric))).collect())
}

/// A table without lines, as wide as the terminal at most.
pub(crate) fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header.to_vec());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if let Some((columns, _)) = stdout::size() {
        table.set_width(u16::try_from(columns).unwrap_or(u16::MAX));
    }
    table
}

/// A table as text: no blanks at the ends of its lines.
pub(crate) fn rendered(table: &Table) -> String {
    table.lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect()
}
