//! `check`: is the configuration right, and what would happen on this machine.

use std::fmt::Write as _;

use clap::ValueEnum;
use ebpf_process_config::{Plan, PlannedProbe, PlannedSink, Rights, Sources};
use ebpf_process_core::{Finding as Tried, Registry, Severity, duration};
use ebpf_process_probes::doctor::{self, Finding};
use ebpf_process_probes::{CounterReport, Doubt, MapMemory, SharedMemory, Survey};
use serde::Serialize;

use crate::broker::Broker;
use crate::choice::Known;
use crate::confinement::Confinement;
use crate::confinement::user::User;
use crate::exit::{Exit, Refusal};
use crate::forecast::{self, Catalog, Forecast, KindCost};
use crate::list::{plain, rendered};
use crate::rights::Kept;
use crate::survey::{memory, survey};
use crate::{configuration, rights, stdout, trial};

/// How the report is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For scripts: one object
    Json,
}

/// What is looked at, and what counts as a failure.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Scope {
    /// A warning is a failure as well: exit code 1
    #[arg(long)]
    strict: bool,
    /// Check the configuration alone: attach nothing, open nothing, ask nobody
    #[arg(long)]
    offline: bool,
}

/// Everything that `check` found out. The configuration is right, or there is no report.
#[derive(Debug, Serialize)]
struct Report {
    /// `ok`, `degraded` (a counter or a probe is missing, a sink's receiver does not answer, or a sink asks for what does
    /// not exist) or `failed` (no counter finds a hook, or a sink cannot work).
    verdict: Verdict,
    /// Whether the configuration alone was looked at.
    offline: bool,
    kernel: String,
    /// What the machine allows, and what to do about what it does not.
    machine: Vec<Finding>,
    interval_seconds: f64,
    probes: Vec<ProbeReport>,
    /// What the kinds take whose rows come and go.
    kinds: Vec<KindCost>,
    /// How many processes and threads this machine starts in a day; absent where it is not known.
    starts_a_day: Option<u64>,
    sinks: Vec<SinkReport>,
    /// The capabilities that stay when the probes are attached; absent where the configuration keeps them all.
    kept_rights: Option<Vec<Kept>>,
    /// The capabilities that its broker keeps, which does for it what a later change takes; absent where there is none.
    broker: Option<Vec<String>>,
    /// What else it gives up then; absent where the configuration keeps it.
    confinement: Option<Confinement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Degraded,
    Failed,
}

