//! netdata shows the apps and control groups of a real run by names that a person can read, with their own numbers.

use ebpf_process_tests::cgroup::Cgroup;
use ebpf_process_tests::receivers::netdata::Netdata;
use ebpf_process_tests::services::{self, Machine};
use ebpf_process_tests::{Failure, Outcome, agent, live, wait};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

/// netdata starts its plugins a moment after itself; then a tick is a second.
const LIMIT: Duration = Duration::from_secs(40);

/// What was done at all: of each there is one chart for up to 64 rows, and none of what nobody did.
const COLUMNS: [&str; 2] = ["task_exits", "vfs_calls_read"];

#[test]
fn netdata_shows_services_containers_and_apps_by_their_names() {
    let needs = agent::can_run().and_then(|()| Netdata::is_installed()).and_then(|()| Cgroup::new().map(drop));
    live::test("netdata-services", needs, shown);
}

fn shown() -> Outcome<()> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    let rules = folder.path().join("apps.conf");
    fs::write(&rules, services::RULES).map_err(Failure::at("the rules"))?;
    let machine = Machine::new()?;
    let configuration = format!(
        "[probes]\nonly = {{ cgroup = \"{}\" }}\nby = [\"app\", \"cgroup\"]\napps = \"{}\"\n",
        machine.path(),
        rules.display()
    );
    let netdata = Netdata::start_agent(folder.path(), &configuration)?;
    let first =
        wait::until("the agent's first batch", LIMIT, || Ok(netdata.charts()?.contains_key("ebpf.exit").then_some(())));
    first.map_err(|failure| netdata.explain(&failure))?;
    machine.work(1)?;

    // On a real machine nothing is above. What the protocol cannot say is a `_`.
    let above = machine.path().trim_start_matches('/');
    let own = |name: &str| name.strip_prefix(above).and_then(|name| name.strip_prefix('/')).unwrap_or(name).to_owned();
    let groups = services::shown().into_iter().map(|(name, reads)| (name.replace('\\', "_"), reads)).collect();
    until_equal(&netdata, "ebpf.cgroup_vfs_calls_read", &groups, own)?;
    let apps = services::apps().into_iter().map(|(names, reads)| (names.concat(), reads));
    let apps = apps.chain([("other".to_owned(), services::others())]).collect();
    until_equal(&netdata, "ebpf.app_vfs_calls_read", &apps, str::to_owned)?;

    let charts = netdata.charts()?;
    for kind in ["app", "cgroup"] {
        let found = charts.keys().filter(|id| id.starts_with(&format!("ebpf.{kind}_"))).cloned();
        let wanted = COLUMNS.map(|column| format!("ebpf.{kind}_{column}"));
        assert_eq!(found.collect::<BTreeSet<_>>(), BTreeSet::from(wanted));
    }
    let chart = &charts["ebpf.cgroup_vfs_calls_read"];
    for (field, text) in [
        ("title", "Reads, writes and deletions, read (ebpf.cgroup_vfs_calls_read)"),
        ("family", "Cgroup vfs"),
        ("context", "ebpf.cgroup_vfs_calls_read"),
        ("units", "calls/s"),
    ] {
        assert_eq!(chart[field], text, "{chart}");
    }
    Ok(())
}

/// Waits until the charts of a context show these numbers under these names.
fn until_equal(
    netdata: &Netdata,
    context: &str,
    known: &BTreeMap<String, f64>,
    called: impl Fn(&str) -> String,
) -> Outcome<()> {
    let mut last = BTreeMap::new();
    let equal = wait::until(context, LIMIT, || {
        last = dimensions(netdata, context)?.into_iter().map(|(name, total)| (called(&name), total)).collect();
        Ok((last == *known).then_some(()))
    });
    equal.map_err(|failure| Failure::new(format!("{failure}: {last:?}, not {known:?}")))
}

/// The dimensions of all charts of a context: the total of each, by its name.
fn dimensions(netdata: &Netdata, context: &str) -> Outcome<BTreeMap<String, f64>> {
    let totals = netdata.totals()?;
    let mut named = BTreeMap::new();
    for (chart, about) in netdata.charts()?.into_iter().filter(|(_, about)| about["context"] == context) {
        for (id, dimension) in about["dimensions"].as_object().into_iter().flatten() {
            let name = dimension["name"].as_str().map(str::to_owned);
            let name = name.ok_or_else(|| Failure::new(format!("a dimension without a name: {dimension}")))?;
            let total = totals.get(&(chart.clone(), id.clone())).copied().unwrap_or_default();
            if named.insert(name, total).is_some() {
                return Err(Failure::new(format!("{chart} has two dimensions of one name: {about}")));
            }
        }
    }
    Ok(named)
}
