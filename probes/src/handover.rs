//! What one process has built for another, as bytes and descriptors.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use ebpf_process_core::Message;
use serde::{Deserialize, Serialize};

use crate::attach::{Links, LinksText};
use crate::built::{Built, BuiltCalls, Chosen, Owned, report};
use crate::calls::{Key, LoadedCalls, SYSCALLS};
use crate::candidate::hooks_of_calls;
use crate::doubt::Doubt;
use crate::exactness::Facts;
use crate::filter::{Filter, guards};
use crate::hook::{Attempt, CounterReport, Hook, HookReport};
use crate::kernel_probe::KernelProbe;
use crate::object::{Object, Objects};
use crate::object_maps::ObjectMaps;
use crate::options::{Mode, ProbeOptions, Tier};
use crate::preemption::InForce;
use crate::programs::Programs;
use crate::switches::Board;
use crate::target::{Target, TargetText};
use crate::tracefs::Remove;
use crate::who;
use crate::wire::{Incoming, Number, Outgoing};

#[derive(Debug, Serialize, Deserialize)]
struct BuiltText {
    possible_cpus: usize,
    own: Option<OwnText>,
    calls: Option<CallsText>,
    reports: Vec<ReportText>,
    facts: Facts,
    target: TargetText,
    in_force: Option<Number>,
    /// Of each switch its tier, its path and its open file.
    switches: Vec<(Tier, Vec<u8>, Number)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OwnText {
    programs: ProgramsText,
    unguarded: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProgramsText {
    object: Object,
    maps: Vec<(String, Number)>,
    links: LinksText,
}

#[derive(Debug, Serialize, Deserialize)]
enum CallsText {
    New { filter: String, programs: ProgramsText, processes: u32, unguarded: Option<String> },
    Shared { object: Object, filter: String, links: LinksText },
}

/// The kernel's own limit on x86 (`CONFIG_NR_CPUS`), twice.
const MOST_PROCESSORS: usize = 2 * 8192;

/// Of a counter, by its place among those of the probe.
#[derive(Debug, Serialize, Deserialize)]
struct ReportText {
    counter: usize,
    hook: Option<HookText>,
    tried: Vec<(Tier, String, String)>,
    absent: bool,
}

/// A candidate, by its place among those of its counter.
#[derive(Debug, Serialize, Deserialize)]
struct HookText {
    candidate: usize,
    doubts: Vec<String>,
    proven: bool,
}

/// Every hook that a probe may have in a mode, its guards and what follows processes included.
pub(crate) fn every_hook(probe: &KernelProbe, mode: Mode) -> Vec<Hook> {
    let candidates = probe.counters_in(mode).flat_map(|counter| counter.possible(mode).0);
    let hooks = candidates.flat_map(|candidate| candidate.hooks).chain(guards()).chain(who::hooks());
    hooks.chain([true, false].into_iter().flat_map(hooks_of_calls)).collect()
}

/// Describes what was built. The test is over by then.
pub(crate) fn describe(probe: &KernelProbe, built: Built) -> Result<Message, String> {
    let Built { possible_cpus, own, mut calls, chosen, reports, facts, target, in_force, switches, trial } = built;
    drop(trial);
    let mut outgoing = Outgoing::default();
    let reports = reports.into_iter().map(|report| report_text(probe, report, &chosen)).collect::<Result<_, _>>()?;
    for chosen in chosen.iter().filter(|chosen| chosen.candidate.is_of_calls()) {
        // Whoever takes them over has the calls watched, and is their user then.
        match &mut calls {
            Some(BuiltCalls::New(loaded)) => loaded.programs.links.leave(&chosen.candidate.hooks),
            Some(BuiltCalls::Shared(_, links)) => links.leave(&chosen.candidate.hooks),
            Some(BuiltCalls::Here(_)) | None => {}
        }
    }
    let text = BuiltText {
        possible_cpus,
        own: own.map(|own| OwnText { programs: programs_text(own.programs, &mut outgoing), unguarded: own.unguarded }),
        calls: match calls {
            None => None,
            Some(BuiltCalls::New(loaded)) => {
                let LoadedCalls { key, programs, processes, unguarded } = *loaded;
                let programs = programs_text(programs, &mut outgoing);
                Some(CallsText::New { filter: key.filter, programs, processes, unguarded })
            }
            Some(BuiltCalls::Shared(Key { object, filter }, links)) => {
                Some(CallsText::Shared { object, filter, links: links.into_text(&mut outgoing) })
            }
            Some(BuiltCalls::Here(_)) => {
                return Err("its calls are watched in the process that has built it".to_owned());
            }
        },
        reports,
        facts,
        target: target.into_text(&mut outgoing),
        in_force: in_force.into_file().map(|file| outgoing.add(file)),
        switches: switches
            .into_files()
            .map(|(tier, path, file)| (tier, path.as_os_str().as_bytes().to_vec(), outgoing.add(file)))
            .collect(),
    };
    outgoing.message(&text)
}

fn report_text(probe: &KernelProbe, report: CounterReport, chosen: &[Chosen]) -> Result<ReportText, String> {
    let CounterReport { counter, hook, tried, absent } = report;
    let place = probe.counters.iter().position(|known| known.name == counter);
    let place = place.ok_or_else(|| format!("the probe has no counter {counter}"))?;
    let hook = hook.map(|HookReport { doubts, proven, .. }| {
        let chosen = chosen.iter().find(|chosen| chosen.counter.name == counter);
        let candidate =
            chosen.map(|chosen| chosen.candidate.index).ok_or_else(|| format!("nothing counts {counter}"))?;
        let doubts = doubts.into_iter().map(|doubt| doubt.as_str().to_owned()).collect();
        Ok::<_, String>(HookText { candidate, doubts, proven })
    });
    let tried = tried.into_iter().map(|Attempt { tier, function, problem }| (tier, function, problem)).collect();
    Ok(ReportText { counter: place, hook: hook.transpose()?, tried, absent })
}

fn programs_text(programs: Programs, outgoing: &mut Outgoing) -> ProgramsText {
    let Programs { links, object, maps, .. } = programs;
    let maps = maps.into_descriptors().into_iter().map(|(name, map)| (name, outgoing.add(map))).collect();
    ProgramsText { object, maps, links: links.into_text(outgoing) }
}

/// The programs of system calls, whose calls have to be watched by whoever takes them over.
pub(crate) enum TheirCalls {
    New(Box<LoadedCalls>),
    /// What was attached for those of this key, which are ours.
    Shared(Key, Links),
}

/// Takes over what another process has built, which removes events when they are not needed any more.
pub(crate) fn take_over(
    probe: &KernelProbe,
    options: &ProbeOptions,
    message: Message,
    remove: &Remove,
) -> Result<(Built, Option<TheirCalls>), String> {
    let (text, mut incoming) = Incoming::read::<BuiltText>(message)?;
    if !(1..=MOST_PROCESSORS).contains(&text.possible_cpus) {
        return Err(format!("no machine has {} processors", text.possible_cpus));
    }
    let hooks = every_hook(probe, options.mode);
    let reader = Taking { possible_cpus: text.possible_cpus, hooks: &hooks, remove };
    let own = text.own.map(|OwnText { programs, unguarded }| {
        let objects = probe.objects.as_ref().ok_or("the probe has no object")?;
        let programs = reader.programs(programs, objects, &mut incoming)?;
        let filter = Filter::of(&programs.maps, programs.object).map_err(|error| error.to_string())?;
        Ok::<_, String>(Owned { programs, filter, unguarded })
    });
    let own = own.transpose()?;
    let calls = match text.calls {
        None => None,
        Some(CallsText::New { filter, programs, processes, unguarded }) => {
            let programs = reader.programs(programs, &SYSCALLS, &mut incoming)?;
            let key = Key { object: programs.object, filter };
            Some(TheirCalls::New(Box::new(LoadedCalls { key, programs, processes, unguarded })))
        }
        Some(CallsText::Shared { object, filter, links }) => {
            let links = Links::of_text(links, &mut incoming, &hooks, remove)?;
            Some(TheirCalls::Shared(Key { object, filter }, links))
        }
    };
    let mut chosen = Vec::new();
    let reports = text.reports.into_iter().map(|report| taken_report(probe, options, report, &mut chosen));
    let reports = reports.collect::<Result<_, _>>()?;
    let file = |number: Number, incoming: &mut Incoming| incoming.take(number).map(File::from);
    let in_force = text.in_force.map(|number| file(number, &mut incoming)).transpose()?;
    let switches = text.switches.into_iter().map(|(tier, path, number)| {
        Ok::<_, String>((tier, OsString::from_vec(path).into(), file(number, &mut incoming)?))
    });
    let switches = switches.collect::<Result<Vec<_>, _>>()?;
    let built = Built {
        possible_cpus: text.possible_cpus,
        own,
        calls: None,
        chosen,
        reports,
        facts: text.facts,
        target: Target::of_text(text.target, &mut incoming)?,
        in_force: InForce::of_file(in_force),
        switches: Board::of_files(switches),
        trial: None,
    };
    Ok((built, calls))
}

fn taken_report(
    probe: &KernelProbe,
    options: &ProbeOptions,
    report: ReportText,
    chosen: &mut Vec<Chosen>,
) -> Result<CounterReport, String> {
    let ReportText { counter, hook, tried, absent } = report;
    let counter = probe.counters.get(counter).ok_or_else(|| format!("the probe has no counter {counter}"))?;
    let hook = hook.map(|HookText { candidate, doubts, proven }| {
        let (candidates, _) = counter.possible(options.mode);
        let found = candidates.into_iter().find(|other| other.index == candidate);
        let candidate = found.ok_or_else(|| format!("{} has no way {candidate} of counting", counter.name))?;
        let doubts = doubts.iter().map(|word| Doubt::of_word(word).ok_or_else(|| format!("{word:?} is no doubt")));
        let hook = self::report(&candidate, doubts.collect::<Result<_, _>>()?, proven);
        chosen.push(Chosen::new(counter, candidate, hook.clone(), options));
        Ok::<_, String>(hook)
    });
    let tried = tried.into_iter().map(|(tier, function, problem)| Attempt { tier, function, problem }).collect();
    Ok(CounterReport { counter: counter.name, hook: hook.transpose()?, tried, absent })
}

/// How programs are taken over.
struct Taking<'a> {
    possible_cpus: usize,
    hooks: &'a [Hook],
    remove: &'a Remove,
}

impl Taking<'_> {
    fn programs(&self, text: ProgramsText, objects: &Objects, incoming: &mut Incoming) -> Result<Programs, String> {
        let ProgramsText { object, maps, links } = text;
        let bytes = objects.bytes(object).ok_or_else(|| format!("the probe has no object {object:?}"))?;
        let links = Links::of_text(links, incoming, self.hooks, self.remove)?;
        let maps = maps.into_iter().map(|(name, number)| Ok((name, incoming.take(number)?)));
        let maps: Vec<(String, OwnedFd)> = maps.collect::<Result<_, String>>()?;
        let maps = ObjectMaps::restored(bytes, maps).map_err(|error| error.to_string())?;
        Programs::new(links, maps, (object, bytes), self.possible_cpus).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};
    use std::sync::Arc;

