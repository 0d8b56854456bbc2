//! What standard output is.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{Winsize, tcgetwinsize};

use crate::exit::{Exit, Refusal};

/// Whether a person looks at it.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether its reader is gone for good: a pipe or socket that nobody holds the other end of.
pub(crate) fn is_closed() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Not even open counts as closed (POLLNVAL).
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(gone)
}

/// Columns and rows of the terminal, if it is one that tells.
pub(crate) fn size() -> Option<(usize, usize)> {
    let Winsize { ws_col, ws_row, .. } = tcgetwinsize(io::stdout()).ok()?;
    (ws_col > 0 && ws_row > 0).then_some((usize::from(ws_col), usize::from(ws_row)))
}

/// Prints the whole of a command's output. A reader that went away is no failure.
pub(crate) fn print(text: &str) -> Result<Exit, Refusal> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match printed {
        Ok(()) => Ok(Exit::Fine),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Fine),
        Err(error) => Err(Refusal::lasting(format!("cannot write to standard output: {error}; redirect it elsewhere"))),
    }
}
