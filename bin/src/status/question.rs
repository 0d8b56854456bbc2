//! Asking a running agent: a line is the question.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an agent is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// How it fares.
    Status,
    /// To read its configuration again.
    Reload,
}

/// What came of a reload.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// It was taken over: what was done, in words.
    Done { changes: Vec<String> },
    /// Nothing has changed: why, and whether the configuration is wrong.
    Refused { error: String, usage: bool },
}

impl Question {
    /// The line for it.
    pub(crate) const fn line(self) -> &'static str {
        match self {
            Self::Status => "status\n",
            Self::Reload => "reload\n",
        }
    }

    /// How long the answer may take: for a reload probes are attached.
    const fn patience(self) -> Duration {
        match self {
            Self::Status => PATIENCE,
            Self::Reload => Duration::from_mins(2),
        }
    }
}

/// An agent answers at once; one that does not has other troubles.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than any answer: 64 sinks and all counters are a few dozen KiB.
const LONGEST_ANSWER: u64 = 1 << 20;

/// The answer of the agent at this socket: a line. One that went away in the middle of it has given none.
pub(crate) fn ask(path: &Path, question: Question) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(question.patience()))?;
    match stream.write_all(question.line().as_bytes()) {
        // Whoever may not ask is hung up on, perhaps before he has asked.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    let mut answer = String::new();
    match stream.take(LONGEST_ANSWER).read_to_string(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => return Err(error),
        _ => {}
    }
    match answer.as_bytes() {
        // Whoever may not ask is hung up on.
        [] => Err(ErrorKind::PermissionDenied.into()),
        [.., b'\n'] => Ok(answer),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// That nobody has answered, why, and the way out.
pub(crate) fn unanswered(path: &Path, error: &io::Error) -> String {
    let way_out = match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            "start the agent, or name the status.socket that it was started with"
        }
        ErrorKind::PermissionDenied => "ask as root or as the agent's user",
        _ => "see the agent's log",
    };
    format!("no agent answers at {}: {error}; {way_out}", path.display())
}
