//! A kind's rows as lines: a column for each label and for each number.

use std::collections::BTreeSet;

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets};

use super::entities::{Entities, Numbers, sum};
use super::picture::shortened;

/// Blanks behind a column.
const GAP: u16 = 2;

/// Fewer characters of a label say nothing.
const LEAST_LABEL: usize = 8;

/// What a label says that is not known.
const UNKNOWN: &str = "_";

/// Lines that are no rows: heading, a blank one, rest, other, total, and one for remarks that have no room.
const AROUND: usize = 6;

/// A table, and what it does not show.
pub(super) struct Drawn {
    pub(super) table: Vec<String>,
    pub(super) remarks: Vec<String>,
}

/// What a table's numbers are.
pub(super) fn heading(kind: &str, sort: Option<&str>, over: &str) -> String {
    let order = sort.map_or_else(|| "the busiest first".to_owned(), |title| format!("most \"{title}\" first"));
    format!("By {kind} in the last {over}, {order}.")
}

/// Draws the rows in so many columns and lines. Columns in which there never was anything are named below. Where the rest
/// is too wide, headings take a line for each word; then those on the right are left out; then labels are shortened. Rows
/// that have no line are counted to the rest.
pub(super) fn draw(entities: &Entities, size: Option<(usize, usize)>) -> Drawn {
    let mut layout = Layout::new(entities, size);
    let mut dropped = Vec::new();
    if let Some((width, _)) = size {
        dropped = layout.fit(width);
    }
    let still =
        entities.columns.iter().enumerate().filter(|(place, column)| !column.moved && Some(*place) != entities.sort);
    let still: Vec<&str> = still.map(|(_, column)| column.title.as_str()).collect();
    let mut remarks = Vec::new();
    if !dropped.is_empty() {
        remarks.push(format!("by {}: no room for {}", entities.kind, dropped.join(", ")));
    }
    if !still.is_empty() {
        remarks.push(format!("by {}: nothing so far of {}", entities.kind, still.join(", ")));
    }
    Drawn { table: layout.lines(), remarks }
}

/// What is shown, as text.
struct Layout {
    labels: Vec<Column>,
    numbers: Vec<Column>,
    /// The place of the column that sorts the rows among those of the numbers.
    sort: Option<usize>,
}

/// A column: its heading, the words of which may stand one below the other, and its cells.
struct Column {
    name: String,
    heading: Vec<String>,
    cells: Vec<String>,
}

impl Column {
    fn new(name: &str, cells: Vec<String>) -> Self {
        Self { name: name.to_owned(), heading: vec![name.to_uppercase()], cells }
    }

    fn width(&self) -> usize {
        self.heading.iter().chain(&self.cells).map(|text| text.chars().count()).max().unwrap_or(0)
    }

    fn stack(&mut self) {
        self.heading = self.heading.iter().flat_map(|line| line.split(' ')).map(str::to_owned).collect();
    }

    fn shorten(&mut self, longest: usize) {
        for text in self.heading.iter_mut().chain(&mut self.cells) {
            *text = shortened(text, longest);
        }
    }
}

/// How wide columns are beside each other.
fn width(columns: &[Column]) -> usize {
    columns.iter().map(|column| column.width() + usize::from(GAP)).sum()
}