    use super::*;
    use crate::building::{For, build};
    use crate::tracefs::own_number;
    use crate::{FILE, PROCESS};

    /// What is built for another process, with these options.
    fn built(probe: &KernelProbe, options: &ProbeOptions) -> Option<Message> {
        match build(probe, options, For::Another { owner: own_number(), shared: Vec::new() }) {
            Ok(built) => Some(describe(probe, built).expect("a message")),
            Err(problem) if !rustix::process::geteuid().is_root() => {
                let _ = writeln!(io::stderr(), "SKIPPED a test of what is handed over: {problem}");
                None
            }
            Err(problem) => panic!("{problem}"),
        }
    }

    /// The same message with other bytes.
    fn with(bytes: Vec<u8>, message: &Message) -> Message {
        let descriptors = message.descriptors.iter().map(|descriptor| descriptor.try_clone().expect("a descriptor"));
        Message { bytes, descriptors: descriptors.collect() }
    }

    #[test]
    fn no_change_of_a_message_is_more_than_an_error() {
        let remove: Remove = Arc::new(|_| Ok(()));
        for by in ["[]", r#"["process"]"#] {
            let text = serde_json::json!({
                "mode": "return", "hooks": "tracepoint", "processes": 16,
                "by": serde_json::from_str::<serde_json::Value>(by).expect("a list"),
            });
            let options = ProbeOptions::of(&ebpf_process_core::Options::from_value(text)).expect("options");
            for probe in [&PROCESS, &FILE] {
                let Some(message) = built(probe, &options) else { return };
                let take = |message| take_over(probe, &options, message, &remove);
                let (whole, _) = take(with(message.bytes.clone(), &message)).expect("as it was sent");
                assert_eq!(whole.reports.len(), probe.counters_in(options.mode).count());
                assert_eq!(whole.chosen.len(), whole.reports.iter().filter(|report| report.hook.is_some()).count());
                let places = (0..message.bytes.len()).step_by(message.bytes.len() / 40 + 1);
                for (place, digit) in places.flat_map(|place| [(place, b'9'), (place, b'0'), (place, b'"')]) {
                    let mut bytes = message.bytes.clone();
                    bytes[place] = digit;
                    let _ = take(with(bytes, &message));
                    let _ = take(with(message.bytes[..place].to_vec(), &message));
                }
                // Without its descriptors, and with others in their place.
                assert!(take(Message { bytes: message.bytes.clone(), descriptors: Vec::new() }).is_err());
                let mut turned = with(message.bytes.clone(), &message);
                turned.descriptors.reverse();
                assert!(take(turned).is_err());
                for number in ["18446744073709551615", "16385", "0", "-1"] {
                    let text = String::from_utf8(message.bytes.clone()).expect("text");
                    let (_, rest) = text.split_once(',').expect("more than a number");
                    let bytes = format!("{{\"possible_cpus\":{number},{rest}").into_bytes();
                    assert!(take(with(bytes, &message)).is_err(), "{number} processors");
                }
            }
        }
    }
}
