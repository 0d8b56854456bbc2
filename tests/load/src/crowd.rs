//! Made-up numbers: rows that come and go, or a host with very many columns.

use ebpf_process_core::{
    Column, ColumnId, EntityKind, HISTOGRAM_SLOTS, KindId, Probe, ProbeError, Recorder, Refusals, Refused, RowId, Unit,
};

/// How much is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Kinds of entity that share the rows; none puts a column for each row on the host.
    pub(crate) kinds: usize,
    /// Rows of all kinds together.
    pub(crate) rows: usize,
    /// Counters of each row.
    pub(crate) columns: usize,
    /// Whether a row uses every second of its lines of three counters, and never the others.
    pub(crate) half: bool,
    /// How many rows have a histogram as well.
    pub(crate) histograms: usize,
    /// How many of a hundred rows are replaced at each tick.
    pub(crate) replaced: usize,
}

impl Shape {
    /// Ten thousand processes, or what is as many.
    pub(crate) const CROWD: Self =
        Self { kinds: 1, rows: 10_000, columns: 40, half: true, histograms: 0, replaced: 10 };

    /// As many values of the host, which only grow.
    pub(crate) const STILL: Self = Self { kinds: 0, replaced: 0, half: false, columns: 1, ..Self::CROWD };

    /// What netdata shows as 50 charts.
    pub(crate) const CHARTS: Self = Self { kinds: 50, columns: 1, half: false, ..Self::CROWD };

    /// In words.
    pub(crate) fn describe(&self) -> String {
        let Self { kinds, rows, columns, half, histograms, replaced } = self;
        if *kinds == 0 {
            return format!("{rows} values of the host");
        }
        let half = if *half { ", half the cells never touched" } else { "" };
        format!(
            "{rows} rows of {kinds} kinds x {columns} columns{half}, {histograms} histograms, {replaced} % of the rows \
             replaced at each tick"
        )
    }
}

/// The probe.
pub(crate) struct Crowd {
    shape: Shape,
    kinds: Vec<Kind>,
    tick: u64,
    /// Rows that were ever made.
    born: u64,
}

struct Kind {
    id: KindId,
    columns: Vec<ColumnId>,
    histogram: ColumnId,
    members: Vec<Member>,
    /// The member that is replaced next.
    next: usize,
}

struct Member {
    row: RowId,
    number: u64,
    /// The tick before its first one.
    since: u64,
}

/// The host has so many columns of each metric.
const NAMES: usize = 1000;

impl Crowd {
    pub(crate) const fn new(shape: Shape) -> Self {
        Self { shape, kinds: Vec::new(), tick: 0, born: 0 }
    }

    fn build(&mut self, recorder: &mut Recorder) -> Result<(), Refused> {
        let Shape { kinds, rows, columns, .. } = self.shape;
        if kinds == 0 {
            let id = recorder.host_kind();
            let of_host = (0..rows).map(|number| recorder.column(id, host_column(number)));
            let columns = of_host.collect::<Result<_, _>>()?;
            let histogram = recorder.column(id, histogram())?;
            let member = Member { row: recorder.host(), number: 0, since: 0 };
            self.kinds.push(Kind { id, columns, histogram, members: vec![member], next: 0 });
        }
        for number in 0..kinds {
            let share = rows / kinds;
            let kind = EntityKind::new(format!("job_{number}")).keys(["id", "comm"]).limit(share);
            let id = recorder.kind(kind)?;
            let columns = (0..columns).map(|number| recorder.column(id, column(number))).collect::<Result<_, _>>()?;
            let histogram = recorder.column(id, histogram())?;
            let members = (0..share).map(|_| member(recorder, id, &mut self.born, 0)).collect::<Result<_, _>>()?;
            self.kinds.push(Kind { id, columns, histogram, members, next: 0 });
        }
        Ok(())
    }
}

impl Probe for Crowd {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        if self.kinds.is_empty() {
            self.build(recorder)?;
        }
        self.tick += 1;
        for kind in &mut self.kinds {
            if self.tick > 1 {
                kind.replace(recorder, self.shape.replaced, &mut self.born, self.tick - 1)?;
            }
            kind.record(recorder, &self.shape, self.tick);
        }
        // Losses of sinks are in their ledgers.
        let Refusals { rows, values, .. } = recorder.refusals();
        if rows + values == 0 { Ok(()) } else { Err(ProbeError::new(format!("{rows} rows and {values} values"))) }
    }
}

impl Kind {
    fn replace(&mut self, recorder: &mut Recorder, percent: usize, born: &mut u64, since: u64) -> Result<(), Refused> {
        for _ in 0..self.members.len() * percent / 100 {
            let place = &mut self.members[self.next];
            recorder.end(place.row);
            *place = member(recorder, self.id, born, since)?;
            self.next = (self.next + 1) % self.members.len();
        }
        Ok(())
    }

    fn record(&self, recorder: &mut Recorder, shape: &Shape, tick: u64) {
        for member in &self.members {
            let Member { row, number, since } = *member;
            for (place, column) in (0_u64..).zip(&self.columns) {
                if !shape.half || (number + place / 3) % 2 == 0 {
                    recorder.counter(row, *column, (tick - since) * (1 + (number * 31 + place * 17) % 991));
                }
            }
        }
        let mut slots = [0; HISTOGRAM_SLOTS];
        for member in self.members.iter().take(shape.histograms / shape.kinds.max(1)) {
            slots.fill(0);
            let first = usize::from(member.number % 2 == 0) + 8;
            slots[first..first + 12].fill((tick - member.since) * 7);
            recorder.histogram(member.row, self.histogram, &slots, (tick - member.since) * 7000);
        }
    }
}

fn member(recorder: &mut Recorder, kind: KindId, born: &mut u64, since: u64) -> Result<Member, Refused> {
    *born += 1;
    let number = *born;
    let row = recorder.row(kind, number, &[&number.to_string(), &format!("program-{}", number % 500)])?;
    Ok(Member { row, number, since })
}

/// Calls, errors and bytes of an operation are three columns, four operations an area.
fn column(number: usize) -> Column {
    let area = number / 12;
    let operation = ["open", "close", "read", "write"][number / 3 % 4];
    let (what, unit) = [("calls", Unit::CALLS), ("errors", Unit::CALLS), ("bytes", Unit::BYTES)][number % 3].clone();
    Column::counter(format!("area_{area}.{what}"), unit, "Made up").labels([("operation", operation)])
}

fn host_column(number: usize) -> Column {
    let (metric, name) = (number / NAMES, number % NAMES);
    let column = Column::counter(format!("load.calls_{metric}"), Unit::CALLS, "Made up");
    column.labels([("name", format!("program-{name}"))])
}

fn histogram() -> Column {
    Column::histogram("time.call", Unit::SECONDS, "Made up").slots(0..=40).scale(1e-9)
}
