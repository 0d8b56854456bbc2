//! The sink through the conformance kit: what it writes is read from its file, whose disk may be full or away, and from a FIFO,
//! whose reader may be slow or away.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod flat;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::conformance::{Kit, Number, Outcome, Peer, Reading, Row};
use ebpf_process_core::{
    BuildError, Claims, Ledger, Options, OptionsError, Settlement, Sink, SinkContext, SinkError, SinkPlugin, View,
};
use ebpf_process_sink_json::PLUGIN;
use flat::flat;
use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use serde_json::Value;

/// What was read by now.
#[derive(Default)]
struct Lines {
    /// Of a line whose end has not come.
    rest: Vec<u8>,
    /// The next line may be the end of one that began before somebody was away.
    may_be_half: bool,
    readings: Vec<Reading>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<_> = self.rest.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let is_half = std::mem::take(&mut self.may_be_half);
            match serde_json::from_slice(line) {
                Ok(line) => self.add(&line),
                Err(error) => assert!(is_half, "{error}"),
            }
        }
    }

    fn add(&mut self, line: &Value) {
        for sample in flat(line) {
            let name = sample["name"].as_str().expect("a name");
            let text = |part: &str| format!("{name}{part}{}", sample["labels"]);
            let value = &sample["value"];
            let mut push = |part: &str, value: &Value| self.readings.push(Reading::new(text(part), number(value)));
            if let Some(slots) = value["slots"].as_array() {
                push(".count", &value["count"]);
                push(".sum", &value["sum"]);
                for (slot, count) in slots.iter().enumerate() {
                    // The last slot of the kit's histograms is the 40th, and has no bound.
                    let bound = if slot == 40 { u64::MAX } else { (2 << slot) - 1 };
                    push(&format!(".le_{bound}"), count);
                }
            } else {
                push("", value);
            }
        }
    }
}

fn number(value: &Value) -> Number {
    value.as_u64().map_or_else(|| value.as_f64().expect("a number").into(), Number::from)
}

/// The sink with a mistake.
struct Mutant(fn(u64) -> bool);

struct MutantSink {
    sink: Box<dyn Sink>,
    ledger: Arc<Ledger>,
    writes: fn(u64) -> bool,
    views: u64,
}

impl SinkPlugin for Mutant {
    fn name(&self) -> &'static str {
        "mutant"
    }

    fn summary(&self) -> &'static str {
        "lines, but not all"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        PLUGIN.check(options)
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let ledger = Arc::clone(&context.ledger);
        Ok(Box::new(MutantSink { sink: PLUGIN.build(options, context)?, ledger, writes: self.0, views: 0 }))
    }
}

impl Sink for MutantSink {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.views += 1;
        if (self.writes)(self.views) {
            return self.sink.write(view);
        }
        if self.settles() == Settlement::BySink {
            self.ledger.written(view.len() as u64);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.sink.flush()
    }

    fn due(&self) -> Option<Instant> {
        self.sink.due()
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.sink.close()
    }

    fn settles(&self) -> Settlement {
        self.sink.settles()
    }
}

/// One at a time: the kit looks at the threads and the memory of its process.
static TURN: Mutex<()> = Mutex::new(());

/// The kit for a sink that appends to `log/lines` in the folder, read back from there.
fn kit(plugin: impl SinkPlugin + 'static, folder: &Path) -> Kit {
    let path = folder.join("log/lines");
    let options = Options::from_value(BTreeMap::from([("path", path.display().to_string())]));
    fs::create_dir(folder.join("log")).expect("a folder");
    let (mut file, mut lines) = (None, Lines::default());
    let read_back = move || {
        if file.is_none() {
            file = File::open(&path).ok();
        }
        let mut bytes = Vec::new();
        if let Some(file) = &mut file {
            file.read_to_end(&mut bytes).expect("a file that can be read");
        }
        lines.take(&bytes);
        assert_eq!(lines.rest, b"", "lines are written as a whole");
        lines.readings.clone()
    };
    Kit::new(plugin, options).read_back(read_back).seed(7)
}

