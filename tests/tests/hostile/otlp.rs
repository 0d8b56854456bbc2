//! Export requests, taken by real receivers of OpenTelemetry's protocol.

use crate::point::{self, Point};
use crate::source::as_label_values;
use ebpf_process_sinks::otlp::PLUGIN;
use ebpf_process_tests::receivers::otlp::{Kind, Receiver};
use ebpf_process_tests::{Outcome, live};
use serde_json::json;
use std::collections::BTreeMap;

fn receiver(name: &str, kind: Kind, claim: impl FnOnce(&Receiver) -> Outcome<()>) {
    live::test(name, kind.is_installed(), || {
        let receiver = Receiver::start(kind)?;
        claim(&receiver).map_err(|failure| receiver.explain(&failure))
    });
}

/// What receivers make of the resource and the scope, with a dot or without.
const OTHERS: [&str; 5] = ["__name__", "service", "host", "scope", "otel_scope"];
/// What Prometheus calls the service and its instance.
const TARGET: [&str; 2] = ["job", "instance"];

/// The counter's series, each with its number and its own label.
fn stored(receiver: &Receiver) -> Outcome<Vec<Point>> {
    let is_own = |key: &str| {
        let mut others = OTHERS.iter().filter_map(|other| key.strip_prefix(other));
        !others.any(|rest| rest.is_empty() || rest.starts_with(['.', '_'])) && !TARGET.contains(&key)
    };
    let point = |(labels, value): (BTreeMap<String, String>, f64)| {
        let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        point::labelled(("calls", "calls"), labels.filter(|(key, _)| is_own(key)), value)
    };
    receiver.history("calls")?.into_iter().map(point).collect()
}

#[test]
fn prometheus_stores_one_point_for_each_label_value() {
    receiver("hostile-otlp-prometheus-values", Kind::Prometheus, |receiver| {
        let options = json!({ "url": receiver.url() });
        as_label_values(&PLUGIN, &options, || stored(receiver))
    });
}

#[test]
fn victoria_stores_one_point_for_each_label_value() {
    receiver("hostile-otlp-victoria-values", Kind::Victoria, |receiver| {
        let options = json!({ "url": receiver.url() });
        as_label_values(&PLUGIN, &options, || stored(receiver))
    });
}
