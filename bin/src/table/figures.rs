//! A view turned into rows and remarks.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets};
use ebpf_process_core::{Metric, Sample, SeriesCache, Uncounted, Unit, Value, View};

use super::hooks::Hooks;
use super::units;
use crate::stdout;

/// What the last view said, and what it takes to compare it with the next.
#[derive(Default)]
pub(super) struct Figures {
    totals: SeriesCache<u64>,
    /// When totals begin, since boot.
    baseline: Duration,
    /// When the view before was, or the baseline.
    last: Duration,
    /// What rates are of: the time since the view before.
    elapsed: Duration,
    /// What totals are of.
    window: Duration,
    left_out: Vec<String>,
    /// What is asked for and not counted on this machine.
    uncounted: Vec<Uncounted>,
    rows: Vec<Operation>,
    others: Vec<String>,
    /// Operations that signals interrupted, with how often so far: too seldom for a column.
    interrupted: Vec<(String, u64)>,
    hooks: Hooks,
    counts_calls: bool,
    counts_errors: bool,
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

/// A view as lines, none of them empty.
pub(super) struct Picture {
    heading: Vec<String>,
    table: Vec<String>,
    remarks: Vec<String>,
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

/// The heading of the names.
const OPERATION: &str = "OPERATION";

/// A name in at most so many characters: what is too much goes from its middle, since names differ in their beginnings
/// and ends.
fn shortened(name: &str, longest: usize) -> String {
    let characters: Vec<char> = name.chars().collect();
    if characters.len() <= longest || longest < 3 {
        return name.to_owned();
    }
    let behind = longest * 2 / 3;
    let before = longest - 1 - behind;
    let end = &characters[characters.len() - behind..];
    characters[..before].iter().chain(&['…']).chain(end).collect()
}

/// One row: an operation and what is known of it, by column.
struct Operation {
    name: String,
    cells: [Option<Figure>; 3],
}

#[derive(Clone, Copy)]
struct Figure {
    total: u64,
    rate: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Calls,
    Errors,
    Bytes,
}

const COLUMNS: [(Column, &str); 3] = [(Column::Calls, "CALLS"), (Column::Errors, "ERRORS"), (Column::Bytes, "BYTES")];

impl Figures {
    /// Of totals that count from a baseline, a time since boot.
    pub(super) fn since(baseline: Duration, uncounted: Vec<Uncounted>) -> Self {
        Self { baseline, last: baseline, uncounted, ..Self::default() }
    }

    /// Takes over the numbers of a view.
    pub(super) fn read(&mut self, view: &View<'_>) {
        self.totals.update(view, drop);
        let now = view.tick().boottime;
        self.elapsed = now.saturating_sub(std::mem::replace(&mut self.last, now));
        self.window = now.saturating_sub(self.baseline);
        self.left_out = view.left_out().map(clean).collect();
        self.rows.clear();
        self.others.clear();
        self.interrupted.clear();
        self.hooks = Hooks::default();
        (self.counts_calls, self.counts_errors) = (false, false);
        for metric in view.metrics() {
            let name = metric.descriptor().name();
            // The agent's own numbers have their sinks; here they would hide the others.
            if name.starts_with("agent.") {
                continue;
            }
            let aspect = name.rsplit('.').next();
            self.counts_calls |= aspect == Some("calls");
            self.counts_errors |= aspect == Some("errors");
            for sample in metric.samples() {
                match name {
                    "hook.info" => self.hooks.serve(&sample),
                    "hook.missed" => self.hooks.miss(&sample),
                    "hook.exact" => self.hooks.stand(&sample),
                    "hook.doubt" => self.hooks.doubt(&sample),
                    "hook.missed_is_bound" | "hook.firing" => {}
                    _ => self.take(&metric, &sample),
                }
            }
        }
    }

    fn take(&mut self, metric: &Metric<'_>, sample: &Sample<'_>) {
        let labels: Vec<&str> = sample.labels().map(|(_, value)| value).collect();
        match sample.value() {
            Value::Counter(total) => {
                let before = self.totals.get(sample.id()).copied();
                *self.totals.entry(sample.id(), || 0) = total;
                let delta = total.saturating_sub(before.unwrap_or(0));
                let rate = self.has_rates().then(|| units::approximate(delta) / self.elapsed.as_secs_f64());
                if let Some(operation) = interrupted(metric.name(), &labels) {
                    self.interrupted.extend((total > 0).then_some((operation, total)));
                    return;
                }
                let (operation, column) = place(metric.name(), metric.descriptor().unit(), &labels);
                self.row(&operation).cells[column as usize] = Some(Figure { total, rate });
            }
            // What `only` names is news when it is gone.
            Value::Gauge(level) if metric.name() == "target.present" => {
                let label = |key| sample.labels().find(|(known, _)| *known == key).map_or("", |(_, value)| value);
                let gone = format!("{}: {} is not there any more", label("probe"), label("target"));
                self.others.extend((level == 0.0).then(|| clean(&gone)));
            }
            Value::Gauge(level) => {
                let unit = metric.descriptor().unit();
                let unit = if *unit == Unit::ONE { "" } else { unit.as_str() };
                let name = named(metric.name(), &labels);
                self.others.push(format!("{name}: {} {}", units::level(level), clean(unit)));
            }
            Value::Histogram(histogram) => {
                let count = histogram.count();
                let mean = if count == 0 { 0.0 } else { units::approximate(histogram.sum) / units::approximate(count) };
                let unit = clean(metric.descriptor().unit().as_str());
                let name = named(metric.name(), &labels);
                self.others.push(format!("{name}: {} values, mean {} {unit}", units::total(count), units::level(mean)));
            }
        }
    }

