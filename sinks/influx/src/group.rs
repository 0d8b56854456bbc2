//! Which columns of a kind are fields of one line: those with one measurement and the same tags.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use ebpf_process_core::{Column, ColumnView, EntityKind, MetricKind, Scaled, View};

use crate::text;

/// The groups of each kind's columns, which are only ever added to.
#[derive(Debug, Default)]
pub(crate) struct Groups(Vec<Kind>);

/// What is written of the rows of one kind.
#[derive(Debug)]
pub(crate) struct Kind {
    /// How many columns were looked at.
    known: usize,
    /// The tags of its rows, in the order in which they are written.
    pub(crate) keys: Vec<Key>,
    pub(crate) groups: Vec<Group>,
    /// What stands in lines, in the order in which it came: side by side in memory.
    pub(crate) text: Vec<u8>,
    /// By measurement and tags.
    by_head: HashMap<String, usize>,
    /// Columns whose field is another column's.
    pub(crate) twins: Vec<usize>,
}

/// The key of a row's tag.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: Box<str>,
    /// Its place among the kind's label keys.
    pub(crate) place: usize,
}

/// The columns that are fields of one line.
#[derive(Debug)]
pub(crate) struct Group {
    /// The line up to its fields: texts, each followed by tags of the row.
    pub(crate) parts: Vec<Part>,
    /// The measurement and the keys of all tags.
    shape: Vec<u8>,
    pub(crate) fields: Vec<Field>,
    names: HashSet<Box<[u8]>>,
}

/// A part of the kind's text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Adds to a text.
    fn new(text: &mut Vec<u8>, more: &[u8]) -> Self {
        let end = |text: &Vec<u8>| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let start = end(text);
        text.extend_from_slice(more);
        Self { start, end: end(text) }
    }

    pub(crate) fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// A piece of the start of a line.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) text: Span,
    /// The row's tags up to this one follow.
    pub(crate) tags: usize,
}

/// A column as a field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) column: usize,
    pub(crate) names: Names,
    /// Whether rows of another kind may have the same line with the same field.
    pub(crate) contested: bool,
}

/// What stands before a field's value: `,name=`.
#[derive(Debug)]
pub(crate) enum Names {
    /// Of a counter or a gauge.
    One(Span),
    /// Of a histogram.
    Histogram(Box<HistogramNames>),
}

#[derive(Debug)]
pub(crate) struct HistogramNames {
    pub(crate) count: Box<[u8]>,
    pub(crate) sum: Box<[u8]>,
    /// From the first slot that the histogram can have.
    pub(crate) slots: Box<[Box<[u8]>]>,
    pub(crate) first: usize,
}

impl Groups {
    /// Takes in the columns that are new. True where rows have to be told apart from those of another kind that did not
    /// have to be before: what is kept per row is void then.
    pub(crate) fn extend(&mut self, view: View<'_>, host: &str, namespace: &str) -> bool {
        let mut extended = false;
        for kind in view.kinds() {
            while self.0.len() <= kind.index() {
                self.0.push(Kind::new(&EntityKind::host()));
            }
            let known = &mut self.0[kind.index()];
            for column in kind.columns() {
                if column.index() >= known.known {
                    if known.known == 0 {
                        *known = Kind::new(kind.kind());
                    }
                    known.add(&column, host, namespace);
                    extended = true;
                }
            }
        }
        extended && self.contest()
    }

    /// The groups of the kind at this place.
    pub(crate) fn of(&self, kind: usize) -> Option<&Kind> {
        self.0.get(kind)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Finds the fields that lines of several kinds can have. Whether there are more of them.
    fn contest(&mut self) -> bool {
        let mut shapes: HashMap<&[u8], (usize, bool)> = HashMap::new();
        for (kind, group) in self.groups() {
            let (owner, is_common) = shapes.entry(&group.shape).or_insert((kind, false));
            *is_common |= *owner != kind;
        }
        shapes.retain(|_, (_, is_common)| *is_common);
        let mut fields: HashMap<Vec<u8>, (usize, bool)> = HashMap::new();
        for (kind, group) in self.groups().filter(|(_, group)| shapes.contains_key(&*group.shape)) {
            for name in &group.names {
                let (owner, is_common) = fields.entry(field_key(&group.shape, name)).or_insert((kind, false));
                *is_common |= *owner != kind;
            }
        }
        fields.retain(|_, (_, is_common)| *is_common);
        let mut more = false;
        if fields.is_empty() {
            return more;
        }
        for Kind { groups, text, .. } in &mut self.0 {
            for Group { fields: own, shape, .. } in groups {
                for field in own.iter_mut().filter(|field| !field.contested) {
                    field.contested = field.names.all(text).any(|name| fields.contains_key(&field_key(shape, name)));
                    more |= field.contested;
                }
            }
        }
        more
    }

    /// All groups, each with its kind's place.
    fn groups(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.0.iter().enumerate().flat_map(|(place, kind)| kind.groups.iter().map(move |group| (place, group)))
    }
}

impl Kind {
    fn new(kind: &EntityKind) -> Self {
        let names = kind.label_keys().map(|key| text::key(key).into_owned().into_boxed_str());
        let mut keys: Vec<_> = names.enumerate().map(|(place, name)| Key { name, place }).collect();
        // The server sorts tags by key anyway; of two with one key the first stays.
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        keys.dedup_by(|second, first| second.name == first.name);
        Self { known: 0, keys, groups: Vec::new(), text: Vec::new(), by_head: HashMap::new(), twins: Vec::new() }
    }

