//! One chart as netdata knows it, and the lines that say so.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use crate::words;

/// The plugin field of every chart.
const PLUGIN: &str = "ebpf_process.plugin";

/// What a chart is, before it has dimensions.
#[derive(Debug)]
pub(crate) struct Spec {
    /// The id behind `ebpf.`, a plain word.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) units: String,
    pub(crate) family: String,
    /// `line` or `heatmap`.
    pub(crate) style: &'static str,
    pub(crate) priority: u32,
    /// The metric's area.
    pub(crate) module: String,
}

/// What netdata does with the values of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Totals: it shows their rate.
    Incremental,
    /// Numbers as they are.
    Absolute,
    /// Numbers sent as thousandths.
    Thousandths,
}

impl Algorithm {
    /// The words from the algorithm to the divisor.
    const fn words(self) -> &'static str {
        match self {
            Self::Incremental => "incremental 1 1",
            Self::Absolute => "absolute 1 1",
            Self::Thousandths => "absolute 1 1000",
        }
    }
}

/// The lines that give a chart these labels.
pub(crate) fn labels<'a>(tags: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut labels = String::new();
    let mut keys: Vec<String> = Vec::new();
    for (key, value) in tags {
        // Cleaning may have made two keys equal, and netdata would keep one of them.
        let key = words::unique(words::key(key), |key| keys.iter().any(|known| known == key));
        // A label without its source crashes netdata 1.37; 2 says that a person set it.
        let _ = writeln!(labels, "CLABEL {} {} 2", words::quoted(&key), words::quoted(value));
        keys.push(key);
    }
    if !labels.is_empty() {
        labels.push_str("CLABEL_COMMIT\n");
    }
    labels
}

/// A chart with its dimensions.
#[derive(Debug)]
pub(crate) struct Chart {
    id: String,
    /// The CHART line before and after its field of options.
    definition: (String, String),
    labels: String,
    algorithm: Algorithm,
    dimensions: Vec<Option<Dimension>>,
    /// The place of each dimension: names from outside may be made to clash, and each is looked up.
    places: HashMap<String, usize>,
    /// Whether netdata knows of the chart.
    declared: bool,
    /// Whether netdata knows other dimensions than these.
    changed: bool,
    /// Time since boot at its last BEGIN.
    began: Option<Duration>,
    /// The last view that has a value for it.
    view: u64,
}

#[derive(Debug)]
struct Dimension {
    id: String,
    /// The DIMENSION line before its options.
    definition: String,
    /// The SET line before its value.
    set: String,
    value: i64,
    view: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not declared yet.
    New,
    Declared,
    /// Declared, but its series is gone.
    Gone,
}

impl Chart {
    pub(crate) fn new(spec: &Spec, algorithm: Algorithm, update_every: u64, labels: String) -> Self {
        let id = format!("ebpf.{}", spec.id);
        let head = format!(
            "CHART {id} '' {} {} {} {id} {} {} {update_every} '",
            words::title(&spec.title),
            words::quoted(&spec.units),
            words::quoted(&spec.family),
            spec.style,
            spec.priority,
        );
        let tail = format!("' {PLUGIN} {}\n", words::id(&spec.module));
        Self {
            id,
            definition: (head, tail),
            labels,
            algorithm,
            dimensions: Vec::new(),
            places: HashMap::new(),
            declared: false,
            changed: false,
            began: None,
            view: 0,
        }
    }

    /// The id behind `ebpf.`.
    pub(crate) fn id(&self) -> &str {
        self.id.strip_prefix("ebpf.").unwrap_or(&self.id)
    }

    /// Whether a dimension at this place has a series.
    pub(crate) fn is_taken(&self, index: usize) -> bool {
        self.dimensions.get(index).is_some_and(|place| place.as_ref().is_some_and(Dimension::is_alive))
    }

    /// Adds a dimension at a place of its own that [is not taken](Self::is_taken).
    pub(crate) fn add_at(&mut self, index: usize, id: &str) {
        if self.dimensions.len() <= index {
            self.dimensions.resize_with(index + 1, || None);
        }
        self.put(index, id.to_owned(), id);
    }

    /// Adds a dimension of this name under an id that no other has; returns its place.
    pub(crate) fn add(&mut self, name: &str) -> usize {
        let place = |id: &str| self.places.get(id).copied();
        let id = words::unique(words::id(name), |id| place(id).is_some_and(|index| self.is_taken(index)));
        // A dimension that comes back takes its old place, or it would be declared and retired at once.
        let full = self.places.len() == self.dimensions.len();
        let vacant = || if full { None } else { self.dimensions.iter().position(Option::is_none) };
        let index = place(&id).or_else(vacant).unwrap_or(self.dimensions.len());
        if index == self.dimensions.len() {
            self.dimensions.push(None);
        }
        self.put(index, id, name);
        index
    }

