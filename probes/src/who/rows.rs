//! The rows of those who did something.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ebpf_process_core::{ColumnId, EntityKind, KindId, Recorder, Refused, RowId};
use ebpf_process_names::Names;
use parking_lot::Mutex;

use super::abi::Doer;
use super::apps::{Decisions, Whom};
use super::groups;
use super::identity::{ByIdentity, Key};
use super::inbox::{Gain, Inbox, Source};
use super::labels::{self, ProcessLabels};
use super::options::{By, WhoOptions};
use super::places::Places;
use super::remembered::Remembered;
use super::subtree::{LEVELS, ROOT, below_root};

/// How the threads of the kernel are called.
const KERNEL: &str = "kernel";

/// Ticks that a row stays at least after its last process: by then each probe has read its own table, and whoever takes a
/// former name again goes on in its row.
const LAST_TICKS: u64 = 2;

/// Ticks between two looks for the name of a container that has none yet.
const LOOK_AGAIN: u64 = 16;

/// The kinds that have rows with these options.
pub(crate) fn kinds(options: &WhoOptions) -> impl Iterator<Item = EntityKind> + '_ {
    options.by.iter().map(|by| options.kind(*by))
}

/// By word of the records of one table: the columns that it feeds, one for each kind in the order of the kinds.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    by_word: Vec<Vec<Vec<ColumnId>>>,
    /// By word: whether it is calls, of which somebody's activity is the number.
    calls: Vec<bool>,
    remembered: Remembered,
}

impl Feeds {
    /// A word feeds these columns as well.
    pub(crate) fn add(&mut self, word: usize, columns: Vec<ColumnId>) {
        if self.by_word.len() <= word {
            self.by_word.resize_with(word + 1, Vec::new);
        }
        self.by_word[word].push(columns);
    }

    /// A word is a number of calls.
    pub(crate) fn add_calls(&mut self, word: usize) {
        self.calls.resize(self.calls.len().max(word + 1), false);
        self.calls[word] = true;
    }

    fn activity(&self, gains: &[(usize, u64)]) -> u64 {
        let is_calls = |word: usize| self.calls.get(word).copied().unwrap_or_default();
        gains.iter().filter(|(word, _)| is_calls(*word)).map(|(_, by)| by).sum()
    }

    fn of(&self, word: usize) -> &[Vec<ColumnId>] {
        self.by_word.get(word).map_or(&[], Vec::as_slice)
    }
}

/// The rows that a probe feeds.
pub(crate) struct Rows {
    kinds: Vec<Arc<Mutex<Kind>>>,
    /// Who asks: each probe once a tick.
    reader: u64,
}

/// The rows of one kind, which several probes feed.
struct Kind {
    by: By,
    options: WhoOptions,
    id: KindId,
    key: Key,
    rows: HashMap<u64, Row, ByIdentity>,
    /// Processes, and the row that they are in.
    members: HashMap<u64, Member, ByIdentity>,
    tick: u64,
    /// When it began.
    now: Instant,
    /// Who has a row, where not everybody can.
    places: Places,
    /// At which tick each reader has asked last.
    readers: HashMap<u64, u64>,
    text: String,
    apps: Decisions,
    labels: ProcessLabels,
}

struct Row {
    id: RowId,
    /// The row of which it is a part, if it is.
    above: Option<u64>,
    /// Processes, those in its parts among them.
    members: usize,
    /// Since it has none.
    empty: Option<(u64, Instant)>,
    /// The tick at which it is looked whether its container has a name by now.
    next_look: Option<u64>,
}

/// By what a row is known.
enum Labels<'a> {
    Process(u32, Cow<'a, str>, Option<labels::Labels>),
    App(Cow<'a, str>),
    Known(Arc<str>),
}

impl Labels<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Process(_, name, _) | Self::App(name) => name,
            Self::Known(text) => text,
        }
    }
}

struct Member {
    row: u64,
    /// How it is found again without its name and group being looked at.
    settled: Option<Settled>,
    /// When it was over.
    over: Option<(u64, Instant)>,
}

/// A process under a name in a group, in a row that has all its labels.
#[derive(Clone, Copy)]
struct Settled {
    comm: [u8; 16],
    cgroup: u64,
    row: RowId,
}

static KINDS: Mutex<Vec<(KindId, Weak<Mutex<Kind>>)>> = Mutex::new(Vec::new());

