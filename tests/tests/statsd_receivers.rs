//! The `StatsD` sink end to end: the release agent sends the workload's known numbers to each real receiver, in each
//! dialect and each way it has, and the receiver holds the same totals, to the unit.

use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::expect::{self, Expected, Metric};
use ebpf_process_tests::receivers::by_rules::{self, ByRules, Rules, Way};
use ebpf_process_tests::receivers::carbon::Carbon;
use ebpf_process_tests::receivers::collectd::Collectd;
use ebpf_process_tests::receivers::netdata::Netdata;
use ebpf_process_tests::receivers::statsd::Statsd;
use ebpf_process_tests::totals::Totals;
use ebpf_process_tests::workload::{Place, Workload, int80_works};
use ebpf_process_tests::{Failure, Outcome, live, rows, wait};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Longer than any receiver keeps a number to itself.
const SETTLE: Duration = Duration::from_secs(30);

type Received = BTreeMap<String, f64>;

/// An agent with a sink `lan`, beside a process of known numbers that stands still.
struct Scene {
    agent: Agent,
    target: Workload,
    name: fn(&Metric) -> String,
    _place: Place,
}

impl Scene {
    /// `name` says how the receiver calls a metric.
    fn new(address: &str, options: &[&str], name: fn(&Metric) -> String) -> Outcome<Self> {
        let place = Place::new()?;
        let target = place.all(int80_works(&place)?)?;
        let mut settings = vec![
            "probes.mode=return".to_owned(),
            format!("probes.only={{pid={}}}", target.pid()),
            "sinks.lan.type=statsd".to_owned(),
            format!("sinks.lan.options.address=\"{address}\""),
        ];
        settings.extend(rows::switched_on());
        settings.extend(options.iter().map(|option| format!("sinks.lan.options.{option}")));
        let mut agent = Agent::start(&settings)?;
        agent.wait_for_first_batch()?;
        Ok(Self { agent, target, name, _place: place })
    }

    /// Returns when the receiver holds what is expected.
    fn wait_for(&mut self, expected: &[Expected], mut received: impl FnMut() -> Outcome<Received>) -> Outcome<()> {
        let mut differences = String::new();
        let equal = wait::until("equal totals", SETTLE, || {
            differences = compare(expected, self.agent.totals()?, &received()?, self.name)?;
            Ok(differences.is_empty().then_some(()))
        });
        equal.map_err(|failure| Failure::new(format!("{failure}\n{differences}")))
    }

    /// The whole workload, start to end.
    fn run(mut self, received: impl FnMut() -> Outcome<Received>) -> Outcome<()> {
        self.target.run_to_next_stop()?;
        self.target.run_to_end()?;
        self.wait_for(&expect::whole_workload(), received)?;
        self.end().map(drop)
    }

    /// Ends the agent, and checks that its ledger adds up; returns how many samples failed.
    fn end(self) -> Outcome<f64> {
        let (status, totals) = self.agent.stop()?;
        let samples = totals.samples("lan");
        let of = |state| samples.get(state).copied().unwrap_or_default();
        let waiting = totals.get("agent.samples_waiting", Some(("sink", "lan"))).unwrap_or_default();
        let settled = of("written") + of("unconfirmed") + of("superseded");
        let accounted = settled + of("failed") + of("dropped") + of("rejected") + waiting;
        if !status.success() || of("written") == 0.0 || of("offered").to_bits() != accounted.to_bits() {
            return Err(Failure::new(format!("{status}; the ledger is {samples:?} and {waiting} waiting")));
        }
        Ok(of("failed"))
    }
}

/// All that is not as it should be, a line each. What has never grown is never sent.
fn compare(
    expected: &[Expected],
    totals: &Totals,
    received: &Received,
    name: fn(&Metric) -> String,
) -> Outcome<String> {
    let mut differences = String::new();
    for e in expected {
        let wanted = e.received(totals);
        let name = name(&e.metric);
        let got = received.get(&name).copied().unwrap_or_default();
        if got.to_bits() != wanted.to_bits() {
            writeln!(differences, "{name} is {got}, not {wanted}").map_err(Failure::at("the differences"))?;
        }
    }
    Ok(differences)
}

/// `namespace.area.label.what`.
fn plain(metric: &Metric) -> String {
    let (area, what) = metric.name.split_once('.').unwrap_or((metric.name, ""));
    match metric.label {
        Some((_, value)) => format!("ebpf_process.{area}.{value}.{what}"),
        None => format!("ebpf_process.{area}.{what}"),
    }
}

/// As Graphite writes tags, which is also what the Node server makes of `DogStatsD`'s.
fn graphite(metric: &Metric) -> String {
    let tags = metric.label.map(|(key, value)| format!(";{key}={value}")).unwrap_or_default();
    format!("ebpf_process.{}{tags}", metric.name)
}

/// As carbon stores what comes from the Node server.
fn carbon(metric: &Metric) -> String {
    let tags = metric.label.map(|(key, value)| format!(";{key}={value}")).unwrap_or_default();
    format!("stats.counters.ebpf_process.{}.count{tags}", metric.name)
}

/// netdata's chart: its type and its identity part at the first `_` or dot.
fn netdata(metric: &Metric) -> String {
    format!("statsd_{}_counter", plain(metric).replacen('_', ".", 1))
}

