//! What a sink was given, and whether that is what can be read back.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::reading::{Number, Part, Reading, part};
use super::words::key;
use crate::batch::Value;
use crate::entity::RowId;
use crate::metric::MetricKind;
use crate::view::View;

/// A number as a sink was given it.
#[derive(Clone, Debug, PartialEq)]
enum Given {
    Counter(u64),
    Gauge(f64),
    /// The bounds of the slots and their counts, and the sum.
    Histogram(Vec<(u64, u64)>, u64),
}

impl Given {
    fn of(value: Value<'_>) -> Self {
        match value {
            Value::Counter(total) => Self::Counter(total),
            Value::Scaled(scaled) => Self::Gauge(scaled.in_unit()),
            Value::Gauge(level) => Self::Gauge(level),
            Value::Histogram(histogram) => {
                let slots = histogram.buckets().map(|bucket| (bucket.bound, bucket.count)).collect();
                Self::Histogram(slots, histogram.sum())
            }
        }
    }

    const fn kind(&self) -> MetricKind {
        match self {
            Self::Counter(_) => MetricKind::Counter,
            Self::Gauge(_) => MetricKind::Gauge,
            Self::Histogram(..) => MetricKind::Histogram,
        }
    }

    /// What it is as one number: a histogram's is that of its values.
    fn number(&self) -> Number {
        match self {
            Self::Counter(total) => (*total).into(),
            Self::Gauge(level) => (*level).into(),
            Self::Histogram(slots, _) => Number::Whole(slots.iter().map(|(_, count)| i128::from(*count)).sum()),
        }
    }

    #[expect(clippy::float_cmp, reason = "levels of the kit are exact in any form")]
    fn is(&self, number: Number) -> bool {
        match self {
            Self::Counter(total) => number.is((*total).into()),
            Self::Gauge(level) => number.real() == *level,
            Self::Histogram(..) => self.number() == number || self.number().real() == number.real(),
        }
    }
}

/// One series that a sink was given: a row's cell.
#[derive(Debug)]
struct Series {
    /// Of two rows with the same text one was there after the other.
    text: String,
    newest: Given,
    older: Vec<Given>,
    /// The ledger has said that the newest number is lost.
    is_excused: bool,
}

/// What is wrong with what was read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing is there, or nothing newer than an older number.
    Missing,
    /// A number that is larger than all that were given.
    Larger,
    /// A number that was never given.
    Wrong,
    /// A zero that was never given.
    Zero,
    /// A total is smaller than one that was there before.
    Falls,
    /// More series than rows.
    Extra,
    /// Something that the sink was not given at all.
    Unknown,
}

/// One series that is not as it should be.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) trouble: Trouble,
    /// How its numbers behave, where that is known.
    pub(super) kind: Option<MetricKind>,
    pub(super) text: String,
    pub(super) key: String,
    /// What was expected and what was seen.
    pub(super) what: String,
}

impl Fault {
    /// The fault in a sentence.
    pub(super) fn say(&self) -> String {
        format!("{}: {}", shortened(&self.text), self.what)
    }
}

fn shortened(text: &str) -> String {
    let clean: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    if text.chars().count() > 120 { format!("{clean}...") } else { clean }
}

/// What a sink was given in one part of the test.
#[derive(Debug, Default)]
pub(super) struct World {
    /// By the words in the text. Rows whose text was equal before it was cleaned share their words.
    groups: HashMap<String, Vec<Series>>,
    /// Where each series is.
    places: HashMap<(RowId, usize), (String, usize)>,
    /// Kinds of numbers of which nothing is asked.
    pub(super) ignored: Vec<MetricKind>,
}

impl World {
    /// The sink is given a view.
    pub(super) fn give(&mut self, view: View<'_>) {
        for sample in view.samples() {
            let id = (sample.row().id(), sample.column().index());
            let given = Given::of(sample.value());
            let (group, place) = self.places.entry(id).or_insert_with(|| {
                let text = format!("{}{{{}}}", sample.name(), sample.labels());
                let key = key(&text);
                let group = self.groups.entry(key.clone()).or_default();
                group.push(Series { text, newest: given.clone(), older: Vec::new(), is_excused: false });
                (key, group.len() - 1)
            });
            let Some(series) = self.groups.get_mut(group).and_then(|group| group.get_mut(*place)) else { continue };
            if series.newest != given {
                series.older.push(std::mem::replace(&mut series.newest, given));
                series.is_excused = false;
            }
        }
    }

