//! A kernel probe: an object of programs and the counters that stand on them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{Array, CgroupArray, Map, MapData};
use aya::{Ebpf, EbpfError, EbpfLoader};
use ebpf_process_core::{
    BuildError, Descriptor, Options, OptionsError, Probe, ProbeContext, ProbeError, ProbePlugin, Recorder, SeriesId,
    chain,
};
use tracing::{debug, warn};

use crate::abi::{FilterSetting, Record};
use crate::attach::Links;
use crate::catalog::{hook_info, hook_missed};
use crate::doctor::missing_rights;
use crate::hook::{Attempt, Candidate, Counter, CounterReport, HookReport, Layer, Output, Subject};
use crate::kernel::{Kernel, open_cgroup, own_cgroup};
use crate::options::{COMMON_KEYS, Hooks, Mode, ObjectChoice, Only, ProbeOptions};
use crate::totals::Totals;
use crate::tracefs::NOT_MOUNTED;

/// How long the self-test waits for a counter that moves a little after its operation: a release
/// is seen one RCU grace period later.
const PROOF_WAIT: Duration = Duration::from_millis(60);

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
    /// Attaches, tests and detaches again: what would be used on this kernel, and why not more.
    pub fn survey(&self, options: &Options) -> Result<Vec<CounterReport>, BuildError> {
        Ok(self.attach(&options.extract()?)?.reports)
    }

    fn counters_in(&self, mode: Mode) -> impl Iterator<Item = &'static Counter> {
        self.counters.iter().filter(move |counter| mode == Mode::Return || !counter.return_only)
    }

    fn attach(&self, options: &ProbeOptions) -> Result<Attachment, BuildError> {
        let kernel = Kernel::shared().map_err(|problem| refused(&problem, "mount /sys and /proc"))?;
        if let Ok(tracefs) = &kernel.tracefs
            && let Err(error) = tracefs.sweep()
        {
            debug!("cannot sweep the kprobe events of dead agents: {error}");
        }
        let target = Target::open(options.only.as_ref())?;
        let (mut ebpf, object) = self.load(options.object, &kernel, &target)?;
        let mut filter = Filter::take(&mut ebpf, object)?;
        let totals = match ebpf.map("totals") {
            Some(Map::PerCpuArray(map)) => map.fd().as_fd().try_clone_to_owned(),
            _ => Err(io::Error::other("the object has no totals")),
        };
        let totals = totals.map_err(|error| refused(&error.to_string(), "rebuild the object: cargo xtask bpf"))?;
        let totals = Totals::new(totals, kernel.possible_cpus);
        let mut attachment =
            Attachment { links: Links::new(), ebpf, object, totals, chosen: Vec::new(), reports: Vec::new() };
        for counter in self.counters_in(options.mode) {
            attachment.choose(&kernel, counter, options, &target, &mut filter);
        }
        filter.aim(&target)?;
        attachment
            .set_baseline()
            .map_err(|error| refused(&format!("cannot read the totals: {error}"), &try_as_root()))?;
        if attachment.chosen.is_empty() {
            return Err(nothing_attached(self.name, &attachment.reports));
        }
        Ok(attachment)
    }
}