impl Rows {
    /// Declares the kinds, or finds those that another probe has declared.
    pub(crate) fn new(options: &WhoOptions, reader: u64, recorder: &mut Recorder) -> Result<Self, Refused> {
        let kinds = options.by.iter().map(|by| Kind::shared(*by, options, recorder)).collect::<Result<_, _>>()?;
        Ok(Self { kinds, reader })
    }

    /// The kinds' ids, in order.
    pub(crate) fn ids(&self) -> Vec<KindId> {
        self.kinds.iter().map(|kind| kind.lock().id).collect()
    }

    /// A tick of this reader's.
    pub(crate) fn begin(&self, recorder: &mut Recorder) {
        self.kinds.iter().for_each(|kind| kind.lock().begin(self.reader, recorder));
    }

    /// Adds what was gained to the rows of whoever did it.
    pub(crate) fn record(&self, inbox: &Inbox, feeds: &mut Feeds, recorder: &mut Recorder) -> Result<(), Refused> {
        let mut rows = Vec::new();
        let mut remembered = std::mem::take(&mut feeds.remembered);
        for (index, kind) in self.kinds.iter().enumerate() {
            let mut kind = kind.lock();
            for gain in inbox.gains() {
                rows.clear();
                for (word, by) in gain.words {
                    for columns in feeds.of(*word) {
                        if rows.is_empty() {
                            kind.find(
                                &gain,
                                feeds.activity(gain.words),
                                (&mut remembered, index),
                                &mut rows,
                                recorder,
                            )?;
                        }
                        for row in &rows {
                            recorder.add(*row, columns[index], *by);
                        }
                    }
                }
            }
            inbox.ended().iter().for_each(|doer| kind.over(doer));
        }
        feeds.remembered = remembered;
        Ok(())
    }

    /// Adds to the rows `other` what was somebody's, nobody knows whose.
    pub(crate) fn record_other(&self, columns: &[ColumnId], by: u64, recorder: &mut Recorder) -> Result<(), Refused> {
        let mut rows = Vec::new();
        for (kind, column) in self.kinds.iter().zip(columns) {
            rows.clear();
            kind.lock().rows_of(Source::Told, &Doer::Other, by, &mut rows, recorder)?;
            for row in &rows {
                recorder.add(*row, *column, by);
            }
        }
        Ok(())
    }
}

impl Kind {
    fn shared(by: By, options: &WhoOptions, recorder: &mut Recorder) -> Result<Arc<Mutex<Self>>, Refused> {
        let mut shared = KINDS.lock();
        shared.retain(|(_, kind)| kind.strong_count() > 0);
        let existing = recorder.existing_kind(by.as_str());
        let known = existing.and_then(|id| shared.iter().find(|(other, _)| *other == id)?.1.upgrade());
        if let Some(known) = known {
            return Ok(known);
        }
        let id = existing.map_or_else(|| recorder.kind(options.kind(by)), Ok)?;
        let kind = Self {
            by,
            options: options.clone(),
            id,
            key: Key::default(),
            rows: HashMap::default(),
            members: HashMap::default(),
            tick: 0,
            now: Instant::now(),
            places: Places::new(options.limit(by)),
            readers: HashMap::new(),
            text: String::new(),
            apps: Decisions::default(),
            labels: ProcessLabels::new(options),
        };
        let kind = Arc::new(Mutex::new(kind));
        shared.push((id, Arc::downgrade(&kind)));
        Ok(kind)
    }

    /// A reader's turn. The first one of a tick ends the rows that are over.
    fn begin(&mut self, reader: u64, recorder: &mut Recorder) {
        if self.readers.insert(reader, self.tick) != Some(self.tick) {
            return;
        }
        self.tick += 1;
        self.now = Instant::now();
        self.readers.insert(reader, self.tick);
        let Self { members, rows, tick, .. } = self;
        members.retain(|_, member| {
            let ended = member.over.filter(|(over, _)| over + LAST_TICKS <= *tick);
            if let Some(over) = ended {
                for_each_above(rows, member.row, |row| row.leave(over));
            }
            ended.is_none()
        });
        let linger = self.linger();
        let Self { rows, tick, places, .. } = self;
        rows.retain(|identity, row| {
            let ends = row.idle(*tick).is_some_and(|since| since.elapsed() >= linger);
            if ends {
                recorder.end(row.id);
                places.leave(*identity);
            }
            !ends
        });
        // A row of subtrees stays as long as those that are parts of it.
        if self.by != By::Subtree {
            let losers = places.losers();
            for row in losers.iter().filter_map(|loser| rows.remove(loser)) {
                recorder.end(row.id);
            }
            if !losers.is_empty() {
                // Whoever gets a row again is in it from then on.
                self.members.retain(|_, member| !losers.contains(&member.row));
            }
        }
        shrink(&mut self.rows);
        shrink(&mut self.members);
    }

