//! `check`: is the configuration right, and what would happen on this machine.

use std::fmt::Write as _;

use clap::ValueEnum;
use ebpf_process_config::{Plan, PlannedProbe, Rights, Sources};
use ebpf_process_core::{Registry, duration};
use ebpf_process_probes::doctor::{self, Finding};
use ebpf_process_probes::{CounterReport, Doubt, MapMemory, Survey};
use serde::Serialize;

use crate::exit::{Exit, Refusal};
use crate::list::{plain, rendered};
use crate::rights::Kept;
use crate::survey::survey;
use crate::{rights, run, stdout};

/// How the report is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For scripts: one object
    Json,
}

/// Everything that `check` found out. The configuration is right, or there is no report.
#[derive(Debug, Serialize)]
struct Report {
    /// `ok`, `degraded` (a counter or a probe is missing) or `failed` (no counter finds a hook).
    verdict: Verdict,
    kernel: String,
    /// What the machine allows, and what to do about what it does not.
    machine: Vec<Finding>,
    interval_seconds: f64,
    probes: Vec<ProbeReport>,
    sinks: Vec<SinkReport>,
    /// The capabilities that stay when the probes are attached; absent where the configuration keeps them all.
    kept_rights: Option<Vec<Kept>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Degraded,
    Failed,
}

#[derive(Debug, Serialize)]
struct ProbeReport {
    name: &'static str,
    /// What each counter would use; absent for a probe that cannot tell before it runs.
    counters: Option<Vec<CounterReport>>,
    /// What its maps take of the kernel's memory, in bytes: `fixed + per_cpu * possible_cpus`.
    memory: Option<MapMemory>,
    /// Why the probe as a whole cannot be used.
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct SinkReport {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    stdout: bool,
}

/// Checks, prints, and says by the exit code whether the agent could run.
pub(crate) fn main(registry: &Registry, sources: &Sources, format: Format) -> Result<Exit, Refusal> {
    let plan = run::plan(registry, sources)?;
    let report = Report::of(&plan);
    let text = match format {
        Format::Table => report.for_people(),
        Format::Json => {
            let text = serde_json::to_string_pretty(&report);
            text.map(|text| text + "\n").map_err(|error| Refusal::lasting(error.to_string()))?
        }
    };
    let printed = stdout::print(&text)?;
    Ok(if report.verdict == Verdict::Failed { Exit::Failed } else { printed })
}

impl Report {
    fn of(plan: &Plan) -> Self {
        let probes: Vec<ProbeReport> = plan.probes.iter().map(ProbeReport::of).collect();
        let sinks = plan.sinks.iter().map(|sink| SinkReport {
            name: sink.spec.name.clone(),
            kind: sink.plugin.name(),
            stdout: sink.claims.stdout,
        });
        let uname = rustix::system::uname();
        Self {
            verdict: verdict(&probes),
            kernel: format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy()),
            machine: doctor::examine(),
            interval_seconds: plan.interval.as_secs_f64(),
            probes,
            sinks: sinks.collect(),
            kept_rights: (plan.capabilities == Rights::Drop).then(|| rights::kept(plan)),
        }
    }

