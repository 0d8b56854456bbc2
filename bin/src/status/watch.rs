//! `status --watch`: the same question again and again, until somebody has seen enough.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select, tick};
use tracing::warn;

use super::question::{Question, ask, unanswered};
use super::report::Report;
use crate::exit::{Exit, Refusal};
use crate::in_place::InPlace;
use crate::reloads;
use crate::signals::Caught;
use crate::stdout::{self, Read};

/// Prints one answer after another, each a line with an object.
pub(crate) fn lines(path: &Path, every: Duration) -> Result<Exit, Refusal> {
    watch(path, every, Form::Lines)
}

/// Shows one table after another: on a terminal in one place, elsewhere with an empty line between them.
pub(crate) fn tables(path: &Path, every: Duration) -> Result<Exit, Refusal> {
    let on_terminal = stdout::is_terminal();
    watch(path, every, if on_terminal { Form::Drawn(InPlace::default()) } else { Form::Tables { begun: false } })
}

/// What is made of an answer.
enum Form {
    Lines,
    Tables { begun: bool },
    Drawn(InPlace),
}

/// Asks until a signal comes or nobody reads any more. An agent that is not there is waited for: it may be starting again.
fn watch(path: &Path, every: Duration, mut form: Form) -> Result<Exit, Refusal> {
    let listening = Caught::new()?.listen(reloads::channel().0)?;
    let answers = asking(path.to_owned(), every)
        .map_err(|error| Refusal::lasting(format!("cannot start a thread: {error}; raise the limit on threads")))?;
    let (mut met, mut absent) = (false, false);
    loop {
        let answer = select! {
            recv(listening.stop()) -> _ => return Ok(Exit::Fine),
            recv(answers) -> answer => answer.map_err(|_| Refusal::lasting("the thread that asks has ended"))?,
        };
        let read = match answer {
            Ok(answer) => {
                (met, absent) = (true, false);
                form.show(path, &answer)?
            }
            // Waiting does not help. One that has answered before is ending, and hung up.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !met => {
                return Err(Refusal::lasting(unanswered(path, &error)));
            }
            Err(error) => {
                let first = !std::mem::replace(&mut absent, true);
                form.tell(&format!("{}; waiting for it", unanswered(path, &error)), first)?
            }
        };
        if read == Read::NoMore || stdout::is_closed() {
            return Ok(Exit::Fine);
        }
    }
}

/// Starts a thread that asks, so that an agent which does not answer keeps nobody from ending this.
fn asking(path: PathBuf, every: Duration) -> io::Result<Receiver<io::Result<String>>> {
    let (sender, answers) = bounded(0);
    let ask = move || {
        let moments = tick(every);
        while sender.send(ask(&path, Question::Status)).is_ok() && moments.recv().is_ok() {}
    };
    thread::Builder::new().name("asking".to_owned()).spawn(ask)?;
    Ok(answers)
}

impl Form {
    fn show(&mut self, path: &Path, answer: &str) -> Result<Read, Refusal> {
        match self {
            Self::Lines => stdout::write(answer),
            Self::Tables { begun } => {
                let gap = if std::mem::replace(begun, true) { "\n" } else { "" };
                stdout::write(&format!("{gap}{}", Report::read(path, answer)?.table()))
            }
            Self::Drawn(place) => draw(place, &Report::read(path, answer)?.table()),
        }
    }

    /// Says that nobody answers: in the place of the table, or else once.
    fn tell(&mut self, problem: &str, first: bool) -> Result<Read, Refusal> {
        match self {
            Self::Drawn(place) => return draw(place, problem),
            Self::Lines | Self::Tables { .. } if first => warn!("{problem}"),
            Self::Lines | Self::Tables { .. } => {}
        }
        Ok(Read::On)
    }
}

fn draw(place: &mut InPlace, text: &str) -> Result<Read, Refusal> {
    let size = stdout::size();
    let lines = match InPlace::room(size) {
        Some((columns, rows)) => within(&stdout::wrapped(text, columns), rows),
        None => text.lines().map(str::to_owned).collect(),
    };
    stdout::write(&place.draw(size, &lines))
}

/// As much of a text as so many lines hold; where something is left out, the last line says how much.
fn within(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.len() > room {
        let hidden = lines.len() - room.saturating_sub(1);
        lines.truncate(room.saturating_sub(1));
        lines.push(format!("... {hidden} more lines"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted_on_the_last_line() {
        assert_eq!(within("a\nb\nc\n", 3), ["a", "b", "c"]);
        assert_eq!(within("a\n\nc\nd\n", 3), ["a", "", "... 2 more lines"]);
        assert_eq!(within("a\nb\n", 1), ["... 2 more lines"]);
    }
}