    /// How long rows stay after their last process. Those that only linger make room: all of them where somebody has found
    /// no place, and the oldest ones where they leave less than half of the places free.
    fn linger(&mut self) -> Duration {
        if self.places.was_crowded() || self.by == By::Process {
            return Duration::ZERO;
        }
        let too_many = self.rows.len().saturating_sub(self.options.limit(self.by).div_ceil(2));
        if too_many == 0 {
            return self.options.linger;
        }
        let mut idle: Vec<Duration> =
            self.rows.values().filter_map(|row| row.idle(self.tick)).map(|since| since.elapsed()).collect();
        idle.sort_unstable_by_key(|lasts| std::cmp::Reverse(*lasts));
        let shortest = idle.get(too_many - 1).or(idle.last()).copied().unwrap_or(self.options.linger);
        shortest.min(self.options.linger)
    }

    /// The rows of a gain of so many calls: the one that is remembered of its place, or those that are found now. `memory`
    /// has this kind's number, too.
    fn find(
        &mut self,
        gain: &Gain<'_>,
        calls: u64,
        memory: (&mut Remembered, usize),
        rows: &mut Vec<RowId>,
        recorder: &mut Recorder,
    ) -> Result<(), Refused> {
        let (Gain { source, doer, place, .. }, (remembered, kind)) = (*gain, memory);
        // What is told comes once, and says that its row may not end yet.
        if source == Source::Told {
            return self.rows_of(source, doer, calls, rows, recorder);
        }
        let known = remembered.row(place, doer, kind).filter(|(_, row)| recorder.is_living(*row));
        if let Some((identity, row)) = known {
            rows.push(self.again(identity, row, calls));
            return Ok(());
        }
        self.rows_of(source, doer, calls, rows, recorder)?;
        if let Some(settled) = self.settled(doer) {
            remembered.note(place, doer, kind, settled);
        }
        Ok(())
    }

    /// The rows that gain what this one does, in so many calls: of most kinds one.
    fn rows_of(
        &mut self,
        source: Source,
        doer: &Doer,
        calls: u64,
        rows: &mut Vec<RowId>,
        recorder: &mut Recorder,
    ) -> Result<(), Refused> {
        if self.by == By::Subtree {
            return self.rows_above(source, doer, calls, rows, recorder);
        }
        rows.push(self.row_of(source, doer, calls, recorder)?);
        Ok(())
    }

    fn row_of(&mut self, source: Source, doer: &Doer, calls: u64, recorder: &mut Recorder) -> Result<RowId, Refused> {
        if let Some((identity, row)) = self.settled(doer) {
            return Ok(self.again(identity, row, calls));
        }
        let (process, pid, name, known, cgroup) = match doer {
            Doer::Other => return recorder.other(self.id),
            // Its threads are in several groups at a time.
            Doer::Kernel { cgroup } => {
                let apart = if self.by == By::Cgroup { *cgroup } else { 0 };
                (self.key.named(apart, KERNEL), 0, KERNEL.into(), None, *cgroup)
            }
            Doer::Process { tgid, started, comm, cgroup, uid } => {
                let process = self.key.process(*tgid, *started);
                let name = String::from_utf8_lossy(text(comm));
                (process, *tgid, name, Some((*started, *uid)), *cgroup)
            }
        };
        // One that is called otherwise is another row.
        let named = self.key.named(process, &name);
        let whom = known.map(|(started, uid)| Whom { tgid: pid, started, comm: &name, uid, cgroup });
        let (row, labels) = match self.by {
            By::Process if self.labels.is_empty() => (named, Labels::Process(pid, name, None)),
            By::Process => {
                let Self { labels, apps, options, .. } = self;
                let app = || match (&options.apps, whom) {
                    // Without an app it has no such label.
                    (Some(rules), Some(whom)) => apps.app_of(rules, named, whom).unwrap_or_default(),
                    _ => (&*name).into(),
                };
                let labels = labels.of(named, whom, app);
                let row = if labels.apart.is_empty() { named } else { self.key.named(named, &labels.apart) };
                (row, Labels::Process(pid, name, Some(labels)))
            }
            By::App => {
                let app = match (&self.options.apps, whom) {
                    (Some(rules), Some(whom)) => match self.apps.app_of(rules, named, whom) {
                        Some(app) => Labels::Known(app),
                        None => return recorder.other(self.id),
                    },
                    _ => Labels::App(name),
                };
                (self.key.named(0, app.text()), app)
            }
            By::Cgroup | By::Subtree => {
                let path = groups::with(|groups| groups.path(cgroup, self.now));
                (self.key.named(0, &path), Labels::Known(path))
            }
        };
        let Some(id) = self.placed(row, None, &labels, calls, recorder)? else { return recorder.other(self.id) };
        self.join(source, process, row);
        if let (Doer::Process { comm, cgroup, .. }, Some(Row { next_look: None, .. })) = (doer, self.rows.get(&row))
            && let Some(member) = self.members.get_mut(&process).filter(|member| member.row == row)
        {
            member.settled = Some(Settled { comm: *comm, cgroup: *cgroup, row: id });
        }
        Ok(id)
    }