#[derive(Debug, Default, Serialize)]
struct ProbeReport {
    name: String,
    /// What each counter would use; absent for a probe that cannot tell before it runs.
    counters: Option<Vec<CounterReport>>,
    /// What its maps take of the kernel's memory, in bytes: `fixed + per_cpu * possible_cpus`.
    memory: Option<MapMemory>,
    /// What those maps take, in the same form, that all probes with the same `only` share.
    shared_memory: Option<SharedMemory>,
    /// Why the probe as a whole cannot be used.
    problem: Option<String>,
    /// What else was found out about it, each a sentence without a full stop.
    found: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SinkReport {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    stdout: bool,
    /// The worst of the findings: `fine`, `warning` or `error`; none where there is none.
    state: Option<&'static str>,
    findings: Vec<SinkFinding>,
    /// The series of rows that come and go; absent where it gets no such rows.
    forecast: Option<Forecast>,
    /// What the trial alone says.
    #[serde(skip)]
    trial: Verdict,
    /// Whether its table names something that does not exist.
    #[serde(skip)]
    asks_in_vain: bool,
}

/// What was found out about a sink, by its trial or from its table.
#[derive(Debug, Serialize)]
struct SinkFinding {
    severity: &'static str,
    what: String,
    way_out: Option<String>,
}

/// Checks, prints, and says by the exit code whether the agent could run.
pub(crate) fn main(registry: &Registry, sources: &Sources, format: Format, scope: Scope) -> Result<Exit, Refusal> {
    let plan = configuration::plan(registry, sources)?;
    let known = Known::of(registry, &plan);
    let report = if scope.offline { Report::offline(&plan, &known) } else { Report::of(&plan, &known)? };
    let printed = match format {
        Format::Table => stdout::print_for_people(&report.for_people())?,
        Format::Json => {
            let text = serde_json::to_string_pretty(&report).map_err(|error| Refusal::lasting(error.to_string()))?;
            stdout::print(&(text + "\n"))?
        }
    };
    let failure = if scope.strict { Verdict::Degraded } else { Verdict::Failed };
    Ok(if report.verdict >= failure { Exit::Failed } else { printed })
}

impl Report {
    fn of(plan: &Plan, known: &Known) -> Result<Self, Refusal> {
        let user = User::planned(plan, false)?;
        let probes: Vec<ProbeReport> = plan.probes.iter().map(ProbeReport::of).collect();
        // Afterwards: probes may fork while they are tried, and these are threads.
        let trials = trial::all(plan, trial::LIMIT);
        let (catalog, starts_a_day) = (Catalog::of(plan), forecast::starts_a_day());
        let sinks = plan.sinks.iter().zip(trials).map(|(sink, found)| {
            SinkReport::new(sink, known, catalog.forecast(sink, plan.interval, starts_a_day), Some(found))
        });
        let sinks: Vec<SinkReport> = sinks.collect();
        let verdict = verdict(&probes).max(worst(&sinks));
        let drops = plan.capabilities == Rights::Drop;
        let has_broker = Broker::is_of_use(plan);
        let kept_rights = drops.then(|| rights::kept(plan, user.as_ref(), has_broker));
        let broker = has_broker.then(|| rights::names(Broker::keeps()));
        let confinement = drops.then(|| Confinement::expected(plan, user.as_ref()));
        Ok(Self {
            verdict,
            offline: false,
            machine: doctor::examine(),
            probes,
            starts_a_day,
            sinks,
            kept_rights,
            broker,
            confinement,
            ..Self::offline(plan, known)
        })
    }

    /// What the configuration alone says.
    fn offline(plan: &Plan, known: &Known) -> Self {
        let uname = rustix::system::uname();
        let probes = plan.probes.iter().map(|probe| ProbeReport { name: probe.name.clone(), ..ProbeReport::default() });
        let catalog = Catalog::of(plan);
        let forecast = |sink| catalog.forecast(sink, plan.interval, None);
        let sinks = plan.sinks.iter().map(|sink| SinkReport::new(sink, known, forecast(sink), None));
        let sinks: Vec<SinkReport> = sinks.collect();
        Self {
            verdict: worst(&sinks),
            offline: true,
            kernel: format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy()),
            machine: Vec::new(),
            interval_seconds: plan.interval.as_secs_f64(),
            probes: probes.collect(),
            kinds: catalog.costs(&plan.sinks),
            starts_a_day: None,
            sinks,
            kept_rights: None,
            broker: None,
            confinement: None,
        }
    }

