//! The numbers of an interval as a table for people.
//!
//! Operations are rows; calls, errors and bytes are columns, each per second and in total. On a
//! terminal the table is drawn over the one before.

mod figures;
mod units;

use std::io::{ErrorKind, Stdout, Write, stdout};
use std::time::Duration;

use ebpf_process_core::{Sink, SinkError, View};

use self::figures::Figures;
use crate::stdout;

/// A sink that prints tables.
pub(crate) struct Table<W> {
    output: W,
    figures: Figures,
    place: Place,
}

/// Where a table goes.
enum Place {
    /// Over the one before, so many lines further up.
    Same { above: usize },
    /// Wherever the output is.
    Once,
}

impl Table<Stdout> {
    /// For a terminal: a table per view, in one place. What it shows counts from the baseline, a time since boot.
    pub(crate) fn on_terminal(baseline: Duration) -> Self {
        Self::new(stdout(), Place::Same { above: 0 }, baseline)
    }

    /// One table, for one view.
    pub(crate) fn once(baseline: Duration) -> Self {
        Self::new(stdout(), Place::Once, baseline)
    }
}

impl<W: Write> Table<W> {
    fn new(output: W, place: Place, baseline: Duration) -> Self {
        Self { output, figures: Figures::since(baseline), place }
    }
}

impl<W: Write + Send> Sink for Table<W> {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.figures.read(view);
        let size = stdout::size();
        let mut lines = self.figures.lines(size.map(|(columns, _)| columns));
        let text = match &mut self.place {
            Place::Once => lines.join("\n") + "\n",
            Place::Same { above } => {
                if let Some((_, rows)) = size {
                    crop(&mut lines, rows);
                }
                let drawn = over(*above, &lines);
                *above = lines.len();
                drawn
            }
        };
        let written = self.output.write_all(text.as_bytes()).and_then(|()| self.output.flush());
        match self.place {
            Place::Once => written.map_err(|error| match error.kind() {
                // Whoever reads it has seen enough.
                ErrorKind::BrokenPipe => SinkError::closed(error),
                _ => SinkError::failed(error),
            }),
            // A terminal that was closed answers with an input/output error, and never comes back.
            Place::Same { .. } => written.map_err(SinkError::closed),
        }
    }
}

/// Leaves out what a terminal of so many rows cannot show: from further up than its first row
/// nothing can be drawn over.
fn crop(lines: &mut Vec<String>, rows: usize) {
    let room = rows.saturating_sub(1).max(1);
    if lines.len() > room {
        let hidden = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(format!("... {hidden} more lines; `ebpf-process once` prints them all"));
    }
}

/// Draws lines over those that were drawn before. A line that is too long is cut, not wrapped:
/// it would move everything below it.
fn over(above: usize, lines: &[String]) -> String {
    const NO_WRAP: &str = "\x1b[?7l";
    const WRAP: &str = "\x1b[?7h";
    const CLEAR_LINE: &str = "\x1b[K";
    const CLEAR_BELOW: &str = "\x1b[J";
    let up = if above == 0 { String::new() } else { format!("\x1b[{above}F") };
    let end = format!("{CLEAR_LINE}\r\n");
    let lines: String = lines.iter().flat_map(|line| [line.as_str(), end.as_str()]).collect();
    format!("{NO_WRAP}{up}{lines}{CLEAR_BELOW}{WRAP}")
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Descriptor, Selection, Unit};

    use super::*;

    #[test]
    fn once_prints_a_view_and_a_terminal_every_view_in_one_place() {
        let calls = Descriptor::counter("demo.calls", Unit::CALLS, "Calls").share();
        let (mut printed, mut drawn) = (Vec::new(), Vec::new());
        for (output, place, views) in [(&mut printed, Place::Once, 1), (&mut drawn, Place::Same { above: 0 }, 2)] {
            let mut table = Table::new(output, place, Duration::from_secs(99));
            let mut bench = Bench::new();
            let id = bench.series(&calls, &[]);
            for total in 1..=views {
                let selection = Selection::default();
                bench
                    .tick(&selection, |recorder| recorder.counter(id, total), |view| table.write(view))
                    .expect("a write");
            }
        }
        let printed = String::from_utf8(printed).expect("text");
        assert_eq!(printed.matches("OPERATION").count(), 1, "{printed}");
        assert!(!printed.contains('\x1b'), "{printed}");
        let drawn = String::from_utf8(drawn).expect("text");
        assert_eq!(drawn.matches("OPERATION").count(), 2, "{drawn}");
        let lines = printed.lines().count();
        assert!(drawn.contains(&format!("\x1b[{lines}F")), "{drawn:?}");
    }

    #[test]
    fn what_a_terminal_cannot_hold_is_left_out_and_said() {
        let mut lines: Vec<String> = (0..10).map(|line| line.to_string()).collect();
        crop(&mut lines, 5);
        assert_eq!(lines.len(), 4);
        assert!(lines[3].starts_with("... 7 more lines"), "{lines:?}");
        crop(&mut lines, 5);
        assert_eq!(lines.len(), 4);
        crop(&mut lines, 0);
        assert_eq!(lines.len(), 1);
    }
}
