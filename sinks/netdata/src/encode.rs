//! From a view to lines of netdata's protocol.

use std::time::Duration;

use ebpf_process_core::{Scope, SeriesCache, Value, View};

use crate::board::{Board, Place};
use crate::status::Status;

/// Makes the lines for each view, in a buffer that it uses again.
///
/// What it writes depends on the views it has seen and on nothing else. It declares a chart and
/// its dimensions when it first sees them or when the set of dimensions changes, and retires them
/// when their series are gone; a view in which nothing comes or goes allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    /// Number of the view in hand, from 1: marks what has a value in it.
    view: u64,
    series: SeriesCache<Place>,
    board: Board,
    status: Status,
}

impl Encoder {
    /// An encoder for batches this far apart. Where the numbers are not the whole host's, the
    /// differences of `ebpf.process_status` are left out.
    pub fn new(interval: Duration, scope: Scope) -> Self {
        let seconds = interval.as_nanos().div_ceil(1_000_000_000).max(1);
        Self {
            bytes: Vec::new(),
            view: 0,
            series: SeriesCache::default(),
            board: Board::new(u64::try_from(seconds).unwrap_or(u64::MAX)),
            status: Status::new(scope),
        }
    }

    /// The lines for a view: whole blocks, each ended; none where it has no values.
    pub fn encode(&mut self, view: &View<'_>) -> &[u8] {
        let Self { bytes, series, board, status, .. } = self;
        self.view += 1;
        let now = self.view;
        bytes.clear();
        status.begin();
        series.update(view, |place| board.retire(place, status));
        for metric in view.metrics() {
            for sample in metric.samples() {
                let place = *series.entry(sample.id(), || board.place(&metric, &sample, status));
                match (place, sample.value()) {
                    (Place::Dimension { chart, dimension, role }, value) => {
                        if let (Some(role), Value::Counter(total)) = (role, value) {
                            status.put(role, total);
                        }
                        board.set(chart, dimension, number(value), now);
                    }
                    (Place::Heatmap { chart }, Value::Histogram(histogram)) => {
                        board.set_slots(chart, histogram.slots, now);
                    }
                    (Place::Nowhere | Place::Heatmap { .. }, _) => {}
                }
            }
        }
        status.update(board, now);
        board.write(bytes, now, view.tick().boottime);
        bytes
    }

    /// The lines that take every chart from the dashboard. The next view starts anew.
    pub fn retire_all(&mut self) -> &[u8] {
        self.bytes.clear();
        self.series = SeriesCache::default();
        self.board.clear(&mut self.bytes);
        self.status.clear();
        &self.bytes
    }
}

/// A value as a 64-bit number with a sign; what is larger becomes the largest.
fn number(value: Value<'_>) -> i64 {
    match value {
        Value::Counter(total) => clamped(total),
        #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, which is what is wanted")]
        Value::Gauge(level) => (level * 1000.0).round() as i64,
        Value::Histogram(histogram) => clamped(histogram.count()),
    }
}

/// A total as a 64-bit number with a sign.
pub(crate) fn clamped(total: u64) -> i64 {
    i64::try_from(total).unwrap_or(i64::MAX)
}