    fn for_people(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let interval = duration::show(std::time::Duration::from_secs_f64(self.interval_seconds));
        let _ = writeln!(text, "The configuration is right: a batch every {interval}.");
        let _ = writeln!(text, "Kernel {}.\n", self.kernel);
        if !self.offline {
            let mut machine = plain(&["MACHINE", "", "WHAT WAS FOUND"]);
            for Finding { subject, state, verdict, .. } in &self.machine {
                machine.add_row([*subject, mark(*verdict), state]);
            }
            text.push_str(&rendered(&machine));
        }
        for Finding { subject, advice, .. } in &self.machine {
            if let Some(advice) = advice {
                let _ = writeln!(text, "To mend {subject}: {advice}.");
            }
        }
        let counters: Vec<&CounterReport> = self.probes.iter().filter_map(|p| p.counters.as_ref()).flatten().collect();
        if !counters.is_empty() {
            let mut table = plain(&["COUNTER", "TIER", "LAYER", "COST", "FUNCTION", "EXACT", "PROVEN"]);
            for counter in &counters {
                match &counter.hook {
                    Some(hook) => table.add_row([
                        counter.counter,
                        hook.tier.as_str(),
                        hook.layer.as_str(),
                        hook.cost.as_str(),
                        &hook.function,
                        if hook.exact { "yes" } else { "no" },
                        if hook.proven { "yes" } else { "not proven" },
                    ]),
                    None if counter.absent => table.add_row([counter.counter, "no such call", "", "", "", "", ""]),
                    None => table.add_row([counter.counter, "none", "", "", "", "", ""]),
                };
            }
            let _ = write!(text, "\n{}", rendered(&table));
        }
        for doubt in Doubt::ALL {
            let in_doubt = counters.iter().filter(|c| c.hook.as_ref().is_some_and(|hook| hook.doubts.contains(&doubt)));
            let in_doubt: Vec<&str> = in_doubt.map(|counter| counter.counter).collect();
            if !in_doubt.is_empty() {
                let (names, reason) = (in_doubt.join(", "), doubt.as_str());
                let _ = writeln!(text, "Not exact: {names} ({reason}): {}.", doubt.explained());
            }
        }
        let absent: Vec<&str> = counters.iter().filter(|c| c.absent).map(|c| c.counter).collect();
        if !absent.is_empty() {
            let _ = writeln!(text, "Nothing to count: {}: this kernel has no such system call.", absent.join(", "));
        }
        for (reason, counters) in passed_over(&counters) {
            let _ = writeln!(text, "Not {reason}: {}.", counters.join(", "));
        }
        let maps = self.probes.iter().map(|probe| (probe.memory, probe.shared_memory.as_ref()));
        if let Some(memory) = memory(maps) {
            let (MapMemory { fixed, per_cpu, possible_cpus }, total) = (memory, memory.total().div_ceil(1024));
            let _ = writeln!(
                text,
                "\nKernel memory for maps: {fixed} bytes + {per_cpu} for each of {possible_cpus} possible processors = {total} KiB."
            );
        }
        if !self.kinds.is_empty() {
            let _ = write!(text, "\n{}", forecast::costs_for_people(&self.kinds));
        }
        text.extend(self.probes.iter().map(ProbeReport::as_a_whole));
        self.tell_sinks(&mut text);
        if !self.offline {
            text.push_str(&self.rights_for_people());
        }
        text.push_str(if self.offline {
            "\nNothing was attached, opened or asked: the configuration alone is checked.\n"
        } else {
            match verdict(&self.probes) {
                Verdict::Ok => "\nEverything that was asked for can be counted.\n",
                Verdict::Degraded => "\nSome of what was asked for cannot be counted here:\n",
                Verdict::Failed => "\nNothing can be counted here:\n",
            }
        });
        if !self.offline {
            for (what, problem) in self.probes.iter().flat_map(ProbeReport::lacking) {
                let _ = writeln!(text, "  {what}: {problem}");
            }
        }
        if self.sinks.iter().any(|sink| sink.asks_in_vain) {
            text.push_str("A sink asks for what does not exist, see above.\n");
        }
        text.push_str(match self.sinks.iter().map(|sink| sink.trial).max() {
            None | Some(Verdict::Ok) => "",
            Some(Verdict::Degraded) => "What a sink needs is not there now, see above; it may come later.\n",
            Some(Verdict::Failed) => "A sink cannot work as it is, see above.\n",
        });
        text
    }

