//! Answers, as rows and columns of the recorder.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use ebpf_process_core::{ColumnId, EntityKind, KindId, Recorder, Refused, RowId};
use ebpf_process_peer::cleaned;
use tracing::warn;

use crate::answer::{Answer, Row, Schema, Value};
use crate::growth::Growth;

/// Answers that an entity is missing in until it has ended.
const MISSED: u64 = 3;

/// Who is there, and what was counted.
#[derive(Debug)]
pub(crate) struct Book {
    probe: String,
    /// Rows at most.
    limit: usize,
    kind: Option<KindId>,
    /// By column of the schema; none of one that the recorder has refused.
    columns: Vec<Option<ColumnId>>,
    entities: HashMap<Vec<String>, Entity>,
    /// Numbers of entities from here on. Those of a probe that was here before are others: its rows are not continued,
    /// since totals of a program need not begin at 0 with it.
    next: u64,
    answers: u64,
}

#[derive(Debug)]
struct Entity {
    number: u64,
    /// Its own row; none where it has a part of `other`.
    row: Option<RowId>,
    /// The last answer that it was in.
    seen: u64,
    /// By column, in the order of columns.
    totals: Vec<(usize, Growth)>,
}

impl Book {
    /// Of the probe of this name, with so many rows at most.
    pub(crate) fn new(probe: &str, limit: usize) -> Self {
        let next = RandomState::new().build_hasher().finish();
        Self {
            probe: probe.to_owned(),
            limit,
            kind: None,
            columns: Vec::new(),
            entities: HashMap::new(),
            next,
            answers: 0,
        }
    }

    /// Records an answer. An error is why the kind cannot be declared.
    pub(crate) fn record(&mut self, answer: Answer, recorder: &mut Recorder) -> Result<(), Refused> {
        let Answer { schema, rows, .. } = answer;
        let kind = if let Some(kind) = self.kind {
            kind
        } else {
            let kind = EntityKind::new(schema.kind.clone()).keys(schema.keys.iter().cloned()).limit(self.limit);
            *self.kind.insert(recorder.kind(kind)?)
        };
        self.declare(kind, &schema, recorder);
        self.answers += 1;
        // Who leaves makes room for who comes.
        let (known, new): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| self.entities.contains_key(&row.labels));
        for row in known {
            self.record_row(kind, row, recorder);
        }
        self.end_missing(recorder);
        for row in new {
            self.record_row(kind, row, recorder);
        }
        Ok(())
    }

    /// Declares the columns that are new.
    fn declare(&mut self, kind: KindId, schema: &Schema, recorder: &mut Recorder) {
        for spec in &schema.columns[self.columns.len()..] {
            let column = recorder.column(kind, spec.column());
            if let Err(refused) = &column {
                let name = cleaned(spec.name.as_bytes(), 200);
                warn!(probe = self.probe, "{name} of the program is left out: {refused}");
            }
            self.columns.push(column.ok());
        }
    }

    /// Ends the rows of those who have been missing for long.
    fn end_missing(&mut self, recorder: &mut Recorder) {
        let answers = self.answers;
        let is_missing = |entity: &Entity| answers - entity.seen >= MISSED;
        for (_, entity) in self.entities.extract_if(|_, entity| is_missing(entity)) {
            if let Some(row) = entity.row {
                recorder.end(row);
            }
        }
    }

    fn record_row(&mut self, kind: KindId, row: Row, recorder: &mut Recorder) {
        let Self { entities, next, answers, columns, .. } = self;
        let Row { labels, values } = row;
        let texts: Vec<&str> = labels.iter().map(String::as_str).collect();
        let (number, own) = entities.get(&labels).map_or((*next, None), |entity| (entity.number, entity.row));
        let own = own.filter(|row| recorder.is_living(*row));
        // Who has none asks again at each answer. With these keys it is refused by nothing but a lack of room.
        let Some(row) = own.or_else(|| recorder.row(kind, number, &texts).ok()) else { return };
        let own = (!recorder.is_other(row)).then_some(row);
        let entity = entities.entry(labels).or_insert_with(|| {
            *next = next.wrapping_add(1);
            Entity { number, row: None, seen: 0, totals: Vec::new() }
        });
        (entity.row, entity.seen) = (own, *answers);
        for (place, value) in values {
            let Some(column) = columns.get(place).copied().flatten() else { continue };
            match (entity.grow(place, &value), own) {
                // A level of many is nobody's.
                (None, None) => {}
                (None, Some(row)) => record(recorder, row, column, &value),
                (Some(gain), None) => add(recorder, row, column, &gain),
                (Some(gain), Some(row)) => {
                    if let Some(total) = entity.add(place, &gain) {
                        record(recorder, row, column, &total);
                    }
                }
            }
        }
    }
}

impl Entity {
    fn growth(&mut self, place: usize, value: &Value) -> Option<&mut Growth> {
        let at = match self.totals.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(at) => at,
            Err(at) => {
                self.totals.insert(at, (place, Growth::of(value)?));
                at
            }
        };
        Some(&mut self.totals[at].1)
    }

    /// By how much a total has grown; none for a level.
    fn grow(&mut self, place: usize, value: &Value) -> Option<Value> {
        self.growth(place, value)?.grow(value)
    }

    /// Its total with that.
    fn add(&mut self, place: usize, gain: &Value) -> Option<Value> {
        self.growth(place, gain)?.add(gain)
    }
}

fn record(recorder: &mut Recorder, row: RowId, column: ColumnId, value: &Value) {
    match value {
        Value::Counter(total) => recorder.counter(row, column, *total),
        Value::Gauge(level) => recorder.gauge(row, column, *level),
        Value::Histogram(totals) => recorder.histogram(row, column, &totals.slots, totals.sum),
    }
}

fn add(recorder: &mut Recorder, other: RowId, column: ColumnId, gain: &Value) {
    match gain {
        Value::Counter(gain) => recorder.add(other, column, *gain),
        Value::Gauge(_) => {}
        Value::Histogram(gain) => recorder.add_histogram(other, column, &gain.slots, gain.sum),
    }
}
