//! The sink that prints: standard output, or what stands for it in a test.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{Cause, Ledger, Settlement, Sink, SinkContext, SinkError, View};

use crate::unread::Unread;

/// Turns views into bytes.
pub trait Print: Send {
    /// The bytes of a view, in one piece. An error is the end.
    fn print<'a>(&'a mut self, view: &View<'_>) -> Result<Printed<'a>, Cause>;

    /// What stands at the end of a clean stop.
    fn end(&mut self) -> &[u8] {
        b""
    }
}

/// A view's bytes and what they hold of its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Printed<'a> {
    /// To be written as a whole.
    pub bytes: &'a [u8],
    /// Samples that are in the bytes, or that have nothing to say.
    pub samples: u64,
    /// Samples that are not and never will be, with the reason.
    pub rejected: [(u64, &'static str); 2],
}

/// Writes each view in one piece. A failed write is the end: what follows half a line is no line.
#[derive(Debug)]
pub struct Printer<P, W> {
    print: P,
    output: W,
    /// What nobody has read, and where it is entered; none where nobody keeps a book.
    book: Option<(Unread, Arc<Ledger>)>,
    sign: Option<SignOfLife>,
}

/// What is written so that nobody takes the output for dead.
#[derive(Debug)]
struct SignOfLife {
    bytes: &'static [u8],
    every: Duration,
    /// When anything was written last.
    spoken: Instant,
}

impl<P: Print, W: Write + Send> Printer<P, W> {
    /// Enters in the sink's book what was read of the output, which `unread` watches.
    pub fn new(print: P, output: W, unread: Unread, context: &SinkContext) -> Self {
        Self { print, output, book: Some((unread, Arc::clone(&context.ledger))), sign: None }
    }

    /// Leaves the book to the outlet: a view is written when the output has taken it.
    pub const fn unbooked(print: P, output: W) -> Self {
        Self { print, output, book: None, sign: None }
    }

    /// Writes this in place of a view without bytes, and after so long without a word.
    #[must_use]
    pub fn never_silent(mut self, bytes: &'static [u8], every: Duration) -> Self {
        self.sign = Some(SignOfLife { bytes, every, spoken: Instant::now() });
        self
    }

    fn is_silent(&self) -> bool {
        self.sign.as_ref().is_some_and(|sign| sign.spoken.elapsed() >= sign.every)
    }

    /// Writes a sign of life.
    fn speak(&mut self) -> Result<(), SinkError> {
        let Self { output, book, sign: Some(sign), .. } = self else { return Ok(()) };
        sign.spoken = Instant::now();
        put(output, book, sign.bytes, 0)
    }
}

/// Writes bytes of so many samples. An error leaves half a line behind at worst.
fn put(
    output: &mut impl Write,
    book: &mut Option<(Unread, Arc<Ledger>)>,
    bytes: &[u8],
    samples: u64,
) -> Result<(), SinkError> {
    let outcome = output.write_all(bytes).and_then(|()| output.flush());
    if let Some((unread, _)) = book {
        match &outcome {
            Ok(()) => unread.wrote(bytes.len(), samples),
            Err(_) => unread.lost(),
        }
    }
    outcome.map_err(SinkError::closed)
}

impl<P: Print, W: Write + Send> Sink for Printer<P, W> {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let Self { print, output, book, sign } = self;
        let Printed { mut bytes, samples, rejected } = print.print(view).map_err(SinkError::closed)?;
        if let Some(sign) = sign {
            sign.spoken = Instant::now();
            bytes = if bytes.is_empty() { sign.bytes } else { bytes };
        }
        put(output, book, bytes, samples)?;
        if let Some((_, ledger)) = book {
            for (samples, reason) in rejected {
                ledger.rejected(samples, reason);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        if let Some((unread, _)) = &mut self.book {
            unread.look();
        }
        if self.is_silent() { self.speak() } else { Ok(()) }
    }

    fn due(&self) -> Option<Instant> {
        let look = self.book.as_ref().and_then(|(unread, _)| unread.due());
        let sign = self.sign.as_ref().map(|sign| sign.spoken + sign.every);
        look.into_iter().chain(sign).min()
    }

    fn close(&mut self) -> Result<(), SinkError> {
        let Self { print, output, book, .. } = self;
        let end = print.end();
        if !end.is_empty() {
            put(output, book, end, 0)?;
        }
        if let Some((unread, _)) = book {
            unread.end();
        }
        Ok(())
    }

    fn settles(&self) -> Settlement {
        if self.book.is_some() { Settlement::BySink } else { Settlement::OnReturn }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use ebpf_process_core::testkit::{Bench, context, offer};
    use ebpf_process_core::{Column, Selection, SinkErrorKind, Unit};

    use super::*;

    /// A line for each sample, if there is one.
    #[derive(Default)]
    struct Names(Vec<u8>);

    impl Print for Names {
        fn print<'a>(&'a mut self, view: &View<'_>) -> Result<Printed<'a>, Cause> {
            self.0.clear();
            view.samples().for_each(|sample| self.0.extend([sample.name().as_bytes(), b"\n"].concat()));
            let samples = view.len() as u64;
            Ok(Printed { bytes: &self.0, samples, rejected: [(samples, "twice"), (0, "never")] })
        }

        fn end(&mut self) -> &[u8] {
            b"end\n"
        }
    }

    /// Takes so many writes, then breaks.
    struct Breaking(usize, ErrorKind);

    impl Write for Breaking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(self.1)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tick(bench: &mut Bench, samples: usize, sink: &mut impl Sink) -> Result<(), SinkError> {
        let names = ["a.calls", "b.calls"].into_iter().take(samples);
        let cells: Vec<_> = names.map(|name| bench.host(Column::counter(name, Unit::CALLS, "Calls"))).collect();
        let record = |recorder: &mut ebpf_process_core::Recorder| {
            for cell in &cells {
                cell.counter(recorder, 1);
            }
        };
        bench.tick(&Selection::default(), record, |view| sink.write(view))
    }

    #[test]
    fn a_view_is_one_write_and_a_broken_output_is_the_end() {
        for kind in [ErrorKind::BrokenPipe, ErrorKind::StorageFull] {
            let context = context("out");
            offer(&context.ledger, 6);
            let unread = Unread::nowhere(&context);
            let mut sink = Printer::new(Names::default(), Breaking(1, kind), unread, &context);
            let mut bench = Bench::new();
            assert!(tick(&mut bench, 2, &mut sink).is_ok());
            let tally = context.ledger.tally();
            assert_eq!((tally.written, tally.rejected_total(), tally.queued), (2, 2, 2));
            assert_eq!(tick(&mut bench, 2, &mut sink).expect_err("the end").kind(), SinkErrorKind::Closed);
            assert_eq!(context.ledger.tally().queued, 2, "of what is lost the sink settles nothing");
        }
    }

    #[test]
    fn where_it_has_to_it_is_never_silent_for_long() {
        const ALIVE: &[u8] = b"alive\n";
        const EVERY: Duration = Duration::from_secs(60);
        let context = context("out");
        let sink = Printer::new(Names::default(), Vec::new(), Unread::nowhere(&context), &context);
        let mut sink = sink.never_silent(ALIVE, EVERY);
        let mut bench = Bench::new();
        assert!(tick(&mut bench, 0, &mut sink).is_ok() && sink.output == ALIVE, "a view without values");
        assert!(sink.flush().is_ok() && sink.output == ALIVE, "it has just spoken");
        let spoken = |sink: &Printer<Names, Vec<u8>>| sink.sign.as_ref().expect("a sign").spoken;
        assert_eq!(sink.due(), Some(spoken(&sink) + EVERY));
        let long_ago = Instant::now().checked_sub(EVERY).expect("a machine that runs for longer");
        sink.sign.as_mut().expect("a sign").spoken = long_ago;
        assert!(sink.flush().is_ok() && sink.output == [ALIVE, ALIVE].concat(), "a minute without a view");
        assert!(sink.due() > Some(Instant::now()), "and then not at once again");
        assert!(sink.close().is_ok() && sink.output.ends_with(b"end\n"));
    }

    #[test]
    fn without_a_book_the_outlet_settles() {
        let mut sink = Printer::unbooked(Names::default(), Vec::new());
        assert_eq!((sink.settles(), sink.due()), (Settlement::OnReturn, None));
        assert!(tick(&mut Bench::new(), 1, &mut sink).is_ok() && sink.output == b"a.calls\n");
    }

    /// Ends without a word.
    struct Nothing;

    impl Print for Nothing {
        fn print<'a>(&'a mut self, _: &View<'_>) -> Result<Printed<'a>, Cause> {
            Ok(Printed::default())
        }
    }

    #[test]
    fn nothing_stands_at_the_end_unless_it_is_said() {
        let mut sink = Printer::unbooked(Nothing, Vec::new());
        assert!(sink.close().is_ok() && sink.output.is_empty());
    }
}