    /// What stays of the rights of the start, and what that means.
    fn rights_for_people(&self) -> String {
        let Some(kept) = &self.kept_rights else {
            return "\nAfter the start it keeps every right that it was started with (capabilities = \"keep\").\n"
                .into();
        };
        let mut text = String::from("\nAfter the start it keeps ");
        text.push_str(if kept.is_empty() { "no capability.\n" } else { "of its capabilities\n" });
        for Kept { name, reason, means, .. } in kept {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name}: {reason}. With it a program {means}.");
        }
        // Writing to a string cannot fail.
        let _ = match &self.broker {
            Some(kept) => writeln!(
                text,
                "Its broker, a process beside it, opens and attaches what the configuration names, also after a reload; it \
                 keeps {}.",
                kept.join(", ")
            ),
            None => writeln!(text, "It has no broker: it had no right that a later change takes."),
        };
        if let Some(confinement) = &self.confinement {
            text.push_str(&confinement.for_people("It becomes"));
        }
        text
    }

    fn tell_sinks(&self, text: &mut String) {
        if self.sinks.is_empty() {
            text.push_str("\nNo sink is configured: `run` shows a table, on a terminal only.\n");
            return;
        }
        let mut table = plain(&["SINK", "TYPE", "TRIED", "WHAT WAS FOUND"]);
        for SinkReport { name, kind, stdout, findings, .. } in &self.sinks {
            if findings.is_empty() {
                let found = match (self.offline, stdout) {
                    (true, _) => "",
                    (false, true) => "it writes to standard output",
                    (false, false) => "this type has nothing to try",
                };
                table.add_row([name.as_str(), kind, "no", found]);
            }
            for SinkFinding { severity, what, .. } in findings {
                table.add_row([name.as_str(), kind, severity, what]);
            }
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}", rendered(&table));
        for SinkReport { name, forecast, .. } in &self.sinks {
            if let Some(forecast) = forecast {
                let _ = writeln!(text, "Sink {name}: {}.", forecast.told());
            }
        }
        if let Some(starts) = self.starts_a_day.filter(|_| self.sinks.iter().any(SinkReport::is_told_processes)) {
            let starts = forecast::about(starts);
            let _ = writeln!(
                text,
                "This machine starts about {starts} processes and threads a day; each may be a new row."
            );
        }
        for SinkReport { name, findings, .. } in &self.sinks {
            for way_out in findings.iter().filter_map(|finding| finding.way_out.as_ref()) {
                let _ = writeln!(text, "To mend sink {name}: {way_out}.");
            }
        }
    }
}

impl SinkReport {
    /// What the configuration and the trial say, where there was one.
    fn new(sink: &PlannedSink, known: &Known, forecast: Option<Forecast>, tried: Option<Vec<Tried>>) -> Self {
        let mut found = tried.unwrap_or_default();
        let trial = Verdict::of(trial::worst(&found));
        let lacking = known.lacking(sink);
        let asks_in_vain = !lacking.is_empty();
        found.extend(lacking);
        found.extend(forecast.as_ref().and_then(|forecast| forecast.warning(sink)));
        let state = (!found.is_empty()).then(|| trial::worst(&found).as_str());
        let findings = found.into_iter().map(|found| SinkFinding {
            severity: found.severity.as_str(),
            what: found.what,
            way_out: found.way_out,
        });
        Self {
            name: sink.spec.name.clone(),
            kind: sink.plugin.name().to_owned(),
            stdout: sink.claims.stdout,
            state,
            findings: findings.collect(),
            forecast,
            trial,
            asks_in_vain,
        }
    }

    fn is_told_processes(&self) -> bool {
        self.forecast.as_ref().is_some_and(Forecast::has_processes)
    }

    fn verdict(&self) -> Verdict {
        self.trial.max(if self.asks_in_vain { Verdict::Degraded } else { Verdict::Ok })
    }
}

impl Verdict {
    const fn of(severity: Severity) -> Self {
        match severity {
            Severity::Fine => Self::Ok,
            Severity::Warning => Self::Degraded,
            Severity::Error => Self::Failed,
        }
    }
}

/// The worst that is known of a sink.
fn worst(sinks: &[SinkReport]) -> Verdict {
    sinks.iter().map(SinkReport::verdict).max().unwrap_or(Verdict::Ok)
}