fn with_statsd(name: &str, body: impl FnOnce(Statsd) -> Outcome<()>) {
    let needs = agent::can_run().and_then(|()| Statsd::is_installed());
    live::test(name, needs, || body(Statsd::start()?));
}

#[test]
fn statsd_by_udp_holds_the_workload_to_the_unit() {
    with_statsd("statsd-udp", |statsd| Scene::new(&statsd.address(), &[], plain)?.run(|| statsd.counters()));
}

#[test]
fn statsd_by_tcp_holds_the_workload_to_the_unit() {
    with_statsd("statsd-tcp", |statsd| Scene::new(&statsd.tcp(), &[], plain)?.run(|| statsd.counters()));
}

#[test]
fn statsd_by_a_unix_socket_holds_the_workload_to_the_unit() {
    with_statsd("statsd-unix", |statsd| Scene::new(&statsd.unix(), &[], plain)?.run(|| statsd.counters()));
}

#[test]
fn statsd_with_graphite_tags_holds_the_workload_to_the_unit() {
    with_statsd("statsd-graphite-tags", |statsd| {
        Scene::new(&statsd.address(), &["graphite_tags=true"], graphite)?.run(|| statsd.counters())
    });
}

/// The Node server reads `DogStatsD`'s tags: a reader that we have not written.
#[test]
fn statsd_reads_the_tags_of_dogstatsd() {
    with_statsd("statsd-dogstatsd-tags", |statsd| {
        Scene::new(&statsd.address(), &["dialect=dogstatsd"], graphite)?.run(|| statsd.counters())
    });
}

/// Not there when the agent starts, then killed while events go on, and restarted.
fn comes_and_goes(mut statsd: Statsd, address: &str) -> Outcome<()> {
    statsd.kill();
    let mut scene = Scene::new(address, &[], plain)?;
    scene.target.run_to_next_stop()?;
    statsd.start_again()?;
    scene.wait_for(&expect::whole_workload_before_its_end(), || statsd.counters())?;
    statsd.kill();
    scene.target.run_to_end()?;
    statsd.start_again()?;
    scene.wait_for(&expect::whole_workload(), || statsd.counters())?;
    if scene.end()? > 0.0 { Ok(()) } else { Err(Failure::new("nobody was there, and nothing failed")) }
}

#[test]
fn statsd_by_tcp_absent_killed_and_restarted_misses_nothing() {
    with_statsd("statsd-tcp-restarted", |statsd| {
        let address = statsd.tcp();
        comes_and_goes(statsd, &address)
    });
}

#[test]
fn statsd_by_a_unix_socket_absent_killed_and_restarted_misses_nothing() {
    with_statsd("statsd-unix-restarted", |statsd| {
        let address = statsd.unix();
        comes_and_goes(statsd, &address)
    });
}

#[test]
fn carbon_behind_statsd_holds_the_workload_to_the_unit() {
    let needs = agent::can_run().and_then(|()| Statsd::is_installed()).and_then(|()| Carbon::is_installed());
    live::test("statsd-carbon", needs, || {
        let storage = Carbon::start()?;
        let statsd = Statsd::start_before(&storage)?;
        Scene::new(&statsd.address(), &["graphite_tags=true"], carbon)?.run(|| storage.sums())
    });
}

#[test]
fn collectd_holds_the_workload_to_the_unit_and_refuses_no_line() {
    let needs = agent::can_run().and_then(|()| Collectd::is_installed());
    live::test("statsd-collectd", needs, || {
        let collectd = Collectd::start()?;
        Scene::new(&collectd.address(), &[], plain)?.run(|| collectd.counters())?;
        let refusals = collectd.refusals();
        if refusals.is_empty() { Ok(()) } else { Err(Failure::new(refusals.join("\n"))) }
    });
}

#[test]
fn statsd_of_netdata_holds_the_workload_to_the_unit() {
    let needs = agent::can_run().and_then(|()| Netdata::is_installed());
    live::test("statsd-netdata", needs, || {
        for way in ["udp", "tcp"] {
            let (server, port) = Netdata::start_statsd()?;
            let received = || Ok(server.totals()?.into_iter().map(|((chart, _), total)| (chart, total)).collect());
            let scene = Scene::new(&format!("{way}://127.0.0.1:{port}"), &["dialect=netdata"], netdata)?;
            scene.run(received).map_err(|failure| server.explain(&failure))?;
        }
        Ok(())
    });
}

#[test]
fn a_dogstatsd_server_by_specification_holds_the_workload_to_the_unit() {
    live::test("statsd-dogstatsd-by-rules", agent::can_run(), || {
        for way in [Way::Udp, Way::Unixgram, Way::Unix] {
            let server = ByRules::start(Rules::Dogstatsd, way)?;
            Scene::new(server.address(), &["dialect=dogstatsd"], by_rules::name)?.run(|| server.counters())?;
        }
        Ok(())
    });
}

#[test]
fn a_telegraf_by_specification_holds_the_workload_to_the_unit() {
    live::test("statsd-telegraf-by-rules", agent::can_run(), || {
        for way in [Way::Udp, Way::Tcp] {
            let server = ByRules::start(Rules::Telegraf, way)?;
            Scene::new(server.address(), &["dialect=telegraf"], by_rules::name)?.run(|| server.counters())?;
        }
        Ok(())
    });
}
