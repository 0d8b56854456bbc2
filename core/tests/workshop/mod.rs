//! A made-up probe whose entities come, end, return and are renamed, and what it counted for each of their rows.

#![allow(dead_code, reason = "not every test looks at everything")]

use std::collections::HashMap;

use ebpf_process_core::*;
use proptest::prelude::*;

/// How many entities there are at once, at most.
pub(crate) const ENTITIES: usize = 12;

/// The columns of the rows, and the first two of the host, by their place.
pub(crate) const CALLS: usize = 0;
pub(crate) const SIZES: usize = 1;
pub(crate) const TOLD: usize = 2;

/// What an entity does.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Something is counted for it.
    Works(u64),
    /// It ends; if it works again it is the same one, returned.
    Ends,
    /// It has another name from now on.
    IsRenamed,
    /// It ends, and another takes its name.
    IsFollowed,
}

/// What happens in each tick, to whom.
pub(crate) fn deeds() -> impl Strategy<Value = Vec<Vec<(usize, Deed)>>> {
    let deed = prop_oneof![
        6 => (0..1000_u64).prop_map(Deed::Works),
        1 => Just(Deed::Ends),
        1 => Just(Deed::IsRenamed),
        1 => Just(Deed::IsFollowed),
    ];
    prop::collection::vec(prop::collection::vec((0..ENTITIES, deed), 0..24), 1..24)
}

/// One who works, as a probe knows it.
#[derive(Clone, Copy, Default)]
struct Entity {
    identity: u64,
    version: u64,
    row: Option<RowId>,
    /// All that it did since it came, whatever it was called.
    total: u64,
}

/// What was counted for a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    /// Whose row it is, unless it is that of the others.
    pub(crate) who: usize,
    pub(crate) ended: bool,
    pub is_other: bool,
    /// Nothing, before something was.
    pub(crate) calls: Option<u64>,
    pub(crate) sizes: u64,
    /// What its total was when the row began, and when it was told last.
    base: u64,
    told: u64,
}

impl Truth {
    /// The total that was told, since the row began.
    pub(crate) const fn told(&self) -> u64 {
        self.told - self.base
    }

    /// How many of its cells ever had a value.
    pub(crate) const fn cells(&self) -> u64 {
        if self.is_other { 2 } else { 1 + if self.calls.is_some() { 2 } else { 0 } }
    }
}

/// A made-up probe: it adds for the host and for the entity at once, and tells each entity's total.
pub(crate) struct Workshop {
    kind: KindId,
    calls: [ColumnId; 2],
    sizes: [ColumnId; 2],
    told: ColumnId,
    entities: [Entity; ENTITIES],
    identities: u64,
    pub(crate) rows: HashMap<RowId, Truth>,
    pub(crate) host: u64,
}

impl Workshop {
    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    pub(crate) fn new(recorder: &mut Recorder, limit: usize) -> Self {
        let kind = recorder.kind(EntityKind::new("thing").keys(["name", "version"]).limit(limit)).expect("a kind");
        let kinds = [recorder.host_kind(), kind];
        let mut on = |column: Column| kinds.map(|kind| recorder.column(kind, column.clone()).expect("a column"));
        let calls = on(Column::counter("test.calls", Unit::CALLS, "Calls"));
        let sizes = on(Column::histogram("test.sizes", Unit::BYTES, "Sizes").slots(2..=5));
        let told = recorder.column(kind, Column::counter("test.told", Unit::CALLS, "Calls")).expect("a column");
        let (entities, rows) = ([Entity::default(); ENTITIES], HashMap::new());
        Self { kind, calls, sizes, told, entities, identities: 0, rows, host: 0 }
    }

    /// One tick.
    pub(crate) fn tick(&mut self, recorder: &mut Recorder, deeds: &[(usize, Deed)]) {
        // The host's totals are there from the first batch on.
        recorder.add(recorder.host(), self.calls[0], 0);
        recorder.add_histogram(recorder.host(), self.sizes[0], &[], 0);
        for (who, deed) in deeds {
            match deed {
                Deed::Works(amount) => self.works(recorder, *who, *amount),
                Deed::Ends => self.ends(recorder, *who),
                Deed::IsFollowed => {
                    self.ends(recorder, *who);
                    self.entities[*who].identity = 0;
                }
                Deed::IsRenamed => {
                    self.entities[*who].version += 1;
                    if self.entities[*who].row.is_some() {
                        self.row(recorder, *who);
                    }
                }
            }
        }
        // Also for those who did nothing: a total is repeated.
        for who in 0..ENTITIES {
            if self.entities[who].row.is_some() {
                self.row(recorder, who);
            }
        }
    }

    fn works(&mut self, recorder: &mut Recorder, who: usize, amount: u64) {
        let rows = [recorder.host(), self.row(recorder, who)];
        let mut slots = [0; 8];
        slots[usize::try_from(amount % 8).unwrap_or_default()] = 1;
        for (place, row) in rows.into_iter().enumerate() {
            recorder.add(row, self.calls[place], amount);
            recorder.add_histogram(row, self.sizes[place], &slots, amount);
        }
        self.entities[who].total += amount;
        self.host += amount;
        let truth = self.rows.entry(rows[1]).or_default();
        truth.calls = Some(truth.calls.unwrap_or_default() + amount);
        truth.sizes += 1;
    }

    fn ends(&mut self, recorder: &mut Recorder, who: usize) {
        let entity = &mut self.entities[who];
        entity.total = 0;
        if let Some(truth) = entity.row.take().and_then(|row| Some((row, self.rows.get_mut(&row)?))) {
            // The row of the others does not end.
            recorder.end(truth.0);
            truth.1.ended = !truth.1.is_other;
        }
    }

    /// The entity's row, after its total was told.
    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    fn row(&mut self, recorder: &mut Recorder, who: usize) -> RowId {
        let entity = &mut self.entities[who];
        if entity.identity == 0 {
            self.identities += 1;
            entity.identity = self.identities;
        }
        // A third of the names is equal to others after cleaning.
        let name = if who < 4 { format!("same{}", ["\n", "\t", "_", "\r"][who]) } else { format!("{who}") };
        let labels = [name.as_str(), &format!("v{}", entity.version)];
        let row = recorder.row(self.kind, entity.identity, &labels).expect("a row, if that of the others");
        let before = entity.row.replace(row).filter(|before| *before != row);
        let mut base = 0;
        if let Some(former) = before.and_then(|before| self.rows.get_mut(&before)).filter(|former| !former.is_other) {
            former.ended = true;
            base = former.told;
        }
        let truth = self.rows.entry(row).or_insert(Truth { who, base, told: base, ..Truth::default() });
        let refused = recorder.refusals().values;
        recorder.counter(row, self.told, entity.total);
        truth.is_other = recorder.refusals().values > refused;
        if !truth.is_other {
            truth.told = entity.total;
        }
        row
    }
}
