//! The real netdata reads what the agent writes for hostile names and for series that come and go, and starts it again
//! by its exit code.

use ebpf_process_tests::receivers::netdata::Netdata;
use ebpf_process_tests::{Failure, Outcome, built, hostile, live, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// netdata starts its plugins a moment after itself, and some again after ten seconds; then a tick is a second.
const LIMIT: Duration = Duration::from_secs(40);

/// Ticks without a value before the first with one.
const SILENT: u64 = 3;

/// The agent as a plugin that follows a script, in a folder with all that it leaves.
struct Scripted {
    folder: TempDir,
    netdata: Netdata,
}

impl Scripted {
    /// Starts netdata with it; `script` is the table `[probes.scripted]` and what follows.
    fn start(script: &str) -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        symlink(binary()?, path("scripted.plugin")).map_err(Failure::at("the plugin's name"))?;
        fs::write(path("agent.toml"), format!("[probes.scripted]\n{script}"))
            .map_err(Failure::at("a configuration"))?;
        // Each start leaves a line with its process; told to stay away it ends as netdata likes it least.
        let plugin = format!(
            "#!/bin/sh
[ -e '{}' ] && exit 1
unset AGENT_UNDER_TEST LIVE_TEST_LOG LIVE_TEST_NO_SKIP
echo $$ >> '{}'
NETDATA_LOCK_DIR='{}' exec '{}' \"$@\" --config '{}'
",
            path("stay-away"),
            path("starts"),
            folder.path().display(),
            path("scripted.plugin"),
            path("agent.toml")
        );
        let netdata = Netdata::start("scripted.plugin", &plugin)?;
        Ok(Self { folder, netdata })
    }

    /// The processes that netdata has started.
    fn starts(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.folder.path().join("starts")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn put(&self, name: &str) -> Outcome<()> {
        fs::write(self.folder.path().join(name), "").map_err(Failure::at(name))
    }

    fn until<T>(&self, what: &str, look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
        wait::until(what, LIMIT, look).map_err(|failure| self.netdata.explain(&failure))
    }

    /// Waits until this chart is there, or is not.
    fn until_chart(&self, id: &str, there: bool) -> Outcome<()> {
        self.until(&format!("chart {id}: {there}"), || {
            Ok((self.netdata.charts()?.contains_key(id) == there).then_some(()))
        })
    }
}

/// The example `scripted`, which cargo builds with the tests.
fn binary() -> Outcome<PathBuf> {
    built::find("examples/scripted", "cargo build -p ebpf-process-tests --example scripted")
}

/// A TOML string of any text.
fn toml(text: &str) -> String {
    let escaped = text.chars().fold(String::new(), |mut escaped, c| {
        // Writing to memory does not fail.
        let _ = write!(escaped, "\\U{:08X}", u32::from(c));
        escaped
    });
    format!("\"{escaped}\"")
}

#[test]
fn hostile_names_forge_nothing_and_netdata_takes_the_next_batch() {
    live::test("netdata-hostile-names", Netdata::is_installed(), hostile_names);
}

fn hostile_names() -> Outcome<()> {
    let names = hostile::distinct_names();
    let tags = names.iter().map(|name| format!("{} = {}", toml(name), toml(name))).collect::<Vec<_>>().join(", ");
    let sink = format!("[sinks.netdata]\ntype = \"netdata\"\ntags = {{ {tags} }}\n");
    let agent = Scripted::start(&format!("silent = {SILENT}\n{sink}"))?;

    let first = agent.until("the first whole batch", || calls(&agent.netdata, &names, SILENT))?;
    let next = agent.until("a batch two ticks later", || calls(&agent.netdata, &names, first + 2))?;
    assert!(next >= first + 2);

    let charts = agent.netdata.charts()?;
    let ids: BTreeSet<&str> = charts.keys().map(String::as_str).collect();
    let times: Vec<&str> = ids.iter().copied().filter(|id| id.starts_with("ebpf.scripted_time_")).collect();
    let expected = ["ebpf.scripted_brief", "ebpf.scripted_calls", "ebpf.scripted_level"];
    assert_eq!(ids, expected.into_iter().chain(times.iter().copied()).collect(), "charts that nobody meant");
    assert_eq!(times.len(), 2, "{times:?}");

    let labels = charts["ebpf.scripted_calls"]["chart_labels"].as_object().map_or(0, serde_json::Map::len);
    // netdata makes more characters equal than we do, and adds two labels of its own.
    assert!(labels > 20, "{labels} labels");
    heatmap(&agent, &charts["ebpf.scripted_time_plain"])?;

    // Three silent ticks, hostile names, dimensions that came late: one process all the time.
    assert_eq!(agent.starts().len(), 1, "{}", agent.netdata.log());
    Ok(())
}

/// The tick of the counters in netdata when each name has its own dimension there and a value of its own, and the tick
/// is at least this one.
fn calls(netdata: &Netdata, names: &[String], least: u64) -> Outcome<Option<u64>> {
    let totals = netdata.totals()?;
    let calls = totals.iter().filter(|((chart, _), _)| chart == "ebpf.scripted_calls");
    let values: Vec<f64> = calls.map(|(_, value)| *value).collect();
    if values.is_empty() {
        return Ok(None);
    }
    if values.len() > names.len() {
        return Err(Failure::new(format!("{} dimensions for {} names", values.len(), names.len())));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
    let values: Vec<u64> = values.into_iter().map(|value| value as u64).collect();
    let numbers: BTreeSet<u64> = values.iter().map(|value| value % 1000).collect();
    let tick = values.iter().map(|value| value / 1000).min().unwrap_or_default();
    Ok((numbers == (0..names.len() as u64).collect() && tick >= least).then_some(tick))
}

/// A histogram is a chart with a dimension per slot from the first in use to the last, also for slots that came into use
/// later.
fn heatmap(agent: &Scripted, chart: &Value) -> Outcome<()> {
    // 1.37 knows no heatmaps and draws a type that it does not know as lines.
    let style = chart["chart_type"].as_str();
    assert!(matches!(style, Some("heatmap" | "line")), "{style:?}");
    assert_eq!((&chart["units"], &chart["chart_labels"]["name"]), (&"events/s".into(), &"plain".into()));
    agent.until("a value in a late slot", || {
        let totals: BTreeMap<_, _> = agent.netdata.totals()?;
        let slot = |id: &str| totals.get(&("ebpf.scripted_time_plain".to_owned(), id.to_owned())).copied();
        let (early, late) = (slot("le_15"), slot("le_2199023255551"));
        let (between, before) = (slot("le_31"), slot("le_7"));
        // Both grow by one a tick; the late one began two ticks after the first.
        #[expect(clippy::cast_precision_loss, reason = "small whole numbers")]
        let expected = late.map(|late| late + (SILENT + 2) as f64);
        Ok((late > Some(0.0) && early == expected && between == Some(0.0) && before.is_none()).then_some(()))
    })
}

/// How many rows there are, more than one chart has dimensions.
const ROWS: u64 = 300;

#[test]
fn rows_that_come_and_go_are_dimensions_with_their_last_values() {
    live::test("netdata-rows", Netdata::is_installed(), || {
        let agent = Scripted::start(&format!("rows = {ROWS}\n"))?;
        let first = agent.until("the rows", || rows(&agent.netdata, 0))?;
        let later = agent.until("rows of later ticks", || rows(&agent.netdata, first + 5))?;
        assert!(later >= first + 5);
        let charts = agent.netdata.charts()?;
        let parts: Vec<_> = charts.keys().filter(|id| id.starts_with("ebpf.part_")).collect();
        assert!(parts.len() > 1, "more rows than one chart takes: {parts:?}");
        for part in &parts {
            assert_eq!(charts[*part]["context"], "ebpf.part_scripted_work_parts", "{part}");
            assert_eq!(charts[*part]["chart_labels"]["of"], "parts", "{part}");
        }
        assert_eq!(agent.starts().len(), 1, "{}", agent.netdata.log());
        Ok(())
    });
}

/// The tick of the rows in netdata when each has its number of that tick, or of its last one, and the tick is at least
/// this one.
fn rows(netdata: &Netdata, least: u64) -> Outcome<Option<u64>> {
    let totals = netdata.totals()?;
    let parts = totals.iter().filter(|((chart, _), _)| chart.starts_with("ebpf.part_"));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
    let numbers = parts.map(|((_, id), value)| Some((id.parse::<u64>().ok()?, *value as u64)));
    let numbers = numbers.collect::<Option<BTreeMap<_, _>>>().ok_or_else(|| Failure::new("not a row's number"))?;
    let Some((newest, value)) = numbers.last_key_value() else { return Ok(None) };
    let tick = (value - newest) / 1000;
    let living = numbers.range(tick..).count() as u64;
    let exact = numbers.iter().all(|(number, value)| *value == 1000 * tick.min(*number) + number);
    Ok((tick >= least && living == ROWS && exact).then_some(tick))
}

#[test]
fn charts_go_when_their_series_end_and_when_the_agent_stops() {
    live::test("netdata-obsolete", Netdata::is_installed(), || {
        let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let end = folder.path().join("end");
        let agent = Scripted::start(&format!("end = {}\n", toml(&end.to_string_lossy())))?;
        agent.until_chart("ebpf.scripted_brief", true)?;
        fs::write(&end, "").map_err(Failure::at("the series' end"))?;
        agent.until_chart("ebpf.scripted_brief", false)?;
        agent.until_chart("ebpf.scripted_calls", true)?;

        // A clean end after data: netdata starts it again at once.
        let stop = |process: i32| {
            let pid = Pid::from_raw(process).ok_or_else(|| Failure::new("no process"))?;
            kill_process(pid, Signal::TERM).map_err(Failure::at("stopping the agent"))
        };
        stop(agent.starts()[0])?;
        agent.until("the second start", || Ok((agent.starts().len() == 2).then_some(())))?;
        agent.until_chart("ebpf.scripted_calls", true)?;

        agent.put("stay-away")?;
        stop(agent.starts()[1])?;
        agent.until_chart("ebpf.scripted_calls", false)?;
        agent.until("no chart", || Ok(agent.netdata.charts()?.is_empty().then_some(())))
    });
}

#[test]
fn a_passing_refusal_is_tried_again_and_a_lasting_one_is_not() {
    live::test("netdata-restarts", Netdata::is_installed(), || {
        let lasting = Scripted::start("refuse = \"lasting\"\n")?;
        let passing = Scripted::start("refuse = \"passing\"\n")?;
        lasting.until("the refusal", || Ok(lasting.netdata.log().contains("the script says so").then_some(())))?;
        // Twice for the one, each ten seconds: more than time enough for the other.
        passing.until("the third start", || Ok((passing.starts().len() == 3).then_some(())))?;
        assert_eq!(lasting.starts().len(), 1, "{}", lasting.netdata.log());
        assert!(!has_data(&lasting.netdata)? && !has_data(&passing.netdata)?);
        Ok(())
    });
}

fn has_data(netdata: &Netdata) -> Outcome<bool> {
    Ok(netdata.charts()?.keys().any(|id| id.starts_with("ebpf.")))
}
