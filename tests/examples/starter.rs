//! The agent with a sink that runs a program once, for who asks which ways of starting the agent allow that
//! (`tests/ways.rs`); and all that the agent itself has.

use std::path::PathBuf;
use std::process::ExitCode;

use ebpf_process_core::{
    Access, BuildError, Claims, Options, OptionsError, Program, Sink, SinkContext, SinkError, SinkPlugin, Started, View,
};
use serde::Deserialize;

fn main() -> ExitCode {
    ebpf_process::App::default().sink(Starter).run()
}

struct Starter;

/// The sink's options.
#[derive(Deserialize)]
struct Trace {
    /// A file that the program makes.
    trace: PathBuf,
}

impl Trace {
    fn program(&self) -> Program {
        Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), "id -u > \"$0\"".into(), self.trace.clone().into()],
            ..Program::default()
        }
    }
}

impl SinkPlugin for Starter {
    fn name(&self) -> &'static str {
        "starter"
    }

    fn summary(&self) -> &'static str {
        "runs a program once"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        options.extract::<Trace>().map(|_| Claims::default())
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        let trace = options.extract::<Trace>();
        trace.map(|trace| vec![Access::Program(trace.program())]).unwrap_or_default()
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let trace: Trace = options.extract()?;
        let started = context.opener.start(&trace.program());
        let started =
            started.map_err(|error| BuildError::refused(format!("no program: {error}"), "grant the right"))?;
        Ok(Box::new(Running { _started: started }))
    }
}

/// The program's pipes are open as long as this.
struct Running {
    _started: Started,
}

impl Sink for Running {
    fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
        Ok(())
    }
}