    fn row(&mut self, name: &str) -> &mut Operation {
        let index = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Operation { name: name.to_owned(), cells: [None; 3] });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    /// A rate of less time would be noise.
    fn has_rates(&self) -> bool {
        self.elapsed >= Duration::from_millis(50)
    }

    /// What there is to see. Where the width has no room for totals, they are left out; then all but the calls; then
    /// the names are shortened.
    pub(super) fn picture(&self, width: Option<usize>) -> Picture {
        let window = units::seconds(self.window);
        let heading = if self.has_rates() {
            format!("Per second over the last {}; totals of {window}.", units::seconds(self.elapsed))
        } else {
            format!("Totals of {window}.")
        };
        let in_lines = |text: &str| -> Vec<String> {
            let text = width.map_or_else(|| text.to_owned(), |width| stdout::wrapped(text, width));
            text.lines().map(str::to_owned).collect()
        };
        let remarks = self.remarks().iter().flat_map(|remark| in_lines(remark)).collect();
        Picture { heading: in_lines(&heading), table: self.fitting_table(width), remarks }
    }

    fn fitting_table(&self, width: Option<usize>) -> Vec<String> {
        let widest = |table: &[String]| table.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let details = [Detail::Totals, Detail::Rates, Detail::Calls];
        let mut tables = details.map(|detail| self.table(detail, usize::MAX)).into_iter();
        let fitting = tables.find(|table| width.is_none_or(|width| widest(table) <= width));
        fitting.unwrap_or_else(|| {
            let names = self.rows.iter().map(|row| row.name.as_str()).chain([OPERATION]);
            let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
            let numbers = widest(&self.table(Detail::Calls, usize::MAX)).saturating_sub(longest);
            self.table(Detail::Calls, width.unwrap_or(usize::MAX).saturating_sub(numbers))
        })
    }

