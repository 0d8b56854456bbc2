//! The workload's numbers as Prometheus stores them, and the page as strict readers take it.

use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::expect;
use ebpf_process_tests::receivers::free_tcp_port;
use ebpf_process_tests::receivers::prometheus::{Prometheus, read_strictly};
use ebpf_process_tests::workload::{Place, int80_works};
use ebpf_process_tests::{Failure, Outcome, live, rows, wait};
use std::fmt::Write as _;
use std::time::Duration;

/// Prometheus looks for its targets every five seconds, and then scrapes each second.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn prometheus_stores_the_workload_to_the_unit() {
    let needs = agent::can_run().and_then(|()| Prometheus::is_installed());
    live::test("prometheus", needs, prometheus);
}

fn prometheus() -> Outcome<()> {
    let place = Place::new()?;
    let mut target = place.all(int80_works(&place)?)?;
    let address = format!("127.0.0.1:{}", free_tcp_port()?);
    let mut settings = vec![
        "probes.mode=return".to_owned(),
        format!("probes.only={{pid={}}}", target.pid()),
        "sinks.scrape.type=prometheus".to_owned(),
        format!("sinks.scrape.options.listen={address}"),
    ];
    settings.extend(rows::switched_on());
    let mut agent = Agent::start(&settings)?;
    agent.wait_for_first_batch()?;
    let prometheus = Prometheus::start(&address)?;
    target.run_to_next_stop()?;
    target.run_to_end()?;

    let mut differences = String::new();
    let equal = wait::until("equal totals in Prometheus", LIMIT, || {
        let (stored, counted) = (prometheus.totals()?, agent.totals()?);
        differences.clear();
        for expected in expect::whole_workload() {
            let metric = expected.metric;
            let wanted = expected.received(counted);
            let got = stored.get(metric.name, metric.label);
            if got != Some(wanted) {
                writeln!(differences, "{metric} is {got:?}, not {wanted}").map_err(Failure::at("the differences"))?;
            }
        }
        Ok(differences.is_empty().then_some(()))
    });
    equal.map_err(|failure| prometheus.explain(&Failure::new(format!("{failure}\n{differences}"))))?;
    let families = read_strictly(&format!("http://{address}/metrics"))?;
    if !families.lines().any(|family| family == "ebpf_process_vfs_bytes counter 2") {
        return Err(Failure::new(format!("no family of the bytes of two operations in:\n{families}")));
    }
    let (status, _) = agent.stop()?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("the agent ends with {status}"))) }
}
