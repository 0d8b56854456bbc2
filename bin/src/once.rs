//! `once`: one interval, printed.

use std::time::Duration;

use ebpf_process_config::Sources;
use ebpf_process_core::{OutletSpec, Registry, SinkPlugin};
use ebpf_process_sinks::json;

use crate::engine::Engine;
use crate::exit::{Exit, Refusal};
use crate::signals::Caught;
use crate::table::Table;
use crate::{configuration, stdout};

/// How long the output may take to be read.
const GRACE: Duration = Duration::from_secs(10);

/// The names of all formats: two that show differences, then the sinks that can print.
pub(crate) fn formats(registry: &Registry) -> Vec<&'static str> {
    let sinks = registry.sinks().filter(|sink| sink.stdout_options().is_some()).map(SinkPlugin::name);
    ["table", "json"].into_iter().chain(sinks).collect()
}

/// Attaches, reads all probes together, waits for one interval, reads them again and prints what has
/// come in between, in each format. A signal ends the interval early.
pub(crate) fn main(registry: &Registry, sources: &Sources, interval: Duration, format: &str) -> Result<Exit, Refusal> {
    let caught = Caught::new()?;
    let mut plan = configuration::plan(registry, sources)?;
    plan.interval = interval;
    let mut engine = Engine::attach(&plan, interval, false)?;
    let listening = caught.listen()?;
    let baseline = engine.set_baseline();
    match format {
        "table" => engine.show_on(format, Box::new(Table::once(baseline, engine.agent.vitals().uncounted())))?,
        "json" => engine.show_on(format, json::printing(std::io::stdout(), baseline))?,
        _ => {}
    }
    if let Some((plugin, options)) = registry.find_sink(format).and_then(|sink| Some((sink, sink.stdout_options()?))) {
        let spec = OutletSpec::new(format);
        let context = engine.context(&spec);
        engine.agent.add_sink(plugin, &options, spec, context)?;
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
