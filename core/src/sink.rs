//! What a sink promises, and what it is given.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::access::Access;
use crate::error::{BuildError, SinkError};
use crate::host::HostName;
use crate::ledger::Ledger;
use crate::opener::{Direct, Opener};
use crate::option_doc::OptionDoc;
use crate::options::{Options, OptionsError};
use crate::trial::{Finding, TrialContext};
use crate::view::View;
use crate::waker::Waker;

/// Takes views of batches and writes them somewhere.
///
/// A sink lives on a thread of its own: its methods are never called at the same time, and it may
/// wait as long as it likes. While it waits, its queue fills and batches are dropped and counted;
/// nobody else notices.
pub trait Sink: Send {
    /// Writes one view.
    ///
    /// Views come in order, but not all of them: a full queue loses some. Counters are totals, so
    /// a lost view costs resolution and no events. `Ok` means that the view counts as written
    /// (unless [`settles`](Self::settles) says otherwise); what an error means stands at
    /// [`SinkError`].
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError>;

    /// Pushes out what is buffered. Called whenever the queue has run empty, and after as many views
    /// as it has room for. Where the outlet settles, a view is written when the flush after it has
    /// succeeded; where that fails, so have all views since the last one.
    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// When [`flush`](Self::flush) should be called again though no view came: for a later attempt,
    /// or for what has waited long enough. `None` is not before the next view or a
    /// [call](SinkContext::waker), a moment that is past is at once. Asked after each flush, with an empty queue; a sink that has always
    /// something due keeps its thread busy.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Ends the output in order. Called once, after the last view and its flush, on a clean stop;
    /// not after [`SinkErrorKind::Closed`](crate::SinkErrorKind::Closed), and not when the grace period is over.
    fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Gives up what is not delivered yet, for a sink that takes this one's place and delivers the same to the same place
    /// ([`SinkPlugin::succeeds`]). Called once, in place of [`close`](Self::close), after the last view and its flush. With
    /// `None`, the default, there is nothing to give, and `close` is called.
    fn bequeath(&mut self) -> Option<Legacy> {
        None
    }

    /// Takes what a predecessor has not delivered: its samples are in this sink's ledger, queued. Called before the first
    /// view, and only with what a sink of the same type gave. The default lets go of it, so that its samples are dropped
    /// when the sink ends.
    fn inherit(&mut self, _legacy: Legacy) {}

    /// Who enters a view's samples in the ledger.
    fn settles(&self) -> Settlement {
        Settlement::OnReturn
    }
}

/// Who says what became of a view's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The outlet, from the return values of [`Sink::write`] and the [`flush`](Sink::flush) after it:
    /// all written or all failed. The rows that have ended come again with the next view until they are written.
    OnReturn,
    /// The sink itself, through [`SinkContext::ledger`], sample by sample, also when it fails: for
    /// partial or later acknowledgement. With `Ok` from [`Sink::write`] it has the view's ended rows for good,
    /// whatever becomes of them; after [`SinkErrorKind::Failed`](crate::SinkErrorKind::Failed) it is given and offered them again. One exception: when it returns [`SinkErrorKind::Closed`](crate::SinkErrorKind::Closed) the
    /// outlet counts the whole view as failed, so the sink must have settled nothing of it. Where it panics, what
    /// it has not settled is dropped with the rest.
    BySink,
}

/// What a sink leaves to the one that takes its place.
#[non_exhaustive]
pub struct Legacy {
    /// How many samples that are queued in the sink's ledger it has; each sample is in one of both ledgers afterwards.
    pub samples: u64,
    /// What the sinks of one type know.
    pub content: Box<dyn Any + Send>,
}

impl Legacy {
    /// So many queued samples, and what a sink of the same type makes of them.
    pub fn new(samples: u64, content: impl Any + Send) -> Self {
        Self { samples, content: Box::new(content) }
    }
}

impl fmt::Debug for Legacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Legacy").field("samples", &self.samples).finish_non_exhaustive()
    }
}

/// What a sink knows about the agent it works for.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// The sink's name in the configuration.
    pub name: String,
    /// This host's name.
    pub host: HostName,
    /// The agent's name among several on this host, if it has one. What a sink keeps on this host for itself
    /// (a spool, a lock) has this in its path; the tag `instance` is added by the agent.
    pub instance: Option<String>,
    /// The time between two batches for this sink.
    pub interval: Duration,
    /// What the numbers describe.
    pub scope: Scope,
    /// Says when the agent is stopping, and how long a sink may still take.
    pub stop: Stop,
    /// This sink's book of samples.
    pub ledger: Arc<Ledger>,
    /// Whether the agent has counted before this sink was there: then totals do not begin at 0 with its first view, and a
    /// sink that sends increments has those since then to send. What was sent before is its predecessor's, if it had one.
    pub joins: bool,
    /// Opens what the sink has named in [`SinkPlugin::opens`], also where the agent's user may not.
    pub opener: Arc<dyn Opener>,
}

