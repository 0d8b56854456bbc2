//! The otlp sink end to end: what real receivers of OpenTelemetry's protocol have stored is what was sent, to the unit; and
//! what is sent reads back with OpenTelemetry's own package for Python.

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Column, EntityKind, Selection, Unit, clean_label};
use ebpf_process_sinks::otlp::Encoder;
use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::cgroup::Cgroup;
use ebpf_process_tests::receivers::otlp::{Kind, Receiver};
use ebpf_process_tests::workload::{Place, Workload};
use ebpf_process_tests::{Failure, Outcome, hostile, live, wait};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Longer than any receiver keeps a number to itself.
const SETTLE: Duration = Duration::from_secs(60);
/// So many processes are as many series.
const PROCESSES: u64 = 100;

#[test]
fn prometheus_stores_a_hundred_processes_as_a_hundred_series() {
    let needs = needs().and_then(|()| Kind::Prometheus.is_installed());
    live::test("otlp-prometheus", needs, || processes(Kind::Prometheus));
}

#[test]
fn victoria_stores_a_hundred_processes_as_a_hundred_series() {
    let needs = needs().and_then(|()| Kind::Victoria.is_installed());
    live::test("otlp-victoria", needs, || processes(Kind::Victoria));
}

fn needs() -> Outcome<()> {
    agent::can_run().and_then(|()| Cgroup::new().map(drop))
}

/// A hundred processes, each of which reads so many times that it is told by that.
fn processes(kind: Kind) -> Outcome<()> {
    let receiver = Receiver::start(kind)?;
    let place = Place::new()?;
    let cgroup = Cgroup::new()?;
    let counts = (0..PROCESSES).map(|number| 10 + number);
    let mut readers = counts.map(|count| Ok((count, place.reads(count)?))).collect::<Outcome<Vec<_>>>()?;
    for (_, reader) in &readers {
        cgroup.add(reader.pid())?;
    }
    let mut agent = Agent::start(&[
        "probes.mode=return".to_owned(),
        "probes.by=[\"process\"]".to_owned(),
        format!("probes.only={{cgroup=\"{}\"}}", cgroup.name()),
        "sinks.otel.type=otlp".to_owned(),
        "sinks.otel.kinds=[\"host\",\"process\"]".to_owned(),
        format!("sinks.otel.options.url=\"{}\"", receiver.url()),
        "sinks.otel.options.gzip=true".to_owned(),
        "sinks.otel.options.delivery.retry_max=\"1s\"".to_owned(),
        "sinks.otel.queue=80".to_owned(),
    ])?;
    agent.wait_for_first_batch()?;
    for (_, reader) in &readers {
        reader.resume()?;
    }
    for (_, reader) in &mut readers {
        reader.wait_for_stop()?;
    }
    #[expect(clippy::cast_precision_loss, reason = "small whole numbers")]
    let wanted: BTreeMap<String, f64> =
        readers.iter().map(|(count, reader)| (reader.pid().to_string(), *count as f64)).collect();
    let sum: f64 = wanted.values().sum();
    let mut told = String::new();
    let equal = wait::until("equal totals", SETTLE, || {
        agent.totals()?;
        let by_process = |name: &str| -> Outcome<BTreeMap<String, f64>> {
            let pid = kind.label("process.pid");
            let reads = receiver.counters(name)?.into_iter();
            let reads = reads.filter(|(labels, _)| labels.get("operation").is_some_and(|it| it == "read"));
            Ok(reads.filter_map(|(labels, value)| Some((labels.get(&pid)?.clone(), value))).collect())
        };
        // One byte a read.
        let (mut calls, mut bytes) = (by_process("process.vfs.calls")?, by_process("process.vfs.bytes")?);
        // What has no row of its own, which did nothing here.
        let others = [calls.remove("other"), bytes.remove("other")];
        let host = receiver.counters("vfs.calls")?;
        let host = host.iter().find(|(labels, _)| labels.get("operation").is_some_and(|it| it == "read"));
        let host = host.map(|(_, value)| *value);
        told = format!("calls {calls:?}\nbytes {bytes:?}\nothers {others:?}, host {host:?} of {sum}");
        let nothing = others.iter().flatten().all(|value| *value == 0.0);
        Ok((calls == wanted && bytes == wanted && nothing && host == Some(sum)).then_some(()))
    });
    equal.map_err(|failure| receiver.explain(&Failure::new(format!("{failure}\n{told}\nwanted {wanted:?}"))))?;
    let (status, totals) = agent.stop()?;
    readers.iter_mut().try_for_each(|(_, reader)| Workload::run_to_end(reader))?;
    let samples = totals.samples("otel");
    let lost: f64 = ["failed", "dropped", "rejected"].iter().filter_map(|state| samples.get(*state)).sum();
    if status.success() && lost == 0.0 { Ok(()) } else { Err(Failure::new(format!("{status}; {samples:?}"))) }
}

/// What decodes a request, a line for each data point.
const DECODE: &str = r#"
import json, sys
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

def attributes(pairs):
    values = {}
    for pair in pairs:
        assert pair.key not in values, pair.key
        values[pair.key] = getattr(pair.value, pair.value.WhichOneof("value"))
    return values

