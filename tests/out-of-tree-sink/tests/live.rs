//! The stranger's agent runs on the live kernel and the stranger's sink receives batches.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_live_batch_reaches_the_strangers_sink() {
    let path = std::env::temp_dir().join(format!("strangers-sink-{}", std::process::id()));
    let mut agent = Command::new(env!("CARGO_BIN_EXE_my-agent"))
        .args(["run", "--set", "interval=\"100ms\"", "--set", "sinks.mine.type=\"lines\"", "--set"])
        .arg(format!("sinks.mine.options.path={:?}", path.display().to_string()))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the agent starts");
    let deadline = Instant::now() + Duration::from_secs(10);
    let received = loop {
        let text = fs::read_to_string(&path).unwrap_or_default();
        // This very loop opens files, so the number rises.
        let opened = text.lines().filter_map(|line| line.strip_prefix("file.calls{operation=open} "));
        if opened.filter_map(|total| total.parse::<u64>().ok()).any(|total| total > 0) {
            break true;
        }
        if Instant::now() > deadline || agent.try_wait().expect("its state").is_some() {
            break false;
        }
        std::thread::yield_now();
    };
    let _ = Command::new("kill").args(["-TERM", &agent.id().to_string()]).status();
    let output = agent.wait_with_output().expect("its end");
    let _ = fs::remove_file(&path);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(1) && !received {
        skip(&stderr);
        return;
    }
    assert!(received, "no batch arrived: {stderr}");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    record("ran strangers-sink");
}

/// The agent says why it cannot run here; that is a skip, a loud one, and on CI a failure.
fn skip(reason: &str) {
    let reason = reason.replace('\n', " ");
    assert!(std::env::var_os("LIVE_TEST_NO_SKIP").is_none_or(|v| v != "1"), "may not be skipped: {reason}");
    let _ = writeln!(std::io::stderr(), "SKIPPED live test strangers-sink: {reason}");
    record(&format!("skipped strangers-sink {reason}"));
}

/// The book of live tests that the project's own test run keeps.
fn record(line: &str) {
    let Some(book) = std::env::var_os("LIVE_TEST_LOG") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(book).expect("the book");
    file.write_all(format!("{line}\n").as_bytes()).expect("a line in the book");
}
