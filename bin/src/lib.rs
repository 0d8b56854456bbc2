//! The agent as a library: an [`App`] is the whole program, with its own name, plugins and places.
//!
//! A binary with a sink or a probe of its own:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     ebpf_process::App::new("my-agent", env!("CARGO_PKG_VERSION")).run() // .sink(MY_PLUGIN)
//! }
//! ```
//!
//! * `app` is what a `main` says of its program, `program` runs it.
//! * `cli` reads the command line, `configuration` loads and checks the configuration; `run`, `once`, `check`, `status`,
//!   `list`, `settings` and `spool` are its commands, `plugin` is what netdata starts.
//! * `trial` tries the sinks for `check`, `choice` looks whether what they ask for exists.
//! * `sink_test` has a sink tested by the conformance kit, `which` is what is tested, `target` says where it sends, `verify`
//!   what has arrived; `receive` is a receiver of the kit's own.
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
mod app;
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
mod program;
mod reload;
mod reloads;
mod rights;
mod run;
mod settings;
mod signals;
mod sink_test;
mod spool;
mod status;
mod stdout;
mod surroundings;
mod survey;
mod table;
mod trial;

use ebpf_process_core::{Registry, VITALS};
use ebpf_process_probes::PROBES;

pub use crate::app::App;

/// The probes and sinks that come with the agent.
pub fn registry() -> Registry {
    let sinks = ebpf_process_sinks::registry();
    let counting = PROBES.into_iter().fold(sinks, |registry, probe| registry.probe(*probe));
    counting.probe(ebpf_process_probe_exec::PLUGIN).probe(VITALS)
}