    fn put(&mut self, index: usize, id: String, name: &str) {
        self.dimensions[index] = Some(Dimension::new(&id, name, self.algorithm));
        self.places.insert(id, index);
        self.changed = true;
    }

    /// How many dimensions it has, those included whose series are gone.
    pub(crate) fn len(&self) -> usize {
        self.dimensions.len()
    }

    /// A dimension's series is gone.
    pub(crate) fn retire(&mut self, index: usize) {
        let Some(place) = self.dimensions.get_mut(index) else { return };
        match place {
            Some(dimension) if dimension.state != State::New => dimension.state = State::Gone,
            _ => {
                if let Some(dimension) = place.take() {
                    self.places.remove(&dimension.id);
                }
            }
        }
        self.changed = true;
    }

    /// Whether it has no series any more.
    pub(crate) fn is_over(&self) -> bool {
        self.dimensions.iter().flatten().all(|dimension| !dimension.is_alive())
    }

    /// Sets a value for this view.
    pub(crate) fn set(&mut self, index: usize, value: i64, view: u64) {
        if let Some(Some(dimension)) = self.dimensions.get_mut(index) {
            dimension.value = value;
            dimension.view = view;
            self.view = view;
        }
    }

    /// Says what is new about the chart, then its values for this view, if it has any.
    pub(crate) fn write(&mut self, bytes: &mut Vec<u8>, view: u64, boottime: Duration, digits: &mut itoa::Buffer) {
        if self.changed {
            self.declare(bytes);
        }
        if self.view != view {
            return;
        }
        bytes.extend_from_slice(b"BEGIN ");
        bytes.extend_from_slice(self.id.as_bytes());
        if let Some(began) = self.began.replace(boottime) {
            // Views may be dropped: what counts is the time since this chart's own last one.
            let elapsed = boottime.saturating_sub(began).as_micros().max(1);
            bytes.push(b' ');
            bytes.extend_from_slice(digits.format(elapsed).as_bytes());
        }
        bytes.push(b'\n');
        for dimension in self.dimensions.iter().flatten().filter(|dimension| dimension.view == view) {
            bytes.extend_from_slice(dimension.set.as_bytes());
            bytes.extend_from_slice(digits.format(dimension.value).as_bytes());
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(b"END\n");
    }

    /// Takes the chart from the dashboard. Declared again, it starts anew.
    pub(crate) fn write_obsolete(&self, bytes: &mut Vec<u8>) {
        if self.declared {
            self.write_definition(bytes, "obsolete");
        }
    }

    /// The CHART line, its labels and all its dimensions: netdata takes them in one piece only.
    fn declare(&mut self, bytes: &mut Vec<u8>) {
        self.changed = false;
        self.declared = true;
        self.write_definition(bytes, "");
        bytes.extend_from_slice(self.labels.as_bytes());
        for place in &mut self.dimensions {
            let Some(dimension) = place else { continue };
            bytes.extend_from_slice(dimension.definition.as_bytes());
            if dimension.state == State::Gone {
                bytes.extend_from_slice(b" obsolete\n");
                self.places.remove(&dimension.id);
                *place = None;
            } else {
                bytes.push(b'\n');
                dimension.state = State::Declared;
            }
        }
    }

    fn write_definition(&self, bytes: &mut Vec<u8>, options: &str) {
        // Writing to memory does not fail.
        let _ = write!(bytes, "{}{options}{}", self.definition.0, self.definition.1);
    }
}

impl Dimension {
    fn new(id: &str, name: &str, algorithm: Algorithm) -> Self {
        Self {
            definition: format!("DIMENSION {id} {} {}", words::quoted(name), algorithm.words()),
            set: format!("SET {id} = "),
            id: id.to_owned(),
            value: 0,
            view: 0,
            state: State::New,
        }
    }

    fn is_alive(&self) -> bool {
        self.state != State::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_netdata_refuses_are_cleaned_and_stay_apart() {
        let tags = [("rack", "7"), ("1", "a"), ("é", "b"), ("ü", "c")];
        let expected =
            "CLABEL 'rack' '7' 2\nCLABEL 'tag_1' 'a' 2\nCLABEL 'tag__' 'b' 2\nCLABEL 'tag___2' 'c' 2\nCLABEL_COMMIT\n";
        assert_eq!(labels(tags.into_iter()), expected);
        assert_eq!(labels(std::iter::empty()), "");
    }
}