impl KernelProbe {
    /// Loads the object that the configuration names, or the best that this kernel takes.
    fn load(&self, choice: ObjectChoice, kernel: &Kernel, target: &Target) -> Result<(Ebpf, Object), BuildError> {
        let floor = || EbpfLoader::new().btf(None).load(self.floor).map(|ebpf| (ebpf, Object::Floor));
        let core = |btf| {
            let mut loader = EbpfLoader::new();
            let kind = target.kind();
            loader.btf(Some(btf)).override_global("filter_kind", &kind, true).load(self.core)
        };
        let loaded = match (choice, &kernel.btf) {
            (ObjectChoice::Floor, _) | (ObjectChoice::Auto, Err(_)) => floor(),
            (ObjectChoice::Core, Err(problem)) => {
                return Err(refused(problem, "set probes.object = \"auto\", or use a kernel with type information"));
            }
            (ObjectChoice::Core, Ok(btf)) => core(btf).map(|ebpf| (ebpf, Object::Core)),
            // What an old kernel with type information lacks (global data, a map type) shows here.
            (ObjectChoice::Auto, Ok(btf)) => match core(btf) {
                Ok(ebpf) => Ok((ebpf, Object::Core)),
                Err(error) => floor().map_err(|_also| error),
            },
        };
        loaded.map_err(|error| refuse_load(&error))
    }
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
        Ok(own.chain([hook_info(), hook_missed()]).collect())
    }

    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let options: ProbeOptions = options.extract()?;
        let attachment = self.attach(&options)?;
        for report in &attachment.reports {
            if let Some(hook) = &report.hook {
                debug!(counter = report.counter, tier = %hook.tier, function = hook.function, "hooked");
            } else {
                warn!(counter = report.counter, "no hook: {}", tried(report));
            }
        }
        Ok(Box::new(CountingProbe::new(attachment, options.mode, context.recorder)))
    }
}

/// Which of a probe's objects is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    Core,
    Floor,
}

/// The kernel's side of a probe: what is attached, and where its numbers are.
struct Attachment {
    links: Links,
    ebpf: Ebpf,
    object: Object,
    totals: Totals,
    chosen: Vec<Chosen>,
    reports: Vec<CounterReport>,
}

/// A counter and what counts it.
struct Chosen {
    counter: &'static Counter,
    candidate: &'static Candidate,
    hook: HookReport,
    base: Vec<Record>,
    missed_base: u64,
}

impl Attachment {
    /// Attaches the first candidate that is allowed, can be attached and proves itself.
    fn choose(
        &mut self,
        kernel: &Kernel,
        counter: &'static Counter,
        options: &ProbeOptions,
        target: &Target,
        filter: &mut Filter,
    ) {
        let mut tried = Vec::new();
        let mut hook = None;
        for candidate in candidates(kernel, counter, options) {
            if candidate.hooks.iter().any(|hook| self.ebpf.program(hook.program).is_none()) {
                continue; // a way of the other object
            }
            if let Some(problem) = unfiltered(counter.subject, target, self.object) {
                tried.push(attempt(candidate, problem.to_owned()));
                continue;
            }
            match self.try_candidate(kernel, counter, candidate, target, filter) {
                Ok(proven) => {
                    let report = HookReport {
                        tier: candidate.tier,
                        layer: candidate.layer,
                        function: functions(candidate),
                        exact: kernel.is_exact(candidate.tier),
                        proven,
                    };
                    hook = Some(report.clone());
                    self.chosen.push(Chosen { counter, candidate, hook: report, base: Vec::new(), missed_base: 0 });
                    break;
                }
                Err(problem) => tried.push(attempt(candidate, problem)),
            }
        }
        self.reports.push(CounterReport { counter: counter.name, hook, tried });
    }

    /// Attaches all hooks of a candidate and does its operation once; says whether that proved
    /// the hooks, or why they cannot be used.
    fn try_candidate(
        &mut self,
        kernel: &Kernel,
        counter: &Counter,
        candidate: &'static Candidate,
        target: &Target,
        filter: &mut Filter,
    ) -> Result<bool, String> {
        let mut attached = 0;
        let mut outcome = Ok(false);
        for hook in candidate.hooks {
            outcome = self.links.attach(&mut self.ebpf, kernel, hook).map(|()| false);
            if outcome.is_err() {
                break;
            }
            attached += 1;
        }
        if outcome.is_ok() {
            outcome = self.prove(counter, candidate, target, filter);
        }
        if outcome.is_err() {
            for hook in &candidate.hooks[..attached] {
                self.links.detach(&mut self.ebpf, hook);
            }
        }
        outcome
    }

