//! A view as lines.

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets};

use super::operation::{ASPECTS, Aspect, Operation};

/// A view as lines, none of them empty.
pub(super) struct Picture {
    pub(super) heading: Vec<String>,
    pub(super) table: Vec<String>,
    pub(super) remarks: Vec<String>,
}

impl Picture {
    /// All of it.
    pub(super) fn lines(&self) -> Vec<String> {
        let gap = [String::new()];
        let rest: &[String] = if self.remarks.is_empty() { &[] } else { &gap };
        [&self.heading, &gap[..], &self.table, rest, &self.remarks].concat()
    }

    /// As much of it as so many lines hold: the table first, then what it is about, then what there is to say. Where
    /// something is left out, the last line says how much.
    pub(super) fn within(&self, room: usize) -> Vec<String> {
        let all = self.lines();
        if all.len() <= room {
            return all;
        }
        let headed = self.heading.len() + 1 + self.table.len() < room;
        let mut lines = if headed { all.clone() } else { [&self.table[..], &self.remarks].concat() };
        let shown = room.saturating_sub(1);
        lines.truncate(shown);
        let hidden = all.iter().filter(|line| !line.is_empty()).count();
        let hidden = hidden.saturating_sub(lines.iter().filter(|line| !line.is_empty()).count());
        lines.push(format!("... {hidden} more lines"));
        lines
    }
}

/// What a table shows of each operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Everything per second and in total.
    Totals,
    /// Everything per second.
    Rates,
    /// Calls per second.
    Calls,
}

/// The heading of the names.
const OPERATION: &str = "OPERATION";

/// A name in at most so many characters: what is too much goes from its middle, since names differ in their beginnings
/// and ends.
pub(super) fn shortened(name: &str, longest: usize) -> String {
    let characters: Vec<char> = name.chars().collect();
    if characters.len() <= longest || longest < 3 {
        return name.to_owned();
    }
    let behind = longest * 2 / 3;
    let before = longest - 1 - behind;
    let end = &characters[characters.len() - behind..];
    characters[..before].iter().chain(&['…']).chain(end).collect()
}

/// Operations as a table. Where the width has no room for totals, they are left out; then all but the calls; then the
/// names are shortened.
pub(super) fn table(rows: &[Operation], width: Option<usize>) -> Vec<String> {
    let widest = |table: &[String]| table.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let details = [Detail::Totals, Detail::Rates, Detail::Calls];
    let mut tables = details.map(|detail| detailed(rows, detail, usize::MAX)).into_iter();
    let fitting = tables.find(|table| width.is_none_or(|width| widest(table) <= width));
    fitting.unwrap_or_else(|| {
        let names = rows.iter().map(|row| row.name.as_str()).chain([OPERATION]);
        let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
        let numbers = widest(&detailed(rows, Detail::Calls, usize::MAX)).saturating_sub(longest);
        detailed(rows, Detail::Calls, width.unwrap_or(usize::MAX).saturating_sub(numbers))
    })
}

/// The table in this detail, names no longer than `longest`; the first line is its header.
fn detailed(rows: &[Operation], detail: Detail, longest: usize) -> Vec<String> {
    let columns: Vec<(Aspect, &str)> = ASPECTS
        .into_iter()
        .filter(|(aspect, _)| rows.iter().any(|row| row.cells[*aspect as usize].is_some()))
        .filter(|(aspect, _)| detail != Detail::Calls || *aspect == Aspect::Calls)
        .collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let mut header = vec![shortened(OPERATION, longest)];
    header.extend(columns.iter().map(|(_, name)| format!("{name}/S")));
    if detail == Detail::Totals {
        header.extend(columns.iter().map(|(_, name)| (*name).to_owned()));
    }
    table.set_header(header);
    for row in rows {
        let mut cells = vec![shortened(&row.name, longest)];
        cells.extend(columns.iter().map(|(aspect, _)| aspect.rate(&row.cells)));
        if detail == Detail::Totals {
            cells.extend(columns.iter().map(|(aspect, _)| aspect.total(&row.cells)));
        }
        table.add_row(Row::from(cells));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}
