//! What a program has said of one tick, in whatever words.

use std::sync::Arc;

use crate::spec::Spec;

/// What rows are about, and which columns there have been so far; they only become more.
#[derive(Debug, Default, Clone)]
pub(crate) struct Schema {
    pub(crate) kind: String,
    pub(crate) keys: Vec<String>,
    pub(crate) columns: Vec<Spec>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The question that it answers.
    pub(crate) tick: u64,
    pub(crate) schema: Arc<Schema>,
    pub(crate) rows: Vec<Row>,
}

/// What is said of one entity: no two of an answer have the same labels.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    /// One for each key.
    pub(crate) labels: Vec<String>,
    /// By column of the schema, in its order.
    pub(crate) values: Vec<(usize, Value)>,
}

/// A number, of the kind that its column has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Distribution),
}

/// A histogram's totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// From slot 0 on.
    pub(crate) slots: Vec<u64>,
    pub(crate) sum: u64,
}
