//! A view turned into rows and remarks.

use std::time::Duration;

use ebpf_process_core::{EntityKind, KindView, Metric, Sample, Uncounted, Value, View};

use super::entities::{self, Entities, Number, Totals};
use super::hooks::Hooks;
use super::operation::{Operation, interrupted, named, place, remark, title};
use super::picture::{Picture, table};
use super::rows::{self, Drawn};
use super::text::clean;
use super::units;
use crate::stdout;
use crate::table::choice::Choice;

/// What the last view said, and what it takes to compare it with the next.
#[derive(Default)]
pub(super) struct Figures {
    totals: Totals,
    /// When totals begin, since boot.
    baseline: Duration,
    /// When the view before was, or the baseline.
    last: Duration,
    /// What totals are of.
    window: Duration,
    left_out: Vec<String>,
    /// What is asked for and not counted on this machine.
    uncounted: Vec<Uncounted>,
    /// The one kind whose rows are shown, if it is not the host's numbers.
    choice: Option<Choice>,
    rows: Vec<Operation>,
    /// The kinds whose rows come and go.
    entities: Vec<Entities>,
    /// What was added to the host's counters, by title, where rows are compared with them.
    host: Vec<(String, u64)>,
    /// How long it took until then.
    interval: Duration,
    others: Vec<String>,
    /// Operations that signals interrupted, with how often so far: too seldom for a column.
    interrupted: Vec<(String, u64)>,
    hooks: Hooks,
    counts_calls: bool,
    counts_errors: bool,
}

/// A rate of less time would be noise.
const LEAST: Duration = Duration::from_millis(50);

/// How many rows each kind has beside the host's numbers.
const BESIDE: usize = 10;

impl Figures {
    /// Of totals that count from a baseline, a time since boot.
    pub(super) fn since(baseline: Duration, uncounted: Vec<Uncounted>) -> Self {
        Self { baseline, last: baseline, uncounted, ..Self::default() }
    }

    /// Shows the rows of one kind, and of the rest what there is to say about them.
    #[must_use]
    pub(super) fn by(self, choice: Option<Choice>) -> Self {
        Self { choice, ..self }
    }

    /// Takes over the numbers of a view.
    pub(super) fn read(&mut self, view: View<'_>) {
        self.totals.known.update(&view, drop);
        let now = view.tick().boottime;
        let elapsed = now.saturating_sub(std::mem::replace(&mut self.last, now));
        self.totals.elapsed = (elapsed >= LEAST).then_some(elapsed);
        self.interval = elapsed;
        self.window = now.saturating_sub(self.baseline);
        self.left_out = view.left_out().map(clean).collect();
        self.rows.clear();
        self.entities.clear();
        self.host.clear();
        self.others.clear();
        self.interrupted.clear();
        self.hooks = Hooks::default();
        (self.counts_calls, self.counts_errors) = (false, false);
        // First what concerns the host and the agent, then what there may be much of.
        let (many, few): (Vec<_>, Vec<_>) = view.kinds().partition(|kind| kind.kind().has_start_times());
        few.iter().flat_map(KindView::metrics).for_each(|metric| self.read_metric(&metric));
        for kind in &many {
            let (sort, limit) = match &self.choice {
                None => (None, BESIDE),
                Some(choice) if choice.kind == kind.kind().name() => (choice.sort.as_deref(), choice.limit),
                Some(_) => continue,
            };
            let (entities, remarks) = entities::read(kind, &mut self.totals, sort, limit);
            self.entities.push(entities);
            self.others.extend(remarks);
        }
    }

