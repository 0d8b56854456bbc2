//! Every dialect of `StatsD`, to each server that reads it.

use crate::point::{Point, labelled};
use crate::source::{as_label_values, as_tag_names};
use ebpf_process_sinks::statsd::PLUGIN;
use ebpf_process_tests::receivers::by_rules::{ByRules, Rules, Way};
use ebpf_process_tests::receivers::carbon::Carbon;
use ebpf_process_tests::receivers::collectd::Collectd;
use ebpf_process_tests::receivers::netdata::Netdata;
use ebpf_process_tests::receivers::statsd::Statsd;
use ebpf_process_tests::{Failure, Outcome, live};
use serde_json::{Value, json};

/// What the sink calls the counter where labels are tags.
const NAME: &str = "ebpf_process.calls";

/// A counter without tags: its name is `START`, its number, the hostile name and `END`, with dots between them. A server
/// may cut off what is longer than `most`.
fn untagged((start, end): (&str, &str), most: usize, name: &str, value: f64) -> Outcome<Point> {
    let number_and_rest = name.strip_prefix(start).and_then(|rest| rest.split_once('.'));
    let point = number_and_rest.and_then(|(id, rest)| {
        let is_whole = rest.strip_suffix(end).is_some_and(|of| !of.contains('.'));
        let is_cut = name.len() >= most && !rest.contains('.');
        (is_whole || is_cut).then_some((id.parse().ok()?, value))
    });
    point.ok_or_else(|| Failure::new(format!("nobody meant {name:?} = {value}")))
}

/// A counter with tags: its name and they have `separator` between them.
fn tagged(wanted: &str, separator: char, text: &str, value: f64) -> Outcome<Point> {
    let mut parts = text.split(separator);
    let name = parts.next().unwrap_or_default();
    labelled((name, wanted), parts.map(|tag| tag.split_once('=').unwrap_or((tag, ""))), value)
}

/// What the Node server holds of ours, as `point` reads it; it must have seen no line that it could not read.
fn in_statsd(statsd: &Statsd, point: impl Fn(&str, f64) -> Outcome<Point>) -> Outcome<Vec<Point>> {
    let mut counters = statsd.counters()?;
    let bad = counters.get("statsd.bad_lines_seen").copied().unwrap_or_default();
    if bad > 0.0 {
        return Err(Failure::new(format!("{bad} bad lines")));
    }
    // What it counts of itself.
    counters.retain(|name, _| !name.starts_with("statsd."));
    counters.iter().map(|(name, value)| point(name, *value)).collect()
}

fn with_statsd(name: &str, claim: impl FnOnce(&Statsd) -> Outcome<()>) {
    live::test(name, Statsd::is_installed(), || claim(&Statsd::start()?));
}

#[test]
fn statsd_holds_one_counter_for_each_label_value() {
    with_statsd("hostile-statsd", |statsd| {
        let options = json!({ "address": statsd.address() });
        let point = |name: &str, value| untagged(("ebpf_process.", ".calls"), usize::MAX, name, value);
        as_label_values(&PLUGIN, &options, || in_statsd(statsd, point))
    });
}

/// Tags of these options into the Node server, which knows them by Graphite's syntax.
fn tags_in_statsd(name: &str, options: impl Fn(&str) -> Value) {
    let point = |name: &str, value| tagged(NAME, ';', name, value);
    with_statsd(&format!("{name}-values"), |statsd| {
        as_label_values(&PLUGIN, &options(&statsd.address()), || in_statsd(statsd, point))
    });
    with_statsd(&format!("{name}-names"), |statsd| {
        as_tag_names(&PLUGIN, &options(&statsd.tcp()), || in_statsd(statsd, point))
    });
}

#[test]
fn statsd_with_graphite_tags_holds_one_counter_each() {
    tags_in_statsd("hostile-statsd-graphite", |address| json!({ "address": address, "graphite_tags": true }));
}

#[test]
fn statsd_reads_one_counter_each_from_the_tags_of_dogstatsd() {
    tags_in_statsd("hostile-statsd-dogstatsd", |address| json!({ "address": address, "dialect": "dogstatsd" }));
}

