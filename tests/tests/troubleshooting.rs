//! `docs/troubleshooting.md` is by message, so each message that it names has to be one of ours.

use std::fs;
use std::io;
use std::path::Path;

/// The message in a heading such as ``### `no sink is configured` ``; a heading may have two.
fn messages(line: &str) -> impl Iterator<Item = &str> {
    let heading = line.strip_prefix("### ").filter(|heading| heading.starts_with('`')).unwrap_or_default();
    heading.split('`').skip(1).step_by(2)
}

/// The reasons in the first column of the table of losses.
fn reasons(line: &str) -> impl Iterator<Item = &str> {
    let first = line.strip_prefix("| `").and_then(|rest| rest.split_once("` |")).map_or("", |(cell, _)| cell);
    first.split("`, `").filter(|reason| !reason.is_empty())
}

/// All sources of the agent without their comments, as one text in which a string that is broken across lines is whole.
fn sources() -> io::Result<String> {
    fn read(folder: &Path, text: &mut String) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                read(&path, text)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path)?;
                let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
                code.for_each(|line| text.extend([line, "\n"]));
            }
        }
        Ok(())
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sinks = ["delivery", "http", "statsd", "influx", "json", "otlp", "prometheus", "netdata"];
    let sinks = sinks.map(|name| format!("sinks/{name}"));
    let crates = ["core", "config", "probes", "bin"].map(str::to_owned).into_iter().chain(sinks);
    let mut text = String::new();
    for folder in crates.map(|name| root.join(name).join("src")) {
        read(&folder, &mut text)?;
    }
    let joined: Vec<&str> = text.split("\\\n").map(str::trim_start).collect();
    Ok(joined.concat().replace("\\\"", "\""))
}

#[test]
fn every_message_of_the_guide_is_one_that_the_agent_says() {
    let guide = include_str!("../../docs/troubleshooting.md");
    let (sources, mut seen) = (sources().expect("the sources").to_lowercase(), 0);
    for message in guide.lines().flat_map(messages) {
        assert!(sources.contains(&message.to_lowercase()), "no message has the words \"{message}\" any more");
        seen += 1;
    }
    assert!(seen > 15, "{seen} messages were found in the guide");
}

#[test]
fn every_reason_of_the_guide_is_one_of_a_ledger() {
    let guide = include_str!("../../docs/troubleshooting.md");
    let (sources, mut seen) = (sources().expect("the sources"), 0);
    for reason in guide.lines().flat_map(reasons) {
        assert!(sources.contains(&format!("\"{reason}\"")), "no ledger has the reason \"{reason}\" any more");
        seen += 1;
    }
    assert!(seen > 10, "{seen} reasons were found in the guide");
}
