//! A real netdata with the made-up numbers, and what it takes of a processor.

use std::env;
use std::fs;
use std::time::{Duration, Instant};

use ebpf_process_tests::receivers::netdata::Netdata;
use ebpf_process_tests::{Failure, Outcome, wait};

use crate::order::Order;
use crate::threads::Threads;

/// From the plugin's start to the first moment that counts: netdata makes its charts then.
const WARM_UP: Duration = Duration::from_secs(15);

/// What there is to say, and whether it is good.
pub(crate) fn run(order: &Order) -> Outcome<(String, bool)> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    let report = folder.path().join("report");
    let program = env::current_exe().map_err(Failure::at("this program's path"))?;
    let shape = order.shape;
    let seconds = order.seconds + u32::try_from(WARM_UP.as_secs()).unwrap_or(u32::MAX);
    let script = format!(
        "#!/bin/sh\nexec {} --plugin {} --rows {} --columns {} --replaced {} --seconds {seconds}\n",
        program.display(),
        report.display(),
        shape.rows,
        shape.columns,
        shape.replaced
    );
    let netdata = Netdata::start("load.plugin", &script)?;
    let process = netdata.pid().to_string();
    wait::until("the first charts", WARM_UP, || Ok((!netdata.charts()?.is_empty()).then_some(())))?;
    let ready = Instant::now();
    while let Some(rest) = WARM_UP.checked_sub(ready.elapsed()) {
        std::thread::park_timeout(rest);
    }
    let (before, start) = (Threads::of(&process)?, Instant::now());
    // The plugin is not over then.
    let measured = Duration::from_secs(order.seconds.saturating_sub(1).into());
    while let Some(rest) = measured.checked_sub(start.elapsed()) {
        std::thread::park_timeout(rest);
    }
    let spent: Duration = Threads::of(&process)?.since(&before).map(|(_, spent)| spent).sum();
    let percent = spent.as_secs_f64() * 100.0 / start.elapsed().as_secs_f64();
    let (charts, dimensions) = shown(&netdata)?;
    let limit = Duration::from_secs(60);
    let told = wait::until("the plugin's report", limit, || Ok(fs::read_to_string(&report).ok()))
        .map_err(|failure| netdata.explain(&failure))?;
    let bound = order.bounds.get("percent").copied().unwrap_or(f64::INFINITY);
    let (is_good, lost) = (told.starts_with("good\n"), told.split_once('\n').map_or("", |(_, text)| text));
    let text = format!(
        "{lost}\nnetdata itself: {percent:.2} % of a processor (bound {bound}), {charts} charts, {dimensions} dimensions\n"
    );
    Ok((text, is_good && (order.warns || percent <= bound)))
}

/// How many charts and dimensions it has.
fn shown(netdata: &Netdata) -> Outcome<(usize, usize)> {
    let charts = netdata.charts()?;
    let dimensions = charts.values().filter_map(|chart| chart["dimensions"].as_object().map(serde_json::Map::len));
    Ok((charts.len(), dimensions.sum()))
}