/// What carbon holds; beside our counters there are their rates, and what the Node server says of itself.
fn in_carbon(carbon: &Carbon) -> Outcome<Vec<Point>> {
    let ours = |text: &str| {
        let name = text.split(';').next().unwrap_or_default();
        let own = ["stats.counters.statsd.", "stats.gauges.statsd.", "stats.statsd."];
        !own.iter().any(|own| name.starts_with(own)) && name.rsplit('.').next() != Some("rate")
    };
    let sums = carbon.sums()?;
    let sums = sums.iter().filter(|(text, _)| ours(text));
    sums.map(|(text, value)| tagged("stats.counters.calls.count", ';', text, *value)).collect()
}

#[test]
fn carbon_behind_statsd_stores_one_series_each() {
    let needs = || Statsd::is_installed().and_then(|()| Carbon::is_installed());
    let start = || {
        let carbon = Carbon::start()?;
        let statsd = Statsd::start_before(&carbon)?;
        // A series is a file, whose name has room for 255 bytes: 200 of them are the longest label's.
        let options = json!({ "address": statsd.tcp(), "graphite_tags": true, "namespace": "" });
        Ok((carbon, statsd, options))
    };
    live::test("hostile-carbon-values", needs(), || {
        let (carbon, _statsd, options) = start()?;
        as_label_values(&PLUGIN, &options, || in_carbon(&carbon))
    });
    live::test("hostile-carbon-names", needs(), || {
        let (carbon, _statsd, options) = start()?;
        as_tag_names(&PLUGIN, &options, || in_carbon(&carbon))
    });
}

#[test]
fn collectd_holds_one_counter_for_each_label_value_and_refuses_no_line() {
    /// A name there has 127 bytes.
    const MOST: usize = 127;
    live::test("hostile-collectd", Collectd::is_installed(), || {
        let collectd = Collectd::start()?;
        as_label_values(&PLUGIN, &json!({ "address": collectd.address() }), || {
            let refusals = collectd.refusals();
            if !refusals.is_empty() {
                return Err(Failure::new(refusals.join("\n")));
            }
            let counters = collectd.counters()?;
            counters.iter().map(|(name, value)| untagged(("ebpf_process.", ".calls"), MOST, name, *value)).collect()
        })
    });
}

#[test]
fn statsd_of_netdata_holds_one_chart_for_each_label_value() {
    /// A chart's identity there has 199 bytes.
    const MOST: usize = 199;
    live::test("hostile-statsd-netdata", Netdata::is_installed(), || {
        let (netdata, port) = Netdata::start_statsd()?;
        let options = json!({ "address": format!("udp://127.0.0.1:{port}"), "dialect": "netdata" });
        let ends = ("statsd_ebpf.process.", ".calls_counter");
        let stored = || {
            let totals = netdata.totals()?;
            let ours = totals.iter().filter(|((chart, _), _)| !chart.starts_with("netdata."));
            ours.map(|((chart, _), value)| untagged(ends, MOST, chart, *value)).collect()
        };
        as_label_values(&PLUGIN, &options, stored).map_err(|failure| netdata.explain(&failure))
    });
}

/// What a server by rules holds, `NAME{key=value,...}`; it has no counter at all after a line against the rules.
fn in_server(server: &ByRules) -> Outcome<Vec<Point>> {
    let counters = server.counters()?;
    let point = |text: &str, value| {
        let (name, tags) = text.strip_suffix('}').and_then(|text| text.split_once('{')).unwrap_or((text, ""));
        tagged(NAME, ',', &format!("{name},{tags}"), value)
    };
    counters.iter().map(|(text, value)| point(text, *value)).collect()
}

/// By a way on which nothing is lost, however fast one sink follows another.
fn by_rules(name: &str, rules: Rules, way: Way, dialect: &str) {
    let start = || {
        let server = ByRules::start(rules, way)?;
        let options = json!({ "address": server.address(), "dialect": dialect });
        Ok((server, options))
    };
    live::test(&format!("{name}-values"), Ok(()), || {
        let (server, options) = start()?;
        as_label_values(&PLUGIN, &options, || in_server(&server))
    });
    live::test(&format!("{name}-names"), Ok(()), || {
        let (server, options) = start()?;
        as_tag_names(&PLUGIN, &options, || in_server(&server))
    });
}

#[test]
fn a_dogstatsd_server_by_specification_holds_one_counter_each() {
    by_rules("hostile-dogstatsd-by-rules", Rules::Dogstatsd, Way::Unixgram, "dogstatsd");
}

#[test]
fn a_telegraf_by_specification_holds_one_counter_each() {
    by_rules("hostile-telegraf-by-rules", Rules::Telegraf, Way::Tcp, "telegraf");
}