    /// Somebody has made so many calls more in a row that is known.
    fn again(&mut self, identity: u64, row: RowId, calls: u64) -> RowId {
        // Who is how active matters where not everybody has a place, or soon will.
        if self.places.are_scarce() {
            self.places.take(identity, calls);
        }
        row
    }

    /// The row of a process of which nothing has changed. A row has its place as long as it has members.
    fn settled(&self, doer: &Doer) -> Option<(u64, RowId)> {
        let Doer::Process { tgid, started, comm, cgroup, .. } = doer else { return None };
        let Member { row, settled, .. } = self.members.get(&self.key.process(*tgid, *started))?;
        let settled = (*settled)?;
        (settled.comm == *comm && settled.cgroup == *cgroup).then_some((*row, settled.row))
    }

    /// The rows of a doer's group and of each group above it, the uppermost first. In place of those that have no room
    /// it is `other`, once.
    fn rows_above(
        &mut self,
        source: Source,
        doer: &Doer,
        calls: u64,
        rows: &mut Vec<RowId>,
        recorder: &mut Recorder,
    ) -> Result<(), Refused> {
        let (process, cgroup) = match doer {
            // Wherever it was, it was below the root.
            Doer::Other => {
                rows.extend(self.root(calls, recorder)?);
                rows.push(recorder.other(self.id)?);
                return Ok(());
            }
            Doer::Kernel { cgroup } => (self.key.named(*cgroup, KERNEL), *cgroup),
            Doer::Process { tgid, started, cgroup, .. } => (self.key.process(*tgid, *started), *cgroup),
        };
        rows.extend(self.root(calls, recorder)?);
        let path = groups::with(|groups| groups.path(cgroup, self.now));
        let mut deepest = self.key.named(0, ROOT);
        for path in below_root(&path) {
            let row = self.key.named(0, path);
            let labels = Labels::App(Cow::Borrowed(path));
            let Some(id) = self.placed(row, Some(deepest), &labels, calls, recorder)? else {
                rows.push(recorder.other(self.id)?);
                break;
            };
            rows.push(id);
            deepest = row;
        }
        self.join(source, process, deepest);
        Ok(())
    }

    /// The row of all: it has a place before any other, and never ends.
    fn root(&mut self, calls: u64, recorder: &mut Recorder) -> Result<Option<RowId>, Refused> {
        let row = self.key.named(0, ROOT);
        let is_new = !self.rows.contains_key(&row);
        let id = self.placed(row, None, &Labels::App(Cow::Borrowed(ROOT)), calls, recorder)?;
        if let Some(root) = self.rows.get_mut(&row).filter(|_| is_new) {
            // The host is in it.
            root.enter();
        }
        Ok(id)
    }

