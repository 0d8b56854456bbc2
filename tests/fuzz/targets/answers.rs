//! Whatever the program of a probe says, in each format, the probe lives on, and what it records are numbers.
#![no_main]

mod program;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ebpf_process::registry;
use ebpf_process_core::testkit::Bench;
use ebpf_process_core::{Options, ProbeContext, ProbeErrorKind, Recorder, Selection, Value};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// What the program says next, and whether its first line is a hello.
static WORDS: Mutex<(Vec<u8>, bool)> = Mutex::new((Vec::new(), false));

/// How many programs have been heard out.
static HEARD: AtomicUsize = AtomicUsize::new(0);

// The first byte is the format, the rest what the program says.
fuzz_target!(|input: &[u8]| {
    let Some((format, words)) = input.split_first() else { return };
    let format = ["json", "openmetrics", "influx"][usize::from(*format) % 3];
    let heard = HEARD.load(Ordering::SeqCst);
    *WORDS.lock().unwrap_or_else(PoisonError::into_inner) = (words.to_vec(), format == "json");
    // One program is enough.
    let mut options = json!({
        "address": format!("unix:{}", program::listening("answers", speak).display()), "format": format, "rows": 2, "start_timeout": "50ms",
        "reply_timeout": "50ms", "close_timeout": "50ms", "retry_min": "1h", "retry_max": "1h",
    });
    if format != "json" {
        options["keys"] = json!(["a"]);
    }
    let registry = registry();
    let plugin = registry.find_probe("exec").expect("the probe");
    let mut bench = Bench::new();
    let context = ProbeContext::new("own", bench.recorder(), Duration::from_secs(1));
    let mut probe = plugin.build(&Options::from_value(options), context).expect("a probe");
    for _ in 0..2 {
        let mut outcome = Ok(());
        let record = |recorder: &mut Recorder| outcome = probe.collect(recorder);
        bench.tick(&Selection::default(), record, |view| {
            for kind in view.kinds() {
                // Two, and that of all others.
                assert!(kind.rows().count() <= 3, "{}", kind.kind().name());
                let values = kind.rows().flat_map(|row| row.cells());
                for level in
                    values.filter_map(|(_, value)| if let Value::Gauge(level) = value { Some(level) } else { None })
                {
                    assert!(level.is_finite());
                }
            }
        });
        if let Err(error) = outcome {
            assert!(error.kind() != ProbeErrorKind::Failed && !error.to_string().contains("panicked"), "{error}");
        }
        while HEARD.load(Ordering::SeqCst) == heard {
            thread::yield_now();
        }
    }
});

/// Says the words to an agent, those behind a hello once it is asked, and hears it out.
fn speak(mut agent: UnixStream) -> io::Result<()> {
    let (words, greets) = WORDS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let hello =
        if greets { words.iter().position(|byte| *byte == b'\n').map_or(words.len(), |end| end + 1) } else { 0 };
    let (hello, answers) = words.split_at(hello);
    let said = agent.write_all(hello).and_then(|()| {
        if !answers.is_empty() {
            BufReader::new(agent.try_clone()?).read_until(b'\n', &mut Vec::new())?;
        }
        agent.write_all(answers)
    });
    let _ = agent.shutdown(Shutdown::Write);
    let heard = agent.read_to_end(&mut Vec::new());
    HEARD.fetch_add(1, Ordering::SeqCst);
    said.and(heard).map(drop)
}