impl SinkContext {
    /// What a sink of this name is given by an agent of this host that has no rights to give up. What is different is
    /// set in the fields.
    pub fn new(name: impl Into<String>, interval: Duration) -> Self {
        Self {
            name: name.into(),
            host: HostName::system(),
            instance: None,
            interval,
            scope: Scope::Host,
            stop: Stop::default(),
            ledger: Arc::new(Ledger::default()),
            opener: Arc::new(Direct::default()),
            joins: false,
        }
    }

    /// Has this sink's [`flush`](Sink::flush) called, from any thread.
    pub fn waker(&self) -> Waker {
        self.ledger.waker().clone()
    }
}

/// What the kernel's numbers describe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Everything on the host.
    #[default]
    Host,
    /// One process or control group, by a filter in the kernel: differences between counters
    /// (started - exited) have no meaning then.
    Filtered,
}

/// Tells a sink whether the agent is stopping.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    deadline: Arc<Mutex<Option<Instant>>>,
}

impl Stop {
    /// `None` while the agent runs; afterwards how much of the grace period is left.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.lock().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Says that a stop has begun; the first one counts. Returns when the grace period is over.
    pub(crate) fn begin(&self, grace: Duration) -> Instant {
        let deadline = Instant::now() + grace;
        *self.deadline.lock().get_or_insert(deadline)
    }
}

/// What a sink's options ask for that other sinks may not have as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// It writes to standard output, which one sink at most may own.
    pub stdout: bool,
}

impl Claims {
    /// Standard output, if it writes there; nothing else.
    pub const fn stdout(writes: bool) -> Self {
        Self { stdout: writes }
    }
}

/// A type of sink: what the configuration's `type = "..."` names.
pub trait SinkPlugin: Send + Sync {
    /// The type's name in the configuration: lower-case, one word.
    fn name(&self) -> &str;

    /// One line for `list sinks`.
    fn summary(&self) -> &str;

    /// Reads the options without side effects: no file, no network. An error is a wrong
    /// configuration.
    fn check(&self, options: &Options) -> Result<Claims, OptionsError>;

    /// The keys of its options, for `list options` and the documentation; [`OptionDoc::of`] reads them from the type
    /// that takes them.
    fn options(&self) -> Vec<OptionDoc> {
        Vec::new()
    }

    /// Makes a sink. Called on the main thread, before the sink's own thread exists.
    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError>;

    /// What would tell `check` that the sink works: is the path writable, is the port free, does the receiver
    /// answer. Nothing is left behind, and what is there stays as it is: no file, no lock, no database, no
    /// connection, and no number at the receiver. Called on a thread of its own, beside the trials of other
    /// sinks, by any user and also while an agent runs; a panic is a finding. The options have passed
    /// [`check`](Self::check). The default says what of that which it [opens](Self::opens) is missing.
    fn try_out(&self, options: &Options, _context: &TrialContext) -> Vec<Finding> {
        self.opens(options).iter().filter_map(Access::examine).collect()
    }

    /// Where, with these options, the numbers go: in words that are equal for equal places and on one line, such
    /// as `udp://127.0.0.1:8125`, without any secret. Of two agents with one destination the second leaves the
    /// sink out, since its numbers would be added to the first one's or overwrite them. `None`, the default, is
    /// a destination that agents may share, or that keeps a second one out by itself.
    fn destination(&self, _options: &Options) -> Option<String> {
        None
    }

    /// Whether a sink with the options `now` may deliver what one with the options `before` has not: both send the same to
    /// the same place, and differ in how they go about it (times, sizes, a token). The undelivered is then
    /// [handed over](Sink::bequeath) when a configuration changes; otherwise it has the grace period.
    fn succeeds(&self, _before: &Options, _now: &Options) -> bool {
        false
    }

    /// Whether, with these options, the sink does nothing but write to standard output and connect
    /// to network addresses: it opens no file or spool, runs no program and does not listen. An
    /// agent that was started setuid or with file capabilities builds no other sink.
    fn confined(&self, _options: &Options) -> bool {
        false
    }

    /// What the sink opens, with these options, after the agent has given up most of its rights: in [`build`](Self::build)
    /// and whenever it opens something anew. Without side effects, as [`check`](Self::check). It opens them by
    /// [`SinkContext::opener`], which opens nothing else with more rights than the agent's user has: paths and addresses
    /// are compared as they are written here. What is not named here is opened without any right, and only where
    /// everybody's libraries, configuration and certificates are: other paths are closed to the agent by then
    /// (`docs/security.md`), and so are programs, signals to others and system calls that the agent itself does not make.
    fn opens(&self, _options: &Options) -> Vec<Access> {
        Vec::new()
    }

    /// Whether the sink gets every kind of entity where its configuration has no `kinds`. The default is every kind but
    /// `process`: who wants process ids in a database says so.
    fn takes_every_kind(&self) -> bool {
        false
    }

    /// The options with which this sink prints a batch on standard output, if it can: what makes
    /// it a `--format` of `ebpf-process once`.
    fn stdout_options(&self) -> Option<Options> {
        None
    }
}
