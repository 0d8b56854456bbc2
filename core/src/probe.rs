//! What a probe promises, and what it is given.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Access;
use crate::assistant::{Assistant, Message};
use crate::entity::{ColumnId, Declared, EntityKind, KindId, Refused, RowId};
use crate::error::{BuildError, ProbeError};
use crate::metric::Column;
use crate::opener::{Direct, Opener};
use crate::option_doc::OptionDoc;
use crate::options::{Options, OptionsError};
use crate::recorder::Recorder;
use crate::trial::Finding;
use crate::vitals::Vitals;

/// Reads numbers once per tick.
///
/// Building a probe attaches whatever it needs, dropping it detaches. All probes are asked one
/// after another by the one collecting thread, so a slow probe delays the tick: its time is a
/// vital, and one that takes longer than an interval is left out of the next tick, which is counted
/// and said in that batch. One that panics is dropped and, where the agent knows how, built anew.
pub trait Probe: Send {
    /// Records the current totals and levels.
    ///
    /// An error means that the rest of this probe's numbers is missing in this batch, and says whether that is a failure,
    /// which is counted and logged, a tick without numbers, or the end of the probe; except at its end it is asked again at
    /// the next tick.
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError>;
}

/// What a probe is built with.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProbeContext<'a> {
    /// What the configuration calls this probe: its type, unless a type is [named](ProbePlugin::is_named).
    pub name: &'a str,
    /// Declares the kinds and columns, and makes the rows, whose values the probe will record.
    pub recorder: &'a mut Recorder,
    /// The time between two ticks.
    pub interval: Duration,
    /// The agent's own numbers.
    pub vitals: Arc<Vitals>,
    /// Who loads and attaches in place of this process, where it gives up the rights for that.
    pub assistant: Option<Arc<dyn Assistant>>,
    /// Opens what the probe has named in [`ProbePlugin::opens`], at any later time and from any thread; nothing else with
    /// more rights than the agent's user has.
    pub opener: Arc<dyn Opener>,
}

impl<'a> ProbeContext<'a> {
    /// What a probe of this name is built with by an agent that has all rights and no numbers so far. What is different is
    /// set in the fields.
    pub fn new(name: &'a str, recorder: &'a mut Recorder, interval: Duration) -> Self {
        let opener = Arc::new(Direct::default());
        Self { name, recorder, interval, vitals: Arc::default(), assistant: None, opener }
    }

    /// Declares a kind of rows: [`Recorder::kind`].
    pub fn kind(&mut self, kind: EntityKind) -> Result<KindId, Refused> {
        self.recorder.kind(kind)
    }

    /// Declares a column of that kind: [`Recorder::column`].
    pub fn column(&mut self, kind: KindId, column: Column) -> Result<ColumnId, Refused> {
        self.recorder.column(kind, column)
    }

    /// Makes a row: [`Recorder::row`].
    pub fn row(&mut self, kind: KindId, identity: u64, labels: &[&str]) -> Result<RowId, Refused> {
        self.recorder.row(kind, identity, labels)
    }
}

/// A probe that is ready to count and has not begun. Dropping it detaches.
pub trait Prepared: Send {
    /// Takes over: what happens from here on is this probe's to count. Called on the collecting thread, so it only reads
    /// what it counts from.
    ///
    /// `ask_predecessor` has whoever counted before, if somebody did, record for the last time. It is to be called once, as
    /// close as can be to where this one begins: what happens between the two is counted twice or not at all.
    fn take_over(&mut self, ask_predecessor: &mut dyn FnMut()) -> Result<(), BuildError>;

    /// Declares what it records, and is a probe from here on. The predecessor has been asked, and its rows and columns are
    /// whoever's who asks for them.
    fn begin(self: Box<Self>, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError>;
}

/// A type of probe: what the table `[probes.NAME]` configures.
pub trait ProbePlugin: Send + Sync {
    /// The name in the configuration: lower-case, one word.
    fn name(&self) -> &str;

    /// One line for `list probes`.
    fn summary(&self) -> &str;

    /// Whether it runs where the configuration does not say.
    fn is_default(&self) -> bool {
        true
    }

    /// Whether there may be any number of its probes, each with a name of its own: `[probes.NAME]` with `type`, as with
    /// sinks. Without such a table there is none. What they are called is their [`ProbeContext::name`].
    fn is_named(&self) -> bool {
        false
    }

    /// The plugin as what it is, for a program that knows more of it than this trait says.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }

    /// Keys of the common table `[probes]` that this probe understands: they reach it as if they
    /// stood in its own table, which wins.
    fn common_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// The keys of its options, the common ones included, for `list options` and the documentation;
    /// [`OptionDoc::of`] reads them from the type that takes them.
    fn options(&self) -> Vec<OptionDoc> {
        Vec::new()
    }

    /// What it opens after the agent has given up most of its rights; see [`SinkPlugin::opens`](crate::SinkPlugin::opens).
    fn opens(&self, _options: &Options) -> Vec<Access> {
        Vec::new()
    }

    /// What would tell `check` that the probe works: is the program there, is the file readable. Nothing is left behind, started
    /// or attached. Called on the main thread by any user, and also while an agent runs. The options have passed
    /// [`catalog`](Self::catalog). The default says what of that which it [opens](Self::opens) is missing; of kernel probes
    /// `check` tells by itself.
    fn try_out(&self, options: &Options) -> Vec<Finding> {
        self.opens(options).iter().filter_map(Access::examine).collect()
    }

    /// The columns that it has with these options, each on its kind. Reads the options without side effects; an
    /// error is a wrong configuration.
    fn catalog(&self, options: &Options) -> Result<Vec<Declared>, OptionsError>;

    /// Attaches, or has it done by the [assistant](ProbeContext::assistant), where there is one. Called on the main thread
    /// before any other thread exists and before the agent gives up its rights, so it may fork, and must start no thread; or
    /// later on the collecting thread, where nothing was [prepared](Self::prepare).
    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError>;

    /// Does what takes time of a probe that comes while the agent runs, on a thread that may wait. One of the same name may
    /// count meanwhile, with other options, and goes on until this one [takes over](Prepared::take_over).
    ///
    /// Nothing where that is no use, or where there cannot be two: then [`build`](Self::build) does it all, on the
    /// collecting thread, once the one before is gone, and what happens in between is not counted.
    fn prepare(
        &self,
        _options: &Options,
        _assistant: Option<&Arc<dyn Assistant>>,
    ) -> Result<Option<Box<dyn Prepared>>, BuildError> {
        Ok(None)
    }

    /// Does what the same plugin asks of its [assistant](ProbeContext::assistant) in a process without rights; this runs in
    /// one that has them, with the options that are configured there. Nothing of the request is taken on trust.
    fn assist(&self, _options: &Options, _request: Message) -> Result<Message, BuildError> {
        Err(BuildError::refused(
            format!("the probe {} asks nothing of a process with more rights", self.name()),
            "this is a mistake in the probe, please report it",
        ))
    }
}
