//! The agent with a sink that tries to get rights back that the agent has given up (`tests/packaging.rs`): it starts a
//! program, and writes to a file that is neither its own nor open to it.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use ebpf_process_core::{BuildError, Claims, Options, OptionsError, Sink, SinkContext, SinkError, SinkPlugin, View};
use serde::Deserialize;

fn main() -> ExitCode {
    ebpf_process::run(ebpf_process::registry().sink(&Regain))
}

struct Regain;

/// The sink's options.
#[derive(Deserialize)]
struct Attempt {
    /// Where it says what came of it.
    report: PathBuf,
    /// A file of somebody else's.
    forbidden: PathBuf,
}

impl SinkPlugin for Regain {
    fn name(&self) -> &'static str {
        "regain"
    }

    fn summary(&self) -> &'static str {
        "tries to get rights back"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        options.extract::<Attempt>().map(|_| Claims::default())
    }

    fn build(&self, options: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        Ok(Box::new(options.extract::<Attempt>()?))
    }
}

impl Sink for Attempt {
    fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
        let Self { report, forbidden } = self;
        if report.exists() {
            return Ok(());
        }
        let status = Command::new("cat").arg("/proc/self/status").output().map_err(SinkError::failed)?;
        let by_program = Command::new("sh").args(["-c", "echo x 2>/dev/null >> \"$0\""]).arg(&*forbidden).status();
        let said = |done: bool| if done { "done" } else { "refused" };
        let text = format!(
            "{}\n\nby a program: {}\nby itself: {}\n",
            String::from_utf8_lossy(&status.stdout).trim_end(),
            said(by_program.is_ok_and(|status| status.success())),
            said(append(forbidden)),
        );
        // In one step, so that nobody reads half of it.
        let unfinished = report.with_extension("unfinished");
        fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, report)).map_err(SinkError::failed)
    }
}

fn append(path: &Path) -> bool {
    OpenOptions::new().append(true).open(path).is_ok()
}
