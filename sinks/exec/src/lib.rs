//! The sink type `exec`: batches to a program in any language, which answers each of them.
//!
//! ```toml
//! [sinks.store]
//! type = "exec"
//! [sinks.store.options]
//! program = ["/usr/local/bin/store", "--table", "cells"]
//! ```
//!
//! The agent starts the program and talks to it over its standard input and output, a JSON object a line; or it connects
//! to a Unix socket where a program of somebody else's listens (`address = "unix:/run/store.sock"`). What both say is in
//! `docs/exec-protocol.md`, all that is needed to write such a program. Formats of lines that it may ask for beside JSON are handed in
//! ([`ExecPlugin::with_formats`]): each is a [`LineForm`]. The options are those of [`ExecPlugin`]'s
//! [`options`](ebpf_process_core::SinkPlugin::options).
//!
//! A batch is **written** when the program has answered that it has it, **rejected** as far as it says that it does not want it, and
//! **queued** until then. What is unanswered when a program ends is sent to the next one. What waits is bounded by
//! `delivery.memory` and `delivery.spool`; beyond them the oldest batch that the program has not got is **dropped**. What it has not answered at a stop and is not
//! in a spool is **unconfirmed**.
//!
//! ```text
//! write -> Encoder or LineEncoder -> Delivery -> Link -> Engine: start, hello, batches, answers, end -> Peer
//!                         <--- Ticket ------ Flights: what is unanswered
//! ```

mod batch;
mod encode;
mod encoded;
mod encoding;
mod engine;
mod flights;
mod form;
mod head;
mod integers;
mod item;
mod known;
mod line;
mod line_batches;
mod line_encode;
mod link;
mod memory;
mod message;
mod options;
mod reason;
mod rejected;
mod rows;
mod samples;
mod shared;
mod sink;
mod start;
mod text;
mod words;

use ebpf_process_core::{
    Access, BuildError, Claims, Finding, OptionDoc, Options, OptionsError, Sink, SinkContext, SinkPlugin, TrialContext,
};

pub use encode::Encoder;
pub use encoded::Encoded;
pub use encoding::{Encoding, Format};
pub use form::{FormContext, LineForm, LineFormat};
pub use head::head;
pub use integers::Integers;
pub use line_batches::LineBatches;
pub use line_encode::LineEncoder;

use options::Settings;
use sink::ExecSink;
use words::Formats;

/// The sink type `exec`, for a registry: with the formats `rows` and `samples`.
pub const PLUGIN: ExecPlugin = ExecPlugin { formats: Formats(&[]) };

/// See [`PLUGIN`].
#[derive(Clone, Copy, Debug)]
pub struct ExecPlugin {
    formats: Formats,
}

impl ExecPlugin {
    /// The same with these formats of lines as well, in place of those that it had.
    #[must_use]
    pub const fn with_formats(self, formats: &'static [LineFormat]) -> Self {
        Self { formats: Formats(formats) }
    }
}

impl SinkPlugin for ExecPlugin {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn summary(&self) -> &'static str {
        "batches to a program or a Unix socket, in a protocol for any language"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        Settings::read(options).map(|_| Claims::default())
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<Settings>()
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let (settings, target) = Settings::read(options)?;
        Ok(Box::new(ExecSink::start(&settings, target, self.formats, context)?))
    }

    fn try_out(&self, options: &Options, context: &TrialContext) -> Vec<Finding> {
        let (settings, target) = match Settings::read(options) {
            Ok(read) => read,
            Err(error) => return vec![Finding::error(error.to_string(), "correct the option")],
        };
        let mut findings = vec![match target.examine() {
            Ok(found) => Finding::fine(format!("{found}, and may ask for the format {}", self.formats.names())),
            Err(obstacle) => Finding::error(obstacle.problem, obstacle.way_out),
        }];
        findings.extend(settings.delivery.try_out(link::ENCODINGS, context));
        findings
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        let Ok((settings, target)) = Settings::read(options) else { return Vec::new() };
        [target.access()].into_iter().chain(settings.delivery.spool.map(Access::Directory)).collect()
    }

    fn succeeds(&self, before: &Options, now: &Options) -> bool {
        let told = |options| Settings::read(options).ok().map(|(settings, target)| (settings.config().clone(), target));
        told(before).is_some_and(|before| told(now) == Some(before))
    }
}
