//! `run`: the agent in the foreground.

use ebpf_process_config::{ConfigError, Plan, Sources, confine};
use ebpf_process_core::Registry;
use tracing::warn;

use crate::destinations;
use crate::engine::{End, Engine};
use crate::exit::{Exit, Refusal};
use crate::log::Verbosity;
use crate::signals::Caught;
use crate::stdout;
use crate::table::Table;

/// What to do about a configuration without any sink.
pub(crate) const TO_CONFIGURE: &str = "configure one in /etc/ebpf-process/ebpf-process.toml or with --config or --set \
    ([sinks.NAME] with type = ...; `ebpf-process config default` shows how) and start the agent again";

/// On a terminal a table may be shown, which lines of a log would tear apart.
pub(crate) fn verbosity() -> Verbosity {
    if stdout::is_terminal() { Verbosity::Warn } else { Verbosity::Info }
}

/// Loads and checks the configuration.
pub(crate) fn plan(registry: &Registry, sources: &Sources) -> Result<Plan, Refusal> {
    let loaded = sources.load(registry)?;
    for warning in loaded.warnings() {
        warn!("{warning}");
    }
    Ok(Plan::new(&loaded, registry)?)
}

/// The same for a process that may have more rights than its caller.
pub(crate) fn careful_plan(registry: &Registry, sources: &Sources, elevated: bool) -> Result<Plan, Refusal> {
    if !elevated {
        return plan(registry, sources);
    }
    let loaded = sources.load(registry).map_err(ConfigError::without_content)?;
    for warning in loaded.warnings() {
        warn!("{warning}");
    }
    let plan = Plan::new(&loaded, registry).map_err(ConfigError::without_content)?;
    confine(&plan)?;
    // A socket is a way in.
    Ok(Plan { status: None, ..plan })
}

/// Runs the agent until it is asked to stop.
pub(crate) fn main(registry: &Registry, sources: &Sources, elevated: bool) -> Result<Exit, Refusal> {
    let mut caught = Caught::new()?;
    let mut plan = careful_plan(registry, sources, elevated)?;
    let on_terminal = plan.sinks.is_empty() && stdout::is_terminal();
    if plan.sinks.is_empty() && !on_terminal {
        // A service that is not configured yet runs: then its log and `status` say what to do.
        let Some(socket) = &plan.status else {
            return Err(Refusal::Usage(format!(
                "no sink is configured, standard output is no terminal to show a table on, and status is off; \
                 {TO_CONFIGURE}, or use `ebpf-process once`"
            )));
        };
        let socket = socket.display();
        warn!(
            "no sink is configured: what is counted is told at {socket} (`ebpf-process status`) alone; {TO_CONFIGURE}"
        );
    }
    // Before anything is counted: what the first agent still counts would be sent twice.
    let claimed = destinations::claim(&mut plan, destinations::directory(elevated), || caught.asked())?;
    if claimed.asked_to_end {
        return Ok(Exit::Fine);
    }
    let mut engine = Engine::attach(&plan, plan.interval, elevated)?;
    if on_terminal {
        let baseline = engine.set_baseline();
        let table = Table::on_terminal(baseline, engine.agent.vitals().uncounted());
        engine.show_on("table", Box::new(table))?;
    } else if !plan.sinks.is_empty() {
        engine.connect(&plan, &claimed.left_out)?;
    }
    match engine.run(caught, &plan)? {
        End::Asked => Ok(Exit::Fine),
        // Whoever closes the terminal has seen enough.
        End::EssentialSink if stdout::is_closed() => Ok(Exit::Fine),
        End::EssentialSink => Err(Refusal::lasting("the table cannot be shown any more")),
        End::NoSinkLeft => Err(Refusal::lasting("no sink is left: every one has ended by itself, see above")),
        End::NoTicks => Err(Refusal::lasting("the clock's thread has ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_more_rights_than_its_caller_it_tells_no_status_though_one_is_configured() {
        let registry = crate::registry();
        let sources = Sources::built_in().set(["status.socket=/run/status.sock".to_owned()]);
        let status = |elevated| careful_plan(&registry, &sources, elevated).expect("a plan").status;
        assert!(status(false).is_some() && status(true).is_none());
    }
}
