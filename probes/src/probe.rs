//! A kernel probe: an object of programs and the counters that stand on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{
    BuildError, Descriptor, OptionDoc, Options, OptionsError, Probe, ProbeContext, ProbeError, ProbePlugin, Recorder,
    SeriesId,
};
use tracing::{debug, warn};

use crate::attachment::{Attachment, missed};
use crate::catalog::{hook_doubt, hook_exact, hook_info, hook_missed, hook_missed_is_bound, target_present};
use crate::exactness::{Doubt, Facts, doubts};
use crate::hook::{Attempt, Counter, CounterReport, HookReport, Output};
use crate::kernel::Kernel;
use crate::memory::MapMemory;
use crate::options::{COMMON_KEYS, Mode, ProbeOptions};
use crate::preemption::{InForce, Preemption};
use crate::standing::Standing;

/// A type of kernel probe.
#[derive(Debug)]
pub struct KernelProbe {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    /// Relocated by type information.
    pub(crate) core: &'static [u8],
    /// For kernels that have none.
    pub(crate) floor: &'static [u8],
    pub(crate) counters: &'static [Counter],
}

impl KernelProbe {
    /// Attaches, tests and detaches again.
    pub fn survey(&self, options: &Options) -> Result<Survey, BuildError> {
        let Attachment { reports, memory, .. } = Attachment::new(self, &options.extract()?)?;
        Ok(Survey { counters: reports, memory })
    }

    pub(crate) fn counters_in(&self, mode: Mode) -> impl Iterator<Item = &'static Counter> {
        self.counters.iter().filter(move |counter| mode == Mode::Return || !counter.return_only)
    }
}

/// What a probe would use on this kernel.
#[derive(Clone, Debug)]
pub struct Survey {
    /// For each counter the hook, and why not a cheaper one.
    pub counters: Vec<CounterReport>,
    /// What its maps take.
    pub memory: MapMemory,
}

impl ProbePlugin for KernelProbe {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn common_keys(&self) -> &'static [&'static str] {
        COMMON_KEYS
    }

    fn catalog(&self, options: &Options) -> Result<Vec<Arc<Descriptor>>, OptionsError> {
        let options: ProbeOptions = options.extract()?;
        let mut metrics = Vec::new();
        for output in self.counters_in(options.mode).flat_map(|counter| outputs_in(counter, options.mode)) {
            if !metrics.contains(&output.metric) {
                metrics.push(output.metric);
            }
        }
        let own = metrics.into_iter().map(crate::catalog::Metric::descriptor);
        let hooks = [hook_info(), hook_missed(), hook_missed_is_bound(), hook_exact(), hook_doubt(), target_present()];
        Ok(own.chain(hooks).collect())
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<ProbeOptions>()
    }

    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let options: ProbeOptions = options.extract()?;
        let mut attachment = Attachment::new(self, &options)?;
        for report in &attachment.reports {
            if let Some(hook) = &report.hook {
                debug!(counter = report.counter, tier = %hook.tier, function = hook.function, "hooked");
            } else {
                warn!(counter = report.counter, "no hook: {}", tried(report));
            }
        }
        if let Some(watch) = &mut attachment.watch {
            watch.tell(context.recorder, self.name);
        }
        Ok(Box::new(CountingProbe::new(self.name, attachment, options, context.recorder)))
    }
}

/// Reads the totals once per tick.
struct CountingProbe {
    name: &'static str,
    attachment: Attachment,
    options: ProbeOptions,
    /// Of the machine, as found now.
    facts: Facts,
    in_force: InForce,
    looked: Instant,
    /// By chosen counter.
    series: Vec<CounterSeries>,
    settled: bool,
}

