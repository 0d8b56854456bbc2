//! The log in the forms of netdata.
//!
//! Until 1.43 a plugin's stderr went into a file as it was, each line with its time in front. Since then netdata tells
//! its plugins by `NETDATA_LOG_METHOD`, `NETDATA_LOG_FORMAT` and `NETDATA_LOG_LEVEL` what it does itself.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use serde::Serialize;
use tracing::Level;

use super::level::{Verbosity, priority, word};

/// Who speaks, in every form.
const NAME: &str = "ebpf_process.plugin";

/// Where the journal listens unless netdata says otherwise.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// What netdata's environment says about the log.
#[derive(Debug)]
pub(crate) struct Wish {
    /// How much of it.
    pub(crate) verbosity: Option<Verbosity>,
    pub(super) form: Form,
    pub(super) way: Way,
}

/// What a line looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The line of the log files until 1.43.
    Classic,
    Logfmt,
    Json,
    /// The journal's own, a field per line, with the id of netdata's own run.
    Journal(Option<String>),
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Way {
    Stderr,
    Journal(UnixDatagram, PathBuf),
    Nowhere,
}

impl Wish {
    /// Reads the variables; one that is not understood is as good as not set. Without any it is the classic form.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let word =
            |name: &str| variable(name).and_then(|value| value.into_string().ok()).filter(|word| !word.is_empty());
        let verbosity = word("NETDATA_LOG_LEVEL").and_then(|level| verbosity(&level));
        let (method, format) = (word("NETDATA_LOG_METHOD"), word("NETDATA_LOG_FORMAT"));
        let form = match format.as_deref() {
            Some("json") => Form::Json,
            None if method.is_none() => Form::Classic,
            _ => Form::Logfmt,
        };
        match method.as_deref() {
            Some("none") => Self { verbosity, form, way: Way::Nowhere },
            Some("journal") => {
                let path = word("NETDATA_SYSTEMD_JOURNAL_PATH").map_or_else(|| JOURNAL.into(), PathBuf::from);
                let run =
                    word("NETDATA_INVOCATION_ID").filter(|id| id.chars().all(|c| c.is_ascii_hexdigit() || c == '-'));
                match listening(path) {
                    Some(way) => Self { verbosity, form: Form::Journal(run), way },
                    None => Self { verbosity, form, way: Way::Stderr },
                }
            }
            // Also for syslog: netdata takes care of what its plugins write to stderr.
            _ => Self { verbosity, form, way: Way::Stderr },
        }
    }
}

/// The least severe level that is still wanted. Nothing here is more severe than an error.
fn verbosity(level: &str) -> Option<Verbosity> {
    Some(match level {
        "emergency" | "alert" | "critical" | "error" => Verbosity::Error,
        "warning" => Verbosity::Warn,
        "notice" | "info" => Verbosity::Info,
        "debug" => Verbosity::Debug,
        _ => return None,
    })
}

fn listening(path: PathBuf) -> Option<Way> {
    let socket = UnixDatagram::unbound().ok()?;
    // Only to see whether somebody is there: a journal that is started again is another one under the same name.
    UnixDatagram::unbound().ok()?.connect(&path).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(Way::Journal(socket, path))
}

/// One event, and who says it when.
pub(super) struct Entry<'a> {
    pub(super) level: Level,
    /// RFC 3339 with fractions of a second.
    pub(super) time: &'a str,
    pub(super) thread: &'a str,
    pub(super) text: &'a str,
}

/// The fields of netdata's own entries, in their order.
#[derive(Serialize)]
struct Fields<'a> {
    time: String,
    comm: &'a str,
    source: &'a str,
    level: &'a str,
    tid: i32,
    thread: &'a str,
    msg: &'a str,
}

impl Form {
    /// The event without its last line end.
    pub(super) fn line(&self, entry: &Entry<'_>) -> String {
        match self {
            Self::Classic => entry.classic(),
            Self::Logfmt => entry.logfmt(),
            Self::Json => serde_json::to_string(&entry.fields()).unwrap_or_default(),
            Self::Journal(run) => entry.journal(run.as_deref()),
        }
    }
}

impl Entry<'_> {
    fn classic(&self) -> String {
        let Self { level, time, thread, text } = *self;
        let seconds = time.get(..19).unwrap_or(time).replace('T', " ");
        let word = word(level).to_ascii_uppercase();
        format!("{seconds}: {NAME} {word} : {thread} : {text}")
    }

    fn logfmt(&self) -> String {
        let Fields { time, comm, source, level, tid, thread, msg } = self.fields();
        let (thread, msg) = (quoted(thread), quoted(msg));
        format!("time={time} comm={comm} source={source} level={level} tid={tid} thread={thread} msg={msg}")
    }

    fn journal(&self, run: Option<&str>) -> String {
        let Fields { comm, source, tid, thread, msg, .. } = self.fields();
        let run = run.map_or_else(String::new, |run| format!("INVOCATION_ID={run}\n"));
        format!(
            "PRIORITY={}\nSYSLOG_IDENTIFIER={comm}\nND_LOG_SOURCE={source}\nTID={tid}\nTHREAD_TAG={thread}\n\
             {run}MESSAGE={msg}",
            priority(self.level)
        )
    }

    fn fields(&self) -> Fields<'_> {
        let Self { level, time, thread, text } = *self;
        Fields {
            time: time.get(..23).map_or_else(|| time.to_owned(), |time| format!("{time}Z")),
            comm: NAME,
            source: "collector",
            level: word(level),
            tid: rustix::thread::gettid().as_raw_nonzero().get(),
            thread,
            msg: text,
        }
    }
}