request = ExportMetricsServiceRequest.FromString(sys.stdin.buffer.read())
assert request.IsInitialized() and request.ByteSize() > 0
for group in request.resource_metrics:
    for scope in group.scope_metrics:
        for metric in scope.metrics:
            kind = metric.WhichOneof("data")
            data = getattr(metric, kind)
            for point in data.data_points:
                told = {
                    "resource": attributes(group.resource.attributes), "scope": scope.scope.name,
                    "name": metric.name, "unit": metric.unit, "description": metric.description, "kind": kind,
                    "cumulative": getattr(data, "aggregation_temporality", 0) == 2,
                    "monotonic": getattr(data, "is_monotonic", False),
                    "attributes": attributes(point.attributes),
                    "start": point.start_time_unix_nano, "time": point.time_unix_nano,
                }
                if kind == "histogram":
                    told["value"] = [point.count, point.sum, list(point.bucket_counts), list(point.explicit_bounds)]
                else:
                    told["value"] = getattr(point, point.WhichOneof("value"))
                print(json.dumps(told))
"#;

/// Python with OpenTelemetry's own package, in a folder of its own.
struct Python {
    folder: TempDir,
}

impl Python {
    fn new() -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let run = |command: &mut Command| {
            let output = command.output().map_err(Failure::at(format!("{command:?}")))?;
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() { Ok(()) } else { Err(Failure::new(format!("{command:?}: {words}"))) }
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(folder.path()))?;
        let python = Self { folder };
        run(python.command().args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).arg(PACKAGE))?;
        Ok(python)
    }

    fn command(&self) -> Command {
        Command::new(self.folder.path().join("bin/python"))
    }

    fn decode(&self, request: &[u8]) -> Outcome<Vec<Value>> {
        let mut command = self.command();
        command.args(["-c", DECODE]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Failure::at("python"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that has seen enough says why in its output.
            let _ = stdin.write_all(request);
        }
        let output = child.wait_with_output().map_err(Failure::at("python"))?;
        if !output.status.success() {
            return Err(Failure::new(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let lines = String::from_utf8(output.stdout).map_err(Failure::at("what python says"))?;
        let lines = lines.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().map_err(Failure::at("what python says"))
    }
}

const PACKAGE: &str = "opentelemetry-proto";

#[test]
fn what_is_sent_reads_back_with_opentelemetrys_own_package() {
    let python = Python::new();
    let needs = python.as_ref().map(drop).map_err(|failure| Failure::new(failure.to_string()));
    live::test("otlp-python", needs, || python.and_then(|python| reads_back(&python)));
}

/// Hostile names, numbers at the ends, and every kind of metric.
fn reads_back(python: &Python) -> Outcome<()> {
    let mut bench = Bench::new();
    let names = hostile::distinct_names();
    let thing = EntityKind::new("thing").keys(["comm"]).limit(1000);
    let calls = |name: &str| Column::counter("a.calls", Unit::CALLS, "Calls").labels([("of", name)]);
    let rows: Vec<_> = names.iter().map(|name| bench.cell(&thing, &[name], calls("all"))).collect();
    let totals = [0, 1, i64::MAX as u64, 1 << 63, u64::MAX];
    let ends: Vec<_> = totals.iter().map(|total| bench.host(calls(&total.to_string()))).collect();
    let level = bench.host(Column::gauge("a.level", Unit::ONE, "Level"));
    let latency = bench.host(Column::histogram("a.latency", Unit::SECONDS, "Latency").scale(1e-3).slots(0..=3));
    let mut encoder = Encoder::new("node1", None).with_enough(1000);
    let mut request = Vec::new();
    bench.tick(
        &Selection::default(),
        |recorder| {
            rows.iter().zip(1..).for_each(|(row, total)| row.counter(recorder, total));
            ends.iter().zip(totals).for_each(|(cell, total)| cell.counter(recorder, total));
            level.gauge(recorder, -0.5);
            let mut slots = no_slots();
            (slots[0], slots[2], slots[3]) = (1, 2, 3);
            latency.histogram(recorder, &slots, 50);
        },
        |view| encoder.encode(view, |piece, _| request.extend_from_slice(piece)),
    );
    let told = |name: &str, unit: &str, description: &str, kind: &str, attributes: Value, value: Value| {
        let is_level = kind == "gauge";
        json!({
            "resource": {
                "service.name": "ebpf-process", "service.version": env!("CARGO_PKG_VERSION"),
                "service.instance.id": "node1", "host.name": "node1",
            },
            "scope": "ebpf-process", "name": name, "unit": unit, "description": description, "kind": kind,
            "cumulative": !is_level, "monotonic": kind == "sum", "attributes": attributes,
            "start": if is_level { 0 } else { 1_600_000_000_000_000_000_u64 },
            "time": 1_600_000_000_000_000_000_u64, "value": value,
        })
    };
    let sum = |name: &str, attributes, value| told(name, "{call}", "Calls", "sum", attributes, value);
    let host = totals.iter().map(|total| {
        #[expect(clippy::cast_precision_loss, reason = "a total above 2^63 is rounded")]
        let value = i64::try_from(*total).map_or_else(|_| json!(*total as f64), |total| json!(total));
        sum("a.calls", json!({ "of": total.to_string() }), value)
    });
    let level = told("a.level", "", "Level", "gauge", json!({}), json!(-0.5));
    let slots = json!([6, 0.05, [1, 0, 2, 3], [0.001, 0.003, 0.007]]);
    let latency = told("a.latency", "s", "Latency", "histogram", json!({}), slots);
    let rows = names.iter().zip(1..).map(|(name, total)| {
        let attributes = json!({ "process.executable.name": clean_label(name), "of": "all" });
        sum("thing.a.calls", attributes, json!(total))
    });
    let wanted: Vec<Value> = host.chain([level, latency]).chain(rows).collect();
    let got = python.decode(&request)?;
    for (got, wanted) in got.iter().zip(&wanted) {
        if got != wanted {
            return Err(Failure::new(format!("{got}\nis not\n{wanted}")));
        }
    }
    if got.len() == wanted.len() { Ok(()) } else { Err(Failure::new(format!("{} points", got.len()))) }
}
