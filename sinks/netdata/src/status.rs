//! The chart of differences between counters of tasks.

use ebpf_process_core::Scope;

use crate::board::Board;
use crate::catalog::Catalog;
use crate::charts::{Role, STATUS, STATUS_DIMENSIONS};
use crate::number::Algorithm;

/// The terms of the differences, and the chart that shows them.
#[derive(Debug)]
pub(crate) struct Status {
    /// Whether the numbers are the whole host's; otherwise the differences mean nothing.
    wanted: bool,
    /// Which terms have a series.
    alive: [bool; Role::COUNT],
    /// The terms in this view.
    totals: [Option<u64>; Role::COUNT],
    /// The lines for the labels that its terms' metrics have.
    labels: String,
    chart: Option<usize>,
}

impl Status {
    pub(crate) const fn new(scope: Scope) -> Self {
        Self {
            wanted: matches!(scope, Scope::Host),
            alive: [false; Role::COUNT],
            totals: [None; Role::COUNT],
            labels: String::new(),
            chart: None,
        }
    }

    /// A view begins.
    pub(crate) const fn begin(&mut self) {
        self.totals = [None; Role::COUNT];
    }

    /// A term has a series now, with these lines for its labels.
    pub(crate) fn gain(&mut self, role: Role, labels: String) {
        self.alive[role as usize] = true;
        self.labels = labels;
    }

    /// A term's series is gone.
    pub(crate) const fn lose(&mut self, role: Role) {
        self.alive[role as usize] = false;
    }

    /// A term's total in this view.
    pub(crate) const fn put(&mut self, role: Role, total: u64) {
        self.totals[role as usize] = Some(total);
    }

    /// All charts are gone, and all series are new.
    pub(crate) const fn clear(&mut self) {
        self.alive = [false; Role::COUNT];
        self.chart = None;
    }

    /// Brings the chart up to the terms that have a series, and sets its values.
    pub(crate) fn update(&mut self, board: &mut Board, catalog: &Catalog) {
        if !self.wanted {
            return;
        }
        let needs: [&[Role]; 2] =
            [&[Role::StartedProcess, Role::StartedThread, Role::Exited], &[Role::Exited, Role::Released]];
        for (dimension, (needs, name)) in needs.iter().zip(STATUS_DIMENSIONS).enumerate() {
            let alive = needs.iter().all(|role| self.alive[*role as usize]);
            self.toggle(board, catalog, dimension, name, alive);
        }
        let Some(chart) = self.chart else { return };
        let total = |role: Role| self.totals[role as usize].map(i128::from);
        let process = || Some(total(Role::StartedProcess)? + total(Role::StartedThread)? - total(Role::Exited)?);
        let zombie = || Some(total(Role::Exited)? - total(Role::Released)?);
        for (dimension, difference) in [process(), zombie()].into_iter().enumerate() {
            if let Some(difference) = difference {
                let limit = if difference < 0 { i64::MIN } else { i64::MAX };
                board.set(chart, dimension, i64::try_from(difference).unwrap_or(limit));
            }
        }
    }

    /// Adds or retires a dimension, if it is not as it should be; the chart comes with its first
    /// dimension and goes with its last.
    fn toggle(&mut self, board: &mut Board, catalog: &Catalog, dimension: usize, name: &str, alive: bool) {
        let index = match self.chart {
            Some(index) => index,
            None if alive => board.known(&STATUS, "task", || self.labels.clone(), catalog),
            None => return,
        };
        self.chart = Some(index);
        let Some(chart) = board.chart(index) else { return };
        if alive && !chart.is_taken(dimension) {
            chart.add_at(dimension, name, name, Algorithm::Absolute);
        } else if !alive && chart.is_taken(dimension) {
            chart.retire(dimension);
            if chart.is_over() {
                self.chart = None;
            }
        }
    }
}