/// A value that ends where it should.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Write for &Way {
    /// Takes one event.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match self {
            Way::Stderr => io::stderr().write_all(event)?,
            Way::Journal(socket, path) => {
                // A journal that is gone or busy holds nobody up.
                if socket.send_to(event, path).is_err() {
                    io::stderr().write_all(event)?;
                }
            }
            Way::Nowhere => {}
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(variables: &[(&str, &str)]) -> Wish {
        Wish::new(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    fn line(form: &Form) -> String {
        let text = "a \"b\" = \\";
        form.line(&Entry { level: Level::WARN, time: "2026-08-30T12:34:56.123456Z", thread: "MAIN", text })
    }

    #[test]
    fn the_environment_chooses_the_form_and_what_is_not_understood_changes_nothing() {
        for (variables, form) in [
            (&[][..], Form::Classic),
            (&[("NETDATA_LOG_LEVEL", "info")], Form::Classic),
            (&[("NETDATA_LOG_METHOD", "stderr")], Form::Logfmt),
            (&[("NETDATA_LOG_FORMAT", "logfmt")], Form::Logfmt),
            (&[("NETDATA_LOG_METHOD", "syslog"), ("NETDATA_LOG_FORMAT", "json")], Form::Json),
            (&[("NETDATA_LOG_METHOD", "carrier pigeon"), ("NETDATA_LOG_FORMAT", "verse")], Form::Logfmt),
            (&[("NETDATA_LOG_METHOD", "journal"), ("NETDATA_SYSTEMD_JOURNAL_PATH", "/nonexistent")], Form::Logfmt),
        ] {
            let wish = wish(variables);
            assert_eq!(wish.form, form, "{variables:?}");
            assert!(matches!(wish.way, Way::Stderr), "{variables:?}");
        }
        assert!(matches!(wish(&[("NETDATA_LOG_METHOD", "none")]).way, Way::Nowhere));
    }

    #[test]
    fn netdatas_eight_levels_are_ours() {
        for (level, expected) in [
            ("emergency", Some(Verbosity::Error)),
            ("critical", Some(Verbosity::Error)),
            ("warning", Some(Verbosity::Warn)),
            ("notice", Some(Verbosity::Info)),
            ("debug", Some(Verbosity::Debug)),
            ("loud", None),
        ] {
            assert_eq!(wish(&[("NETDATA_LOG_LEVEL", level)]).verbosity, expected, "{level}");
        }
    }

    #[test]
    fn each_form_says_who_when_and_what() {
        let tid = rustix::thread::gettid().as_raw_nonzero();
        let time = "2026-08-30T12:34:56.123Z";
        assert_eq!(line(&Form::Classic), "2026-08-30 12:34:56: ebpf_process.plugin WARNING : MAIN : a \"b\" = \\");
        assert_eq!(
            line(&Form::Logfmt),
            format!(
                "time={time} comm=ebpf_process.plugin source=collector level=warning tid={tid} thread=MAIN \
                 msg=\"a \\\"b\\\" = \\\\\""
            )
        );
        assert_eq!(
            line(&Form::Json),
            format!(
                "{{\"time\":\"{time}\",\"comm\":\"ebpf_process.plugin\",\"source\":\"collector\",\"level\":\"warning\",\
                 \"tid\":{tid},\"thread\":\"MAIN\",\"msg\":\"a \\\"b\\\" = \\\\\"}}"
            )
        );
    }

    #[test]
    fn the_journal_gets_its_own_fields_and_netdatas_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).expect("a socket");
        let run = "0123456789abcdef0123456789abcdef";
        let wish = wish(&[
            ("NETDATA_LOG_METHOD", "journal"),
            ("NETDATA_SYSTEMD_JOURNAL_PATH", path.to_str().expect("text")),
            ("NETDATA_INVOCATION_ID", run),
        ]);
        (&wish.way).write_all(line(&wish.form).as_bytes()).expect("a journal that listens");
        let mut datagram = [0; 1024];
        let length = journal.recv(&mut datagram).expect("an entry");
        let tid = rustix::thread::gettid().as_raw_nonzero();
        assert_eq!(
            String::from_utf8_lossy(&datagram[..length]),
            format!(
                "PRIORITY=4\nSYSLOG_IDENTIFIER=ebpf_process.plugin\nND_LOG_SOURCE=collector\nTID={tid}\nTHREAD_TAG=MAIN\n\
                 INVOCATION_ID={run}\nMESSAGE=a \"b\" = \\"
            )
        );
    }
}
