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

/// Breaks lines that are longer than this at blanks, so that no word is broken; what follows is indented as the line is,
/// and two blanks more. A word that is longer than a line stays whole.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let indent = line.len() - line.trim_start_matches(' ').len() + 2;
        let mut rest = line.to_owned();
        while rest.chars().count() > width {
            // Only a blank behind the indentation, and between two words.
            let begin = rest.len() - rest.trim_start_matches(' ').len();
            let blanks = rest.char_indices().enumerate().filter(|(_, (at, c))| *c == ' ' && *at > begin);
            let fits = blanks.clone().take_while(|(column, _)| *column <= width).last();
            let Some((_, (at, _))) = fits.or_else(|| blanks.clone().next()) else { break };
            let tail = rest[at..].trim_start_matches(' ');
            if tail.is_empty() {
                break;
            }
            let next = format!("{:indent$}{tail}", "");
            lines.push(rest[..at].trim_end().to_owned());
            rest = next;
        }
        lines.push(rest);
    }
    lines.join("\n")
}

/// Prints a report for people: on a terminal as wide as that is.
pub(crate) fn print_for_people(text: &str) -> Result<Exit, Refusal> {
    match size() {
        Some((columns, _)) => print(&wrapped(text, columns)),
        None => print(text),
    }
}

/// Prints the whole of a command's output. A reader that went away is no failure.
pub(crate) fn print(text: &str) -> Result<Exit, Refusal> {
    write(text).map(|_| Exit::Fine)
}

/// Whether somebody may still read what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    On,
    NoMore,
}

/// Writes some of a command's output. A reader that went away, a closed terminal as well, is no failure.
pub(crate) fn write(text: &str) -> Result<Read, Refusal> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Read::On),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe || is_closed() => Ok(Read::NoMore),
        Err(error) => Err(Refusal::lasting(format!("cannot write to standard output: {error}; redirect it elsewhere"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_broken_between_words_and_nowhere_else() {
        let text = "one two three\n  four five six\n\nseven  eight\nextraordinarily long\n";
        for width in 1..40 {
            let wrapped = wrapped(text, width);
            assert_eq!(wrapped.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
            for line in wrapped.lines().filter(|line| line.chars().count() > width) {
                assert_eq!(line.split_whitespace().count(), 1, "{line:?} at {width}");
            }
        }
        assert_eq!(wrapped(text, 40), text);
        assert_eq!(wrapped("  four five six", 11), "  four five\n    six");
    }
}
