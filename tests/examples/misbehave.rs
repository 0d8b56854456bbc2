//! The agent with a sink that does what whoever took the agent over would try (`tests/confinement.rs`), in the middle of
//! counting, and says what came of each attempt.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use ebpf_process_core::{
    Access, BuildError, Claims, Options, OptionsError, Sink, SinkContext, SinkError, SinkPlugin, View,
};
use ebpf_process_probes::FILE;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_thread_res_uid};
use serde::Deserialize;

fn main() -> ExitCode {
    ebpf_process::App::default().sink(Misbehave).run()
}

struct Misbehave;

/// The sink's options.
#[derive(Deserialize)]
struct Attempt {
    /// Where it says what came of it.
    report: PathBuf,
    /// A file of somebody else's, which nobody else may open.
    closed: PathBuf,
    /// A file that everybody may read, where the agent has nothing to do.
    open: PathBuf,
    /// Somebody else's process.
    victim: i32,
}

impl SinkPlugin for Misbehave {
    fn name(&self) -> &'static str {
        "misbehave"
    }

    fn summary(&self) -> &'static str {
        "tries what the agent must not do"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        options.extract::<Attempt>().map(|_| Claims::default())
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        let attempt = options.extract::<Attempt>();
        attempt.map(|attempt| vec![Access::Write(attempt.report)]).unwrap_or_default()
    }

    fn build(&self, options: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        Ok(Box::new(options.extract::<Attempt>()?))
    }
}

impl Sink for Attempt {
    fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
        if self.report.exists() {
            return Ok(());
        }
        let lines: Vec<String> = self.attempts().into_iter().map(|(what, came)| format!("{what}: {came}\n")).collect();
        // In one step, so that nobody reads half of it.
        let unfinished = self.report.with_extension("unfinished");
        fs::write(&unfinished, lines.concat())
            .and_then(|()| fs::rename(&unfinished, &self.report))
            .map_err(SinkError::failed)
    }
}

impl Attempt {
    fn attempts(&self) -> Vec<(&'static str, String)> {
        let victim = Pid::from_raw(self.victim).ok_or(io::ErrorKind::InvalidInput);
        let signal =
            |to: fn(Pid) -> rustix::io::Result<()>| victim.map_err(io::Error::from).and_then(|pid| Ok(to(pid)?));
        let all = CapabilitySet::all();
        let everything = CapabilitySets { effective: all, permitted: all, inheritable: all };
        vec![
            ("write /etc/passwd", came(append(Path::new("/etc/passwd")))),
            ("make a file in /etc/cron.d", came(make(Path::new("/etc/cron.d/misbehave")))),
            ("make a file in /tmp", came(make(Path::new("/tmp/misbehave")))),
            ("read a closed file", came(File::open(&self.closed))),
            ("write a closed file", came(append(&self.closed))),
            ("read a file of no concern", came(File::open(&self.open))),
            ("run a program", came(Command::new("/bin/true").status())),
            ("signal another process", came(signal(|pid| kill_process(pid, Signal::CONT)))),
            ("signal its group", came(signal(|pid| kill_process_group(pid, Signal::CONT)))),
            ("trace another process", came(nix::sys::ptrace::attach(nix::unistd::Pid::from_raw(self.victim)))),
            (
                "be root",
                came(set_thread_res_uid(
                    rustix::process::Uid::ROOT,
                    rustix::process::Uid::ROOT,
                    rustix::process::Uid::ROOT,
                )),
            ),
            ("have every capability", came(set_capabilities(None, everything))),
            ("mount", came(rustix::mount::mount("none", "/mnt", "tmpfs", rustix::mount::MountFlags::empty(), None))),
            ("see packets", came(rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None))),
            ("load a program", FILE.survey(&Options::none()).err().map_or("done".to_owned(), |_| "refused".to_owned())),
        ]
    }
}

/// What came of an attempt: the words of the tests for the two codes that are a refusal.
fn came<T, E: Into<io::Error>>(outcome: Result<T, E>) -> String {
    match outcome.map_err(Into::into) {
        Ok(_) => "done".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => "refused".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}