    fn for_people(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let interval = duration::show(std::time::Duration::from_secs_f64(self.interval_seconds));
        let _ = writeln!(text, "The configuration is right: a batch every {interval}.");
        let _ = writeln!(text, "Kernel {}.\n", self.kernel);
        let mut machine = plain(&["MACHINE", "", "WHAT WAS FOUND"]);
        for Finding { subject, state, verdict, .. } in &self.machine {
            machine.add_row([*subject, mark(*verdict), state]);
        }
        text.push_str(&rendered(&machine));
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
        for (reason, counters) in passed_over(&counters) {
            let _ = writeln!(text, "Not {reason}: {}.", counters.join(", "));
        }
        let memory = self.probes.iter().filter_map(|probe| probe.memory).reduce(MapMemory::plus);
        if let Some(MapMemory { fixed, per_cpu, possible_cpus }) = memory {
            let total = memory.map_or(0, |memory| memory.total()).div_ceil(1024);
            let _ = writeln!(
                text,
                "\nKernel memory for maps: {fixed} bytes + {per_cpu} for each of {possible_cpus} possible processors = {total} KiB."
            );
        }
        for probe in &self.probes {
            match (&probe.counters, &probe.problem) {
                (_, Some(problem)) => {
                    let _ = writeln!(text, "\nProbe {} cannot be used: {problem}", probe.name);
                }
                (None, None) => {
                    let _ = writeln!(text, "\nProbe {} is enabled.", probe.name);
                }
                (Some(_), None) => {}
            }
        }
        for sink in &self.sinks {
            let where_to = if sink.stdout { ", on standard output" } else { "" };
            let _ = writeln!(text, "\nSink {} is of type {}{where_to}.", sink.name, sink.kind);
        }
        if self.sinks.is_empty() {
            text.push_str("\nNo sink is configured: `run` shows a table, on a terminal only.\n");
        }
        text.push_str(&self.rights_for_people());
        text.push_str(match self.verdict {
            Verdict::Ok => "\nEverything that was asked for can be counted.\n",
            Verdict::Degraded => "\nSome of what was asked for cannot be counted here, see above.\n",
            Verdict::Failed => "\nNothing can be counted here, see above.\n",
        });
        text
    }

    /// What stays of the rights of the start, and what that means.
    fn rights_for_people(&self) -> String {
        let Some(kept) = &self.kept_rights else {
            return "\nAfter the start it keeps every capability that it was started with (capabilities = \"keep\").\n"
                .into();
        };
        let mut text = String::from("\nAfter the start it keeps ");
        text.push_str(if kept.is_empty() { "no capability.\n" } else { "of its capabilities\n" });
        for Kept { name, reason, means, .. } in kept {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name}: {reason}. With it a program {means}.");
        }
        text
    }
}

/// How a finding is marked for people.
const fn mark(verdict: doctor::Verdict) -> &'static str {
    match verdict {
        doctor::Verdict::Good => "ok",
        doctor::Verdict::Lacking => "LACKING",
        doctor::Verdict::Unknown => "unknown",
    }
}

/// Why hooks were not taken, each reason once with the counters that it concerns.
fn passed_over<'a>(counters: &[&'a CounterReport]) -> Vec<(String, Vec<&'a str>)> {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for counter in counters {
        for attempt in &counter.tried {
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
        match survey(probe) {
            None => Self { name: probe.name, counters: None, memory: None, problem: None },
            Some(Ok(Survey { counters, memory })) => {
                Self { name: probe.name, counters: Some(counters), memory: Some(memory), problem: None }
            }
            Some(Err(error)) => {
                Self { name: probe.name, counters: None, memory: None, problem: Some(error.to_string()) }
            }
        }
    }
}

fn verdict(probes: &[ProbeReport]) -> Verdict {
    let counters = || probes.iter().filter_map(|probe| probe.counters.as_ref()).flatten();
    let hooked = counters().filter(|counter| counter.hook.is_some()).count();
    let asked = counters().count();
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

    #[test]
    fn some_missing_is_degraded_and_all_missing_failed() {
        let probe = |counters, problem: Option<&str>| ProbeReport {
            name: "demo",
            counters,
            memory: None,
            problem: problem.map(ToOwned::to_owned),
        };
        let unhooked = || CounterReport { counter: "demo.calls", hook: None, tried: Vec::new() };
        let cases = [
            (vec![], Verdict::Ok),
            (vec![probe(None, None)], Verdict::Ok),
            (vec![probe(None, Some("no BPF"))], Verdict::Failed),
            (vec![probe(Some(vec![unhooked()]), None)], Verdict::Failed),
        ];
        for (probes, expected) in cases {
            assert_eq!(verdict(&probes), expected, "{probes:?}");
        }
    }
}
