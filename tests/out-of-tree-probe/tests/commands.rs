//! The agent's own commands know the probes as they know those that come with it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn agent(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_my-probes"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the agent runs")
}

/// What a command prints that has to succeed.
fn said(arguments: &[&str]) -> String {
    let output = agent(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Whether one line has all of these.
fn has_line(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| words.iter().all(|word| line.split_whitespace().any(|other| other == *word)))
}

#[test]
fn they_are_listed_with_their_metrics_and_options() {
    let probes = said(&["list", "probes"]);
    assert!(has_line(&probes, &["launch", "yes"]) && has_line(&probes, &["users", "no"]), "{probes}");
    let metrics = said(&["list", "metrics"]);
    for words in [["symlink.calls", "launch"], ["exec.arguments", "histogram"], ["user.started", "uid"]] {
        assert!(has_line(&metrics, &words), "{words:?}: {metrics}");
    }
    let options = said(&["list", "options"]);
    assert!(has_line(&options, &["probes.launch", "hooks"]), "{options}");
}

#[test]
fn they_are_configured() {
    let default = said(&["config", "default"]);
    assert!(default.contains("[probes.launch]\nenabled = true"), "{default}");
    assert!(default.contains("[probes.users]\nenabled = false"), "{default}");
    let wrong = agent(&["check", "--offline", "--set", "probes.launch.hook=\"kprobe\""]);
    let words = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(wrong.status.code() == Some(2) && words.contains("hooks"), "{words}");
}

#[test]
fn they_are_checked() {
    let checked = agent(&["check", "--set", "probes.users.enabled=true"]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    if checked.status.code() == Some(1) {
        return skip(&String::from_utf8_lossy(&checked.stderr));
    }
    assert!(has_line(&text, &["symlink.make"]) && has_line(&text, &["exec.calls", "yes"]), "{text}");

    // They have no object for kernels without type information, and that is said; the others go on.
    let floor = agent(&["check", "--set", "probes.object=\"floor\""]);
    let text = String::from_utf8_lossy(&floor.stdout).into_owned();
    let lacking = "Probe launch cannot be used: this probe has no object for kernels without type information";
    assert!(floor.status.success() && text.contains(lacking) && has_line(&text, &["task.start"]), "{text}");
    record("ran strangers-probes-check");
}

/// A machine on which nothing can be loaded: a skip, a loud one, and on CI a failure.
fn skip(reason: &str) {
    let reason = reason.replace('\n', " ");
    assert!(std::env::var_os("LIVE_TEST_NO_SKIP").is_none_or(|v| v != "1"), "may not be skipped: {reason}");
    let _ = writeln!(std::io::stderr(), "SKIPPED live test strangers-probes-check: {reason}");
    record(&format!("skipped strangers-probes-check {reason}"));
}

/// The book of live tests that the project's own test run keeps.
fn record(line: &str) {
    let Some(book) = std::env::var_os("LIVE_TEST_LOG") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(book).expect("the book");
    file.write_all(format!("{line}\n").as_bytes()).expect("a line in the book");
}
