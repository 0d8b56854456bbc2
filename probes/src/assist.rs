//! What a kernel probe asks of a process that has the rights to load and attach, and what that one does.
//!
//! The process that asks is the one that counts: it owns what is built, and is by its number the owner of events in tracefs
//! as well, since whoever builds is over soon. The one that answers comes from it (it was forked from it), which is
//! how it knows for whom such events may be made and removed.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use ebpf_process_core::{Assistant, BuildError, Message};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::attach::{Links, Loss, SharedText};
use crate::building::{self, For};
use crate::built::{Built, BuiltCalls, Chosen};
use crate::call::RecordsText;
use crate::calls::{Calls, Key, Share};
use crate::handover::{TheirCalls, describe, every_hook, take_over};
use crate::hook::{Attach, Hook, PlaceText};
use crate::kernel::Kernel;
use crate::kernel_probe::KernelProbe;
use crate::object::Object;
use crate::options::ProbeOptions;
use crate::owner::Owner;
use crate::sys;
use crate::tracefs::{Names, Remove, Tracefs, descend_from, own_number};
use crate::wire::{Incoming, Number, Outgoing};

/// All that can be asked for.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// To load, test and attach a probe.
    Build {
        /// What the configuration says where it is asked.
        options: String,
        /// Whose events in tracefs are to be.
        owner: String,
        /// The records of system calls.
        records: RecordsText,
        /// Programs that see system calls and are there already, by object and filter.
        shared: Vec<(Object, String, SharedText)>,
    },
    /// To attach loaded programs again where they stood.
    AttachAgain(Vec<LossText>),
    /// To remove events from tracefs.
    Remove(Vec<String>),
}

#[derive(Debug, Serialize, Deserialize)]
struct LossText {
    place: PlaceText,
    program: Number,
    /// The tracefs event of a breakpoint.
    event: Option<String>,
}

/// Has a probe built by another process.
pub(crate) fn build(
    probe: &KernelProbe,
    options: &ProbeOptions,
    assistant: &Arc<dyn Assistant>,
) -> Result<Built, BuildError> {
    // Whatever it watches has its record from here on.
    let _ = every_hook(probe, options.mode);
    let mut outgoing = Outgoing::default();
    // Held until the answer is there: what is shown must not go meanwhile.
    let ours = Calls::all_shared();
    let shared = ours.iter().map(|(Key { object, filter }, calls)| {
        let shown = calls.lock().programs.links.shown(&mut outgoing);
        shown.map(|shown| (*object, filter.clone(), shown)).map_err(|error| broken(&error.to_string()))
    });
    let request = Request::Build {
        shared: shared.collect::<Result<_, _>>()?,
        options: options.fingerprint(),
        owner: own_number().to_string(),
        records: RecordsText::own(),
    };
    let request = outgoing.message(&request).map_err(|problem| broken(&problem))?;
    let answer = assistant.assist(probe.name, request)?;
    let taken = take_over(probe, options, answer, &remover(probe.name, assistant));
    let (mut built, theirs) = taken.map_err(|problem| broken(&problem))?;
    let share = theirs.map(|theirs| share(theirs, &ours, &built.chosen)).transpose();
    built.calls = share.map_err(|problem| broken(&problem))?.map(BuiltCalls::Here);
    Ok(built)
}

/// Has the calls of the chosen counters watched by programs that another process has attached.
fn share(theirs: TheirCalls, ours: &[(Key, Arc<Mutex<Calls>>)], chosen: &[Chosen]) -> Result<Share, String> {
    let mut share = match theirs {
        TheirCalls::New(loaded) => Share::taken_over(*loaded)?,
        TheirCalls::Shared(key, links) => {
            let calls = ours.iter().find(|(other, _)| *other == key).map(|(_, calls)| Arc::clone(calls));
            let calls = calls.ok_or("there are no such programs of system calls")?;
            calls.lock().programs.links.take_over(links);
            Share::new(calls)
        }
    };
    let candidates = chosen.iter().map(|chosen| &chosen.candidate).filter(|candidate| candidate.is_of_calls());
    for candidate in candidates {
        share.join(candidate)?;
    }
    Ok(share)
}

