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

/// How a list is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people at a terminal
    Table,
    /// For documents
    Markdown,
}

/// Prints a list.
pub(crate) fn main(registry: &Registry, what: What, format: Format) -> Result<Exit, Refusal> {
    let header: &[&str] = match what {
        What::Probes => &["PROBE", "WHAT IT MEASURES"],
        What::Sinks => &["TYPE", "WHAT IT WRITES"],
        What::Metrics => &["METRIC", "KIND", "UNIT", "LABELS", "PROBE", "MODE", "WHAT IT COUNTS"],
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    match what {
        What::Probes => {
            rows.extend(registry.probes().map(|probe| vec![probe.name().to_owned(), probe.summary().to_owned()]));
        }
        What::Sinks => {
            rows.extend(registry.sinks().map(|sink| vec![sink.name().to_owned(), sink.summary().to_owned()]));
        }
        What::Metrics => {
            for probe in registry.probes() {
                for (metric, mode) in metrics(probe)? {
                    let labels: Vec<&str> = metric.label_keys().collect();
                    let (kind, unit) = (metric.kind().as_str(), metric.unit().as_str());
                    let row = [metric.name(), kind, unit, &labels.join(", "), probe.name(), mode, metric.help()];
                    rows.push(row.map(str::to_owned).to_vec());
                }
            }
        }
    }
    stdout::print(&match format {
        Format::Table => {
            let mut table = plain(header);
            table.add_rows(rows);
            rendered(&table)
        }
        Format::Markdown => markdown(header, &rows),
    })
}

/// A table for a document; the first word of a line is something to type.
fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<String> = header.iter().map(|name| name.to_lowercase()).collect();
    let rule = format!("|{}\n", "---|".repeat(header.len()));
    let body = rows.iter().map(|row| {
        // A bar would begin another cell.
        let mut cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        if let Some(first) = cells.first_mut() {
            *first = format!("`{first}`");
        }
        line(&cells)
    });
    [line(&header), rule].into_iter().chain(body).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_in_a_cell_does_not_end_it() {
        let rows = [vec!["a".to_owned(), "one | two".to_owned()]];
        assert_eq!(markdown(&["NAME", "WHAT"], &rows), "| name | what |\n|---|---|\n| `a` | one \\| two |\n");
    }
}
