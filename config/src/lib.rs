//! What was typed, and what it means.
//!
//! ```text
//! files -> Sources::read -> Texts
//! Texts, environment, --set -> Sources::load_texts -> Loaded (one table, each value with its origin)
//!                                                  -> Plan (checked: which probes and sinks, with which options)
//! ```
//!
//! * [`Sources`] says which layers there are: on the command line, under netdata, or started setuid.
//! * [`Texts`] is what the files say, to be handed to a process that may not read them.
//! * [`Loaded`] is the layered table; [`Loaded::show`] prints it with the origin of each value.
//! * [`Plan`] is the same, checked against a [`Registry`](ebpf_process_core::Registry).
//! * [`ConfigError`] is a refusal: what is wrong, where, and the way out.
//!
//! This crate opens files and nothing else: it attaches no probe and connects no sink.

mod confine;
mod default;
mod documented;
mod error;
mod files;
mod layer;
mod literal;
mod load;
mod name;
mod netdata;
mod plan;
mod probes;
mod raw;
mod secure;
mod show;
mod texts;

pub use confine::confine;
pub use default::{DEFAULT, default_text};
pub use documented::{DocumentedTable, documented};
pub use error::ConfigError;
pub use literal::quoted;
pub use load::{Loaded, Sources};
pub use netdata::Directories;
pub use plan::{Plan, PlannedSink, status_socket};
pub use probes::PlannedProbe;
pub use raw::Rights;
pub use texts::Texts;

/// The stock `ebpf_process.conf` for netdata's `edit-config`.
pub const NETDATA_CONF: &str = include_str!("../ebpf_process.conf");
