//! What a program writes to its standard error, as lines of the agent's log.

use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::cleaned::cleaned;
use crate::owner::Owner;

/// Bytes of a line at most; the rest of a longer one is left out.
const LONGEST: usize = 8 << 10;

/// Lines in a second at most.
const MOST: u32 = 100;

const SECOND: Duration = Duration::from_secs(1);

/// Puts lines together, and tells them: 8 KiB of a line, and 100 lines in a second.
#[derive(Debug)]
pub struct Complaints {
    owner: Owner,
    line: Vec<u8>,
    since: Option<Instant>,
    told: u32,
    left_out: u64,
}

/// How bad a line says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Error,
    Warning,
    Info,
    Debug,
}

impl Complaints {
    /// Of a program that works for this one.
    pub const fn new(owner: Owner) -> Self {
        Self { owner, line: Vec::new(), since: None, told: 0, left_out: 0 }
    }

    /// Takes a piece in.
    pub fn push(&mut self, piece: &[u8], now: Instant) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = (LONGEST + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(text.get(..room).unwrap_or(text));
            if ends {
                self.end_line(now);
            }
        }
    }

    /// There is no more of it.
    pub fn end(&mut self, now: Instant) {
        if !self.line.is_empty() {
            self.end_line(now);
        }
        self.tell_left_out();
        self.since = None;
    }

    fn end_line(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            self.tell_left_out();
            (self.since, self.told) = (Some(now), 0);
        }
        self.told += 1;
        if self.told > MOST {
            self.left_out += 1;
            self.line.clear();
            return;
        }
        let (level, text) = level_of(&self.line);
        let text = cleaned(text, LONGEST);
        let (sink, probe) = (self.owner.sink(), self.owner.probe());
        match level {
            Level::Error => error!(sink, probe, "{text}"),
            Level::Warning => warn!(sink, probe, "{text}"),
            Level::Info => info!(sink, probe, "{text}"),
            Level::Debug => debug!(sink, probe, "{text}"),
        }
        self.line.clear();
    }

    fn tell_left_out(&mut self) {
        if let lines @ 1.. = std::mem::take(&mut self.left_out) {
            let (sink, probe) = (self.owner.sink(), self.owner.probe());
            warn!(
                sink,
                probe, "{lines} lines of the program's standard error are left out: more than {MOST} in a second"
            );
        }
    }
}

/// The level that a line begins with, and the rest.
fn level_of(line: &[u8]) -> (Level, &[u8]) {
    match line {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => {
            let level = match digit {
                b'0'..=b'3' => Level::Error,
                b'4' => Level::Warning,
                b'7' => Level::Debug,
                _ => Level::Info,
            };
            (level, rest)
        }
        [b'E', b'!', b' ', rest @ ..] => (Level::Error, rest),
        [b'W', b'!', b' ', rest @ ..] => (Level::Warning, rest),
        [b'D', b'!', b' ', rest @ ..] => (Level::Debug, rest),
        [b'I', b'!', b' ', rest @ ..] | rest => (Level::Info, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logged::logged;

    #[test]
    fn a_line_says_how_bad_it_is() {
        for (line, level, text) in [
            ("<3>no", Level::Error, "no"),
            ("<4>no", Level::Warning, "no"),
            ("<5>so", Level::Info, "so"),
            ("<7>so", Level::Debug, "so"),
            ("<8>so", Level::Info, "<8>so"),
            ("E! no", Level::Error, "no"),
            ("W! no", Level::Warning, "no"),
            ("D! so", Level::Debug, "so"),
            ("E!so", Level::Info, "E!so"),
            ("", Level::Info, ""),
        ] {
            assert_eq!(level_of(line.as_bytes()), (level, text.as_bytes()), "{line}");
        }
    }

    #[test]
    fn long_lines_are_cut_and_many_are_counted() {
        let (mut complaints, start) = (Complaints::new(Owner::Sink("x".to_owned())), Instant::now());
        complaints.push(&vec![b'x'; 100_000], start);
        assert_eq!(complaints.line.len(), LONGEST + 1);
        complaints.push(b"\n", start);
        (0..MOST + 5).for_each(|_| complaints.push(b"line\n", start));
        assert_eq!((complaints.left_out, complaints.told), (6, MOST + 6));
        complaints.push(b"line\n", start + SECOND);
        assert_eq!((complaints.left_out, complaints.told), (0, 1));
    }

    #[test]
    fn lines_are_told_as_they_end_with_whose_they_are() {
        let (now, sink, probe) = (Instant::now(), Owner::Sink("db".to_owned()), Owner::Probe("gpu".to_owned()));
        let lines = logged(|| {
            let mut complaints = Complaints::new(sink);
            complaints.push(b"E! one\nW! t", now);
            complaints.push(b"wo\nthree\nD! four", now);
            complaints.end(now);
            complaints.end(now);
            let mut complaints = Complaints::new(probe);
            (0..MOST + 2).for_each(|_| complaints.push(b"<7>x\n", now));
            complaints.end(now);
        });
        assert_eq!(
            lines[..5],
            [
                r#"ERROR one sink="db""#,
                r#"WARN two sink="db""#,
                r#"INFO three sink="db""#,
                r#"DEBUG four sink="db""#,
                r#"DEBUG x probe="gpu""#,
            ]
        );
        let left_out = "WARN 2 lines of the program's standard error are left out: more than 100 in a second";
        assert_eq!((lines.len(), &lines[4 + MOST as usize]), (105, &format!(r#"{left_out} probe="gpu""#)));
    }
}