struct CounterSeries {
    info: Option<SeriesId>,
    missed: Option<SeriesId>,
    standing: Standing,
    outputs: Vec<(&'static Output, SeriesId)>,
}

impl CountingProbe {
    fn new(name: &'static str, attachment: Attachment, options: ProbeOptions, recorder: &mut Recorder) -> Self {
        let mode = options.mode;
        let (info, missed) = (hook_info(), hook_missed());
        let series = attachment.chosen.iter().map(|chosen| {
            let HookReport { tier, layer, function, exact, doubts, .. } = &chosen.hook;
            let exact = if *exact { "yes" } else { "no" };
            let labels = [chosen.counter.name, tier.as_str(), layer.as_str(), function, exact];
            let outputs = outputs_in(chosen.counter, mode).filter_map(|output| {
                let labels: &[&str] = output.label.as_slice();
                Some((output, recorder.series(&output.metric.descriptor(), labels).ok()?))
            });
            let outputs = outputs.collect();
            CounterSeries {
                outputs,
                info: recorder.series(&info, &labels).ok(),
                missed: recorder.series(&missed, &[chosen.counter.name]).ok(),
                standing: Standing::new(recorder, chosen.counter.name, doubts, chosen.misses_are_a_bound),
            }
        });
        let series = series.collect();
        let facts = attachment.facts;
        let (in_force, looked) = (InForce::open(), Instant::now());
        Self { name, attachment, options, facts, in_force, looked, series, settled: false }
    }

    /// The preemption model may be chosen anew at any time: looked at once a minute.
    fn look_again(&mut self, recorder: &mut Recorder) {
        if self.looked.elapsed() < LOOK_AGAIN {
            return;
        }
        self.looked = Instant::now();
        let Some(preemption) = self.in_force.read().filter(|_| self.facts.preemption != Preemption::RealTime) else {
            return;
        };
        self.facts.preemption = preemption;
        for (chosen, series) in self.attachment.chosen.iter().zip(&mut self.series) {
            let found = doubts(&self.facts, chosen.candidate, &self.options);
            // Only what preemption decides can have changed.
            for doubt in [Doubt::OtherPrograms, Doubt::PreemptionUnknown, Doubt::Preempted] {
                series.standing.update(recorder, doubt, found.contains(&doubt));
            }
        }
    }
}

/// How often the preemption model is looked at.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

impl Probe for CountingProbe {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        if !std::mem::replace(&mut self.settled, true) {
            Kernel::forget();
        }
        self.look_again(recorder);
        let Attachment { links, totals, chosen, watch, .. } = &mut self.attachment;
        let watched = watch.as_mut().map_or(Ok(()), |watch| watch.look(recorder, self.name));
        links.refresh().map_err(ProbeError::new)?;
        for (chosen, series) in chosen.iter().zip(&mut self.series) {
            let missed = missed(links, chosen.candidate).map_err(ProbeError::new)?.wrapping_sub(chosen.missed_base);
            let (counted, missed) = if chosen.misses_are_calls { (missed, 0) } else { (0, missed) };
            for (part, (slots, base)) in chosen.candidate.parts.iter().zip(&chosen.base).enumerate() {
                let mut record = totals.sum(chosen.candidate.tier, slots).map_err(ProbeError::new)?.since(*base);
                record.calls = record.calls.wrapping_add(counted);
                for (output, id) in series.outputs.iter().filter(|(output, _)| output.part == part) {
                    recorder.counter(*id, output.field.of(record));
                }
            }
            if let Some(id) = series.info {
                recorder.gauge(id, 1.0);
            }
            if let Some(id) = series.missed {
                recorder.counter(id, missed);
            }
            if missed > 0 {
                series.standing.update(recorder, Doubt::Missed, true);
            }
            series.standing.record(recorder);
        }
        watched
    }
}

fn outputs_in(counter: &'static Counter, mode: Mode) -> impl Iterator<Item = &'static Output> {
    counter.outputs.iter().filter(move |output| mode == Mode::Return || !output.return_only)
}

fn tried(report: &CounterReport) -> String {
    let tried = report.tried.iter().map(|Attempt { tier, function, problem }| format!("{tier} {function}: {problem}"));
    let tried: Vec<_> = tried.collect();
    if tried.is_empty() { "no tier that the configuration allows can count it".to_owned() } else { tried.join("; ") }
}
