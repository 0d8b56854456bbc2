//! The log: one event per line, on stderr; only netdata may ask for another way.

mod level;
mod netdata;

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

pub(crate) use level::Verbosity;
use level::{priority, word};
pub(crate) use netdata::Wish;
use netdata::{Entry, Form, Way};

/// Who reads the log.
#[derive(Debug)]
pub(crate) enum Reader {
    /// A person.
    Present,
    /// A service manager's journal: it knows the time, and takes a level as `<3>` in front of a line.
    Journal,
    /// A file: each line says when.
    File,
    /// netdata, as it wishes.
    Netdata(Wish),
}

impl Reader {
    /// Whoever reads this process's stderr.
    pub(crate) fn of_stderr() -> Self {
        if is_journal(io::stderr(), std::env::var_os("JOURNAL_STREAM").as_deref()) {
            return Self::Journal;
        }
        if io::stderr().is_terminal() { Self::Present } else { Self::File }
    }
}

/// Whether `stream`, device and inode as a service manager writes them into the environment, is this descriptor: whoever
/// inherits the variable may write elsewhere.
fn is_journal(descriptor: impl AsFd, stream: Option<&OsStr>) -> bool {
    let named = stream.and_then(OsStr::to_str).and_then(|stream| stream.split_once(':'));
    let named = named.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let is = rustix::fs::fstat(descriptor).map(|stat| (stat.st_dev, stat.st_ino));
    named.is_some() && named == is.ok()
}

/// Starts the log; a panic becomes one line of it. Only the first call has an effect.
pub(crate) fn start(verbosity: Verbosity, reader: Reader) {
    let (style, way) = match reader {
        Reader::Present => (Style::Present, Way::Stderr),
        Reader::Journal => (Style::Journal, Way::Stderr),
        Reader::File => (Style::File, Way::Stderr),
        Reader::Netdata(wish) => (Style::Netdata(wish.form), wish.way),
    };
    let to_journal = matches!(way, Way::Journal(..));
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(verbosity.filter())
        .with_writer(Arc::new(way))
        .event_format(style)
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        if to_journal {
            // It was empty: this is the first call.
            let _ = TO_JOURNAL.set(verbosity.filter());
        }
        std::panic::set_hook(Box::new(|panic| tracing::error!("this is a mistake in the program: {panic}")));
    }
}

/// What was logged over a descriptor of its own goes to stderr from now on, on this thread: for a process that was forked
/// and has nothing else left. Until the guard is dropped.
pub(crate) fn on_stderr() -> Option<DefaultGuard> {
    let filter = *TO_JOURNAL.get()?;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_writer(io::stderr)
        .event_format(Style::Netdata(Form::Logfmt))
        .finish();
    Some(tracing::subscriber::set_default(subscriber))
}

/// How much is logged over a socket, if that is the way.
static TO_JOURNAL: OnceLock<LevelFilter> = OnceLock::new();

/// What one event looks like.
enum Style {
    Present,
    Journal,
    File,
    Netdata(Form),
}

impl<S, N> FormatEvent<S, N> for Style
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = Text::default();
        event.record(&mut text);
        let level = *event.metadata().level();
        let mut time = String::new();
        if !matches!(self, Self::Present | Self::Journal) {
            SystemTime.format_time(&mut Writer::new(&mut time))?;
        }
        writeln!(writer, "{}", self.line(level, &time, &text.finish()))
    }
}

impl Style {
    /// `time` is RFC 3339 with fractions of a second.
    fn line(&self, level: Level, time: &str, text: &str) -> String {
        match self {
            Self::Present => format!("{}: {text}", word(level)),
            Self::Journal => format!("<{}>{}: {text}", priority(level), word(level)),
            Self::File => format!("{}Z {}: {text}", time.get(..19).unwrap_or(time), word(level)),
            Self::Netdata(form) => {
                let thread = std::thread::current();
                let thread = thread.name().unwrap_or("unnamed").to_ascii_uppercase();
                form.line(&Entry { level, time, thread: &thread, text })
            }
        }
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
        assert_eq!(Style::Present.line(Level::WARN, "", "a"), "warning: a");
        assert_eq!(Style::Journal.line(Level::WARN, "", "a"), "<4>warning: a");
        assert_eq!(Style::File.line(Level::INFO, time, "a"), "2026-08-30T12:34:56Z info: a");
        let netdata = Style::Netdata(Form::Classic).line(Level::ERROR, time, "a");
        assert!(netdata.starts_with("2026-08-30 12:34:56: ebpf_process.plugin ERROR : "), "{netdata}");
        assert!(netdata.ends_with(" : a"), "{netdata}");
    }

    #[test]
    fn a_stream_of_the_journal_is_told_from_another_by_device_and_inode() {
        let (file, other) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
        let stat = rustix::fs::fstat(&file).expect("a descriptor");
        let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(is_journal(&file, Some(OsStr::new(&stream))));
        assert!(!is_journal(&other, Some(OsStr::new(&stream))));
        for wrong in [None, Some(""), Some(":"), Some("1"), Some("a:b")] {
            assert!(!is_journal(&file, wrong.map(OsStr::new)), "{wrong:?}");
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_it_carries() {
        let text = Text { message: "a\nb\u{1b}[2J".to_owned(), fields: "sink x\r".to_owned() };
        assert_eq!(text.finish(), "a b [2J (sink x )");
    }
}