    /// The words of all series.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.groups.keys()
    }

    /// Compares with what was read back. `known` are the words of other parts of the test, `before` what was there
    /// before it.
    pub(super) fn judge(&self, readings: &[Reading], known: &HashSet<String>, before: &HashSet<String>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut found: HashMap<&str, BTreeMap<&str, Vec<Number>>> = HashMap::new();
        for reading in readings {
            let key = key(&reading.text);
            if let Some((key, _)) = self.groups.get_key_value(&key) {
                // Few have it: most need not be taken apart.
                if reading.text.contains("reated") && part(&reading.text) == Part::Created {
                    continue;
                }
                found.entry(key).or_default().entry(&reading.text).or_default().push(reading.number);
            } else if !known.contains(&key) && !before.contains(&reading.text) {
                faults.push(Fault {
                    trouble: Trouble::Unknown,
                    kind: None,
                    text: reading.text.clone(),
                    key,
                    what: format!("read back as {} and never written", reading.number),
                });
            }
        }
        let nothing = BTreeMap::new();
        for (key, group) in &self.groups {
            let kind = group[0].newest.kind();
            if !self.ignored.contains(&kind) {
                judge_group(key, group, found.get(key.as_str()).unwrap_or(&nothing), &mut faults);
            }
        }
        faults
    }

    /// The ledger has these as lost.
    pub(super) fn excuse(&mut self, faults: &[Fault]) {
        for fault in faults {
            for series in self.groups.get_mut(&fault.key).into_iter().flatten() {
                series.is_excused |= fault.text == series.text;
            }
        }
    }

    /// Whether anything of this kind was given.
    pub(super) fn has(&self, kind: MetricKind) -> bool {
        self.groups.values().flatten().any(|series| series.newest.kind() == kind)
    }

    /// Whether anything of this kind is among the readings.
    pub(super) fn is_seen(&self, kind: MetricKind, readings: &[Reading]) -> bool {
        readings
            .iter()
            .any(|reading| self.groups.get(&key(&reading.text)).is_some_and(|group| group[0].newest.kind() == kind))
    }
}

/// The rows that have had one text, one after the other.
struct Line<'a> {
    text: &'a str,
    series: Vec<&'a Series>,
}

impl Line<'_> {
    /// Whether this is what there should be: the last row's newest number, or, where a receiver adds up, the sum over the rows.
    fn is(&self, number: Number) -> bool {
        let sum = self.series.iter().try_fold(0_u128, |sum, series| match series.newest {
            Given::Counter(total) => Some(sum + u128::from(total)),
            _ => None,
        });
        self.last().newest.is(number) || sum.is_some_and(|sum| number.is(sum))
    }

    fn last(&self) -> &Series {
        self.series[self.series.len() - 1]
    }

    fn was(&self, number: Number) -> bool {
        let older = |series: &&Series| series.older.iter().any(|given| given.is(number));
        let former = self.series.len() - 1;
        self.series.iter().any(older) || self.series[..former].iter().any(|series| series.newest.is(number))
    }

    fn largest(&self) -> f64 {
        let sum: f64 = self.series.iter().map(|series| series.newest.number().real()).sum();
        self.series.iter().flat_map(|series| &series.older).map(|given| given.number().real()).fold(sum, f64::max)
    }

    fn fault(&self, key: &str, trouble: Trouble, what: String) -> Fault {
        let kind = Some(self.last().newest.kind());
        Fault { trouble, kind, text: self.text.to_owned(), key: key.to_owned(), what }
    }
}