/// Has lost hooks of a probe attached again by another process.
pub(crate) fn attach_again(
    probe: &str,
    assistant: &Arc<dyn Assistant>,
    losses: &[Loss<'_>],
) -> io::Result<Vec<OwnedFd>> {
    let mut outgoing = Outgoing::default();
    let text = losses.iter().map(|loss| {
        let program = outgoing.add(loss.program.try_clone_to_owned()?);
        Ok(LossText { place: PlaceText::of(loss.place), program, event: loss.event.map(str::to_owned) })
    });
    let request = Request::AttachAgain(text.collect::<io::Result<_>>()?);
    let answer = assistant.assist(probe, outgoing.message(&request).map_err(io::Error::other)?);
    let held = answer.map_err(|error| io::Error::other(error.to_string()))?.descriptors;
    if held.len() == losses.len() {
        Ok(held)
    } else {
        Err(io::Error::other(format!("{} hooks were attached again instead of {}", held.len(), losses.len())))
    }
}

/// Has events of a probe removed by another process.
fn remover(probe: &'static str, assistant: &Arc<dyn Assistant>) -> Remove {
    let assistant = Arc::clone(assistant);
    Arc::new(move |events| {
        let request = Request::Remove(events.iter().map(|event| (*event).to_owned()).collect());
        let request = Outgoing::default().message(&request)?;
        assistant.assist(probe, request).map(drop).map_err(|error| error.to_string())
    })
}

impl KernelProbe {
    /// Does what is asked for, with all the rights of this process.
    pub(crate) fn answer(&self, options: &ProbeOptions, request: Message) -> Result<Message, BuildError> {
        let (request, mut incoming) = Incoming::read::<Request>(request).map_err(|problem| broken(&problem))?;
        match request {
            Request::Build { options: wanted, owner, records, shared } => {
                if wanted != options.fingerprint() {
                    return Err(BuildError::refused(
                        format!("the options of the probe {} have changed meanwhile", self.name),
                        "reload the configuration",
                    ));
                }
                let owner = allowed(&owner)?;
                records.adopt().map_err(|problem| broken(&problem))?;
                let hooks = every_hook(self, options.mode);
                let names = Names { prefix: "", owner: Some(owner) };
                let shared = shared.into_iter().map(|(object, filter, shown)| {
                    let links = Links::of_shown(shown, &mut incoming, &hooks, names)?;
                    Ok((Key { object, filter }, links))
                });
                let shared = shared.collect::<Result<_, String>>().map_err(|problem| broken(&problem))?;
                let built = building::build(self, options, For::Another { owner, shared });
                // Whoever answers does nothing else for long.
                Kernel::forget();
                describe(self, built?).map_err(|problem| broken(&problem))
            }
            Request::AttachAgain(losses) => {
                let hooks = every_hook(self, options.mode);
                let possible_cpus = sys::possible_processors().map_err(|error| refused(&error.to_string()))?;
                let mut outgoing = Outgoing::default();
                for loss in losses {
                    let hook = loss.place.find(&hooks).map_err(|problem| broken(&problem))?;
                    let program = incoming.take(loss.program).map_err(|problem| broken(&problem))?;
                    let held = hold(hook, &program, loss.event.as_deref(), possible_cpus);
                    outgoing.add(held.map_err(|problem| refused(&problem))?);
                }
                outgoing.message(&()).map_err(|problem| broken(&problem))
            }
            Request::Remove(events) => {
                let tracefs = Tracefs::find().map_err(|problem| refused(&problem))?;
                let removed = events.iter().map(|event| {
                    if !tracefs.may_touch(event) {
                        return Err(format!("{event:?} is somebody else's"));
                    }
                    tracefs.remove(event).map_err(|error| format!("{event} cannot be removed: {error}"))
                });
                // One that cannot be removed is no reason to leave the others.
                removed.fold(Ok(()), Result::and).map_err(|problem| refused(&problem))?;
                Outgoing::default().message(&()).map_err(|problem| broken(&problem))
            }
        }
    }
}

/// The process for which this one works: it comes from it.
fn allowed(owner: &str) -> Result<Owner, BuildError> {
    let owner = Owner::of_event(&format!("_{owner}")).ok_or_else(|| broken("it does not say for whom"))?;
    if descend_from(owner) { Ok(owner) } else { Err(broken("it is for a process that is none of ours")) }
}

/// Attaches a program at the place of a hook.
fn hold(hook: &Hook, program: &OwnedFd, event: Option<&str>, possible_cpus: usize) -> Result<OwnedFd, String> {
    let attached = match &hook.attach {
        Attach::Fentry(_) | Attach::Fexit(..) | Attach::Tracepoint(_) => sys::attach_again(program.as_fd()),
        Attach::Event(event) => {
            let id = Tracefs::find()?.id_of(event).map_err(|error| format!("tracefs hides {event}: {error}"))?;
            sys::attach_to_event(id, program.as_fd(), possible_cpus)
        }
        Attach::Kprobe(_) | Attach::Kretprobe(_) => {
            let tracefs = Tracefs::find()?;
            let event = event.filter(|event| tracefs.may_touch(event)).ok_or("the event is somebody else's")?;
            let id = tracefs.id_of_ours(event).map_err(|error| format!("tracefs hides {event}: {error}"))?;
            sys::attach_to_event(id, program.as_fd(), possible_cpus)
        }
    };
    attached.map_err(|error| format!("{}: {error}", hook.attach.target()))
}

fn broken(problem: &str) -> BuildError {
    BuildError::refused(
        format!("the agent and the process that attaches for it do not understand each other: {problem}"),
        "restart the agent, and please report it",
    )
}

fn refused(problem: &str) -> BuildError {
    BuildError::refused(problem, "restart the agent")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use ebpf_process_core::{Options, ProbePlugin as _};

    use super::*;
    use crate::attachment::Attachment;
    use crate::call::Call;
    use crate::counter::Counter;
    use crate::hook::Layer;

    fn ask() -> io::Result<()> {
        rustix::process::getpriority_process(None).map(drop).map_err(io::Error::from)
    }

    const ASKED: Counter =
        Counter::new("assist.asked", Layer::Syscall, |_| ask()).calls(&[Call::status("getpriority")]);
    static PROBE: KernelProbe = KernelProbe::new("assist", "of a test").counters(&[ASKED]);

    /// This process answers itself, as long as it is willing; how often it was asked.
    #[derive(Debug)]
    struct Itself {
        probe: &'static KernelProbe,
        options: Options,
        asked: Mutex<(bool, u64)>,
    }

    impl Assistant for Itself {
        fn assist(&self, probe: &str, request: Message) -> Result<Message, BuildError> {
            assert_eq!(probe, self.probe.name);
            let (willing, asked) = &mut *self.asked.lock();
            *asked += 1;
            if *willing {
                self.probe.assist(&self.options, request)
            } else {
                Err(BuildError::refused("no", "ask later"))
            }
        }
    }

    #[test]
    fn what_another_process_has_attached_is_attached_again_by_it() {
        let _alone = crate::calls::ALONE.lock();
        for object in ["core", "floor"] {
            let text = serde_json::json!({
                "object": object, "hooks": "tracepoint", "only": { "pid": std::process::id() },
            });
            let answers = Itself { probe: &PROBE, options: Options::from_value(&text), asked: Mutex::new((true, 0)) };
            let options = ProbeOptions::of(&answers.options).expect("options");
            let answers = Arc::new(answers);
            let assistant: Arc<dyn Assistant> = Arc::<Itself>::clone(&answers);
            let built = match build(&PROBE, &options, &assistant) {
                Ok(built) => built,
                Err(problem) if !rustix::process::geteuid().is_root() => {
                    let _ = writeln!(io::stderr(), "SKIPPED what_another_process_has_attached: {problem}");
                    return;
                }
                Err(problem) => panic!("{object}: {problem}"),
            };
            let mut attachment = Attachment::new(&PROBE, &options, built).expect("an attachment");
            attachment.look().and_then(|()| attachment.set_baseline()).expect("a baseline");
            let mut attach =
                |losses: &[Loss<'_>]| -> io::Result<Vec<OwnedFd>> { attach_again(PROBE.name, &assistant, losses) };
            let counted = |attachment: &mut Attachment| {
                (0..7).try_for_each(|_| ask()).expect("seven calls");
                attachment.refresh(Duration::ZERO).expect("numbers");
                attachment.since_baseline(0, 0).expect("a record").calls
            };
            assert!(attachment.attach_again(0, &mut attach).expect("attached again"));
            assert_eq!(answers.asked.lock().1, 2);
            answers.asked.lock().0 = false;
            let refused = attachment.attach_again(0, &mut attach).expect_err("refused").to_string();
            assert!(refused.contains("ask later"), "{refused}");
            assert_eq!(counted(&mut attachment), 0, "{object}: nothing is attached");
            answers.asked.lock().0 = true;
            assert!(attachment.attach_again(0, &mut attach).expect("attached again"));
            assert_eq!(counted(&mut attachment), 7, "{object}");
        }
    }

    /// Where the kernel has kprobes: their events in tracefs go from hand to hand and are gone in the end.
    #[test]
    fn breakpoints_of_another_process_are_attached_again_by_it() {
        let text = serde_json::json!({ "hooks": "kprobe", "mode": "return", "only": { "pid": std::process::id() } });
        let options = Options::from_value(&text);
        let answers = Itself { probe: &crate::FILE, options, asked: Mutex::new((true, 0)) };
        let options = ProbeOptions::of(&answers.options).expect("options");
        let assistant: Arc<dyn Assistant> = Arc::new(answers);
        let built = match build(&crate::FILE, &options, &assistant) {
            Ok(built) => built,
            Err(problem) if !problem.to_string().contains("no kprobes") && rustix::process::geteuid().is_root() => {
                panic!("{problem}")
            }
            Err(problem) => {
                let _ = writeln!(io::stderr(), "SKIPPED breakpoints_of_another_process: {problem}");
                return;
            }
        };
        let mut attachment = Attachment::new(&crate::FILE, &options, built).expect("an attachment");
        attachment.look().and_then(|()| attachment.set_baseline()).expect("a baseline");
        let mut attach = |losses: &[Loss<'_>]| -> io::Result<Vec<OwnedFd>> { attach_again("file", &assistant, losses) };
        for index in 0..attachment.chosen.len() {
            let counter = attachment.chosen[index].counter;
            let calls = |attachment: &mut Attachment| {
                attachment.refresh(Duration::ZERO).expect("numbers");
                attachment.since_baseline(index, 0).expect("a record").calls
            };
            assert!(attachment.attach_again(index, &mut attach).expect("attached again"), "{}", counter.name);
            let before = calls(&mut attachment);
            (0..3).try_for_each(|_| (counter.exercise)(&mut |_| Ok(()))).expect("its operation");
            assert!(calls(&mut attachment) >= before + 3, "{}", counter.name);
        }
        drop(attachment);
        let tracefs = Tracefs::find().expect("tracefs");
        let events = std::fs::read_to_string(tracefs.root().join("kprobe_events")).expect("its events");
        assert!(!events.contains(&own_number().to_string()), "{events}");
    }

    #[test]
    fn events_of_somebody_else_are_left_alone() {
        let answer = |request: &Request| {
            let message = Outgoing::default().message(request).expect("a message");
            PROBE.answer(&ProbeOptions::default(), message).map(drop).map_err(|error| error.to_string())
        };
        // Whoever has process 1's number and another start.
        let somebody = ["p_vfs_read_0_4026531836_1_7", "p x_4026531836_1_7", "../../x", ""];
        for event in somebody {
            let problem = answer(&Request::Remove(vec![event.to_owned()])).expect_err(event);
            assert!(problem.contains("somebody else's") || problem.contains("tracefs"), "{problem}");
        }
        let own = ProbeOptions::default().fingerprint();
        for (owner, options, says) in [
            ("4026531836_1_7", own.as_str(), "none of ours"),
            ("7", &own, "for whom"),
            ("4026531836_1_7", "others", "changed meanwhile"),
        ] {
            let request = Request::Build {
                options: options.to_owned(),
                owner: owner.to_owned(),
                records: RecordsText::own(),
                shared: Vec::new(),
            };
            let problem = answer(&request).expect_err(owner);
            assert!(problem.contains(says), "{problem}");
        }
    }
}
