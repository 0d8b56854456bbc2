//! What a kernel probe asks of a process that has the rights to load and attach, and what that one does.
//!
//! The process that asks is the one that counts: it owns what is built, and is by its number the owner of events in tracefs
//! as well, since whoever builds is over soon. The one that answers comes from it (it was forked from it), which is
//! how it knows for whom such events may be made and removed.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use ebpf_process_core::{Assistant, BuildError, Message};
use serde::{Deserialize, Serialize};

use crate::attach::{Links, Loss, SharedText};
use crate::building::{self, For};
use crate::built::Built;
use crate::call::RecordsText;
use crate::calls::{Calls, Key};
use crate::handover::{describe, every_hook, take_over};
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
    let shared = Calls::all_shared().into_iter().map(|(Key { object, filter }, calls)| {
        let shown = calls.lock().programs.links.shown(&mut outgoing);
        shown.map(|shown| (object, filter, shown)).map_err(|error| broken(&error.to_string()))
    });
    let request = Request::Build {
        shared: shared.collect::<Result<_, _>>()?,
        options: options.fingerprint(),
        owner: own_number().to_string(),
        records: RecordsText::own(),
    };
    let request = outgoing.message(&request).map_err(|problem| broken(&problem))?;
    let answer = assistant.assist(probe.name, request)?;
    take_over(probe, options, answer, &remover(probe.name, assistant)).map_err(|problem| broken(&problem))
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
