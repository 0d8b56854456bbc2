//! `list`: what this build contains.

use std::collections::BTreeMap;

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use ebpf_process_config::{DocumentedTable, documented};
use ebpf_process_core::{Declared, OptionDoc, Options, OptionsError, ProbePlugin, Registry};
use serde_json::{Map, Value};

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
    /// The keys of the configuration, those of every probe and sink included
    Options,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people at a terminal
    Table,
    /// For documents
    Markdown,
    /// For scripts: an array of objects, one per row, with the column's name as the key
    Json,
}

/// A list: the names of its columns, and its rows.
struct List {
    header: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

/// What stands in a row.
enum Cell {
    Text(String),
    Words(Vec<String>),
    Flag(bool),
}

/// Blanks between two columns.
const GAP: usize = 2;

/// Prints a list.
pub(crate) fn main(registry: &Registry, what: What, format: Format) -> Result<Exit, Refusal> {
    let list = match what {
        What::Probes => List {
            header: &["PROBE", "ENABLED", "WHAT IT MEASURES"],
            rows: registry
                .probes()
                .map(|probe| vec![text(probe.name()), Cell::Flag(probe.is_default()), text(probe.summary())])
                .collect(),
        },
        What::Sinks => List {
            header: &["TYPE", "WHAT IT WRITES"],
            rows: registry.sinks().map(|sink| vec![text(sink.name()), text(sink.summary())]).collect(),
        },
        What::Metrics => all_metrics(registry)?,
        What::Options => all_options(registry),
    };
    let text = match format {
        Format::Table => {
            let mut table = plain(list.header);
            table.add_rows(list.rows.iter().map(|row| row.iter().map(Cell::shown).collect::<Vec<_>>()));
            return stdout::print_for_people(&rendered(&table));
        }
        Format::Markdown => markdown(&list),
        Format::Json => json(list),
    };
    stdout::print(&text)
}

fn all_metrics(registry: &Registry) -> Result<List, Refusal> {
    let mut rows = Vec::new();
    // What others count follows from their options alone.
    for probe in registry.probes().filter(|probe| !probe.is_named()) {
        let usual = probe.catalog(&Options::none())?;
        for (name, columns) in by_metric(&catalog(&**probe)?) {
            let Some(Declared { kind: entity, column, .. }) = columns.first() else { continue };
            let mut labels: Vec<String> = Vec::new();
            for key in columns.iter().flat_map(|declared| declared.label_keys()) {
                if !labels.iter().any(|known| known == key) {
                    labels.push(key.to_owned());
                }
            }
            let mode = if usual.iter().any(|usual| usual.metric_name() == name) { "both" } else { "return" };
            rows.push(vec![
                Cell::Text(name),
                text(column.kind().as_str()),
                text(column.unit().as_str()),
                Cell::Words(labels),
                text(entity.name()),
                text(probe.name()),
                text(mode),
                text(column.help()),
            ]);
        }
    }
    Ok(List { header: &["METRIC", "KIND", "UNIT", "LABELS", "ROWS", "PROBE", "MODE", "WHAT IT COUNTS"], rows })
}

fn all_options(registry: &Registry) -> List {
    let mut rows = Vec::new();
    let mut add = |table: &str, keys: Vec<OptionDoc>| {
        rows.extend(keys.into_iter().map(|OptionDoc { key, kind, default, required, meaning, .. }| {
            let (table, default) = (text(table), Cell::Text(default));
            vec![table, Cell::Text(key), Cell::Text(kind), default, Cell::Flag(required), Cell::Text(meaning)]
        }));
    };
    for DocumentedTable { table, keys } in documented() {
        add(table, keys);
    }
    for probe in registry.probes() {
        let name = probe.name();
        let table = if probe.is_named() { format!("probes.NAME, type = \"{name}\"") } else { format!("probes.{name}") };
        add(&table, probe.options());
    }
    for sink in registry.sinks() {
        add(&format!("sinks.NAME.options, type = \"{}\"", sink.name()), sink.options());
    }
    List { header: &["TABLE", "KEY", "TYPE", "DEFAULT", "REQUIRED", "MEANING"], rows }
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

impl Cell {
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Words(words) => words.join(", "),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        }
    }
}

/// An object per row: a column's name in lower case, with underscores, is the key.
fn json(list: List) -> String {
    let key = |name: &&str| name.to_lowercase().replace(' ', "_");
    let rows = list.rows.into_iter().map(|row| {
        let cells = row.into_iter().map(|cell| match cell {
            Cell::Text(text) => Value::from(text),
            Cell::Words(words) => Value::from(words),
            Cell::Flag(flag) => Value::from(flag),
        });
        Value::Object(list.header.iter().map(key).zip(cells).collect::<Map<_, _>>())
    });
    format!("{:#}\n", Value::Array(rows.collect()))
}

/// A table for a document; the first word of a line is something to type.
fn markdown(list: &List) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<String> = list.header.iter().map(|name| name.to_lowercase()).collect();
    let rule = format!("|{}\n", "---|".repeat(header.len()));
    let body = list.rows.iter().map(|row| {
        // A bar would begin another cell.
        let mut cells: Vec<String> = row.iter().map(|cell| cell.shown().replace('|', "\\|")).collect();
        if let Some(first) = cells.first_mut() {
            *first = format!("`{first}`");
        }
        line(&cells)
    });
    [line(&header), rule].into_iter().chain(body).collect()
}

