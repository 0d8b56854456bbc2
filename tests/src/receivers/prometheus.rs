//! Prometheus (Debian's `prometheus`), which scrapes one target each second, and two readers that are stricter than it
//! is: `promtool`, and the `OpenMetrics` parser of Prometheus's Python client.

use super::server::{Server, free_tcp_port};
use super::{ask, fetch, program};
use crate::totals::Totals;
use crate::{Failure, Outcome};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Debian's own interpreter, which finds Debian's packages.
const PYTHON: &str = "/usr/bin/python3";
/// The parser; it raises what it finds wrong.
const PARSER: &str = "/usr/lib/python3/dist-packages/prometheus_client/openmetrics/parser.py";
const PARSE: &str = "import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    print(family.name, family.type, len(family.samples))
";

/// A running server.
#[derive(Debug)]
pub struct Prometheus {
    server: Server,
    url: String,
}

impl Prometheus {
    /// Whether it and the two readers are installed.
    ///
    /// # Errors
    /// One is not; the message names the package.
    pub fn is_installed() -> Outcome<()> {
        program("prometheus", "prometheus")?;
        program("promtool", "prometheus")?;
        program(PARSER, "python3-prometheus-client").map(drop)
    }

    /// Starts it with one target, an address and a port.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start(target: &str) -> Outcome<Self> {
        let executable = program("prometheus", "prometheus")?;
        let folder = Server::folder("prometheus")?;
        let file = folder.path().join("prometheus.yml");
        let configuration = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: agent, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        fs::write(&file, configuration).map_err(Failure::at("prometheus.yml"))?;
        let port = free_tcp_port()?;
        let mut command = Command::new(executable);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=warn");
        let url = format!("http://127.0.0.1:{port}");
        let mut server = Server::start("prometheus", folder, &mut command)?;
        server.wait_until_ready(|| ask(ureq::get(format!("{url}/-/ready"))).is_ok())?;
        Ok(Self { server, url })
    }

    /// The last value of every series of the target, under the agent's names: `ebpf_process_vfs_calls_total` is
    /// `vfs.calls`.
    ///
    /// # Errors
    /// It does not answer, or not as Prometheus does.
    pub fn totals(&self) -> Outcome<Totals> {
        let request = ureq::get(format!("{}/api/v1/query", self.url)).query("query", "{job=\"agent\"}");
        let answer = ask(request)?;
        read(&answer).ok_or_else(|| Failure::new(format!("not an answer of Prometheus: {answer}")))
    }

    /// What a query finds: the values of these labels, and the number, in the server's own order.
    ///
    /// # Errors
    /// As [`Prometheus::totals`]; or a label is not there.
    pub fn query(&self, query: &str, labels: &[&str]) -> Outcome<Vec<(Vec<String>, f64)>> {
        ranking(&ask(ureq::get(format!("{}/api/v1/query", self.url)).query("query", query))?, labels)
    }

    /// The failure with what the server said.
    pub fn explain(&self, failure: &Failure) -> Failure {
        self.server.with_log(failure)
    }
}

/// `data.result[]` with labels in `metric`, the name among them, and `value` as a time and a text.
fn read(answer: &str) -> Option<Totals> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let mut totals = Totals::default();
    for series in answer["data"]["result"].as_array()? {
        let labels = series["metric"].as_object()?.iter();
        let mut labels: BTreeMap<String, String> =
            labels.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect::<Option<_>>()?;
        let name = labels.remove("__name__")?;
        let Some(name) = name.strip_prefix("ebpf_process_") else { continue };
        let name = name.strip_suffix("_total").unwrap_or(name).replacen('_', ".", 1);
        let value = series["value"].as_array()?;
        #[expect(clippy::cast_possible_truncation, reason = "a whole second is as good")]
        let time = value.first()?.as_f64()? as i64;
        totals.insert(name, labels, value.get(1)?.as_str()?.parse().ok()?, time);
    }
    Some(totals)
}

/// The values of these labels and the number of each series of an answer, in its order.
pub(super) fn ranking(answer: &str, labels: &[&str]) -> Outcome<Vec<(Vec<String>, f64)>> {
    let ranking = || {
        let answer: Value = serde_json::from_str(answer).ok()?;
        let series = answer["data"]["result"].as_array()?.iter().map(|series| {
            let values = labels.iter().map(|label| Some(series["metric"][label].as_str()?.to_owned()));
            Some((values.collect::<Option<_>>()?, series["value"][1].as_str()?.parse().ok()?))
        });
        series.collect::<Option<_>>()
    };
    ranking().ok_or_else(|| Failure::new(format!("no answer with {labels:?}: {answer}")))
}

/// The page at `url` in both formats as strict readers take it: the families, a line each, as the `OpenMetrics` parser
/// reads them (name, type, number of samples).
///
/// # Errors
/// A reader finds something wrong, or even something unusual; or a series is there twice, which neither of them minds.
pub fn read_strictly(url: &str) -> Outcome<String> {
    let text = fetch(url, "text/plain;version=0.0.4")?;
    lint(&text)?;
    let openmetrics = fetch(url, "application/openmetrics-text;version=1.0.0")?;
    let families = parse_openmetrics(&openmetrics)?;
    for page in [text, openmetrics] {
        let mut seen = BTreeSet::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            if !seen.insert(series) {
                return Err(Failure::new(format!("{series} is there twice")));
            }
        }
    }
    Ok(families)
}

/// What `promtool` has to say about a page in Prometheus's text format.
fn lint(page: &str) -> Outcome<()> {
    let promtool = program("promtool", "prometheus")?;
    feed(Command::new(promtool).args(["check", "metrics"]), page).map(drop)
}

/// The families of a page in `OpenMetrics`, as the Python client's parser reads them.
fn parse_openmetrics(page: &str) -> Outcome<String> {
    feed(Command::new(Path::new(PYTHON)).args(["-c", PARSE]), page)
}

/// What a reader prints about a page.
fn feed(command: &mut Command, page: &str) -> Outcome<String> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(Failure::at("starting a reader"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A reader that has seen enough says why in its output.
        let _ = stdin.write_all(page.as_bytes());
    }
    let output = child.wait_with_output().map_err(Failure::at("a reader's end"))?;
    let words = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
    if output.status.success() {
        Ok(words.into_owned())
    } else {
        Err(Failure::new(format!("{command:?} ends with {}: {words}\n{page}", output.status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_totals_under_the_agents_names() {
        let answer = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"up","job":"agent"},"value":[1700000000.1,"1"]},
            {"metric":{"__name__":"ebpf_process_task_start_errors_total","kind":"process"},"value":[1700000000.1,"12"]}
        ]}}"#;
        let totals = read(answer).unwrap();
        assert_eq!(totals.get("task.start_errors", Some(("kind", "process"))), Some(12.0));
        assert_eq!(totals.get("up", None), None);
    }

    #[test]
    fn a_ranking_is_labels_and_numbers_in_the_answers_order() {
        let answer =
            r#"{"data":{"result":[{"metric":{"unit":"b"},"value":[1,"7"]},{"metric":{"unit":"a"},"value":[1,"5"]}]}}"#;
        let expected = [(vec!["b".to_owned()], 7.0), (vec!["a".to_owned()], 5.0)];
        assert_eq!(ranking(answer, &["unit"]).unwrap(), expected);
        assert!(ranking(answer, &["pod"]).is_err());
    }

    #[test]
    fn an_error_is_no_totals() {
        assert_eq!(read(r#"{"status":"error","error":"parse error"}"#), None);
    }
}
