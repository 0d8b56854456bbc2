//! `docs/metrics.md` and `docs/configuration.md` are what the agent and the tables give. `UPDATE_DOCS=1` writes them.

use ebpf_process_core::ProbePlugin as _;
use ebpf_process_probes::{Choice, Doubt, KernelProbe, Layer, PROBES};
use ebpf_process_tests::rows::ROWS;
use ebpf_process_tests::{Failure, Outcome, agent, live, own_events, visibility};
use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const TEMPLATE: &str = include_str!("../src/metrics.template.md");
const CONFIGURATION: &str = include_str!("../src/configuration.template.md");

/// What the agent lists.
fn listed(what: &str, format: &str) -> Outcome<String> {
    let output = agent::command()?.args(["list", what, "--format", format]).output();
    let output = output.map_err(Failure::at("running the agent"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::new(format!("`ebpf-process list {what} --format {format}`: {words}")));
    }
    String::from_utf8(output.stdout).map_err(Failure::at("the agent's list"))
}

/// The document's table, not the one for terminals.
fn metrics() -> Outcome<String> {
    listed("metrics", "markdown")
}

/// A section for each table of the configuration; probes that have the same keys share one.
fn configuration() -> Outcome<String> {
    #[derive(serde::Deserialize)]
    struct Row {
        table: String,
        key: String,
        #[serde(rename = "type")]
        kind: String,
        default: String,
        required: bool,
        meaning: String,
    }
    let rows: Vec<Row> =
        serde_json::from_str(&listed("options", "json")?).map_err(Failure::at("the agent's list of options"))?;
    let mut sections: Vec<(String, String)> = Vec::new();
    for group in rows.chunk_by(|a, b| a.table == b.table) {
        let mut text = String::from("| key | type | default | meaning |\n|---|---|---|---|\n");
        for Row { key, kind, default, required, meaning, .. } in group {
            let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
            let kind = if kind.contains('"') { code(kind) } else { kind.clone() };
            let default = if *required { "required".to_owned() } else { code(default) };
            let meaning = meaning.replace('|', "\\|");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| `{key}` | {kind} | {default} | {meaning} |");
        }
        let table = group[0].table.as_str();
        let title = match table.split_once(", ") {
            _ if table.is_empty() => "The agent".to_owned(),
            Some((table, condition)) => format!("`[{table}]` with `{condition}`"),
            None => format!("`[{table}]`"),
        };
        match sections.iter_mut().find(|(_, known)| *known == text) {
            Some((titles, _)) => *titles = format!("{titles}, {title}"),
            None => sections.push((title, text)),
        }
    }
    let text: Vec<String> = sections.into_iter().map(|(title, table)| format!("## {title}\n\n{table}")).collect();
    Ok(CONFIGURATION.replace("{{tables}}", text.join("\n").trim_end()))
}

/// A line per counter, tier and layer; functions that replace each other from kernel to kernel are joined by "or".
fn hooks() -> String {
    let mut text = String::from("| counter | tier | layer | functions in entry mode | in return mode |\n");
    text.push_str("|---|---|---|---|---|\n");
    let all: Vec<Choice> = PROBES.into_iter().flat_map(KernelProbe::choices).collect();
    let mut done = Vec::new();
    for Choice { counter, tier, layer, .. } in &all {
        if done.contains(&(counter, tier, layer)) {
            continue;
        }
        done.push((counter, tier, layer));
        let [entry, results] = ["entry", "return"].map(|mode| {
            let alternatives =
                all.iter().filter(|c| (&c.counter, &c.tier, &c.layer, c.mode) == (counter, tier, layer, mode));
            let mut names: Vec<String> = alternatives
                .map(|c| c.functions.iter().map(|f| format!("`{f}`")).collect::<Vec<_>>().join(" + "))
                .collect();
            // Another object may have the same function for another program.
            let mut seen = BTreeSet::new();
            names.retain(|name| seen.insert(name.clone()));
            names.join(" or ")
        });
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{counter}` | {tier} | {} | {entry} | {results} |", Layer::as_str(*layer));
    }
    text
}

/// Every reason why a counter may not be exact, from the smallest to the greatest.
fn doubts() -> String {
    let lines = Doubt::ALL.map(|doubt| format!("| `{}` | {} |\n", doubt.as_str(), doubt.explained()));
    format!("| `reason` | what it means |\n|---|---|\n{}", lines.concat())
}

fn document() -> Outcome<String> {
    let parts = [
        ("{{metrics}}", metrics()?),
        ("{{operations}}", visibility::markdown()),
        ("{{doubts}}", doubts()),
        ("{{hooks}}", hooks()),
        ("{{own}}", own_events::markdown()),
    ];
    let filled = parts.iter().fold(TEMPLATE.to_owned(), |text, (mark, part)| text.replace(mark, part.trim_end()));
    if filled.contains("{{") { Err(Failure::new("a mark of the template was not filled")) } else { Ok(filled) }
}

/// Whether a document is the one that is committed.
fn is_committed(name: &str, document: Outcome<String>) -> Outcome<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let document = document?;
    if env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        return fs::write(&path, document).map_err(Failure::at(format!("writing docs/{name}")));
    }
    let committed = fs::read_to_string(&path).map_err(Failure::at(format!("reading docs/{name}")))?;
    if committed == document {
        return Ok(());
    }
    let line = committed.lines().zip(document.lines()).position(|(old, new)| old != new);
    let line = line.unwrap_or_else(|| committed.lines().count().min(document.lines().count())) + 1;
    Err(Failure::new(format!(
        "docs/{name} is out of date from line {line} on: UPDATE_DOCS=1 cargo test -p ebpf-process-tests --test docs"
    )))
}

#[test]
fn the_committed_reference_is_what_the_tables_give() {
    live::test("docs", agent::binary().map(drop), || is_committed("metrics.md", document()));
}

#[test]
fn every_key_of_the_configuration_stands_in_its_document() {
    live::test("docs-configuration", agent::binary().map(drop), || is_committed("configuration.md", configuration()));
}

#[test]
fn every_label_of_the_metrics_is_explained() {
    live::test("docs-labels", agent::binary().map(drop), || {
        for line in metrics()?.lines().skip(2) {
            let labels = line.split(" | ").nth(3).unwrap_or_default();
            for label in labels.split(", ").filter(|label| !label.is_empty()) {
                if !TEMPLATE.contains(&format!("| `{label}`")) {
                    return Err(Failure::new(format!("the label {label} is not explained: {line}")));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn every_probe_has_its_rows() {
    let mut probes = PROBES.map(|probe| (probe.name(), probe.is_default()));
    let mut rows = ROWS.map(|rows| (rows.probe, rows.is_default));
    probes.sort_unstable();
    rows.sort_unstable();
    assert_eq!(probes, rows);
}

#[test]
fn every_hook_stands_in_the_table_by_kernel() {
    let text = include_str!("../../docs/hooks.md");
    let choices = PROBES.into_iter().flat_map(KernelProbe::choices);
    let history = PROBES.into_iter().flat_map(KernelProbe::history);
    let commits =
        history.flat_map(|chapter| [chapter.since, chapter.until]).flatten().map(|(_, commit)| commit.to_owned());
    let names = choices.flat_map(|choice| choice.functions).map(|name| format!("`{name}"));
    let missing: BTreeSet<String> = names.chain(commits).filter(|wanted| !text.contains(wanted)).collect();
    assert!(missing.is_empty(), "docs/hooks.md does not name {missing:?}");
}
