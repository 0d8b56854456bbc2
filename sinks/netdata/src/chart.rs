//! A chart whose dimensions have names of their own.

use std::collections::HashMap;
use std::time::Duration;

use crate::bits::{Places, bit};
use crate::head::Head;
use crate::number::Algorithm;
use crate::words;

/// The most dimensions of a chart made by rule; the next ones are in a chart of their own. What is counted here seldom
/// comes or goes, so that netdata takes more of them than of rows.
const LIMIT: usize = 1024;

/// A chart with its dimensions.
#[derive(Debug)]
pub(crate) struct Chart {
    head: Head,
    dimensions: Vec<Option<Dimension>>,
    /// The place of each dimension: names from outside may be made to clash, and each is looked up.
    places: HashMap<String, usize>,
    /// The places of which netdata does not know the news.
    pending: Vec<usize>,
    /// How many dimensions have a series.
    alive: usize,
    /// What a view has for each place: apart from what is seldom looked at.
    values: Vec<i64>,
    /// The places with a value in this view, as words of 64.
    touched: Vec<u64>,
    /// The SET lines of all places before their values, one behind the other, and where each ends.
    sets: (String, Vec<usize>),
}

#[derive(Debug)]
struct Dimension {
    id: String,
    /// The DIMENSION line before its options.
    definition: String,
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
    pub(crate) fn new(head: Head) -> Self {
        Self {
            head,
            dimensions: Vec::new(),
            places: HashMap::new(),
            pending: Vec::new(),
            alive: 0,
            values: Vec::new(),
            touched: Vec::new(),
            sets: (String::new(), Vec::new()),
        }
    }

    /// The id behind `ebpf.`.
    pub(crate) fn id(&self) -> &str {
        self.head.id()
    }

    /// Whether a dimension at this place has a series.
    pub(crate) fn is_taken(&self, index: usize) -> bool {
        self.dimensions.get(index).is_some_and(|place| place.as_ref().is_some_and(Dimension::is_alive))
    }

    /// Whether one dimension more would be too many.
    pub(crate) const fn is_full(&self) -> bool {
        self.alive >= LIMIT
    }

    /// Adds a dimension at a place of its own that [is not taken](Self::is_taken).
    pub(crate) fn add_at(&mut self, index: usize, id: &str, name: &str, algorithm: Algorithm) {
        self.put(index, id.to_owned(), name, algorithm);
    }

    /// Adds a dimension of this name under an id that no other has; returns its place.
    pub(crate) fn add(&mut self, name: &str, algorithm: Algorithm) -> usize {
        let place = |id: &str| self.places.get(id).copied();
        let id = words::unique(words::id(name), |id| place(id).is_some_and(|index| self.is_taken(index)));
        // A dimension that comes back takes its old place, or it would be declared and retired at once.
        let full = self.places.len() == self.dimensions.len();
        let vacant = || if full { None } else { self.dimensions.iter().position(Option::is_none) };
        let index = place(&id).or_else(vacant).unwrap_or(self.dimensions.len());
        self.put(index, id, name, algorithm);
        index
    }

    fn put(&mut self, index: usize, id: String, name: &str, algorithm: Algorithm) {
        if self.dimensions.len() <= index {
            self.dimensions.resize_with(index + 1, || None);
            self.values.resize(index + 1, 0);
            self.touched.resize(self.values.len().div_ceil(64), 0);
        }
        let mut dimension = Dimension::new(&id, name, algorithm);
        // Netdata has not heard yet that it was gone: then there is nothing to say.
        if let Some(former) = self.dimensions[index].take_if(|former| former.definition == dimension.definition) {
            dimension.state = if former.state == State::New { State::New } else { State::Declared };
        }
        self.dimensions[index] = Some(dimension);
        self.places.insert(id, index);
        self.pending.push(index);
        self.alive += 1;
    }

    /// A dimension's series is gone.
    pub(crate) fn retire(&mut self, index: usize) {
        let Some(place) = self.dimensions.get_mut(index) else { return };
        self.alive -= usize::from(place.as_ref().is_some_and(Dimension::is_alive));
        match place {
            Some(dimension) if dimension.state != State::New => dimension.state = State::Gone,
            _ => {
                if let Some(dimension) = place.take() {
                    self.places.remove(&dimension.id);
                }
            }
        }
        self.pending.push(index);
    }

    /// Whether it has no series any more.
    pub(crate) const fn is_over(&self) -> bool {
        self.alive == 0
    }

    /// Sets a value for this view.
    #[inline]
    pub(crate) fn set(&mut self, index: usize, value: i64) {
        if let Some(place) = self.values.get_mut(index) {
            *place = value;
            self.touched[index / 64] |= bit(index);
        }
    }

    /// Says what is new about the chart, then its values for this view, if it has any.
    pub(crate) fn write(&mut self, bytes: &mut Vec<u8>, boottime: Duration) {
        if !self.pending.is_empty() {
            self.declare(bytes);
        }
        if self.touched.iter().all(|word| *word == 0) {
            return;
        }
        let mut digits = itoa::Buffer::new();
        let (sets, ends) = (self.sets.0.as_bytes(), &self.sets.1);
        self.head.begin(bytes, boottime, &mut digits);
        for place in Places::of(self.touched.iter().copied()) {
            let start = place.checked_sub(1).map_or(0, |before| ends[before]);
            bytes.extend_from_slice(&sets[start..ends[place]]);
            bytes.extend_from_slice(digits.format(self.values[place]).as_bytes());
        }
        Head::end(bytes);
        self.touched.fill(0);
    }

    /// Takes the chart from the dashboard. Declared again, it starts anew.
    pub(crate) fn write_obsolete(&self, bytes: &mut Vec<u8>) {
        self.head.retire(bytes);
    }

    /// The CHART line and the dimensions that came or went.
    fn declare(&mut self, bytes: &mut Vec<u8>) {
        let Self { head, dimensions, pending, places, sets, .. } = self;
        pending.sort_unstable();
        pending.dedup();
        pending.retain(|index| dimensions[*index].as_ref().is_some_and(|news| news.state != State::Declared));
        if pending.is_empty() {
            return;
        }
        head.declare(bytes);
        for index in pending.drain(..) {
            let Some(dimension) = &mut dimensions[index] else { continue };
            bytes.extend_from_slice(dimension.definition.as_bytes());
            if dimension.state == State::Gone {
                bytes.extend_from_slice(b" obsolete\n");
                places.remove(&dimension.id);
                dimensions[index] = None;
            } else {
                bytes.push(b'\n');
                dimension.state = State::Declared;
            }
        }
        sets.0.clear();
        sets.1.clear();
        for place in dimensions {
            if let Some(dimension) = place {
                sets.0.push_str(&words::set(&dimension.id));
            }
            sets.1.push(sets.0.len());
        }
    }
}

impl Dimension {
    fn new(id: &str, name: &str, algorithm: Algorithm) -> Self {
        let definition = format!("DIMENSION {id} {} {algorithm}", words::quoted(name));
        Self { definition, id: id.to_owned(), state: State::New }
    }

    fn is_alive(&self) -> bool {
        self.state != State::Gone
    }
}
