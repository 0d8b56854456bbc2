//! The log: one line per event, on stderr only.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verbosity {
    /// Why the program ends.
    Error,
    /// And what it does without.
    Warn,
    /// And what it does.
    Info,
    /// And how.
    Debug,
    /// Everything.
    Trace,
}

impl Verbosity {
    const fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A person, or a service manager's journal: it knows the time.
    Present,
    /// A file: each line says when.
    File,
    /// netdata's log, in netdata's classic form.
    Netdata,
}

impl Reader {
    /// Whoever reads this process's stderr.
    pub(crate) fn of_stderr() -> Self {
        let journal = std::env::var_os("JOURNAL_STREAM").is_some();
        if journal || io::stderr().is_terminal() { Self::Present } else { Self::File }
    }
}

/// Starts the log; a panic becomes one line of it. Only the first call has an effect.
pub(crate) fn start(verbosity: Verbosity, reader: Reader) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(verbosity.filter())
        .with_writer(io::stderr)
        .event_format(Line(reader))
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(|panic| tracing::error!("this is a mistake in the program: {panic}")));
    }
}

/// One event as one line.
struct Line(Reader);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = Text::default();
        event.record(&mut text);
        let level = *event.metadata().level();
        let mut time = String::new();
        if self.0 != Reader::Present {
            SystemTime.format_time(&mut Writer::new(&mut time))?;
        }
        writeln!(writer, "{}", line(self.0, level, &time, &text.finish()))
    }
}

/// `time` is RFC 3339 with fractions of a second; seconds are enough.
fn line(reader: Reader, level: Level, time: &str, text: &str) -> String {
    let seconds = time.get(..19).unwrap_or(time);
    match reader {
        Reader::Present => format!("{}: {text}", word(level)),
        Reader::File => format!("{seconds}Z {}: {text}", word(level)),
        Reader::Netdata => {
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or("unnamed").to_ascii_uppercase();
            let word = word(level).to_ascii_uppercase();
            format!("{}: ebpf_process.plugin {word} : {thread} : {text}", seconds.replace('T', " "))
        }
    }
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The message, then the fields in brackets.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(self) -> String {
        let text = if self.fields.is_empty() { self.message } else { format!("{} ({})", self.message, self.fields) };
        // Whatever a message carries, it stays one line and cannot steer a terminal.
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            let comma = if self.fields.is_empty() { "" } else { ", " };
            write!(self.fields, "{comma}{} {value:?}", field.name())
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_gets_its_form() {
        let time = "2026-08-30T12:34:56.123456Z";
        assert_eq!(line(Reader::Present, Level::WARN, "", "a"), "warning: a");
        assert_eq!(line(Reader::File, Level::INFO, time, "a"), "2026-08-30T12:34:56Z info: a");
        let netdata = line(Reader::Netdata, Level::ERROR, time, "a");
        assert!(netdata.starts_with("2026-08-30 12:34:56: ebpf_process.plugin ERROR : "), "{netdata}");
        assert!(netdata.ends_with(" : a"), "{netdata}");
    }

    #[test]
    fn an_event_is_one_line_whatever_it_carries() {
        let text = Text { message: "a\nb\u{1b}[2J".to_owned(), fields: "sink x\r".to_owned() };
        assert_eq!(text.finish(), "a b [2J (sink x )");
    }
}
