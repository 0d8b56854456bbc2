//! The page, scraped by a real Prometheus and read by the stricter readers.

use crate::point::{self, Point};
use crate::source::{Source, as_label_values, wait_for_one_point_each};
use ebpf_process_core::Selection;
use ebpf_process_sinks::prometheus::PLUGIN;
use ebpf_process_tests::receivers::free_tcp_port;
use ebpf_process_tests::receivers::prometheus::{Prometheus, read_strictly};
use ebpf_process_tests::totals::Totals;
use ebpf_process_tests::{Failure, Outcome, hostile, live};
use serde_json::json;
use std::collections::BTreeMap;

/// What Prometheus adds.
const TARGET: [&str; 2] = ["instance", "job"];

fn prometheus(name: &str, claim: impl FnOnce(&str, &Prometheus) -> Outcome<()>) {
    live::test(name, Prometheus::is_installed(), || {
        let address = format!("127.0.0.1:{}", free_tcp_port()?);
        let prometheus = Prometheus::start(&address)?;
        claim(&address, &prometheus).map_err(|failure| prometheus.explain(&failure))
    });
}

/// How many samples strict readers find on the page.
fn samples_on_page(address: &str) -> Outcome<usize> {
    let families = read_strictly(&format!("http://{address}/metrics"))?;
    let samples = families.trim().strip_prefix("ebpf_process_calls counter ").and_then(|count| count.parse().ok());
    samples.ok_or_else(|| Failure::new(format!("other families than one counter: {families}")))
}

#[test]
fn prometheus_stores_one_point_for_each_label_value() {
    prometheus("hostile-prometheus-values", |address, prometheus| {
        as_label_values(&PLUGIN, &json!({ "listen": address }), || {
            let points = point::of_totals(&prometheus.totals()?, "calls", &TARGET)?;
            // The page is as Prometheus has seen it, or a batch further.
            let samples = samples_on_page(address)?;
            if samples < points.len() {
                return Err(Failure::new(format!("{samples} samples on the page, {} stored", points.len())));
            }
            Ok(points)
        })
    });
}

/// All tags at once, on every series: the sink is what listens, and Prometheus has one target.
#[test]
fn prometheus_keeps_the_tags_whose_names_it_can_say_and_forges_none() {
    prometheus("hostile-prometheus-names", |address, prometheus| {
        let mut names = hostile::names();
        names.retain(|name| !is_camel_case(name));
        let tags = names.iter().map(|name| (name.clone(), name.clone())).collect();
        let selection = Selection { tags, ..Selection::default() };
        let mut source = Source::new(&PLUGIN, &json!({ "listen": address }), selection, &["id"])?;
        for count in [1, 2] {
            source.send((0..count).map(|id| (id, Vec::new())))?;
            wait_for_one_point_each(count, || stored_with_tags(&prometheus.totals()?, &names))?;
            if samples_on_page(address)? != count {
                return Err(Failure::new("a sample on the page too many, or too few"));
            }
        }
        Ok(())
    });
}

/// What `promtool` finds bad style in a label's name, and says so.
fn is_camel_case(name: &str) -> bool {
    name.as_bytes().windows(2).any(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase())
}

/// The points, whose tags of plain letters and digits must be as they were sent. The others become keys of the same few
/// characters; of those that become one key the first is there.
fn stored_with_tags(totals: &Totals, names: &[String]) -> Outcome<Vec<Point>> {
    let is_plain = |name: &&String| {
        let is_key = name.starts_with(|c: char| c.is_ascii_alphabetic());
        // What means something to Prometheus is another key there.
        is_key && name.chars().all(|c| c.is_ascii_alphanumeric()) && !["le", "job"].contains(&name.as_str())
    };
    let plain: Vec<&String> = names.iter().filter(is_plain).collect();
    let point = |(name, labels, value): (&str, &BTreeMap<String, String>, f64)| {
        if let Some(tag) = plain.iter().find(|tag| labels.get(**tag) != Some(tag)) {
            return Err(Failure::new(format!("the tag {tag} is {:?}", labels.get(*tag))));
        }
        let id = labels.get("id").filter(|_| name == "calls" && !labels.contains_key("forged"));
        let id = id.and_then(|id| id.parse().ok());
        id.map(|id| (id, value)).ok_or_else(|| Failure::new(format!("nobody meant {name} with {labels:?}")))
    };
    totals.series().map(point).collect()
}