/// What the path of the file leads to: itself, a full disk, or nothing.
fn lead(folder: &Path, peer: Peer) -> io::Result<()> {
    let [log, away, path, kept] = ["log", "away", "log/lines", "kept"].map(|name| folder.join(name));
    match peer {
        Peer::Refusing => {
            fs::rename(&path, &kept)?;
            symlink("/dev/full", &path)
        }
        Peer::Away => fs::rename(&log, &away),
        _ => {
            if away.exists() {
                fs::rename(&away, &log)?;
            }
            if kept.exists() { fs::rename(&kept, &path) } else { Ok(()) }
        }
    }
}

#[test]
fn the_sink_does_what_it_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_owned();
    let kit = kit(PLUGIN, folder.path()).not_applicable(Peer::Slow, "a file needs nobody who reads it");
    let _turn = TURN.lock();
    let report = kit.peer(move |peer| lead(&place, peer).map_err(|error| error.to_string())).run();
    report.assert_passed();
    let others = report.findings().iter().filter(|finding| finding.outcome != Outcome::Passed);
    let others: Vec<_> = others.map(|finding| (finding.row, finding.outcome)).collect();
    assert_eq!(others, [(Row::SlowPeer, Outcome::NotApplicable)], "{report}");
}

#[test]
fn the_sink_with_a_mistake_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let _turn = TURN.lock();
    let report = kit(Mutant(|view| view % 10 != 0), folder.path()).run();
    assert_eq!(report.failed(), [Row::Gaps], "{report}");
}

/// Who reads a FIFO: its open end, unless it is away.
struct Reader {
    path: PathBuf,
    end: Option<File>,
    is_slow: bool,
    lines: Lines,
}

impl Reader {
    fn behave(&mut self, peer: Peer) -> io::Result<()> {
        self.is_slow = peer == Peer::Slow;
        if peer == Peer::Away {
            // What it has not read of a line stays in the pipe as long as the sink has that open.
            self.end = None;
            self.lines.rest.clear();
            self.lines.may_be_half = true;
        } else if self.end.is_none() {
            let flags = OFlags::NONBLOCK.bits().cast_signed();
            self.end = Some(OpenOptions::new().read(true).custom_flags(flags).open(&self.path)?);
        }
        Ok(())
    }

    /// Reads what there is, of which whoever is slow takes a little. False where there was nothing.
    fn read(&mut self) -> bool {
        let mut chunk = [0; 16384];
        let most = if self.is_slow { 16 } else { chunk.len() };
        let length = self.end.as_mut().and_then(|end| end.read(&mut chunk[..most]).ok()).unwrap_or_default();
        self.lines.take(&chunk[..length]);
        length > 0 && !self.is_slow
    }
}

#[test]
fn the_sink_does_what_it_promises_to_whoever_reads_a_fifo() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fifo");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a FIFO");
    let options = Options::from_value(BTreeMap::from([("path", path.display().to_string())]));
    let mut reader = Reader { path, end: None, is_slow: false, lines: Lines::default() };
    reader.behave(Peer::Well).expect("a reader");
    let reader = Arc::new(Mutex::new(reader));
    let (told, reads) = (Arc::clone(&reader), Arc::downgrade(&reader));
    let read = move || {
        while let Some(reader) = reads.upgrade() {
            if !reader.lock().read() {
                thread::park_timeout(Duration::from_millis(1));
            }
        }
    };
    thread::Builder::new().spawn(read).expect("a thread");
    let kit = Kit::new(PLUGIN, options).read_back(move || reader.lock().lines.readings.clone()).seed(7);
    let kit = kit.peer(move |peer| told.lock().behave(peer).map_err(|error| error.to_string()));
    let kit = kit.not_applicable(Peer::Refusing, "whoever reads a pipe does not answer");
    let _turn = TURN.lock();
    // Only what is missing is waited for.
    let report = kit.patience(Duration::from_secs(20)).run();
    report.assert_passed();
    assert!(report.findings().iter().all(|finding| finding.outcome == Outcome::Passed), "{report}");
}
