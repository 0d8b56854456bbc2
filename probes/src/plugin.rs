//! What the agent knows of a kernel probe, and how one begins: an object of programs and the counters that stand on them.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ebpf_process_core::{
    Access, Assistant, BuildError, Declared, Message, OptionDoc, Options, OptionsError, Prepared, Probe, ProbeContext,
    ProbePlugin,
};
use ebpf_process_names::FOLDERS;
use parking_lot::Mutex;
use tracing::{debug, warn};

use crate::assist;
use crate::attachment::Attachment;
use crate::building::{For, build};
use crate::catalog::of_every_probe;
use crate::hook::{Attempt, CounterReport};
use crate::kernel_probe::{Declaration, KernelProbe};
use crate::memory::{MapMemory, SharedMemory};
use crate::options::{COMMON_KEYS, ProbeOptions};
use crate::probe::CountingProbe;
use crate::refusal::{REBUILD, refuse_totals};
use crate::release::Version;
use crate::who::kinds;

impl KernelProbe {
    /// Attaches, tests and detaches again.
    pub fn survey(&self, options: &Options) -> Result<Survey, BuildError> {
        let options = ProbeOptions::of(options)?;
        let mut attachment = Attachment::new(self, &options, build(self, &options, For::Myself)?)?;
        attachment.look().map_err(|error| unreadable(&error))?;
        let counters = std::mem::take(&mut attachment.reports);
        Ok(Survey { counters, memory: attachment.memory, shared: attachment.calls_memory() })
    }
}

/// What a probe would use on this kernel.
#[derive(Clone, Debug)]
pub struct Survey {
    /// For each counter the hook, and why not a cheaper one.
    pub counters: Vec<CounterReport>,
    /// What its own maps take.
    pub memory: MapMemory,
    /// What those of system calls take, if it uses them: probes with the same filter share them.
    pub shared: Option<SharedMemory>,
}

impl ProbePlugin for KernelProbe {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn is_default(&self) -> bool {
        self.is_default
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn common_keys(&self) -> &'static [&'static str] {
        COMMON_KEYS
    }

    fn catalog(&self, options: &Options) -> Result<Vec<Declared>, OptionsError> {
        let options = ProbeOptions::of(options)?;
        let mut declared: Vec<Declared> = Vec::new();
        for output in self.counters_in(options.mode).flat_map(|counter| counter.outputs_in(options.mode)) {
            let column = Declared::host(output.metric.column(output.label));
            if declared.contains(&column) {
                continue;
            }
            declared.push(column);
            for kind in options.who().iter().flat_map(kinds) {
                declared.push(Declared::new(kind, output.metric.column(output.label)));
            }
        }
        declared.extend(self.reader.iter().flat_map(|reader| (reader.columns)()));
        declared.extend(of_every_probe());
        Ok(declared)
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<ProbeOptions>()
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        let Ok(options) = ProbeOptions::of(options) else { return Vec::new() };
        let has_groups = options.by.iter().any(|by| by.is_of_groups());
        // The names of containers, where there are any.
        let folders = FOLDERS.iter().filter(|_| has_groups).map(|folder| Path::new("/").join(folder));
        let folders = folders.filter(|folder| folder.exists()).map(Access::Read);
        folders.chain(options.asks_for_executables().then_some(Access::Executables)).collect()
    }

    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let mut ready = Ready::stand(self, options, context.assistant.as_ref())?;
        ready.take_over(&mut || {})?;
        Box::new(ready).begin(context)
    }

    fn prepare(
        &self,
        options: &Options,
        assistant: Option<&Arc<dyn Assistant>>,
    ) -> Result<Option<Box<dyn Prepared>>, BuildError> {
        if Version::running() < Version(4, 15) {
            // There a trace event holds one program: a second one is refused, and lets go of the first.
            return Ok(None);
        }
        let mut ready = Ready::stand(self, options, assistant)?;
        // Nobody waits for this thread.
        ready.attachment.trial = None;
        Ok(Some(Box::new(ready)))
    }

    fn assist(&self, options: &Options, request: Message) -> Result<Message, BuildError> {
        self.answer(&ProbeOptions::of(options)?, request)
    }
}

/// Two that are built at the same time would not know what of the programs of system calls the other one attaches.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A probe whose programs stand.
struct Ready {
    name: &'static str,
    reader: Option<Declaration>,
    options: ProbeOptions,
    attachment: Attachment,
}

impl Ready {
    fn stand(
        probe: &KernelProbe,
        options: &Options,
        assistant: Option<&Arc<dyn Assistant>>,
    ) -> Result<Self, BuildError> {
        let options = ProbeOptions::of(options)?;
        let _alone = ONE_AT_A_TIME.lock();
        let built = match assistant {
            Some(assistant) => assist::build(probe, &options, assistant)?,
            None => build(probe, &options, For::Myself)?,
        };
        let attachment = Attachment::new(probe, &options, built)?;
        Ok(Self { name: probe.name, reader: probe.reader, options, attachment })
    }
}

impl Prepared for Ready {
    /// Where both stand on the same programs of system calls, the baseline is what the predecessor has had last: nothing is
    /// lost or counted twice. Programs of their own are two: both count what happens between two reads of memory.
    fn take_over(&mut self, ask_predecessor: &mut dyn FnMut()) -> Result<(), BuildError> {
        let looked = self.attachment.look();
        ask_predecessor();
        looked.and_then(|()| self.attachment.set_baseline()).map_err(|error| unreadable(&error))
    }

    fn begin(self: Box<Self>, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let Self { name, reader, options, mut attachment } = *self;
        for report in &attachment.reports {
            if let Some(hook) = &report.hook {
                debug!(counter = report.counter, tier = %hook.tier, function = hook.function, "hooked");
            } else if report.absent {
                debug!(counter = report.counter, "nothing to count: {}", tried(report));
            } else {
                let reason = tried(report);
                warn!(counter = report.counter, "no hook: {reason}");
                context.vitals.add_uncounted(report.counter, reason);
            }
        }
        if let Some(watch) = &mut attachment.watch {
            watch.tell(context.recorder, name)?;
        }
        let reader = match (&reader, attachment.maps()) {
            (None, _) => None,
            (Some(reader), Ok(Some(maps))) => Some(((reader.make)(context.recorder)?, maps)),
            (Some(_), Ok(None)) => return Err(BuildError::refused("a reader needs an object with maps", REBUILD)),
            (Some(_), Err(error)) => return Err(refuse_totals("the maps cannot be had", &error)),
        };
        Ok(Box::new(CountingProbe::new(name, attachment, options, reader, context.assistant, context.recorder)?))
    }
}

fn tried(report: &CounterReport) -> String {
    let tried = report.tried.iter().map(|Attempt { tier, function, problem }| format!("{tier} {function}: {problem}"));
    let tried: Vec<_> = tried.collect();
    if tried.is_empty() { "no tier that the configuration allows can count it".to_owned() } else { tried.join("; ") }
}

fn unreadable(error: &io::Error) -> BuildError {
    refuse_totals("cannot read the totals", error)
}
