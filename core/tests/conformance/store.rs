//! A receiver in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ebpf_process_core::testkit::conformance::{Number, Reading};
use ebpf_process_core::{Sample, Value, View};
use parking_lot::Mutex;

/// What it does with a number of a series that it has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// The new one replaces it.
    #[default]
    Newest,
    /// Both stay.
    All,
    /// They are added up.
    Sum,
}

/// A number on its way.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) text: String,
    pub(crate) number: Number,
}

/// The numbers that it has, by text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    keeps: Keeps,
    /// Whether it takes nothing now.
    refuses: Arc<AtomicBool>,
    series: Arc<Mutex<BTreeMap<String, Vec<Number>>>>,
}

impl Store {
    pub(crate) fn new(keeps: Keeps) -> Self {
        Self { keeps, ..Self::default() }
    }

    /// It takes nothing from now on, or everything again.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Release);
    }

    pub(crate) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
    }

    pub(crate) fn clear(&self) {
        self.series.lock().clear();
    }

    pub(crate) fn put(&self, point: Point) {
        let mut series = self.series.lock();
        let numbers = series.entry(point.text).or_default();
        match (self.keeps, &mut numbers[..], point.number) {
            (Keeps::Newest, ..) => *numbers = vec![point.number],
            (Keeps::Sum, [Number::Whole(sum)], Number::Whole(more)) => *sum += more,
            _ => numbers.push(point.number),
        }
    }

    pub(crate) fn put_all(&self, points: impl IntoIterator<Item = Point>) {
        for point in points {
            self.put(point);
        }
    }

    pub(crate) fn stored(&self) -> Vec<Reading> {
        let series = self.series.lock();
        let each = series.iter().flat_map(|(text, numbers)| numbers.iter().map(move |number| (text, number)));
        each.map(|(text, number)| Reading::new(text, *number)).collect()
    }
}

/// A sample as one point, or a histogram's as several.
pub(crate) fn points_of(sample: &Sample<'_>) -> Vec<Point> {
    let text = |suffix: &str| format!("{}{suffix}{{{}}}", sample.name(), sample.labels());
    let point = |suffix: &str, number: Number| Point { text: text(suffix), number };
    match sample.value() {
        Value::Counter(total) => vec![point("", total.into())],
        Value::Gauge(level) => vec![point("", level.into())],
        Value::Scaled(scaled) => vec![point("", scaled.in_unit().into())],
        Value::Histogram(histogram) => {
            let mut points = vec![point("_count", histogram.count().into()), point("_sum", histogram.sum().into())];
            points
                .extend(histogram.buckets().map(|bucket| point(&format!("_le_{}", bucket.bound), bucket.count.into())));
            points
        }
    }
}

/// All points of a view.
pub(crate) fn points(view: View<'_>) -> Vec<Point> {
    view.samples().flat_map(|sample| points_of(&sample)).collect()
}