fn judge_group(key: &str, group: &[Series], found: &BTreeMap<&str, Vec<Number>>, faults: &mut Vec<Fault>) {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for series in group {
        match lines.iter_mut().find(|line| line.text == series.text) {
            Some(line) => line.series.push(series),
            None => lines.push(Line { text: &series.text, series: vec![series] }),
        }
    }
    if group[0].newest.kind() == MetricKind::Histogram {
        for line in &lines {
            judge_histogram(key, line, found, faults);
        }
        return;
    }
    let mut rest: Vec<(&str, &[Number])> = found.iter().map(|(text, numbers)| (*text, &**numbers)).collect();
    let newest = |numbers: &[Number]| numbers.last().copied().unwrap_or(Number::Whole(0));
    // First those that are as they should be, then whatever is left.
    lines.retain(|line| {
        let place = rest.iter().position(|(_, numbers)| line.is(newest(numbers)));
        if let Some(place) = place {
            let (_, numbers) = rest.remove(place);
            let falls = numbers.windows(2).find(|pair| pair[1].real() < pair[0].real());
            if let (Some([high, low, ..]), MetricKind::Counter, [_]) = (falls, group[0].newest.kind(), &*line.series) {
                faults.push(line.fault(key, Trouble::Falls, format!("falls from {high} to {low}")));
            }
        }
        // Who sends gains has sent nothing of what was never counted.
        place.is_none() && !line.last().is_excused && !line.is(Number::Whole(0))
    });
    for line in lines {
        let expected = line.last().newest.number();
        let (trouble, what) = match rest.pop() {
            None => (Trouble::Missing, format!("{expected} was written and cannot be read back")),
            Some((_, numbers)) => {
                let seen = newest(numbers);
                let trouble = if line.was(seen) {
                    Trouble::Missing
                } else if seen.real() > line.largest() {
                    Trouble::Larger
                } else if seen.is(0) {
                    Trouble::Zero
                } else {
                    Trouble::Wrong
                };
                (trouble, format!("{expected} was written, {seen} is read back"))
            }
        };
        faults.push(line.fault(key, trouble, what));
    }
    for (text, numbers) in rest {
        let is_excused = |series: &Series| series.is_excused;
        if !group.iter().any(is_excused) {
            let what = format!("read back as {} beside what was written", newest(numbers));
            let kind = Some(group[0].newest.kind());
            let trouble = Trouble::Extra;
            faults.push(Fault { trouble, kind, text: text.to_owned(), key: key.to_owned(), what });
        }
    }
}

fn judge_histogram(key: &str, line: &Line<'_>, found: &BTreeMap<&str, Vec<Number>>, faults: &mut Vec<Fault>) {
    let last = line.last();
    let Given::Histogram(slots, sum) = &last.newest else { return };
    if last.is_excused {
        return;
    }
    let count: u64 = slots.iter().map(|(_, count)| *count).sum();
    let (mut has_count, mut bounds) = (false, Vec::new());
    for (text, numbers) in found {
        let Some(seen) = numbers.last().copied() else { continue };
        let (is_right, expected) = match part(text) {
            Part::Created => continue,
            Part::Sum => (seen.is((*sum).into()), format!("the sum {sum}")),
            Part::Count => {
                has_count = true;
                (seen.is(count.into()), format!("{count} values"))
            }
            Part::Bound(bound) => {
                has_count = true;
                bounds.push(seen.real());
                let alone = slots.iter().find(|(known, _)| *known == bound).map_or(0, |(_, count)| *count);
                let below: u64 = slots.iter().filter(|(known, _)| *known <= bound).map(|(_, count)| count).sum();
                let is_right = seen.is(alone.into()) || seen.is(below.into());
                (is_right, format!("{alone} values in the slot up to {bound}, {below} with those below"))
            }
        };
        if !is_right {
            let was = line.was(seen);
            let trouble = if was { Trouble::Missing } else { Trouble::Wrong };
            faults.push(line.fault(key, trouble, format!("{expected}: {seen} is read back")));
            return;
        }
    }
    let (all, largest) = (bounds.iter().sum::<f64>(), bounds.iter().copied().fold(0.0, f64::max));
    if !bounds.is_empty() && !Number::Real(all).is(count.into()) && !Number::Real(largest).is(count.into()) {
        let what = format!("{count} values were written, and those of the slots read back are {all}");
        faults.push(line.fault(key, Trouble::Wrong, what));
    } else if !has_count && count > 0 {
        faults.push(line.fault(key, Trouble::Missing, format!("{count} values were written and cannot be read back")));
    }
}