    fn read_metric(&mut self, metric: &Metric<'_>) {
        let name = metric.name();
        // The agent's own numbers have their sinks; here they would hide the others.
        if name.starts_with("agent.") {
            return;
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
                _ => self.take(metric, &sample),
            }
        }
    }

    fn take(&mut self, metric: &Metric<'_>, sample: &Sample<'_>) {
        let labels: Vec<&str> = sample.own_labels().map(|(_, value)| value).collect();
        match sample.value() {
            Value::Counter(total) => {
                let (added, figure) = self.totals.count(&sample.row(), sample.column().index(), total);
                if self.choice.is_some() && metric.entity().name() == EntityKind::HOST {
                    self.host.extend(title(sample.column().column()).map(|title| (title.text, added)));
                }
                if let Some(operation) = interrupted(metric.name(), &labels) {
                    self.interrupted.extend((total > 0).then_some((operation, total)));
                    return;
                }
                let (operation, aspect) = place(metric.name(), metric.unit(), &labels);
                self.row(&operation).cells[aspect as usize] = Some(figure);
            }
            // What `only` names is news when it is gone.
            Value::Gauge(level) if metric.name() == "target.present" => {
                let label = |key| sample.own_labels().find(|(known, _)| *known == key).map_or("", |(_, value)| value);
                let gone = format!("{}: {} is not there any more", label("probe"), label("target"));
                self.others.extend((level == 0.0).then(|| clean(&gone)));
            }
            value => self.others.push(remark(&named(metric.name(), &labels), metric.unit(), value)),
        }
    }

    fn row(&mut self, name: &str) -> &mut Operation {
        let index = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Operation { name: name.to_owned(), cells: [None; 3] });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    /// What there is to see in so many columns and lines. Where the width has no room for totals, they are left out; then
    /// all but the calls; then the names are shortened.
    pub(super) fn picture(&self, size: Option<(usize, usize)>) -> Picture {
        let width = size.map(|(columns, _)| columns);
        let in_lines = |text: &str| -> Vec<String> {
            let text = width.map_or_else(|| text.to_owned(), |width| stdout::wrapped(text, width));
            text.lines().map(str::to_owned).collect()
        };
        let drawn = self.entities.iter().map(|entities| (entities, rows::draw(entities, size)));
        let drawn: Vec<(&Entities, Drawn)> = drawn.collect();
        let told = drawn.iter().flat_map(|(_, drawn)| &drawn.remarks).cloned();
        let remarks = told.chain(self.remarks()).flat_map(|remark| in_lines(&remark)).collect();
        let over = units::seconds(self.interval);
        if let Some(Choice { kind, .. }) = &self.choice {
            return match drawn.into_iter().next() {
                None => Picture { heading: in_lines(&rows::heading(kind, None, &over)), table: none(kind), remarks },
                Some((entities, Drawn { table, .. })) => {
                    Picture { heading: in_lines(&rows::heading(kind, entities.sorted_by(), &over)), table, remarks }
                }
            };
        }
        let window = units::seconds(self.window);
        let heading = match self.totals.elapsed {
            Some(elapsed) => format!("Per second over the last {}; totals of {window}.", units::seconds(elapsed)),
            None => format!("Totals of {window}."),
        };
        let mut table = table(&self.rows, width);
        for (entities, drawn) in drawn {
            table.push(String::new());
            table.extend(in_lines(&rows::heading(&entities.kind, entities.sorted_by(), &over)));
            table.extend(drawn.table);
        }
        Picture { heading: in_lines(&heading), table, remarks }
    }

    /// Where the rows of the chosen kind do not add up to what was added to the host.
    fn differences(&self) -> Vec<String> {
        let rows = self.entities.iter().flat_map(|entities| entities.columns.iter().zip(entities.total()));
        let differences = rows.filter_map(|(column, total)| {
            let Some(Number::Added(total)) = total else { return None };
            let (_, host) = self.host.iter().find(|(title, _)| *title == column.title)?;
            (*host != total).then(|| {
                let [total, host] = [total, *host].map(units::total);
                format!("the rows have {total} of {}, the host {host}", column.title)
            })
        });
        differences.collect()
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = self.others.clone();
        remarks.extend(self.differences());
        remarks.extend(self.hooks.standing());
        for Uncounted { what, reason, .. } in &self.uncounted {
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

/// What stands for a table without rows.
fn none(kind: &str) -> Vec<String> {
    vec![format!("no rows by {kind}")]
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Column, EntityKind, Recorder, Selection, Unit, Vitals};

    use super::*;

    #[test]
    fn operations_are_rows_and_their_aspects_columns() {
        let calls = |name, unit, label: Option<(&'static str, &'static str)>| {
            Column::counter(name, unit, "Calls").labels(label)
        };
        let of = |operation| Some(("operation", operation));
        let mut bench = Bench::new();
        let mut counters = [
            (calls("task.started", Unit::TASKS, Some(("kind", "process"))), 1, 3),
            (calls("task.exits", Unit::TASKS, None), 0, 12),
            (calls("vfs.calls", Unit::CALLS, of("read")), 1000, 13_345),
            (calls("vfs.calls", Unit::CALLS, of("delete")), 5, 5),
            (calls("vfs.errors", Unit::CALLS, of("read")), 0, 1),
            (calls("vfs.interrupted", Unit::CALLS, of("read")), 0, 100),
            (calls("vfs.interrupted", Unit::CALLS, of("delete")), 0, 0),
            (calls("vfs.bytes", Unit::BYTES, of("read")), 0, 1_572_864),
        ]
        .map(|(column, before, after)| (bench.host(column), before, after))
        .to_vec();
        let hook = EntityKind::new("hook").keys(["counter"]).names_as_they_are();
        let missed = bench.cell(&hook, &["vfs.read"], calls("hook.missed", Unit::EVENTS, None));
        counters.push((missed, 0, 4));
        let info = EntityKind::new("hook_info").keys(["counter", "tier", "exact"]).names_as_they_are();
        let infos = ["vfs.read", "vfs.delete", "task.exit"]
            .map(|name| bench.cell(&info, &[name, "tracepoint", "yes"], Column::gauge("hook.info", Unit::ONE, "Hook")));
        let exact = bench.cell(&hook, &["vfs.read"], Column::gauge("hook.exact", Unit::ONE, "Exact"));
        let doubts = ["missed", "preempted"].map(|reason| {
            let doubt = Column::gauge("hook.doubt", Unit::ONE, "Doubt").labels([("reason", reason)]);
            bench.cell(&hook, &["vfs.read"], doubt)
        });
        let mut figures = Figures::since(Duration::from_secs(100), Vec::new());
        for second in [false, true] {
            bench.tick(
                &Selection::default(),
                |recorder| {
                    for info in infos {
                        info.gauge(recorder, 1.0);
                    }
                    // It was exact at the start, and is not any more.
                    exact.gauge(recorder, 0.0);
                    doubts[0].gauge(recorder, 1.0);
                    doubts[1].gauge(recorder, 0.0);
                    for (cell, before, after) in &counters {
                        cell.counter(recorder, if second { *after } else { *before });
                    }
                },
                |view| figures.read(*view),
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
        let narrow = figures.picture(Some((60, 100))).lines();
        assert!(narrow.iter().all(|line| line.chars().count() <= 60), "{narrow:?}");
    }

    #[test]
    fn what_is_not_counted_here_is_said_with_its_reason() {
        let vitals = Vitals::default();
        vitals.add_uncounted("file.close", "kprobe close_fd: no such function");
        let figures = Figures::since(Duration::ZERO, vitals.uncounted());
        let text = figures.picture(None).lines().join("\n");
        assert!(text.contains("NOT COUNTED: file.close (kprobe close_fd: no such function)"), "{text}");
    }

    #[test]
    fn what_cannot_be_a_row_is_a_remark() {
        let mut bench = Bench::new();
        let level = bench.host(Column::gauge("demo.level", Unit::SECONDS, "Level").labels([("disk", "sda")]));
        let own = bench.host(Column::counter("agent.ticks", Unit::TICKS, "Ticks"));
        let busy = bench.host(Column::counter("demo.busy", Unit::SECONDS, "Busy").scale(1e-9));
        let mut figures = Figures::default();
        let record = |recorder: &mut Recorder| {
            level.gauge(recorder, 0.25);
            own.counter(recorder, 1);
            busy.counter(recorder, 1_500_000_000);
        };
        bench.tick(&Selection::default(), record, |view| figures.read(*view));
        let text = figures.picture(None).lines().join("\n");
        assert!(text.contains("demo.level sda: 0.25 seconds"), "{text}");
        assert!(text.contains("demo.busy: 1.5 seconds"), "{text}");
        assert!(!text.contains("ticks"), "{text}");
    }

    #[test]
    fn the_first_view_is_the_whole_window_and_its_rates_are_its_totals_by_its_time() {
        let calls = Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", "read")]);
        // The first tick is 100 s after boot.
        for (baseline, heading, row) in [
            (99_800, "Per second over the last 0.2 s; totals of 0.2 s.", "vfs read      5.0k  1,000"),
            (99_980, "Totals of 0.020 s.", "vfs read         -  1,000"),
        ] {
            let mut bench = Bench::new();
            let read = bench.host(calls.clone());
            let mut figures = Figures::since(Duration::from_millis(baseline), Vec::new());
            bench.tick(&Selection::default(), |recorder| read.counter(recorder, 1000), |view| figures.read(*view));
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
            bench.tick(&Selection::default(), |_| (), |view| figures.read(*view));
            let lines = figures.picture(None).lines();
            assert_eq!(lines.iter().find(|line| line.contains("missing")).map(String::as_str), remark);
        }
    }

    #[test]
    fn a_hostile_name_cannot_steer_the_terminal() {
        let name = "\u{1b}[2J\u{9b}2J\u{202e}txt.exe\u{200b}";
        let calls = Column::counter("demo.calls", Unit::CALLS, "Calls");
        let mut bench = Bench::new();
        let process = bench.cell(&EntityKind::new("process").keys(["comm"]), &[name], calls.clone());
        let host = bench.host(calls.labels([("name", name)]));
        let mut figures = Figures::default();
        let record = |recorder: &mut Recorder| [host, process].iter().for_each(|cell| cell.counter(recorder, 1));
        bench.tick(&Selection::default(), record, |view| figures.read(*view));
        let text = figures.picture(None).lines().join("\n");
        assert!(text.contains("\ndemo _[2J_2J_txt.exe_"), "{text:?}");
        assert!(text.contains("COMM              DEMO\n_[2J_2J_txt.exe_     1"), "{text:?}");
        assert!(!text.replace('\n', "").contains(|c: char| c.is_control() || ('\u{200b}'..='\u{202e}').contains(&c)));
    }

    #[test]
    fn the_busiest_rows_of_other_kinds_are_shown_below_and_the_rest_is_one_line() {
        let kind = EntityKind::new("process").keys(["pid", "comm"]);
        let mut bench = Bench::new();
        let column = Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", "read")]);
        let cells: Vec<_> =
            (1..=13_u64).map(|pid| (pid, bench.cell(&kind, &[&pid.to_string(), "sh"], column.clone()))).collect();
        let level = bench.cell(&kind, &["7", "sh"], Column::gauge("open.files", Unit::ONE, "Level"));
        let host = bench.host(column);
        let mut figures = Figures::since(Duration::from_secs(100), Vec::new());
        for second in [0, 1] {
            let record = |recorder: &mut Recorder| {
                for (pid, cell) in &cells {
                    cell.counter(recorder, 1000 - pid + second * pid);
                }
                level.gauge(recorder, 3.0);
                host.counter(recorder, 13_000);
            };
            bench.tick(&Selection::default(), record, |view| figures.read(*view));
        }
        let lines = figures.picture(None).lines();
        let expected = "\
OPERATION  CALLS/S   CALLS
vfs read         0  13,000

By process in the last 1.0 s, the busiest first.
PID     COMM  VFS READ  OPEN FILES
13      sh          13
12      sh          12";
        assert_eq!(lines[2..9].join("\n"), expected);
        assert_eq!(lines[11], "9       sh           9", "{lines:#?}");
        assert_eq!(lines[17..19], ["3 more               6", "total               91"], "{lines:#?}");
    }
}