/// How a finding is marked for people.
const fn mark(verdict: doctor::Verdict) -> &'static str {
    match verdict {
        doctor::Verdict::Good => "ok",
        doctor::Verdict::Lacking => "LACKING",
        doctor::Verdict::Unknown => "unknown",
    }
}

/// Why tiers were not taken, each reason once with the counters that it concerns. What a tier tried before it served,
/// the names that a function has on other kernels, speaks not against it.
fn passed_over<'a>(counters: &[&'a CounterReport]) -> Vec<(String, Vec<&'a str>)> {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for counter in counters.iter().filter(|counter| !counter.absent) {
        let serving = counter.hook.as_ref().map(|hook| hook.tier);
        for attempt in counter.tried.iter().filter(|attempt| Some(attempt.tier) != serving) {
            let reason = format!("by {}, {}", attempt.tier, attempt.problem);
            let index = reasons.iter().position(|(known, _)| *known == reason).unwrap_or_else(|| {
                reasons.push((reason, Vec::new()));
                reasons.len() - 1
            });
            let concerned = &mut reasons[index].1;
            if !concerned.contains(&counter.counter) {
                concerned.push(counter.counter);
            }
        }
    }
    reasons
}

impl ProbeReport {
    fn of(probe: &PlannedProbe) -> Self {
        let none = Self { name: probe.name.clone(), ..Self::default() };
        match survey(probe) {
            None => none.tried(probe.plugin.try_out(&probe.options)),
            Some(Ok(Survey { counters, memory, shared })) => {
                Self { shared_memory: shared, counters: Some(counters), memory: Some(memory), ..none }
            }
            Some(Err(error)) => Self { problem: Some(error.to_string()), ..none },
        }
    }
}

impl ProbeReport {
    /// With what its plugin has found out. The worst is why it cannot be used, if that is so.
    fn tried(mut self, findings: Vec<Tried>) -> Self {
        for Tried { severity, what, way_out, .. } in findings {
            let said = way_out.map_or_else(|| what.clone(), |way_out| format!("{what}; {way_out}"));
            match severity {
                Severity::Error if self.problem.is_none() => self.problem = Some(said),
                _ => self.found.push(said),
            }
        }
        self
    }

    /// What is to be said of all of it, in a line of its own; nothing where its counters say it.
    fn as_a_whole(&self) -> String {
        let Self { name, counters, problem, found, .. } = self;
        match (counters, problem) {
            (_, Some(problem)) => format!("\nProbe {name} cannot be used: {problem}\n"),
            (None, None) => format!("\n{}.\n", [&[format!("Probe {name} is enabled")], &found[..]].concat().join(". ")),
            (Some(_), None) => String::new(),
        }
    }

    /// What of it is missing, with the reason: of a counter, why the last hook was not taken.
    fn lacking(&self) -> Vec<(&str, &str)> {
        let whole = self.problem.as_deref().map(|problem| (self.name.as_str(), problem));
        let missing = self.counters.iter().flatten().filter(|counter| is_missing(counter));
        let counters = missing.map(|counter| {
            let tried = counter.tried.last().map(|attempt| attempt.problem.as_str());
            (counter.counter, tried.unwrap_or("no tier that the configuration allows can count it"))
        });
        whole.into_iter().chain(counters).collect()
    }
}

/// What could be counted is not.
const fn is_missing(counter: &CounterReport) -> bool {
    counter.hook.is_none() && !counter.absent
}