    fn prove(
        &mut self,
        counter: &Counter,
        candidate: &Candidate,
        target: &Target,
        filter: &mut Filter,
    ) -> Result<bool, String> {
        if let Err(error) = filter.aim_at_self(target) {
            debug!(counter = counter.name, "not proven: {error}");
            return Ok(false);
        }
        let before = self.proofs(candidate).map_err(|error| format!("cannot read the totals: {error}"))?;
        if let Err(error) = (counter.exercise)(&mut |pid| filter.aim_at_pid(target, pid)) {
            debug!(counter = counter.name, "not proven: {error}");
            return Ok(false);
        }
        let deadline = Instant::now() + PROOF_WAIT;
        loop {
            let after = self.proofs(candidate).map_err(|error| format!("cannot read the totals: {error}"))?;
            if before.iter().zip(&after).all(|(before, after)| before != after) {
                return Ok(true);
            }
            // A call counts before it returns; an event in the life of a task comes when the kernel
            // likes, and late is not never.
            if candidate.layer != Layer::Task {
                return Err("attached, but does not fire".to_owned());
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }

    /// The record that each hook of a candidate must move.
    fn proofs(&mut self, candidate: &Candidate) -> io::Result<Vec<Record>> {
        let proofs = candidate.hooks.iter().filter(|hook| !hook.proof.is_empty());
        proofs.map(|hook| self.totals.sum(hook.proof)).collect()
    }

    fn set_baseline(&mut self) -> io::Result<()> {
        self.links.refresh()?;
        for chosen in &mut self.chosen {
            let parts = chosen.candidate.parts.iter();
            chosen.base = parts.map(|slots| self.totals.sum(slots)).collect::<io::Result<_>>()?;
            chosen.missed_base = missed(&self.links, chosen.candidate)?;
        }
        Ok(())
    }
}

/// The candidates in the order in which they are tried.
fn candidates<'a>(kernel: &Kernel, counter: &'a Counter, options: &ProbeOptions) -> Vec<&'a Candidate> {
    let all = if options.mode == Mode::Return { counter.results } else { counter.entry };
    let mut allowed: Vec<_> = all.iter().filter(|candidate| options.hooks.allows(candidate.tier)).collect();
    if options.hooks == Hooks::Auto {
        // Stable: among exact ones, and among the others, the cheapest stays first.
        allowed.sort_by_key(|candidate| !kernel.is_exact(candidate.tier));
    }
    allowed
}

/// Why a filter cannot be honoured, if it cannot: a number is never approximated.
const fn unfiltered(subject: Subject, target: &Target, object: Object) -> Option<&'static str> {
    match (subject, target, object) {
        (Subject::Other, Target::Cgroup(_), _) => Some("cannot be filtered by control group: the task is not current"),
        (Subject::Other, Target::Pid(_), Object::Floor) => {
            Some("cannot be filtered by process without the kernel's type information: the task is not current")
        }
        _ => None,
    }
}

fn missed(links: &Links, candidate: &Candidate) -> io::Result<u64> {
    candidate.hooks.iter().map(|hook| links.missed(hook)).sum()
}