    fn add(&mut self, column: &ColumnView<'_>, host: &str, namespace: &str) {
        self.known = column.index() + 1;
        let (measured, field) = text::parts(column.name());
        let measured = text::measurement(measured, namespace);
        let tags = self.own_tags(column, host);
        // What is clean has no NUL.
        let words = tags.iter().flat_map(|(key, value)| ["\0", key, "\0", value]);
        let head = [&*measured].into_iter().chain(words).collect::<String>();
        let Self { groups, by_head, keys, text, .. } = self;
        let index = *by_head.entry(head).or_insert_with(|| {
            groups.push(Group::new(&text::escaped(&measured), &tags, keys, text));
            groups.len() - 1
        });
        let group = &mut groups[index];
        let names = Names::new(&text::field(field), column.column(), text);
        if names.all(text).any(|name| group.names.contains(name)) {
            self.twins.push(column.index());
            return;
        }
        group.names.extend(names.all(text).map(Box::from));
        group.fields.push(Field { column: column.index(), names, contested: false });
    }

    /// The tags of a column's lines that are not the row's, in the order of their keys.
    fn own_tags<'a>(&self, column: &ColumnView<'a>, host: &'a str) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        let tags = column.column().own_labels().chain(column.tags()).chain([("host", host)]);
        let tags = tags.map(|(key, value)| (text::key(key), text::clean(value)));
        let mut tags: Vec<_> = tags.filter(|(key, _)| self.keys.iter().all(|known| *known.name != **key)).collect();
        tags.sort_by(|a, b| a.0.cmp(&b.0));
        tags.dedup_by(|second, first| second.0 == first.0);
        tags
    }
}

impl Group {
    fn new(measured: &[u8], tags: &[(Cow<'_, str>, Cow<'_, str>)], keys: &[Key], text: &mut Vec<u8>) -> Self {
        let mut names: Vec<&str> =
            tags.iter().map(|(key, _)| &**key).chain(keys.iter().map(|key| &*key.name)).collect();
        names.sort_unstable();
        let mut shape = measured.to_vec();
        shape.extend(names.iter().flat_map(|name| text::tag(name, "_")));
        let (mut parts, mut piece, mut done) = (Vec::new(), measured.to_vec(), 0);
        for (key, value) in tags {
            let before = keys.partition_point(|known| *known.name < **key);
            if before > done {
                done = before;
                parts.push(Part { text: Span::new(text, &std::mem::take(&mut piece)), tags: before });
            }
            piece.extend(text::tag(key, value));
        }
        parts.push(Part { text: Span::new(text, &piece), tags: keys.len() });
        Self { parts, shape, fields: Vec::new(), names: HashSet::new() }
    }
}

/// What lines of several kinds would have in common.
fn field_key(shape: &[u8], name: &[u8]) -> Vec<u8> {
    [shape, b" ", name].concat()
}

impl Names {
    fn new(field: &[u8], column: &Column, text: &mut Vec<u8>) -> Self {
        let before = |name: &str| [b",", field, name.as_bytes(), b"="].concat().into_boxed_slice();
        if column.kind() != MetricKind::Histogram {
            return Self::One(Span::new(text, &before("")));
        }
        let (first, last) = column.slot_range();
        let (first, last) = (usize::from(first), usize::from(last));
        let slots = (first..=last).map(|slot| before(&format!("_le_{}", bound(slot, column)))).collect();
        Self::Histogram(Box::new(HistogramNames { count: before("_count"), sum: before("_sum"), slots, first }))
    }

    /// The names themselves.
    pub(crate) fn all<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let (one, histogram) = match self {
            Self::One(name) => (Some(name.of(text)), None),
            Self::Histogram(names) => (None, Some(names)),
        };
        let histogram =
            histogram.into_iter().flat_map(|names| [&names.count, &names.sum].into_iter().chain(&names.slots));
        let histogram = histogram.map(|name| &**name);
        one.into_iter().chain(histogram).map(|before| &before[1..before.len() - 1])
    }
}

/// The largest value of a slot, in the metric's unit.
fn bound(slot: usize, column: &Column) -> String {
    let scale = column.factor();
    #[expect(clippy::float_cmp, reason = "1 is what it is unless it was set")]
    let unscaled = scale == 1.0;
    let total = column.slot_bound(slot);
    if unscaled { total.to_string() } else { Scaled { total, scale }.in_unit().to_string() }
}
