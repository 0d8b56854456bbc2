//! The probe type `exec`: numbers of a program in any language, which is asked once a tick.
//!
//! ```toml
//! [probes.gpu]
//! type = "exec"
//! program = ["/usr/local/bin/gpu", "--all"]
//! ```
//!
//! The agent starts the program and talks to it over its standard input and output, a JSON object a line; or it connects to a
//! Unix socket where a program of somebody else's listens. A program may as well write the text format of `OpenMetrics` or
//! line protocol. What is said is in `docs/exec-protocol.md`, all that is needed to write such a program.
//!
//! Nothing is started when the probe is built, but at its first collection: an agent gives up its rights in between. The
//! collecting thread never waits for the program: it leaves a question, and takes the answer to that or to the one before.
//!
//! ```text
//! ExecProbe::collect -> Talker: question -> Engine (a thread): Peer -> program
//!          |         <- Talker: Answer   <- Listener <- message | openmetrics | influx
//!          +-> Book: rows, columns, totals that go on -> Recorder
//! ```

mod answer;
mod book;
mod columns;
mod decimal;
mod engine;
mod gathered;
mod growth;
mod influx;
mod listener;
mod message;
mod openmetrics;
mod options;
mod point;
mod probe;
mod question;
mod shared;
mod spec;
mod talker;

use std::sync::Arc;

use ebpf_process_core::{
    Access, Assistant, BuildError, Declared, Finding, OptionDoc, Options, OptionsError, Prepared, Probe, ProbeContext,
    ProbePlugin,
};
use ebpf_process_peer::Target;

use options::Settings;
use probe::ExecProbe;

/// The probe type `exec`, for a registry.
pub const PLUGIN: ExecPlugin = ExecPlugin;

/// See [`PLUGIN`].
#[derive(Clone, Copy, Debug)]
pub struct ExecPlugin;

impl ProbePlugin for ExecPlugin {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn summary(&self) -> &'static str {
        "numbers of a program or from a Unix socket, in a protocol for any language"
    }

    fn is_default(&self) -> bool {
        false
    }

    fn is_named(&self) -> bool {
        true
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<Settings>()
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        Settings::read(options).map(|(_, target)| target.access()).into_iter().collect()
    }

    fn try_out(&self, options: &Options) -> Vec<Finding> {
        let examined = Settings::read(options).map(|(_, target)| target.examine());
        examined
            .into_iter()
            .map(|found| match found {
                Ok(found) => Finding::fine(found),
                Err(obstacle) => Finding::error(obstacle.problem, obstacle.way_out),
            })
            .collect()
    }

    /// What a program has numbers for it says itself.
    fn catalog(&self, options: &Options) -> Result<Vec<Declared>, OptionsError> {
        Settings::read(options).map(|_| Vec::new())
    }

    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let (settings, target) = Settings::read(options)?;
        Ok(Box::new(ExecProbe::new(context.name, settings, target, context.opener)))
    }

    /// There is nothing to do ahead; but so the program of the probe before is ended by a thread that may wait for it.
    fn prepare(
        &self,
        options: &Options,
        _: Option<&Arc<dyn Assistant>>,
    ) -> Result<Option<Box<dyn Prepared>>, BuildError> {
        let (settings, target) = Settings::read(options)?;
        Ok(Some(Box::new(Coming { settings, target })))
    }
}

/// A probe that has not begun.
struct Coming {
    settings: Settings,
    target: Target,
}

impl Prepared for Coming {
    fn take_over(&mut self, ask_predecessor: &mut dyn FnMut()) -> Result<(), BuildError> {
        ask_predecessor();
        Ok(())
    }

    fn begin(self: Box<Self>, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        Ok(Box::new(ExecProbe::new(context.name, self.settings, self.target, context.opener)))
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::Severity;
    use serde_json::json;

    use super::*;

    #[test]
    fn check_says_whether_the_program_can_be_started() {
        let tried = |program: &str| PLUGIN.try_out(&Options::from_value(json!({ "program": [program] })));
        let [found] = &tried("/bin/sh")[..] else { panic!("one finding") };
        assert_eq!((found.severity, found.what.as_str()), (Severity::Fine, "/bin/sh can be started"));
        let [found] = &tried("/bin/no such program")[..] else { panic!("one finding") };
        assert_eq!(found.severity, Severity::Error);
        assert!(found.what.starts_with("cannot find /bin/no such program") && found.way_out.is_some(), "{found:?}");
    }
}