fn outputs_in(counter: &'static Counter, mode: Mode) -> impl Iterator<Item = &'static Output> {
    counter.outputs.iter().filter(move |output| mode == Mode::Return || !output.return_only)
}

/// `FILTER_CGROUP` of abi.h.
const CGROUP_KIND: u32 = 2;

/// What the filter lets through in the end.
enum Target {
    Everything,
    Pid(u32),
    Cgroup(File),
}

impl Target {
    fn open(only: Option<&Only>) -> Result<Self, BuildError> {
        match only {
            None => Ok(Self::Everything),
            Some(Only::Pid(pid)) if std::path::Path::new("/proc").join(pid.to_string()).exists() => Ok(Self::Pid(*pid)),
            Some(Only::Pid(pid)) => Err(refused(
                &format!("probes.only.pid: there is no process {pid}"),
                "name the id of a running process in the initial pid namespace",
            )),
            Some(Only::Cgroup(path)) => open_cgroup(path).map(Self::Cgroup).map_err(|problem| {
                refused(
                    &format!("probes.only.cgroup: {problem}"),
                    "name a path of the v2 hierarchy as /proc/PID/cgroup shows it after \"0::\"",
                )
            }),
        }
    }

    /// `enum filter` of abi.h.
    const fn kind(&self) -> u32 {
        match self {
            Self::Everything => 0,
            Self::Pid(_) => 1,
            Self::Cgroup(_) => CGROUP_KIND,
        }
    }
}

/// The filter's two maps, while they may still change. Programs are loaded with the descriptors of
/// these maps, so it must live until the last one is.
struct Filter {
    process: ProcessFilter,
    cgroup: CgroupArray<MapData>,
}

/// Where an object keeps the thread group to let through.
enum ProcessFilter {
    /// In a global variable; the kind of the filter is frozen.
    Core(Array<MapData, u32>),
    /// In a map, with the kind.
    Floor(Array<MapData, FilterSetting>),
}

impl Filter {
    fn take(ebpf: &mut Ebpf, object: Object) -> Result<Self, BuildError> {
        let broken =
            || refused("the kernel object is not the one this program was made for", "rebuild it: cargo xtask bpf");
        let name = match object {
            Object::Core => ".bss",
            Object::Floor => "filter",
        };
        let process = ebpf.take_map(name).ok_or_else(broken)?;
        let cgroup = ebpf.take_map("filter_cgroup").ok_or_else(broken)?;
        let process = match object {
            Object::Core => process.try_into().map(ProcessFilter::Core),
            Object::Floor => process.try_into().map(ProcessFilter::Floor),
        };
        Ok(Self { process: process.map_err(|_| broken())?, cgroup: cgroup.try_into().map_err(|_| broken())? })
    }

    /// For the self-test: lets our own events through.
    fn aim_at_self(&mut self, target: &Target) -> Result<(), String> {
        match target {
            Target::Everything => Ok(()),
            Target::Pid(_) => self.set_tgid(std::process::id()),
            Target::Cgroup(_) => {
                let own = own_cgroup().ok_or("this process has no control group in the v2 hierarchy")?;
                self.set_cgroup(&open_cgroup(&own)?)
            }
        }
    }

    /// For the self-test of what happens to a child: lets that child's events through.
    fn aim_at_pid(&mut self, target: &Target, pid: u32) -> io::Result<()> {
        match target {
            Target::Pid(_) => self.set_tgid(pid).map_err(io::Error::other),
            Target::Everything | Target::Cgroup(_) => Ok(()),
        }
    }

    /// For good.
    fn aim(&mut self, target: &Target) -> Result<(), BuildError> {
        let aimed = match target {
            Target::Everything => Ok(()),
            Target::Pid(pid) => self.set_tgid(*pid),
            Target::Cgroup(directory) => self.set_cgroup(directory),
        };
        aimed.map_err(|problem| refused(&problem, &try_as_root()))
    }

    fn set_tgid(&mut self, tgid: u32) -> Result<(), String> {
        let set = match &mut self.process {
            ProcessFilter::Core(variable) => variable.set(0, tgid, 0),
            ProcessFilter::Floor(setting) => setting.set(0, [Target::Pid(tgid).kind(), tgid], 0),
        };
        set.map_err(|error| format!("cannot set the filter: {}", chain(&error)))
    }

    fn set_cgroup(&mut self, directory: &File) -> Result<(), String> {
        let mut set = self.cgroup.set(0, directory.as_raw_fd(), 0);
        if let (Ok(()), ProcessFilter::Floor(setting)) = (&set, &mut self.process) {
            set = setting.set(0, [CGROUP_KIND, 0], 0);
        }
        set.map_err(|error| format!("cannot set the filter: {}", chain(&error)))
    }
}

/// Reads the totals once per tick.
struct CountingProbe {
    attachment: Attachment,
    /// By chosen counter.
    series: Vec<CounterSeries>,
    settled: bool,
}

struct CounterSeries {
    info: Option<SeriesId>,
    missed: Option<SeriesId>,
    outputs: Vec<(&'static Output, SeriesId)>,
}

impl CountingProbe {
    fn new(attachment: Attachment, mode: Mode, recorder: &mut Recorder) -> Self {
        let (info, missed) = (hook_info(), hook_missed());
        let series = attachment.chosen.iter().map(|chosen| {
            let HookReport { tier, layer, function, exact, .. } = &chosen.hook;
            let exact = if *exact { "yes" } else { "unless preempted" };
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
            }
        });
        let series = series.collect();
        Self { attachment, series, settled: false }
    }
}

impl Probe for CountingProbe {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        if !std::mem::replace(&mut self.settled, true) {
            Kernel::forget();
        }
        let Attachment { links, totals, chosen, .. } = &mut self.attachment;
        links.refresh().map_err(ProbeError::new)?;
        for (chosen, series) in chosen.iter().zip(&self.series) {
            for (part, (slots, base)) in chosen.candidate.parts.iter().zip(&chosen.base).enumerate() {
                let record = totals.sum(slots).map_err(ProbeError::new)?.since(*base);
                for (output, id) in series.outputs.iter().filter(|(output, _)| output.part == part) {
                    recorder.counter(*id, output.field.of(record));
                }
            }
            if let Some(id) = series.info {
                recorder.gauge(id, 1.0);
            }
            if let Some(id) = series.missed {
                let missed = missed(links, chosen.candidate).map_err(ProbeError::new)?;
                recorder.counter(id, missed.wrapping_sub(chosen.missed_base));
            }
        }
        Ok(())
    }
}

