//! The numbers of an interval as a table for people.
//!
//! Operations are rows; calls, errors and bytes are columns, each per second and in total. Below them each kind of rows
//! that come and go has a table of its own: the busiest processes, disks and the like. Or one such kind is all that is
//! shown. On a terminal what is shown is drawn over what was before.

mod choice;
mod entities;
mod figures;
mod hooks;
mod operation;
mod picture;
mod rows;
mod text;
mod units;

use std::io::{ErrorKind, Stdout, Write, stdout};
use std::time::Duration;

use ebpf_process_core::{Column, Sink, SinkError, Uncounted, View};

pub(crate) use self::choice::Choice;
use self::figures::Figures;
use crate::in_place::{InPlace, Size};
use crate::stdout;

/// What a column of numbers is called; none where its values are no single numbers.
pub(crate) fn title(column: &Column) -> Option<String> {
    operation::title(column).map(|title| title.text)
}

/// A sink that prints tables.
pub(crate) struct Table<W> {
    output: W,
    figures: Figures,
    place: Place,
    size: fn() -> Option<Size>,
}

/// Where a table goes.
enum Place {
    /// Over the one before.
    Same(InPlace),
    /// Wherever the output is.
    Once,
}

impl Table<Stdout> {
    /// For a terminal: a table per view, in one place. What it shows counts from the baseline, a time since boot.
    pub(crate) fn on_terminal(baseline: Duration, uncounted: Vec<Uncounted>, choice: Option<Choice>) -> Self {
        Self::new(stdout(), Place::Same(InPlace::default()), Figures::since(baseline, uncounted).by(choice))
    }

    /// One table, for one view.
    pub(crate) fn once(baseline: Duration, uncounted: Vec<Uncounted>, choice: Option<Choice>) -> Self {
        Self::new(stdout(), Place::Once, Figures::since(baseline, uncounted).by(choice))
    }
}

impl<W: Write> Table<W> {
    fn new(output: W, place: Place, figures: Figures) -> Self {
        Self { output, figures, place, size: stdout::size }
    }
}

impl<W: Write + Send> Sink for Table<W> {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.figures.read(*view);
        let size = (self.size)();
        let text = match &mut self.place {
            Place::Once => {
                let picture = self.figures.picture(size.map(|(columns, _)| (columns, usize::MAX)));
                picture.lines().join("\n") + "\n"
            }
            Place::Same(place) => {
                let room = InPlace::room(size);
                let picture = self.figures.picture(room);
                let lines = room.map_or_else(|| picture.lines(), |(_, lines)| picture.within(lines));
                place.draw(size, &lines)
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
            Place::Same(_) => written.map_err(SinkError::closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Column, EntityKind, Selection, Unit};

    use super::*;

    #[test]
    fn once_prints_a_view_and_a_terminal_every_view_in_one_place() {
        let (mut printed, mut drawn) = (Vec::new(), Vec::new());
        for (output, place, views) in [(&mut printed, Place::Once, 1), (&mut drawn, Place::Same(InPlace::default()), 2)]
        {
            let mut table = Table::new(output, place, Figures::since(Duration::from_secs(99), Vec::new()));
            let mut bench = Bench::new();
            let calls = bench.host(Column::counter("demo.calls", Unit::CALLS, "Calls"));
            for total in 1..=views {
                let selection = Selection::default();
                bench
                    .tick(&selection, |recorder| calls.counter(recorder, total), |view| table.write(view))
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

    /// Two operations and two remarks, drawn twice; the second time on a terminal of another size.
    fn drawn(sizes: [fn() -> Option<Size>; 2]) -> [String; 2] {
        let started = |kind| Column::counter("task.started", Unit::CALLS, "Calls").labels([("kind", kind)]);
        let missed = Column::counter("hook.missed", Unit::EVENTS, "Missed");
        let mut table = Table::new(
            Vec::new(),
            Place::Same(InPlace::default()),
            Figures::since(Duration::from_secs(99), Vec::new()),
        );
        let mut bench = Bench::new();
        let hook = EntityKind::new("hook").keys(["counter"]).names_as_they_are();
        let cells =
            [bench.host(started("process")), bench.host(started("thread")), bench.cell(&hook, &["task.start"], missed)];
        sizes.map(|size| {
            table.size = size;
            let record = |recorder: &mut ebpf_process_core::Recorder| {
                for cell in cells {
                    cell.counter(recorder, 7);
                }
            };
            bench.tick(&Selection::default(), record, |view| table.write(view)).expect("a write");
            String::from_utf8(std::mem::take(&mut table.output)).expect("text")
        })
    }

    /// What is on the screen: without the sequences that steer it.
    fn screen(drawn: &str) -> Vec<String> {
        let plain = drawn.split('\x1b').enumerate().map(|(index, part)| match index {
            0 => part,
            _ => part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap_or_default(),
        });
        plain.collect::<String>().lines().map(str::to_owned).collect()
    }

    #[test]
    fn twenty_columns_and_five_rows_show_numbers() {
        let [first, second] = drawn([|| Some((20, 5)), || Some((20, 5))]);
        for drawn in [&first, &second] {
            let lines = screen(drawn);
            assert!(lines.len() <= 4 && lines.iter().all(|line| line.chars().count() <= 20), "{lines:?}");
            assert!(
                lines[0].starts_with("OPERATION") && lines[1].ends_with('7') || lines[1].ends_with('0'),
                "{lines:?}"
            );
            assert!(lines[1].contains("process") && lines[2].contains("thread"), "told apart: {lines:?}");
            assert_eq!(lines[3], "... 5 more lines");
        }
        assert!(second.contains("\x1b[4F") && !second.contains("\x1b[H"), "over the first one: {second:?}");
    }

    #[test]
    fn after_a_resize_the_screen_begins_anew() {
        let [first, second] = drawn([|| Some((80, 24)), || Some((40, 24))]);
        assert!(!first.contains("\x1b[H"), "what was there before is left alone: {first:?}");
        assert!(second.contains("\x1b[H\x1b[J"), "{second:?}");
        let lines = screen(&second);
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:?}");
        assert!(lines.concat().contains("missed so far: 7 of task.start"), "{lines:?}");
        let [_, same] = drawn([|| None, || None]);
        assert!(!same.contains("\x1b[H"), "a terminal that does not tell its size: {same:?}");
    }
}