fn verdict(probes: &[ProbeReport]) -> Verdict {
    let counters = || probes.iter().filter_map(|probe| probe.counters.as_ref()).flatten();
    let hooked = counters().filter(|counter| counter.hook.is_some()).count();
    let asked = hooked + counters().filter(|counter| is_missing(counter)).count();
    let broken = probes.iter().filter(|probe| probe.problem.is_some()).count();
    if hooked == 0 && asked + broken > 0 {
        Verdict::Failed
    } else if hooked < asked || broken > 0 {
        Verdict::Degraded
    } else {
        Verdict::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebpf_process_probes::{Attempt, Cost, HookReport, Layer, Tier};

    #[test]
    fn what_a_probe_finds_out_by_itself_is_told_and_an_error_is_why_it_cannot_be_used() {
        let tried = |findings| ProbeReport::default().tried(findings);
        let fine = tried(vec![Tried::fine("it is there"), Tried::warning("it is old", "update it")]);
        assert_eq!(
            (fine.problem, fine.found),
            (None, vec!["it is there".to_owned(), "it is old; update it".to_owned()])
        );
        let wrong = tried(vec![Tried::fine("it is there"), Tried::error("it is empty", "fill it")]);
        assert_eq!(
            (wrong.problem.as_deref(), wrong.found),
            (Some("it is empty; fill it"), vec!["it is there".to_owned()])
        );
        assert_eq!(verdict(&[tried(vec![Tried::error("it is empty", "fill it")])]), Verdict::Failed);
    }

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let tried = [("no function", Tier::Kprobe), ("no events", Tier::Tracepoint)];
        let tried =
            tried.map(|(problem, tier)| Attempt { tier, function: "f".to_owned(), problem: problem.to_owned() });
        let counters = vec![
            CounterReport { counter: "vfs.read", hook: None, tried: tried.to_vec(), absent: false },
            CounterReport { counter: "vfs.write", hook: None, tried: Vec::new(), absent: false },
            CounterReport { counter: "vfs.none", hook: None, tried: tried.to_vec(), absent: true },
        ];
        let probe = ProbeReport { name: "file".to_owned(), counters: Some(counters), ..ProbeReport::default() };
        let nothing_allowed = "no tier that the configuration allows can count it";
        assert_eq!(probe.lacking(), [("vfs.read", "no events"), ("vfs.write", nothing_allowed)]);
        let broken =
            ProbeReport { name: "file".to_owned(), problem: Some("no BPF".to_owned()), ..ProbeReport::default() };
        assert_eq!(broken.lacking(), [("file", "no BPF")]);
    }

    #[test]
    fn a_tier_that_serves_is_not_said_to_be_passed_over() {
        let hook = |tier| HookReport {
            tier,
            layer: Layer::Function,
            cost: Cost::Medium,
            function: "do_sys_open".to_owned(),
            exact: true,
            doubts: Vec::new(),
            proven: true,
        };
        let attempt = Attempt {
            tier: Tier::Kprobe,
            function: "do_sys_openat2".to_owned(),
            problem: "no such function".to_owned(),
        };
        let counter = |tier| CounterReport {
            counter: "file.open",
            hook: Some(hook(tier)),
            tried: vec![attempt.clone()],
            absent: false,
        };
        assert_eq!(passed_over(&[&counter(Tier::Kprobe)]), []);
        let expected = vec![("by kprobe, no such function".to_owned(), vec!["file.open"])];
        assert_eq!(passed_over(&[&counter(Tier::Tracepoint)]), expected);
    }

    #[test]
    fn some_missing_is_degraded_and_all_missing_failed() {
        let probe = |counters, problem: Option<&str>| ProbeReport {
            name: "demo".to_owned(),
            counters,
            problem: problem.map(ToOwned::to_owned),
            ..ProbeReport::default()
        };
        let unhooked = |absent| CounterReport { counter: "demo.calls", hook: None, tried: Vec::new(), absent };
        let cases = [
            (vec![], Verdict::Ok),
            (vec![probe(None, None)], Verdict::Ok),
            (vec![probe(None, Some("no BPF"))], Verdict::Failed),
            (vec![probe(Some(vec![unhooked(true)]), None)], Verdict::Ok),
            (vec![probe(Some(vec![unhooked(false)]), None)], Verdict::Failed),
        ];
        for (probes, expected) in cases {
            assert_eq!(verdict(&probes), expected, "{probes:?}");
        }
    }
}
