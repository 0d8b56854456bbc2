//! The formats of lines, which whoever puts the agent together hands in: a sink knows no other sink.

use std::fmt;

use ebpf_process_core::{HostName, View};

use crate::line_batches::LineBatches;

/// A format that a program may ask for beside `rows` and `samples`: text, line by line.
#[derive(Clone, Copy, Debug)]
pub struct LineFormat {
    /// What a program calls it in its hello: up to 255 bytes. Two formats of one sink have different names, and a name never
    /// gets another meaning: batches in a spool are known by it.
    pub name: &'static str,
    /// Makes what writes it, anew whenever a program wants another format than the one before.
    pub form: fn(&FormContext) -> Box<dyn LineForm + Send>,
}

/// What lines may depend on beside the views.
#[derive(Clone, Debug)]
pub struct FormContext {
    /// What this host is called; it may change.
    pub host: HostName,
    /// Whether counters have counted before the first view that is written: what a format of differences has to know.
    pub joins: bool,
}

/// Writes views in a format of lines.
pub trait LineForm: fmt::Debug {
    /// Says each sample of a view once to `batches`, in lines or with the reason why it has none. Called on the sink's
    /// thread, view after view.
    fn write(&mut self, view: &View<'_>, batches: &mut LineBatches);
}

impl PartialEq for LineFormat {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for LineFormat {}
