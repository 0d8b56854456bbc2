//! Why a conversation with a program is over, and what follows from it.

use std::process::ExitStatus;

/// The exit code of a program that waits for somebody to change its configuration (`EX_CONFIG`).
const CONFIGURE: i32 = 78;

/// Why a conversation is over.
#[derive(Debug)]
pub enum Why {
    /// The sink or probe ends.
    Stopping,
    /// The program has ended.
    Ended(ExitStatus),
    /// The program closes its standard input or output, or a socket's end: which.
    Left(&'static str),
    /// It breaks the protocol, or does not answer.
    Broken(String),
    /// Nothing can be said to it, or it cannot work, before somebody changes something.
    Hopeless(String),
}

/// What follows.
#[derive(Debug)]
pub enum After {
    /// Another program is started, after a while: why.
    Again(String),
    /// None is before the configuration is loaded again: why.
    Over(String),
    /// Nothing: the sink or probe ends.
    Stopped,
}

impl Why {
    /// What follows where the program has ended so, if that is known.
    #[must_use]
    pub fn after(self, ended: Option<ExitStatus>) -> After {
        let code = ended.and_then(|ended| ended.code());
        let ended = ended.map_or_else(String::new, |ended| format!(" ({ended})"));
        match self {
            Self::Stopping => After::Stopped,
            Self::Hopeless(problem) => After::Over(problem),
            _ if code == Some(CONFIGURE) => {
                After::Over(format!("the program exited with {CONFIGURE}: its configuration has to be changed"))
            }
            Self::Ended(_) => After::Again(format!("the program has ended by itself{ended}")),
            Self::Left(what) => After::Again(format!("the program {what}{ended}")),
            Self::Broken(problem) => After::Again(format!("{problem}{ended}")),
        }
    }
}