impl Layout {
    fn new(entities: &Entities, size: Option<(usize, usize)>) -> Self {
        let shown: Vec<usize> = {
            let moved = entities.columns.iter().enumerate().filter(|(_, column)| column.moved);
            let moved = moved.map(|(place, _)| place).chain(entities.sort);
            let shown: BTreeSet<usize> = moved.collect();
            // A table has a number, if its rows have one.
            if shown.is_empty() { (0..entities.columns.len().min(1)).collect() } else { shown.into_iter().collect() }
        };
        // Headings of labels and numbers take a line, or one for each word.
        let words = |place: &usize| entities.columns[*place].title.split(' ').count();
        let around = AROUND + shown.iter().map(words).max().unwrap_or(1);
        let room = size.map_or(usize::MAX, |(_, lines)| lines.saturating_sub(around).max(1));
        let (rows, beyond) = entities.rows.split_at(entities.rows.len().min(room));
        let (count, rest) = &entities.rest;
        let more = (count + beyond.len(), beyond.iter().fold(rest.clone(), |a, row| sum(a, &row.numbers)));

        let of_parts = |sum: Numbers| if entities.is_nested { vec![None; sum.len()] } else { sum };
        let mut last: Vec<(String, Numbers)> = Vec::new();
        last.extend((more.0 > 0).then(|| (format!("{} more", more.0), of_parts(more.1))));
        last.extend(entities.other.clone().map(|numbers| ("other".to_owned(), numbers)));
        // Without labels there is one row, and of rows that are parts of others one is the total.
        let has_total = !entities.keys.is_empty() && !entities.is_nested;
        last.extend(has_total.then(|| ("total".to_owned(), entities.total())));

        let labels = entities.keys.iter().enumerate().map(|(place, key)| {
            let own = rows.iter().map(|row| row.labels.get(place).cloned().unwrap_or_default());
            let last = last.iter().map(|(name, _)| if place == 0 { name.clone() } else { String::new() });
            Column::new(key, own.chain(last).collect())
        });
        let known = |column: &Column| column.cells.iter().any(|cell| !cell.is_empty() && cell != UNKNOWN);
        let labels = labels.enumerate().filter(|(place, column)| *place == 0 || known(column));
        let numbers = shown.iter().map(|place| {
            let column = &entities.columns[*place];
            let all = rows.iter().map(|row| &row.numbers).chain(last.iter().map(|(_, numbers)| numbers));
            Column::new(&column.title, all.map(|numbers| column.text(numbers[*place])).collect())
        });
        let sort = entities.sort.and_then(|sort| shown.iter().position(|place| *place == sort));
        Self { labels: labels.map(|(_, column)| column).collect(), numbers: numbers.collect(), sort }
    }

    /// Makes it as narrow as this, and names what has no room.
    fn fit(&mut self, room: usize) -> Vec<String> {
        // Nothing stands behind the last column.
        let gap = usize::from(GAP);
        let room = room + gap;
        if width(&self.labels) + width(&self.numbers) <= room {
            return Vec::new();
        }
        self.numbers.iter_mut().for_each(Column::stack);
        let mut dropped = Vec::new();
        // Numbers may have what the labels leave, and half of all at least.
        let most = room.saturating_sub(width(&self.labels).min(room / 2));
        while self.numbers.len() > 1 && width(&self.numbers) > most {
            let last = self.numbers.len() - 1;
            let place = if self.sort == Some(last) { last - 1 } else { last };
            dropped.insert(0, self.numbers.remove(place).name);
            self.sort = self.sort.map(|sort| sort - usize::from(sort > place));
        }
        let rest = room.saturating_sub(width(&self.numbers));
        // The first label is never left out, and the longest before the others.
        while self.labels.len() > 1 && width(&self.labels) > rest && rest < self.labels.len() * (LEAST_LABEL + gap) {
            let longest = (1..self.labels.len()).max_by_key(|place| self.labels[*place].width()).unwrap_or(1);
            dropped.push(self.labels.remove(longest).name);
        }
        while width(&self.labels) > rest {
            let widest = self.labels.iter_mut().max_by_key(|label| label.width());
            let Some(widest) = widest.filter(|label| label.width() > 3) else { break };
            widest.shorten(widest.width() - 1);
        }
        dropped
    }

