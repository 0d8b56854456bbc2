//! The agent as a library: [`run`] is the whole program for the plugins of a [`Registry`].
//!
//! A binary with a sink or a probe of its own is ten lines:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     let registry = ebpf_process::registry(); // .sink(MY_PLUGIN)
//!     ebpf_process::run(registry)
//! }
//! ```
//!
//! * `cli` reads the command line, `configuration` loads and checks the configuration; `run`, `once`, `check`, `status`,
//!   `list`, `settings` and `spool` are its commands, `plugin` is what netdata starts.
//! * `trial` tries the sinks for `check`, `choice` looks whether what they ask for exists.
//! * `by` is the choice of one kind of rows, for `once` and `run`.
//! * `engine` builds an agent from a plan, in the order that the kernel and the threads demand.
//! * `reload` takes over a changed configuration, `reloads` is how that is asked for; `surroundings` is what sinks are built
//!   with.
//! * `table` is a sink for people; `in_place` draws on a terminal over what was drawn before.
//! * `broker` is the process that opens and attaches for the agent what it may not any more.
//! * `confinement` is what the agent gives up for good once its probes are attached; `rights` says which capabilities it
//!   keeps, `privileges` lets go of the others.
//! * `notify` tells the service manager how the agent fares.
//! * `signals`, `log`, `stdout`, `lock`, `destinations` and `meeting_place` are what a process owes its surroundings.

mod accounts;
mod broker;
mod by;
mod check;
mod choice;
mod cli;
mod common;
mod configuration;
mod confinement;
mod destinations;
mod engine;
mod exit;
mod forecast;
mod in_place;
mod list;
mod lock;
mod log;
mod meeting_place;
mod notify;
mod once;
mod plugin;
mod privileges;
mod reload;
mod reloads;
mod rights;
mod run;
mod settings;
mod signals;
mod spool;
mod status;
mod stdout;
mod surroundings;
mod survey;
mod table;
mod trial;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use ebpf_process_core::{Registry, VITALS};
use ebpf_process_probes::PROBES;

use crate::exit::Exit;

/// The probes and sinks that come with the agent.
pub fn registry() -> Registry {
    let sinks = ebpf_process_sinks::registry();
    PROBES.into_iter().fold(sinks, |registry, probe| registry.probe(*probe)).probe(VITALS)
}

/// Runs the program with the arguments of this process and returns its exit code: 0 fine, 1 it
/// cannot run here or a fatal error, 2 the command line or the configuration is wrong.
///
/// Call it on the main thread, before any other thread exists: probes may fork while they are
/// built.
pub fn run(registry: Registry) -> ExitCode {
    run_with(registry, std::env::args_os())
}

/// The same with other arguments, the program's name first.
#[expect(clippy::needless_pass_by_value, reason = "a program consumes what it is given, and callers read better so")]
pub fn run_with(registry: Registry, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    dispatch(&registry, &arguments).into()
}

fn dispatch(registry: &Registry, arguments: &[OsString]) -> Exit {
    privileges::raise_descriptors();
    let program = if plugin::is_name(arguments.first()) { plugin::main } else { cli::main };
    // A panic must become an exit code: whoever dies of a signal is never restarted by netdata.
    catch_unwind(AssertUnwindSafe(|| program(registry, arguments))).unwrap_or(Exit::Failed)
}
