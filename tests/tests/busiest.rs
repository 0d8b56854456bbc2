//! The ten busiest services, as the queries of `docs/who.md` tell them: real receivers hold apps and control groups of a
//! real run, and find the ones that are known to be, in their order and to the unit.

use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::cgroup::Cgroup;
use ebpf_process_tests::documented::busiest;
use ebpf_process_tests::receivers::free_tcp_port;
use ebpf_process_tests::receivers::influx::Influx;
use ebpf_process_tests::receivers::prometheus::Prometheus;
use ebpf_process_tests::receivers::victoria::Victoria;
use ebpf_process_tests::services::{self, Machine, Ranking, differences};
use ebpf_process_tests::{Failure, Outcome, live, wait};
use std::fs;
use std::time::Duration;

/// The documents ask for the last minutes; a window of this length is over soon.
const WINDOW: &str = "30s";
/// Longer than the window, than any receiver takes to come up and than one takes to notice its target.
const LIMIT: Duration = Duration::from_secs(100);

fn needs() -> Outcome<()> {
    agent::can_run().and_then(|()| Cgroup::new().map(drop))
}

/// A query about the last minutes as one about the window.
fn of_window(query: &str) -> String {
    query.replace("6m", "90s").replace("5m", WINDOW)
}

/// Services at work, twice, beside an agent with a sink; `ask` tells how the answers differ from what is known.
///
/// At first all rows are new: what they count in their first interval is part of the answer. Then the window passes, and
/// the same groups work again: what they counted before is not.
fn at_work(machine: &Machine, sink: &[String], mut ask: impl FnMut(bool, f64) -> Outcome<String>) -> Outcome<()> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    let rules = folder.path().join("apps.conf");
    fs::write(&rules, services::RULES).map_err(Failure::at("the rules"))?;
    let mut settings = vec![
        "probes.mode=return".to_owned(),
        format!("probes.only={{cgroup=\"{}\"}}", machine.path()),
        "probes.by=[\"app\",\"cgroup\",\"subtree\"]".to_owned(),
        format!("probes.apps={}", rules.display()),
    ];
    settings.extend_from_slice(sink);
    let mut agent = Agent::start(&settings)?;
    agent.wait_for_first_batch()?;
    let mut agree = |what: &str, of_window: bool, rounds: f64| {
        let mut last = String::new();
        let agreed = wait::until(what, LIMIT, || {
            agent.totals()?;
            last = ask(of_window, rounds)?;
            Ok(last.is_empty().then_some(()))
        });
        agreed.map_err(|failure| Failure::new(format!("{failure}\n{last}")))
    };
    machine.work(1)?;
    agree("the ten busiest at first", false, 1.0)?;
    agree("a window without anything", true, 0.0)?;
    machine.work(3)?;
    agree("the ten busiest of the window", true, 3.0)?;
    agree("the ten busiest of all the time", false, 4.0)?;
    let (status, _) = agent.stop()?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("the agent ends with {status}"))) }
}

/// How an answer differs. Nothing at all may be told of those that did nothing, or a 0 of each.
fn compare(what: &str, got: &Ranking, known: &Ranking, rounds: f64) -> String {
    if rounds == 0.0 && got.iter().all(|(_, reads)| *reads == 0.0) {
        return String::new();
    }
    differences(what, got, known, rounds)
}

#[test]
fn prometheus_finds_the_ten_busiest() {
    let needs = needs().and_then(|()| Prometheus::is_installed());
    live::test("busiest-prometheus", needs, || {
        let machine = Machine::new()?;
        let questions: [(&str, &[&str], Ranking); 5] = [
            ("services", &["unit"], services::services()),
            ("containers", &["namespace", "pod", "container_name"], services::containers()),
            ("apps", &["app"], services::apps()),
            ("slices", &["cgroup"], services::slices(&machine)),
            ("pods", &["namespace", "pod"], services::pods()),
        ];
        let queries = busiest::<5>("promql")?;
        let address = format!("127.0.0.1:{}", free_tcp_port()?);
        let sink = ["sinks.scrape.type=prometheus".to_owned(), format!("sinks.scrape.options.listen={address}")];
        let server = Prometheus::start(&address)?;
        let agreed = at_work(&machine, &sink, |is_window, rounds| {
            let mut wrong = String::new();
            for (query, (what, labels, known)) in queries.iter().zip(&questions) {
                let query = if is_window { of_window(query) } else { (*query).to_owned() };
                wrong += &compare(what, &server.query(&query, labels)?, known, rounds);
            }
            Ok(wrong)
        });
        agreed.map_err(|failure| server.explain(&failure))
    });
}

#[test]
fn influx_finds_the_ten_busiest() {
    let needs = needs().and_then(|()| Influx::is_installed());
    live::test("busiest-influx", needs, || {
        let [query] = busiest("sql")?;
        let influx = Influx::start()?;
        let sink = [
            "sinks.db.type=influx".to_owned(),
            format!("sinks.db.options.url=\"{}\"", influx.url()),
            format!("sinks.db.options.database={}", influx.database()),
        ];
        at_work(&Machine::new()?, &sink, |is_window, rounds| {
            let query = if is_window { of_window(query) } else { query.to_owned() };
            Ok(compare("services", &influx.top(&query)?, &services::services(), rounds))
        })
    });
}

#[test]
fn victoria_metrics_finds_the_ten_busiest() {
    let needs = needs().and_then(|()| Victoria::is_installed());
    live::test("busiest-victoria", needs, || {
        let [query] = busiest("metricsql")?;
        let victoria = Victoria::start()?;
        let sink = [
            "sinks.db.type=influx".to_owned(),
            format!("sinks.db.options.url=\"{}\"", victoria.url()),
            "sinks.db.options.version=2".to_owned(),
            "sinks.db.options.org=lab".to_owned(),
            "sinks.db.options.bucket=telemetry".to_owned(),
        ];
        at_work(&Machine::new()?, &sink, |is_window, rounds| {
            let query = if is_window { of_window(query) } else { query.to_owned() };
            Ok(compare("services", &victoria.query(&query, &["unit"])?, &services::services(), rounds))
        })
    });
}