    /// The row of an identity, which is a part of that `above`; none where it has no place.
    fn placed(
        &mut self,
        row: u64,
        above: Option<u64>,
        labels: &Labels<'_>,
        calls: u64,
        recorder: &mut Recorder,
    ) -> Result<Option<RowId>, Refused> {
        if !self.places.take(row, calls) {
            return Ok(None);
        }
        let known = self.rows.get(&row);
        if let Some(known) = known.filter(|known| known.next_look.is_none_or(|next| next > self.tick)) {
            return Ok(Some(known.id));
        }
        let (id, is_complete) = self.write(row, labels, recorder)?;
        // Too many end in this tick: it asks again.
        if recorder.is_other(id) {
            self.places.leave(row);
            return Ok(None);
        }
        let next_look = (!is_complete).then(|| self.tick + LOOK_AGAIN);
        let known = self.rows.entry(row).or_insert(Row { id, above, members: 0, empty: None, next_look });
        (known.id, known.next_look) = (id, next_look);
        Ok(Some(id))
    }

    /// Gives an entity its labels; whether they are all that there will be.
    fn write(&mut self, row: u64, labels: &Labels<'_>, recorder: &mut Recorder) -> Result<(RowId, bool), Refused> {
        let (id, is_complete) = match (labels, self.by) {
            (Labels::Process(pid, name, more), _) => {
                self.text.clear();
                // A String takes all that is written.
                let _ = write!(self.text, "{pid}");
                let more = more.iter().flat_map(|labels| labels.values.iter()).map(String::as_str);
                let labels: Vec<&str> = [self.text.as_str(), name].into_iter().chain(more).collect();
                (recorder.row(self.id, row, &labels)?, true)
            }
            (labels, By::Cgroup | By::Subtree) => {
                let path = labels.text();
                let Names { unit, container, pod, namespace, container_name } =
                    groups::with(|groups| groups.names(path));
                let is_complete = container.is_empty() || !container_name.is_empty();
                let labels = [path, unit.as_str(), &container, &pod, &namespace, &container_name];
                (recorder.row(self.id, row, &labels)?, is_complete)
            }
            (labels, _) => (recorder.row(self.id, row, &[labels.text()])?, true),
        };
        Ok((id, is_complete))
    }

    /// A process is in this row from now on. What is told of it is of before: then it stays where it is.
    fn join(&mut self, source: Source, process: u64, identity: u64) {
        let Self { members, rows, tick, now, .. } = self;
        let now = (*tick, *now);
        match members.get_mut(&process) {
            Some(member) if member.row == identity => {}
            Some(_) if source == Source::Told => for_each_above(rows, identity, |row| {
                if row.members == 0 {
                    row.empty = Some(now);
                }
            }),
            Some(member) => {
                let former = std::mem::replace(&mut member.row, identity);
                member.settled = None;
                for_each_above(rows, identity, Row::enter);
                for_each_above(rows, former, |row| row.leave(now));
            }
            None => {
                members.insert(process, Member { row: identity, settled: None, over: None });
                for_each_above(rows, identity, Row::enter);
            }
        }
    }

    fn over(&mut self, doer: &Doer) {
        let Doer::Process { tgid, started, .. } = doer else { return };
        if let Some(member) = self.members.get_mut(&self.key.process(*tgid, *started)) {
            member.over = Some((self.tick, self.now));
        }
    }
}

impl Row {
    fn enter(&mut self) {
        (self.members, self.empty) = (self.members + 1, None);
    }

    fn leave(&mut self, at: (u64, Instant)) {
        self.members = self.members.saturating_sub(1);
        if self.members == 0 {
            self.empty = Some(at);
        }
    }

    /// Since when it only lingers, if it does.
    fn idle(&self, tick: u64) -> Option<Instant> {
        self.empty.filter(|(at, _)| at + LAST_TICKS <= tick).map(|(_, since)| since)
    }
}

/// Does something with a row and with those that it is a part of.
fn for_each_above(rows: &mut HashMap<u64, Row, ByIdentity>, identity: u64, mut act: impl FnMut(&mut Row)) {
    let mut next = Some(identity);
    for _ in 0..=LEVELS {
        let Some(row) = next.and_then(|identity| rows.get_mut(&identity)) else { break };
        act(row);
        next = row.above;
    }
}

/// Gives up what a crowd took that is gone.
fn shrink<T>(map: &mut HashMap<u64, T, ByIdentity>) {
    const FEW: usize = 256;
    if map.capacity() > 4 * map.len().max(FEW) {
        map.shrink_to(2 * map.len());
    }
}

fn text(name: &[u8; 16]) -> &[u8] {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    &name[..end]
}

#[cfg(test)]
mod tests;
