//! What the agent says and how it ends: for commands that end by themselves, and for refusals.

use crate::agent;
use crate::{Failure, Outcome, wait};
use serde_json::Value;
use std::process::{Command, Output, Stdio};

/// What makes `run` a daemon without a terminal.
pub const SINK: [&str; 4] = ["--set", "sinks.out.type=influx", "--set", "sinks.out.options.url=stdout"];

/// Runs the agent to its end; one that is not refused would run on for ever.
///
/// # Errors
/// It does not start, or does not end.
pub fn finish(command: &mut Command) -> Outcome<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(Failure::at("running the agent"))?;
    let ended =
        wait::until("the agent's end", wait::LIMIT, || child.try_wait().map_err(Failure::at("the agent's state")));
    if ended.is_err() {
        child.kill().map_err(Failure::at("ending the agent"))?;
    }
    let output = child.wait_with_output().map_err(Failure::at("the agent's output"))?;
    ended.map(|_| output)
}

/// The one line of a refusal that ends with `code`, says each of `words`, and says nothing on stdout.
///
/// # Errors
/// The answer is another one.
pub fn refused(output: &Output, code: i32, words: &[&str]) -> Outcome<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.trim_end();
    let right = output.status.code() == Some(code)
        && output.stdout.is_empty()
        && line.lines().count() == 1
        && words.iter().all(|word| line.contains(word));
    let shown = format!("{}, {:?} on stdout: {line}", output.status, String::from_utf8_lossy(&output.stdout));
    if right { Ok(shown) } else { Err(Failure::new(format!("wanted code {code} and {words:?}, got {shown}"))) }
}

/// The stdout of a command that was served and says each of `words`.
///
/// # Errors
/// The answer is another one.
pub fn served(output: &Output, words: &[&str]) -> Outcome<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && words.iter().all(|word| text.contains(word)) {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("wanted {words:?}, got {}: {text} {errors}", output.status)))
}

/// The report of `ebpf-process check` with these settings.
#[derive(Debug)]
pub struct Checkup(Value);

impl Checkup {
    /// Asks for it.
    ///
    /// # Errors
    /// There is none.
    pub fn new(settings: &[&str]) -> Outcome<Self> {
        let mut command = agent::command()?;
        command.args(["check", "--format", "json"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let output = finish(&mut command)?;
        let words = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).map(Self).map_err(Failure::at(format!("the report of check: {words}")))
    }

    /// Whether it finds that something of this subject is lost, what it found, and what to do about it.
    pub fn finding(&self, subject: &str) -> (bool, String) {
        let findings = self.0["machine"].as_array().into_iter().flatten();
        let of: Vec<&Value> = findings.filter(|finding| finding["subject"] == subject).collect();
        let lacking = of.iter().any(|finding| finding["verdict"] == "lacking");
        let text = of.iter().flat_map(|finding| [&finding["state"], &finding["advice"]]).filter_map(Value::as_str);
        (lacking, text.collect::<Vec<_>>().join("; "))
    }

    /// The tier that serves a counter; nothing where none does.
    pub fn tier(&self, counter: &str) -> Option<&str> {
        self.counter(counter)?["hook"]["tier"].as_str()
    }

    /// Why each hook that was tried for a counter was not taken, as `FUNCTION: PROBLEM`.
    pub fn problems(&self, counter: &str) -> Vec<String> {
        let tried = self.counter(counter).and_then(|counter| counter["tried"].as_array()).into_iter().flatten();
        tried.map(|attempt| format!("{}: {}", word(&attempt["function"]), word(&attempt["problem"]))).collect()
    }

    /// Counters that no hook serves.
    pub fn unserved(&self) -> Vec<&str> {
        self.counters().filter(|counter| counter["hook"].is_null()).map(|counter| word(&counter["counter"])).collect()
    }

    fn counter(&self, name: &str) -> Option<&Value> {
        self.counters().find(|counter| counter["counter"] == name)
    }

    fn counters(&self) -> impl Iterator<Item = &Value> {
        let probes = self.0["probes"].as_array().into_iter().flatten();
        probes.filter_map(|probe| probe["counters"].as_array()).flatten()
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_report_tells_what_serves_and_what_does_not() {
        let hook = json!({ "tier": "fentry" });
        let tried = json!([{ "tier": "fentry", "function": "vfs_unlink", "problem": "no such function" }]);
        let report = Checkup(json!({
            "machine": [{ "subject": "lockdown", "state": "confidentiality", "verdict": "lacking", "advice": "boot" }],
            "probes": [
                { "counters": [{ "counter": "vfs.read", "hook": hook, "tried": [] }] },
                { "counters": [{ "counter": "vfs.delete", "hook": null, "tried": tried }] },
                { "counters": null },
            ],
        }));
        assert_eq!(report.finding("lockdown"), (true, "confidentiality; boot".to_owned()));
        assert_eq!(report.finding("preemption"), (false, String::new()));
        assert_eq!((report.tier("vfs.read"), report.tier("vfs.delete")), (Some("fentry"), None));
        assert_eq!(report.unserved(), ["vfs.delete"]);
        assert_eq!(report.problems("vfs.delete"), ["vfs_unlink: no such function"]);
    }
}
