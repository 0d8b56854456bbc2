//! A program that knows what a receiver has.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use ebpf_process_core::testkit::conformance::Reading;
use tracing::error;

use crate::exit::Refusal;

/// How long the program may take each time.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs the program whenever something is to be read back.
pub(crate) struct Verifier {
    program: PathBuf,
    /// What it complained of last has been said.
    said: Option<String>,
}

impl Verifier {
    /// The program is run once: who cannot read before the test cannot in it.
    pub(crate) fn new(program: &Path) -> Result<Self, Refusal> {
        read(program).map_err(|problem| Refusal::Usage(format!("--verify {}: {problem}", program.display())))?;
        Ok(Self { program: program.to_owned(), said: None })
    }

    /// What the receiver has by now; nothing where the program fails, which is said.
    pub(crate) fn readings(&mut self) -> Vec<Reading> {
        read(&self.program).unwrap_or_else(|problem| {
            if self.said.as_ref() != Some(&problem) {
                error!("--verify {}: {problem}", self.program.display());
            }
            self.said = Some(problem);
            Vec::new()
        })
    }
}

/// Has the program run to its end, and reads its lines.
fn read(program: &Path) -> Result<Vec<Reading>, String> {
    let mut child = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}; name a program by its path"))?;
    let Some(mut output) = child.stdout.take() else { return Err("it has no output".to_owned()) };
    let (done, text) = bounded(1);
    let reader = std::thread::Builder::new().name("verify".to_owned()).spawn(move || {
        let mut text = String::new();
        // Nobody waits any more where it took too long.
        let _ = done.send(output.read_to_string(&mut text).map(|_| text));
    });
    let text = match reader.map(|_| text.recv_timeout(LIMIT)) {
        Ok(Ok(Ok(text))) => text,
        Ok(Ok(Err(error))) => return Err(format!("its output cannot be read: {error}")),
        Ok(Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
            // It may have ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it has not ended in {LIMIT:?}; have it print what is there by now and exit"));
        }
        Err(error) => return Err(format!("no thread to read its output: {error}")),
    };
    let status = child.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("it ends with {status}; what it says itself stands above"));
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| Reading::parse(line).ok_or_else(|| format!("expected `name{{labels}} value`: {line}"))).collect()
}
