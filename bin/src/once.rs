//! `once`: one interval, printed.

use std::time::Duration;

use ebpf_process_config::Sources;
use ebpf_process_core::engine::OutletSpec;
use ebpf_process_core::{Registry, Selection};
use ebpf_process_sinks::json;

use crate::by::Rows;
use crate::engine::Engine;
use crate::exit::{Exit, Refusal};
use crate::signals::Caught;
use crate::table::Table;
use crate::{configuration, stdout};

/// How long the output may take to be read.
const GRACE: Duration = Duration::from_secs(10);

/// The names of all formats: two that show differences, then the sinks that can print.
pub(crate) fn formats(registry: &Registry) -> Vec<String> {
    let sinks = registry.sinks().filter(|sink| sink.stdout_options().is_some()).map(|sink| sink.name().to_owned());
    [TABLE, "json"].map(str::to_owned).into_iter().chain(sinks).collect()
}

/// The format for people: lines that are no sink's.
const TABLE: &str = "table";

/// Attaches, reads all probes together, waits for one interval, reads them again and prints what has
/// come in between, in each format; all of it, or the rows of one kind. A signal ends the interval early.
pub(crate) fn main(
    registry: &Registry,
    sources: &Sources,
    interval: Duration,
    format: &str,
    rows: &Rows,
) -> Result<Exit, Refusal> {
    if format != TABLE {
        rows.without_table(format)?;
    }
    let caught = Caught::new()?;
    let mut plan = configuration::plan(registry, &rows.asked_of(sources.clone()))?;
    plan.interval = interval;
    // There is nobody to ask what is over at once.
    plan.status = None;
    let choice = rows.choice(&plan)?;
    let mut engine = Engine::attach(&plan, interval, false, None)?;
    let listening = caught.listen(crate::reloads::channel().0)?;
    let baseline = engine.set_baseline();
    match format {
        TABLE => {
            // What is to be said beside the rows is the host's and the hooks'.
            let table = Table::once(baseline, engine.agent.vitals().uncounted(), choice);
            engine.show_on(format, Selection::default(), Box::new(table))?;
        }
        "json" => engine.show_on(format, rows.selection(), json::printing(std::io::stdout(), baseline))?,
        _ => {}
    }
    if let Some((plugin, options)) = registry.find_sink(format).and_then(|sink| Some((sink, sink.stdout_options()?))) {
        let spec = OutletSpec { selection: rows.selection(), ..OutletSpec::new(format) };
        let context = engine.context(&spec);
        engine.agent.add_sink(&**plugin, &options, spec, context)?;
    }
    // Whether the time is up or a signal came: what there is gets printed.
    let _ = listening.stop().recv_timeout(interval);
    let now = engine.clock.now();
    engine.agent.tick_whole(now);
    if engine.stop(GRACE) || stdout::is_closed() {
        Ok(Exit::Fine)
    } else {
        Err(Refusal::lasting("cannot write everything to standard output"))
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Column, EntityKind, Recorder, Unit};
    use ebpf_process_sinks::json::Encoder;
    use serde_json::{Value, json};

    use super::*;
    use crate::by::Kind;

    #[test]
    fn one_kind_as_json_is_the_whole_object_without_the_other_kinds_samples() {
        let mut bench = Bench::new();
        let reads = Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", "read")]);
        let mut cells = vec![bench.host(reads.clone())];
        for (kind, label) in [("process", "7"), ("app", "web"), ("cgroup", "/x")] {
            cells.push(bench.cell(&EntityKind::new(kind).keys(["name"]), &[label], reads.clone()));
        }
        let mut objects = [Rows::default(), Rows { by: Some(Kind::App), ..Rows::default() }].map(|rows| {
            let record = |recorder: &mut Recorder| cells.iter().for_each(|cell| cell.counter(recorder, 5));
            bench.set_wall(Duration::from_secs(1_600_000_000));
            bench.tick(&rows.selection(), record, |view| {
                let mut encoder = Encoder::since(view.tick().boottime.saturating_sub(Duration::from_secs(1)));
                serde_json::from_slice::<Value>(encoder.encode(view).expect("a line")).expect("JSON")
            })
        });
        let [all, app] = &mut objects;
        assert_eq!(
            (all["samples"].as_array().map(Vec::len), all["tables"].as_array().map(Vec::len)),
            (Some(1), Some(3))
        );
        all["samples"] = json!([]);
        all["tables"].as_array_mut().expect("tables").retain(|table| table["kind"] == "app");
        assert_eq!(all, app);
        assert_eq!(app["tables"][0]["rows"][0]["deltas"], json!([5]));
    }
}
