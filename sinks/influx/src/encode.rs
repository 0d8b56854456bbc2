//! From a view to line protocol.

use ebpf_process_core::{Edition, RowCache, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::group::Groups;
use crate::row::{Claims, Row};
use crate::writer::{End, Integers, Writer};

/// What is on one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// All numbers of one row with the same measurement and tags, as fields.
    #[default]
    PerRow,
    /// One number.
    PerValue,
}

/// Makes the lines for each view, in a buffer that it uses again.
///
/// What it writes depends on the views it has seen and on nothing else. A row's tags and a column's names are rendered
/// once; a view in which nothing comes or goes allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    host: String,
    namespace: String,
    form: Form,
    writer: Writer,
    groups: Groups,
    rows: RowCache<Row>,
    claims: Claims,
    edition: Edition,
}

/// The lines for one view.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    /// Whole lines.
    pub bytes: &'a [u8],
    ends: &'a [End],
    /// How many samples they carry.
    pub samples: u64,
    /// How many samples have no line, because another row has the same tags, or another column the same name.
    pub rejected: u64,
    /// How many samples have no line, because a number of theirs is larger than the server's integers.
    pub too_large: u64,
}

impl<'a> Lines<'a> {
    /// Line by line, each with its line break, and how many samples it carries.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], u32)> + use<'a> {
        let Self { bytes, ends, .. } = *self;
        let starts = std::iter::once(0).chain(ends.iter().map(|end| end.at));
        starts.zip(ends).map(move |(start, end)| (&bytes[start..end.at], end.samples))
    }
}

impl Encoder {
    /// An encoder for the samples of this host.
    pub fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            namespace: String::new(),
            form: Form::default(),
            writer: Writer::default(),
            groups: Groups::default(),
            rows: RowCache::default(),
            claims: Claims::default(),
            edition: Edition::default(),
        }
    }

    /// Writes integers in another way than `7i`.
    #[must_use]
    pub fn with_integers(mut self, integers: Integers) -> Self {
        self.writer.set_integers(integers);
        self
    }

    /// Writes this word and `_` before each measurement.
    #[must_use]
    pub fn with_namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// Says what is on one line.
    #[must_use]
    pub const fn with_form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Writes several lines where one would be longer than so many bytes; a single number's may be.
    #[must_use]
    pub fn with_longest(mut self, longest: usize) -> Self {
        self.writer.set_longest(longest);
        self
    }

    /// What this host is called from now on.
    pub fn set_host(&mut self, host: &str) {
        if self.host != host {
            host.clone_into(&mut self.host);
            // Every line has it.
            self.forget();
        }
    }

    /// Forgets all texts: the next view's lines are made anew.
    fn forget(&mut self) {
        self.groups.clear();
        self.rows.clear();
        self.claims.clear();
    }

    /// The lines for a view.
    pub fn encode(&mut self, view: &View<'_>) -> Lines<'_> {
        if self.edition.is_another(view) {
            self.forget();
        }
        let Self { host, namespace, form, writer, groups, rows, claims, .. } = self;
        if groups.extend(*view, host, namespace) {
            rows.clear();
            claims.clear();
        }
        rows.update(view, |row| row.release(claims));
        writer.begin();
        let (mut rejected, mut too_large) = (0, 0);
        for kind in view.kinds() {
            let Some(known) = groups.of(kind.index()) else { continue };
            for row in kind.rows() {
                let own = rows.entry(&row, || Row::new(&row, kind.index(), known, claims));
                if row.is_final() {
                    own.end(row.tick().seq, claims);
                }
                if own.is_twin {
                    rejected += row.cells().count();
                    continue;
                }
                rejected += known.twins.iter().filter(|column| row.value(**column).is_some()).count();
                writer.at(row.tick().wall);
                for group in &known.groups {
                    let mut begun = false;
                    for field in &group.fields {
                        let Some(value) = row.value(field.column) else { continue };
                        if own.has_twin(field.column) {
                            rejected += 1;
                            continue;
                        }
                        if !writer.can_say(value) {
                            too_large += 1;
                            continue;
                        }
                        if !begun {
                            writer.open(&group.parts, &known.text, own);
                        }
                        writer.field(&field.names, &known.text, value);
                        begun = *form == Form::PerRow;
                        if !begun {
                            writer.close();
                        }
                    }
                    if begun {
                        writer.close();
                    }
                }
            }
        }
        let Writer { bytes, ends, samples, .. } = writer;
        Lines { bytes, ends, samples: *samples, rejected: rejected as u64, too_large }
    }
}