    fn lines(&self) -> Vec<String> {
        let columns = || self.labels.iter().chain(&self.numbers);
        let height = columns().map(|column| column.heading.len()).max().unwrap_or(0);
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        for line in 0..height {
            // Short headings stand at the bottom.
            let text = |column: &Column| {
                let above = height - column.heading.len();
                line.checked_sub(above).and_then(|line| column.heading.get(line)).cloned().unwrap_or_default()
            };
            table.add_row(Row::from(columns().map(text).collect::<Vec<_>>()));
        }
        for row in 0..columns().next().map_or(0, |column| column.cells.len()) {
            table.add_row(Row::from(columns().map(|column| column.cells[row].clone()).collect::<Vec<_>>()));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, GAP));
            if index >= self.labels.len() {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ebpf_process_core::testkit::{Bench, Cell};
    use ebpf_process_core::{Column, EntityKind, Recorder, RowId, Selection, Unit};

    use crate::table::choice::Choice;
    use crate::table::figures::Figures;

    fn calls(name: &'static str, operation: &'static str) -> Column {
        Column::counter(name, Unit::CALLS, "Calls").labels([("operation", operation)])
    }

    /// Columns of one kind and of the host; numbers are recorded for both at once.
    struct Rows {
        bench: Bench,
        kind: EntityKind,
        columns: Vec<Column>,
        host: Vec<(Cell, u64)>,
    }

    impl Rows {
        fn new(kind: EntityKind, columns: Vec<Column>) -> Self {
            let mut bench = Bench::new();
            let host = columns.iter().map(|column| (bench.host(column.clone()), 0)).collect();
            Self { bench, kind, columns, host }
        }

        /// One tick: what each row and, by `None`, what has none adds to each column.
        fn tick(&mut self, figures: &mut Figures, rows: &[(&[&str], &[u64])]) {
            let Self { bench, kind, columns, host } = self;
            let kind_id = bench.kind(kind);
            let columns: Vec<_> = columns
                .iter()
                .map(|column| bench.recorder().column(kind_id, column.clone()).expect("a column"))
                .collect();
            let record = |recorder: &mut Recorder| {
                for (labels, added) in rows {
                    let identity = ebpf_process_core::identity_of(&labels.join(" "));
                    let row: RowId = recorder.row(kind_id, identity, labels).expect("a row");
                    for ((column, added), (_, host)) in columns.iter().zip(*added).zip(host.iter_mut()) {
                        recorder.add(row, *column, *added);
                        *host += added;
                    }
                }
                for (cell, total) in &*host {
                    cell.counter(recorder, *total);
                }
            };
            bench.tick(&Selection::default(), record, |view| figures.read(*view));
        }
    }

    fn by(kind: &'static str, sort: Option<&str>, limit: usize) -> Figures {
        let choice = Choice { kind, sort: sort.map(str::to_owned), limit };
        Figures::since(Duration::from_secs(99), Vec::new()).by(Some(choice))
    }

    fn file_columns() -> Vec<Column> {
        vec![
            calls("vfs.calls", "read"),
            calls("vfs.errors", "read"),
            Column::counter("vfs.bytes", Unit::BYTES, "Bytes").labels([("operation", "read")]),
            calls("vfs.interrupted", "read"),
            calls("vfs.calls", "write"),
            calls("file.calls", "open"),
        ]
    }

    /// Five processes, of which two have no row of their own.
    const PROCESSES: [(&[&str], &[u64]); 5] = [
        (&["812", "nginx"], &[7000, 2, 7 << 20, 0, 12, 40]),
        (&["7", "sh"], &[10, 0, 512, 0, 345, 3]),
        (&["4711", "backup"], &[1234, 0, 9 << 30, 0, 1, 90]),
        (&["8", "more"], &[9000, 1, 4096, 0, 900, 1]),
        (&["9", "yet more"], &[1, 0, 0, 0, 0, 0]),
    ];

    fn lines(figures: &Figures, size: Option<(usize, usize)>) -> String {
        figures.picture(size).lines().join("\n")
    }

    #[test]
    fn a_kind_is_a_table_with_other_and_a_total_that_is_the_hosts_at_its_end() {
        let mut rows = Rows::new(EntityKind::new("process").keys(["pid", "comm"]).limit(3), file_columns());
        let mut figures = by("process", None, 20);
        rows.tick(&mut figures, &PROCESSES);
        let expected = "\
By process in the last 1.0 s, the busiest first.

PID    COMM    VFS READ  VFS WRITE  FILE OPEN  VFS READ ERRORS  VFS READ BYTES
812    nginx      7,000         12         40                2         7.0 MiB
4711   backup     1,234          1         90                0         9.0 GiB
7      sh            10        345          3                0           512 B
other             9,001        900          1                1         4.0 KiB
total            17,245      1,258        134                3         9.0 GiB

by process: nothing so far of vfs read interrupted";
        assert_eq!(lines(&figures, None), expected);
        assert_eq!(lines(&figures, Some((80, 1000))), expected, "80 columns are enough");
        // The next tick's numbers are its own.
        rows.tick(&mut figures, &[(&["7", "sh"], &[1, 0, 5, 0, 0, 0])]);
        let text = lines(&figures, None);
        assert!(
            text.contains("\n7      sh             1          0          0                0             5 B\n"),
            "{text}"
        );
        assert!(text.contains("\ntotal                 1 "), "{text}");
    }

    #[test]
    fn a_column_sorts_and_what_is_beyond_the_limit_is_one_row() {
        let kind = EntityKind::new("process").keys(["pid", "comm"]).limit(4);
        let mut rows = Rows::new(kind, file_columns());
        let mut figures = by("process", Some("vfs read bytes"), 2);
        rows.tick(&mut figures, &PROCESSES);
        let expected = "\
By process in the last 1.0 s, most \"vfs read bytes\" first.

PID     COMM    VFS READ  VFS WRITE  FILE OPEN  VFS READ ERRORS  VFS READ BYTES
4711    backup     1,234          1         90                0         9.0 GiB
812     nginx      7,000         12         40                2         7.0 MiB
2 more             9,010      1,245          4                1         4.5 KiB
other                  1          0          0                0             0 B
total             17,245      1,258        134                3         9.0 GiB";
        let text = lines(&figures, None);
        assert_eq!(text.split("\n\nby process: nothing").next(), Some(expected), "{text}");
        // A column in which there is nothing is shown where it sorts.
        let mut figures = by("process", Some("vfs read interrupted"), 2);
        rows.tick(&mut figures, &PROCESSES);
        assert!(lines(&figures, None).contains("VFS READ INTERRUPTED"));
    }

    #[test]
    fn rows_that_are_parts_of_others_are_not_added_up() {
        let kind = EntityKind::new("subtree").keys(["cgroup", "unit"]).limit(3).nested();
        let mut rows = Rows::new(kind, file_columns());
        let mut figures = by("subtree", None, 2);
        let parts: [(&[&str], &[u64]); 4] =
            [(&["/", "_"], &[9]), (&["/a.slice", "a.slice"], &[7]), (&["/a.slice/b", "_"], &[6]), (&["/c", "_"], &[1])];
        rows.tick(&mut figures, &parts);
        let expected = "\
By subtree in the last 1.0 s, the busiest first.

CGROUP    UNIT     VFS READ
/         _               9
/a.slice  a.slice         7
1 more
other                     1";
        let text = lines(&figures, None);
        assert_eq!(text.split("\n\nby subtree: nothing").next(), Some(expected), "{text}");
    }

    #[test]
    fn processes_have_a_column_for_each_label_that_was_chosen() {
        let keys = ["pid", "comm", "exe", "user", "app", "cgroup", "container", "ns_pid"];
        let mut rows = Rows::new(EntityKind::new("process").keys(keys), file_columns());
        let mut figures = by("process", None, 20);
        let path = "/system.slice/nginx.service";
        let labels: &[&str] = &["812", "nginx", "/usr/sbin/nginx", "www-data", "web", path, "_", "812"];
        let gone: &[&str] = &["900", "sh", "_", "root", "_", path, "_", "_"];
        rows.tick(&mut figures, &[(labels, &[7, 0, 1 << 20]), (gone, &[5, 0, 10])]);
        let expected = "\
PID    COMM   EXE              USER      APP  CGROUP                       NS_PID  VFS READ  VFS READ BYTES
812    nginx  /usr/sbin/nginx  www-data  web  /system.slice/nginx.service  812            7         1.0 MiB
900    sh     _                root      _    /system.slice/nginx.service  _              5            10 B
total                                                                                    12         1.0 MiB";
        let text = lines(&figures, None);
        assert!(text.contains(expected), "{text}");
        let narrow = lines(&figures, Some((80, 24)));
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(narrow.contains("812") && narrow.contains("1.0 MiB"), "{narrow}");
    }

    #[test]
    fn a_narrow_or_low_terminal_keeps_the_sorted_column_and_the_last_rows() {
        let mut rows = Rows::new(EntityKind::new("process").keys(["pid", "comm"]).limit(3), file_columns());
        let mut figures = by("process", Some("vfs read bytes"), 20);
        rows.tick(&mut figures, &PROCESSES);
        let text = lines(&figures, Some((40, 1000)));
        let expected = "\
By process in the last 1.0 s, most \"vfs
  read bytes\" first.

                                  VFS
                  VFS    VFS     READ
PID    COMM      READ  WRITE    BYTES
4711   backup   1,234      1  9.0 GiB
812    nginx    7,000     12  7.0 MiB
7      sh          10    345    512 B
other           9,001    900  4.0 KiB
total          17,245  1,258  9.0 GiB

by process: no room for file open, vfs
  read errors";
        assert_eq!(text.split("\nby process: nothing").next(), Some(expected), "{text}");
        for width in 20..100 {
            let text = lines(&figures, Some((width, 1000)));
            let table = text.split("\n\n").nth(1).expect("a table");
            let longest = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(longest <= width, "{width}: {text}");
            assert!(table.contains("BYTES") && table.contains("9.0 GiB") && table.contains("total"), "{width}: {text}");
        }
        for height in 8..20 {
            let shown = figures.picture(Some((100, height))).within(height).join("\n");
            assert!(shown.lines().count() <= height, "{shown}");
            assert!(
                shown.contains("\n4711") && shown.contains("\nother ") && shown.contains("\ntotal "),
                "{height}: {shown}"
            );
        }
        assert!(lines(&figures, Some((100, 8))).contains("2 more"));
    }

    #[test]
    fn long_labels_are_shortened_and_unknown_ones_left_out() {
        let keys = ["cgroup", "unit", "container", "pod", "namespace", "container_name"];
        let mut rows = Rows::new(EntityKind::new("cgroup").keys(keys), file_columns());
        let mut figures = by("cgroup", None, 20);
        let numbers = PROCESSES[0].1;
        let service = ["/system.slice/nginx.service", "nginx.service", "", "", "", ""];
        rows.tick(&mut figures, &[(&service, numbers)]);
        let text = lines(&figures, Some((80, 24)));
        assert!(text.contains("CGROUP") && text.contains("UNIT") && !text.contains("CONTAINER"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let id = "0123456789abcdef".repeat(4);
        let path = format!("/kubepods.slice/kubepods-pod0/cri-containerd-{id}.scope");
        let container: [&str; 6] = [&path, "", &id, "01234567-89ab-cdef-0123-456789abcdef", "default", "web"];
        rows.tick(&mut figures, &[(&service, numbers), (&container, numbers)]);
        let text = lines(&figures, Some((80, 24)));
        assert!(text.contains("CGROUP") && text.contains("default") && text.contains("web"), "{text}");
        assert!(text.contains("by cgroup: no room for ") && text.contains("container"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(lines(&figures, None).contains(&id), "whoever reads a file has room");
    }

    #[test]
    fn what_the_rows_lack_of_the_host_is_said() {
        let mut rows = Rows::new(EntityKind::new("app").keys(["app"]), vec![calls("vfs.calls", "read")]);
        let mut figures = by("app", None, 20);
        rows.host[0].1 = 5;
        rows.tick(&mut figures, &[(&["web"], &[1234])]);
        let text = lines(&figures, None);
        assert!(text.contains("the rows have 1,234 of vfs read, the host 1,239"), "{text}");
        rows.tick(&mut figures, &[(&["web"], &[1])]);
        assert!(!lines(&figures, None).contains("the host"), "{}", lines(&figures, None));
    }

    #[test]
    fn a_row_that_has_ended_is_shown_once_and_levels_have_no_total() {
        let kind = EntityKind::new("process").keys(["pid"]);
        let mut bench = Bench::new();
        let read = bench.cell(&kind, &["7"], calls("vfs.calls", "read"));
        let level = bench.cell(&kind, &["8"], Column::gauge("open.files", Unit::ONE, "Level"));
        let busy = bench.cell(&kind, &["8"], Column::counter("cpu.time", Unit::SECONDS, "Busy").scale(1e-9));
        let mut figures = by("process", None, 20);
        let record = |recorder: &mut Recorder| {
            read.counter(recorder, 3);
            read.end(recorder);
            level.gauge(recorder, 2.5);
            busy.counter(recorder, 1_500_000_000);
        };
        bench.tick(&Selection::default(), record, |view| figures.read(*view));
        let expected = "\
PID    VFS READ  OPEN FILES  CPU TIME SECONDS
7             3
8                       2.5               1.5
total         3                           1.5";
        assert_eq!(figures.picture(None).table.join("\n"), expected);
        bench.tick(&Selection::default(), |_| (), |view| figures.read(*view));
        assert_eq!(figures.picture(None).table.len(), 3, "{:#?}", figures.picture(None).table);
    }

    #[test]
    fn a_kind_without_labels_is_its_one_row() {
        let mut rows = Rows::new(EntityKind::new("queue"), vec![calls("vfs.calls", "read")]);
        let mut figures = by("queue", None, 20);
        rows.tick(&mut figures, &[(&[], &[12])]);
        assert_eq!(figures.picture(None).table, ["VFS READ", "      12"]);
    }

    #[test]
    fn where_there_are_no_rows_it_says_so() {
        let mut figures = by("app", None, 20);
        Bench::new().tick(&Selection::default(), |_| (), |view| figures.read(*view));
        assert_eq!(lines(&figures, Some((80, 24))), "By app in the last 1.0 s, the busiest first.\n\nno rows by app");
    }
}