/// All columns that a probe can have, in whichever mode.
pub(crate) fn catalog(probe: &dyn ProbePlugin) -> Result<Vec<Declared>, OptionsError> {
    let has_modes = probe.common_keys().contains(&"mode");
    probe.catalog(&if has_modes { Options::from_value(BTreeMap::from([("mode", "return")])) } else { Options::none() })
}

/// Columns by the name of their metric, in the order in which those come first.
fn by_metric(catalog: &[Declared]) -> Vec<(String, Vec<&Declared>)> {
    let mut metrics: Vec<(String, Vec<&Declared>)> = Vec::new();
    for declared in catalog {
        let name = declared.metric_name();
        match metrics.iter_mut().find(|(known, _)| *known == name) {
            Some((_, columns)) => columns.push(declared),
            None => metrics.push((name, vec![declared])),
        }
    }
    metrics
}

/// A table without lines, as wide as the terminal at most.
pub(crate) fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header.to_vec());
    for column in table.column_iter_mut() {
        column.set_padding((0, u16::try_from(GAP).unwrap_or_default()));
    }
    if let Some((columns, _)) = stdout::size() {
        table.set_width(u16::try_from(columns).unwrap_or(u16::MAX));
    }
    table
}

/// A table as text: no blanks at the ends of its lines, and no word broken. One that is too wide for that becomes a list of
/// its rows, each cell behind its heading.
pub(crate) fn rendered(table: &Table) -> String {
    if !fits(table) {
        return records(table);
    }
    let mut table = table.clone();
    for (index, need) in needs(&table).into_iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(need)));
        }
    }
    table.lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect()
}

/// Whether no word has to be broken for the table to be as wide as the terminal.
pub(crate) fn fits(table: &Table) -> bool {
    table.width().is_none_or(|width| needs(table).iter().sum::<u16>() <= width)
}

/// The width of each column's longest word, with the blanks behind it.
fn needs(table: &Table) -> Vec<u16> {
    let mut needs = Vec::new();
    for row in table.header().into_iter().chain(table.row_iter()) {
        for (index, cell) in row.cell_iter().enumerate() {
            let content = cell.content();
            let longest = content.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0);
            let need = u16::try_from(longest + GAP).unwrap_or(u16::MAX);
            match needs.get_mut(index) {
                Some(known) => *known = need.max(*known),
                None => needs.push(need),
            }
        }
    }
    needs
}

fn records(table: &Table) -> String {
    let headings: Vec<String> =
        table.header().into_iter().flat_map(|row| row.cell_iter().map(comfy_table::Cell::content)).collect();
    let widest = headings.iter().map(|heading| heading.chars().count()).max().unwrap_or(0);
    let rows = table.row_iter().map(|row| {
        let cells = row.cell_iter().map(comfy_table::Cell::content).zip(&headings).filter(|(cell, _)| !cell.is_empty());
        let lines: Vec<String> = cells.map(|(cell, heading)| format!("{heading:widest$}  {cell}\n")).collect();
        lines.concat()
    });
    rows.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        let row = vec![text("a"), Cell::Words(vec!["one | two".to_owned(), "three".to_owned()]), Cell::Flag(true)];
        List { header: &["NAME", "WHAT IT IS", "REQUIRED"], rows: vec![row] }
    }

    #[test]
    fn a_bar_in_a_cell_does_not_end_it() {
        assert_eq!(
            markdown(&list()),
            "| name | what it is | required |\n|---|---|---|\n| `a` | one \\| two, three | yes |\n"
        );
    }

    #[test]
    fn a_script_gets_an_object_for_each_row() {
        let rows: Value = serde_json::from_str(&json(list())).expect("JSON");
        assert_eq!(rows, serde_json::json!([{ "name": "a", "what_it_is": ["one | two", "three"], "required": true }]));
    }

    #[test]
    fn every_key_of_every_plugin_has_a_meaning() {
        let all = all_options(&crate::registry());
        let keys = |table: &str| all.rows.iter().filter(|row| row[0].shown().contains(table)).count();
        assert!(keys("\"influx\"") > 20 && keys("\"statsd\"") > 5 && keys("probes.file") > 3);
        for row in &all.rows {
            assert!(!row[5].shown().is_empty(), "{}.{} has no doc comment", row[0].shown(), row[1].shown());
        }
    }

    #[test]
    fn no_word_is_broken_however_narrow_the_terminal_is() {
        let rows = [
            [
                "task.started",
                "counter",
                "ebpf-process",
                "What was started, by kind, since the agent itself was started",
            ],
            [
                "vfs.interrupted",
                "counter",
                "file",
                "Calls that a signal interrupted, which are neither fine nor failed",
            ],
        ];
        let header = ["METRIC", "KIND", "PROBE", "WHAT IT COUNTS"];
        for width in 5..120 {
            let mut table = plain(&header);
            table.add_rows(rows).set_width(width);
            let text = rendered(&table);
            let words: Vec<&str> = text.split_whitespace().collect();
            for word in rows.iter().flatten().chain(&header).flat_map(|cell| cell.split_whitespace()) {
                assert!(words.contains(&word), "{word} at {width}: {text}");
            }
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(!fits(&table) || longest <= usize::from(width), "{longest} at {width}: {text}");
        }
    }
}
