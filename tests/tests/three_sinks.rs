//! One run of the agent under netdata, with a `StatsD` and an `InfluxDB` sink beside: all three receive the same totals.

use ebpf_process_tests::expect::{self, Expected, Metric};
use ebpf_process_tests::receivers::influx::Influx;
use ebpf_process_tests::receivers::netdata::Netdata;
use ebpf_process_tests::receivers::statsd::Statsd;
use ebpf_process_tests::workload::{Place, int80_works};
use ebpf_process_tests::{Failure, Outcome, agent, live, rows, wait};
use std::fmt::Write as _;
use std::time::Duration;

/// netdata starts its plugins a moment after itself; then a tick is a second.
const FIRST: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(20);

#[test]
fn three_sinks_at_once_receive_the_workload_to_the_unit() {
    let needs = agent::can_run()
        .and_then(|()| Netdata::is_installed())
        .and_then(|()| Statsd::is_installed())
        .and_then(|()| Influx::is_installed());
    live::test("three-sinks", needs, three_sinks);
}

fn three_sinks() -> Outcome<()> {
    let (influx, statsd) = (Influx::start()?, Statsd::start()?);
    let place = Place::new()?;
    let mut target = place.all(int80_works(&place)?)?;
    let netdata = Netdata::start_agent(place.path(), &configuration(target.pid(), &influx, &statsd))?;

    let exits = expect::nothing().iter().find(|e| e.metric.name == "task.exits").and_then(|e| chart(&e.metric));
    let begun = wait::until("the agent's first batch in netdata and in influx", FIRST, || {
        let shown = exits.as_ref().is_some_and(|key| netdata.totals().is_ok_and(|totals| totals.contains_key(key)));
        Ok((shown && influx.totals()?.batches() > 0).then_some(()))
    });
    begun.map_err(|failure| netdata.explain(&failure))?;

    target.run_to_next_stop()?;
    target.run_to_end()?;

    let mut differences = String::new();
    let equal = wait::until("three equal totals", SETTLE, || {
        differences = compare(&expect::whole_workload(), &influx, &statsd, &netdata)?;
        Ok(differences.is_empty().then_some(()))
    });
    equal.map_err(|failure| netdata.explain(&Failure::new(format!("{failure}\n{differences}"))))
}

/// Its configuration: the two other sinks.
fn configuration(pid: u32, influx: &Influx, statsd: &Statsd) -> String {
    let on: Vec<String> = rows::off_by_default().map(|probe| format!("{probe}.enabled = true\n")).collect();
    let on = on.concat();
    format!(
        "[probes]
mode = \"return\"
only = {{ pid = {pid} }}
{on}[sinks.lan]
type = \"statsd\"
[sinks.lan.options]
address = \"{}\"
[sinks.db]
type = \"influx\"
[sinks.db.options]
url = \"{}\"
database = \"{}\"
",
        statsd.address(),
        influx.url(),
        influx.database()
    )
}

/// All that is not as it should be, a line each.
fn compare(expected: &[Expected], influx: &Influx, statsd: &Statsd, netdata: &Netdata) -> Outcome<String> {
    let (database, counters, charts) = (influx.totals()?, statsd.counters()?, netdata.totals()?);
    let mut differences = String::new();
    for e in expected {
        let wanted = e.received(&database);
        // Interrupted calls have no chart: netdata's are those that its users have had since 2020.
        let shown = chart(&e.metric).map(|key| ("netdata", charts.get(&key).copied()));
        let got = [
            ("influx", database.get(e.metric.name, e.metric.label)),
            // What has never grown is never sent.
            ("statsd", counters.get(&statsd_name(&e.metric)).copied().or((wanted == 0.0).then_some(0.0))),
        ];
        for (receiver, value) in got.into_iter().chain(shown).filter(|&(_, value)| value != Some(wanted)) {
            writeln!(differences, "{receiver} has {} as {value:?}, not {wanted}", e.metric)
                .map_err(Failure::at("the differences"))?;
        }
    }
    Ok(differences)
}

/// `prefix.area.operation.what`.
fn statsd_name(metric: &Metric) -> String {
    let (area, what) = metric.name.split_once('.').unwrap_or((metric.name, ""));
    match metric.label {
        Some((_, value)) => format!("ebpf_process.{area}.{value}.{what}"),
        None => format!("ebpf_process.{area}.{what}"),
    }
}

/// The chart and the dimension that show a metric.
fn chart(metric: &Metric) -> Option<(String, String)> {
    let label = metric.label.map(|(_, value)| value);
    let (chart, dimension) = match (metric.name, label) {
        ("file.calls", Some(operation)) => ("file_descriptor", operation),
        ("file.errors", Some(operation)) => ("file_error", operation),
        ("vfs.calls", Some("delete")) => ("deleted_objects", "delete"),
        ("vfs.calls", Some(operation)) => ("io", operation),
        ("vfs.bytes", Some(operation)) => ("io_bytes", operation),
        ("vfs.errors", Some(operation)) => ("io_error", operation),
        ("task.started", Some(kind)) => ("process_thread", kind),
        ("task.start_errors", Some(kind)) => ("task_error", kind),
        ("task.exits", None) => ("exit", "process"),
        ("task.releases", None) => ("exit", "task"),
        _ => return None,
    };
    Some((format!("ebpf.{chart}"), dimension.to_owned()))
}