/// What to do when the kernel says no, beginning with the rights that are missing.
fn try_as_root() -> String {
    let held = rustix::thread::capabilities(None).map(|sets| sets.effective);
    let missing = held.map(missing_rights).unwrap_or_default();
    let missing = if missing.is_empty() { missing } else { format!("missing are {missing}; ") };
    format!(
        "{missing}run as root, or grant CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8), under systemd also in \
         CapabilityBoundingSet="
    )
}

fn refused(problem: &str, way_out: &str) -> BuildError {
    BuildError::Refused { problem: problem.to_owned(), way_out: way_out.to_owned(), passing: false }
}

fn refuse_load(error: &EbpfError) -> BuildError {
    let text = chain(error);
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    let mut code = None;
    while let Some(error) = cause {
        code = code.or_else(|| error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error));
        cause = error.source();
    }
    match code {
        Some(libc::EPERM | libc::EACCES) => {
            refused("the kernel does not let this process load BPF programs", &try_as_root())
        }
        Some(libc::ENOSYS) => refused("this kernel has no bpf(2)", "use a kernel with CONFIG_BPF_SYSCALL=y"),
        _ => refused(
            &format!("the kernel does not take the probe's object: {text}"),
            "please report it with the kernel's version",
        ),
    }
}

fn nothing_attached(probe: &str, reports: &[CounterReport]) -> BuildError {
    let mut reasons: Vec<String> = Vec::new();
    for attempt in reports.iter().flat_map(|report| &report.tried) {
        let reason = format!("{}: {}", attempt.tier, attempt.problem);
        if !reasons.contains(&reason) && reasons.len() < 3 {
            reasons.push(reason);
        }
    }
    BuildError::Refused {
        problem: format!("no counter of probe {probe} finds a hook ({})", reasons.join("; ")),
        way_out: format!("{}; \"ebpf-process check\" says more", try_as_root()),
        // A file system may still be mounted while the machine starts.
        passing: reasons.iter().any(|reason| reason.contains(NOT_MOUNTED)),
    }
}

fn attempt(candidate: &Candidate, problem: String) -> Attempt {
    Attempt { tier: candidate.tier, function: functions(candidate), problem }
}

fn functions(candidate: &Candidate) -> String {
    let mut names: Vec<_> = candidate.hooks.iter().map(|hook| hook.attach.target()).collect();
    names.dedup();
    names.join("+")
}

fn tried(report: &CounterReport) -> String {
    let tried = report.tried.iter().map(|Attempt { tier, function, problem }| format!("{tier} {function}: {problem}"));
    let tried: Vec<_> = tried.collect();
    if tried.is_empty() { "no tier that the configuration allows can count it".to_owned() } else { tried.join("; ") }
}
