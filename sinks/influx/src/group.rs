//! Which columns of a kind are fields of one line: those with one measurement and the same tags.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use ebpf_process_core::{Column, ColumnView, EntityKind, MetricKind, Scaled, View, slot_bound};

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
    /// By measurement and tags.
    by_head: HashMap<Vec<u8>, usize>,
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

/// A piece of the start of a line.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) text: Box<[u8]>,
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
    One(Box<[u8]>),
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
        let mut owners: HashMap<Vec<u8>, (usize, bool)> = HashMap::new();
        for (kind, known) in self.0.iter().enumerate() {
            for (group, name) in known.groups.iter().flat_map(|group| group.names.iter().map(move |name| (group, name)))
            {
                let (owner, contested) = owners.entry(group.field_key(name)).or_insert((kind, false));
                *contested |= *owner != kind;
            }
        }
        owners.retain(|_, (_, contested)| *contested);
        let mut more = false;
        if owners.is_empty() {
            return more;
        }
        for group in self.0.iter_mut().flat_map(|kind| &mut kind.groups) {
            let Group { fields, shape, .. } = group;
            for field in fields.iter_mut().filter(|field| !field.contested) {
                field.contested = field.names.all().any(|name| owners.contains_key(&field_key(shape, name)));
                more |= field.contested;
            }
        }
        more
    }
}

impl Kind {
    fn new(kind: &EntityKind) -> Self {
        let names = kind.label_keys().map(|key| text::key(key).into_owned().into_boxed_str());
        let mut keys: Vec<_> = names.enumerate().map(|(place, name)| Key { name, place }).collect();
        // The server sorts tags by key anyway; of two with one key the first stays.
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        keys.dedup_by(|second, first| second.name == first.name);
        Self { known: 0, keys, groups: Vec::new(), by_head: HashMap::new(), twins: Vec::new() }
    }

    fn add(&mut self, column: &ColumnView<'_>, host: &str, namespace: &str) {
        self.known = column.index() + 1;
        let (measured, field) = text::parts(column.name());
        let measured = text::measurement(measured, namespace);
        let tags = self.own_tags(column, host);
        let mut head = measured.clone();
        head.extend(tags.iter().flat_map(|(key, value)| text::tag(key, value)));
        let Self { groups, by_head, keys, .. } = self;
        let index = *by_head.entry(head).or_insert_with(|| {
            groups.push(Group::new(measured, &tags, keys));
            groups.len() - 1
        });
        let group = &mut groups[index];
        let names = Names::new(&text::field(field), column.column());
        if names.all().any(|name| group.names.contains(name)) {
            self.twins.push(column.index());
            return;
        }
        group.names.extend(names.all().map(Box::from));
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
    fn new(measured: Vec<u8>, tags: &[(Cow<'_, str>, Cow<'_, str>)], keys: &[Key]) -> Self {
        let mut names: Vec<&str> =
            tags.iter().map(|(key, _)| &**key).chain(keys.iter().map(|key| &*key.name)).collect();
        names.sort_unstable();
        let mut shape = measured.clone();
        shape.extend(names.iter().flat_map(|name| text::tag(name, "_")));
        let (mut parts, mut text, mut done) = (Vec::new(), measured, 0);
        for (key, value) in tags {
            let before = keys.partition_point(|known| *known.name < **key);
            if before > done {
                done = before;
                parts.push(Part { text: std::mem::take(&mut text).into(), tags: before });
            }
            text.extend(text::tag(key, value));
        }
        parts.push(Part { text: text.into(), tags: keys.len() });
        Self { parts, shape, fields: Vec::new(), names: HashSet::new() }
    }

    /// What lines of several kinds would have in common.
    fn field_key(&self, name: &[u8]) -> Vec<u8> {
        field_key(&self.shape, name)
    }
}

fn field_key(shape: &[u8], name: &[u8]) -> Vec<u8> {
    [shape, b" ", name].concat()
}

impl Names {
    fn new(field: &[u8], column: &Column) -> Self {
        let before = |name: &str| [b",", field, name.as_bytes(), b"="].concat().into_boxed_slice();
        if column.kind() != MetricKind::Histogram {
            return Self::One(before(""));
        }
        let (first, last) = column.slot_range();
        let (first, last) = (usize::from(first), usize::from(last));
        let slots = (first..=last).map(|slot| before(&format!("_le_{}", bound(slot, column.factor())))).collect();
        Self::Histogram(Box::new(HistogramNames { count: before("_count"), sum: before("_sum"), slots, first }))
    }

    /// The names themselves.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u8]> {
        let (one, histogram) = match self {
            Self::One(name) => (Some(name), None),
            Self::Histogram(names) => (None, Some(names)),
        };
        let histogram =
            histogram.into_iter().flat_map(|names| [&names.count, &names.sum].into_iter().chain(&names.slots));
        one.into_iter().chain(histogram).map(|before| &before[1..before.len() - 1])
    }
}

/// The largest value of a slot, in the metric's unit.
fn bound(slot: usize, scale: f64) -> String {
    #[expect(clippy::float_cmp, reason = "1 is what it is unless it was set")]
    let unscaled = scale == 1.0;
    let total = slot_bound(slot);
    if unscaled { total.to_string() } else { Scaled { total, scale }.in_unit().to_string() }
}