    /// The table in this detail, names no longer than `longest`; the first line is its header.
    fn table(&self, detail: Detail, longest: usize) -> Vec<String> {
        let columns: Vec<(Column, &str)> = COLUMNS
            .into_iter()
            .filter(|(column, _)| self.rows.iter().any(|row| row.cells[*column as usize].is_some()))
            .filter(|(column, _)| detail != Detail::Calls || *column == Column::Calls)
            .collect();
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        let mut header = vec![shortened(OPERATION, longest)];
        header.extend(columns.iter().map(|(_, name)| format!("{name}/S")));
        if detail == Detail::Totals {
            header.extend(columns.iter().map(|(_, name)| (*name).to_owned()));
        }
        table.set_header(header);
        for row in &self.rows {
            let mut cells = vec![shortened(&row.name, longest)];
            cells.extend(columns.iter().map(|(column, _)| rate(*column, row.cells[*column as usize])));
            if detail == Detail::Totals {
                cells.extend(columns.iter().map(|(column, _)| total(*column, row.cells[*column as usize])));
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

    fn remarks(&self) -> Vec<String> {
        let mut remarks = self.others.clone();
        remarks.extend(self.hooks.standing());
        for Uncounted { what, reason } in &self.uncounted {
            remarks.push(format!("NOT COUNTED: {what} ({reason})"));
        }
        if !self.left_out.is_empty() {
            let left_out = self.left_out.join(", ");
            remarks.push(format!("missing here: probes {left_out} (failed, or left out for being slow)"));
        }
        remarks.extend(self.hooks.missed());
        if !self.interrupted.is_empty() {
            let of =
                self.interrupted.iter().map(|(operation, count)| format!("{} of {operation}", units::total(*count)));
            remarks.push(format!("interrupted by signals so far: {}", of.collect::<Vec<_>>().join(", ")));
        }
        if self.counts_calls && !self.counts_errors {
            remarks.push("errors and bytes: --set probes.mode=return".to_owned());
        }
        remarks
    }
}

/// Where a counter stands: the row's name and the column. `vfs.errors {read}` is the errors of
/// `vfs read`; a counter that is no such aspect of an operation is an operation itself.
fn place(name: &str, unit: &Unit, labels: &[&str]) -> (String, Column) {
    let (area, aspect) = name.rsplit_once('.').unwrap_or(("", name));
    let (verb, column) = match aspect {
        "calls" => ("", Column::Calls),
        "errors" => ("", Column::Errors),
        "bytes" => ("", Column::Bytes),
        "started" => ("start", Column::Calls),
        "start_errors" => ("start", Column::Errors),
        "exits" => ("exit", Column::Calls),
        "releases" => ("release", Column::Calls),
        other if *unit == Unit::BYTES => (other, Column::Bytes),
        other => (other, Column::Calls),
    };
    let words = [area, verb].into_iter().chain(labels.iter().copied()).filter(|word| !word.is_empty());
    (clean(&words.collect::<Vec<_>>().join(" ")), column)
}

/// The operation whose interrupted calls this metric counts, if it does.
fn interrupted(name: &str, labels: &[&str]) -> Option<String> {
    let (area, aspect) = name.rsplit_once('.')?;
    let verb = match aspect {
        "interrupted" => "",
        "start_interrupted" => "start",
        _ => return None,
    };
    let words = [area, verb].into_iter().chain(labels.iter().copied()).filter(|word| !word.is_empty());
    Some(clean(&words.collect::<Vec<_>>().join(" ")))
}

fn named(name: &str, labels: &[&str]) -> String {
    clean(&std::iter::once(name).chain(labels.iter().copied()).collect::<Vec<_>>().join(" "))
}

fn rate(column: Column, figure: Option<Figure>) -> String {
    let rate = figure.and_then(|figure| figure.rate);
    rate.map_or_else(
        || if figure.is_some() { "-".to_owned() } else { String::new() },
        |rate| if column == Column::Bytes { units::bytes(rate) } else { units::count_rate(rate) },
    )
}

fn total(column: Column, figure: Option<Figure>) -> String {
    figure.map_or_else(String::new, |figure| {
        if column == Column::Bytes {
            units::bytes(units::approximate(figure.total))
        } else {
            units::total(figure.total)
        }
    })
}

/// Names may be chosen by whoever runs a process: nothing in them may steer a terminal, and
/// nothing may turn the reading direction or be invisible.
pub(super) fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars().map(|c| if harmful(c) { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Descriptor, Selection};

    use super::*;

    #[test]
    fn operations_are_rows_and_their_aspects_columns() {
        let calls = Descriptor::counter("vfs.calls", Unit::CALLS, "Calls").labels(["operation"]).share();
        let errors = Descriptor::counter("vfs.errors", Unit::CALLS, "Errors").labels(["operation"]).share();
        let interrupted = Descriptor::counter("vfs.interrupted", Unit::CALLS, "Signals").labels(["operation"]).share();
        let bytes = Descriptor::counter("vfs.bytes", Unit::BYTES, "Bytes").labels(["operation"]).share();
        let started = Descriptor::counter("task.started", Unit::TASKS, "Started").labels(["kind"]).share();
        let exits = Descriptor::counter("task.exits", Unit::TASKS, "Exits").share();
        let info = Descriptor::gauge("hook.info", Unit::ONE, "Hook").labels(["counter", "tier", "exact"]).share();
        let missed = Descriptor::counter("hook.missed", Unit::EVENTS, "Missed").labels(["counter"]).share();
        let mut bench = Bench::new();
        let counters = [
            (bench.series(&started, &["process"]), 1, 3),
            (bench.series(&exits, &[]), 0, 12),
            (bench.series(&calls, &["read"]), 1000, 13_345),
            (bench.series(&calls, &["delete"]), 5, 5),
            (bench.series(&errors, &["read"]), 0, 1),
            (bench.series(&interrupted, &["read"]), 0, 100),
            (bench.series(&interrupted, &["delete"]), 0, 0),
            (bench.series(&bytes, &["read"]), 0, 1_572_864),
            (bench.series(&missed, &["vfs.read"]), 0, 4),
        ];
        let exact = Descriptor::gauge("hook.exact", Unit::ONE, "Exact").labels(["counter"]).share();
        let doubt = Descriptor::gauge("hook.doubt", Unit::ONE, "Doubt").labels(["counter", "reason"]).share();
        let infos =
            ["vfs.read", "vfs.delete", "task.exit"].map(|name| bench.series(&info, &[name, "tracepoint", "yes"]));
        let exact = bench.series(&exact, &["vfs.read"]);
        let doubts = ["missed", "preempted"].map(|reason| bench.series(&doubt, &["vfs.read", reason]));
        let mut figures = Figures::since(Duration::from_secs(100), Vec::new());
        for second in [false, true] {
            bench.tick(
                &Selection::default(),
                |recorder| {
                    for info in infos {
                        recorder.gauge(info, 1.0);
                    }
                    // It was exact at the start, and is not any more.
                    recorder.gauge(exact, 0.0);
                    recorder.gauge(doubts[0], 1.0);
                    recorder.gauge(doubts[1], 0.0);
                    for (id, before, after) in counters {
                        recorder.counter(id, if second { after } else { before });
                    }
                },
                |view| figures.read(view),
            );
        }
        let expected = "\
Per second over the last 1.0 s; totals of 1.0 s.

OPERATION           CALLS/S  ERRORS/S  BYTES/S   CALLS  ERRORS    BYTES
task start process        2                          3
task exit                12                         12
vfs read              12.3k         1  1.5 MiB  13,345       1  1.5 MiB
vfs delete                0                          5

counters: 3 by tracepoint, 2 of them exact
not exact: vfs.read (missed)
missed so far: 4 of vfs.read
interrupted by signals so far: 100 of vfs read";
        assert_eq!(figures.picture(None).lines().join("\n"), expected);
        let narrow = figures.picture(Some(60)).lines();
        assert!(narrow.iter().all(|line| line.chars().count() <= 60), "{narrow:?}");
    }

    #[test]
    fn what_is_not_counted_here_is_said_with_its_reason() {
        let uncounted =
            Uncounted { what: "file.close".to_owned(), reason: "kprobe close_fd: no such function".to_owned() };
        let figures = Figures::since(Duration::ZERO, vec![uncounted]);
        let text = figures.picture(None).lines().join("\n");
        assert!(text.contains("NOT COUNTED: file.close (kprobe close_fd: no such function)"), "{text}");
    }

    #[test]
    fn what_cannot_be_a_row_is_a_remark() {
        let level = Descriptor::gauge("demo.level", Unit::SECONDS, "Level").labels(["disk"]).share();
        let own = Descriptor::counter("agent.ticks", Unit::TICKS, "Ticks").share();
        let mut bench = Bench::new();
        let (level, own) = (bench.series(&level, &["sda"]), bench.series(&own, &[]));
        let mut figures = Figures::default();
        let record = |recorder: &mut ebpf_process_core::Recorder| {
            recorder.gauge(level, 0.25);
            recorder.counter(own, 1);
        };
        bench.tick(&Selection::default(), record, |view| figures.read(view));
        let text = figures.picture(None).lines().join("\n");
        assert!(text.contains("demo.level sda: 0.25 seconds"), "{text}");
        assert!(!text.contains("ticks"), "{text}");
    }

    #[test]
    fn the_first_view_is_the_whole_window_and_its_rates_are_its_totals_by_its_time() {
        let calls = Descriptor::counter("vfs.calls", Unit::CALLS, "Calls").labels(["operation"]).share();
        // The first tick is 100 s after boot.
        for (baseline, heading, row) in [
            (99_800, "Per second over the last 0.2 s; totals of 0.2 s.", "vfs read      5.0k  1,000"),
            (99_980, "Totals of 0.020 s.", "vfs read         -  1,000"),
        ] {
            let mut bench = Bench::new();
            let read = bench.series(&calls, &["read"]);
            let mut figures = Figures::since(Duration::from_millis(baseline), Vec::new());
            bench.tick(&Selection::default(), |recorder| recorder.counter(read, 1000), |view| figures.read(view));
            let lines = figures.picture(None).lines();
            assert_eq!((lines[0].as_str(), lines[3].as_str()), (heading, row), "{lines:#?}");
        }
    }

    #[test]
    fn a_probe_whose_numbers_are_missing_is_named() {
        let mut bench = Bench::new();
        let mut figures = Figures::default();
        for (missing, remark) in
            [(true, Some("missing here: probes process (failed, or left out for being slow)")), (false, None)]
        {
            if missing {
                bench.leave_out("process");
            }
            bench.tick(&Selection::default(), |_| (), |view| figures.read(view));
            let lines = figures.picture(None).lines();
            assert_eq!(lines.iter().find(|line| line.contains("missing")).map(String::as_str), remark);
        }
    }

    #[test]
    fn a_hostile_name_cannot_steer_the_terminal() {
        let calls = Descriptor::counter("demo.calls", Unit::CALLS, "Calls").labels(["name"]).share();
        let mut bench = Bench::new();
        let id = bench.series(&calls, &["\u{1b}[2J\u{9b}2J\u{202e}txt.exe\u{200b}"]);
        let mut figures = Figures::default();
        bench.tick(&Selection::default(), |recorder| recorder.counter(id, 1), |view| figures.read(view));
        let text = figures.picture(None).lines().join("\n");
        assert!(text.contains("demo _[2J_2J_txt.exe_"), "{text:?}");
        assert!(!text.replace('\n', "").contains(|c: char| c.is_control() || ('\u{200b}'..='\u{202e}').contains(&c)));
    }
}
