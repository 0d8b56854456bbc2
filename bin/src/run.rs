//! `run`: the agent in the foreground.

use std::sync::Arc;

use ebpf_process_config::{Sources, Texts};
use ebpf_process_core::{Registry, Selection, identity};
use tracing::warn;

use crate::broker::Broker;
use crate::by::Rows;
use crate::configuration::{careful_plan, to_configure};
use crate::confinement::user::User;
use crate::destinations::{self, Gate};
use crate::engine::{End, Engine};
use crate::exit::{Exit, Refusal};
use crate::log::Verbosity;
use crate::signals::Caught;
use crate::table::Table;
use crate::{notify, stdout};

/// On a terminal a table may be shown, which lines of a log would tear apart.
pub(crate) fn verbosity() -> Verbosity {
    if stdout::is_terminal() { Verbosity::Warn } else { Verbosity::Info }
}

/// Runs the agent until it is asked to stop. Where the rows of one kind are asked for, a table of them is all that it
/// feeds.
pub(crate) fn main(registry: &Registry, sources: &Sources, elevated: bool, rows: &Rows) -> Result<Exit, Refusal> {
    rows.want_terminal()?;
    let mut caught = Caught::new()?;
    notify::meet(elevated);
    let sources = rows.asked_of(sources.clone());
    let mut plan = careful_plan(registry, &sources, elevated, None)?;
    let choice = rows.choice(&plan)?;
    if choice.is_some() {
        plan.sinks.clear();
    }
    let choice_made = choice.is_some();
    let on_terminal = plan.sinks.is_empty() && stdout::is_terminal();
    if plan.sinks.is_empty() && !on_terminal {
        // A service that is not configured yet runs: then its log and `status` say what to do.
        let Some(socket) = &plan.status else {
            return Err(Refusal::Usage(format!(
                "no sink is configured, standard output is no terminal to show a table on, and status is off; \
                 {}, or use `{} once`",
                to_configure(),
                identity().name()
            )));
        };
        let socket = socket.display();
        warn!(
            "no sink is configured: what is counted is told at {socket} (`{} status`) alone; {}",
            identity().name(),
            to_configure()
        );
    }
    let user = User::planned(&plan, elevated)?;
    // Before anything is counted: what the first agent still counts would be sent twice.
    let claimed = destinations::claim(&plan, destinations::directory(elevated), user.as_ref(), || caught.asked())?;
    if claimed.asked_to_end {
        return Ok(Exit::Fine);
    }
    let gate: Arc<dyn Gate> = claimed.claims;
    // Before there is any other thread, and before the rights are given up.
    let broker = Broker::of(&plan, registry, &sources, elevated, user.as_ref());
    let mut engine = Engine::attach(&plan, plan.interval, elevated, broker)?;
    if on_terminal {
        let baseline = engine.set_baseline();
        let table = Table::on_terminal(baseline, engine.agent.vitals().uncounted(), choice);
        engine.show_on("table", Selection::default(), Box::new(table))?;
    } else if !plan.sinks.is_empty() {
        engine.connect(&plan, &gate, || caught.asked())?;
    }
    drop(claimed.held);
    let registry = registry.clone();
    let replan = move |texts: Option<&Texts>| {
        let mut plan = careful_plan(&registry, &sources, elevated, texts)?;
        if choice_made {
            plan.sinks.clear();
        }
        Ok(plan)
    };
    match engine.run(caught, &plan, Box::new(replan), gate)? {
        End::Asked => Ok(Exit::Fine),
        // Whoever closes the terminal has seen enough.
        End::EssentialSink if stdout::is_closed() => Ok(Exit::Fine),
        End::EssentialSink => Err(Refusal::lasting("the table cannot be shown any more")),
        End::NoSinkLeft => Err(Refusal::lasting("no sink is left: every one has ended by itself, see above")),
        End::NoBroker => Err(Refusal::lasting(
            "the process that opens files for the agent (ebpf-broker) has ended, see above; start the agent again",
        )),
        End::NoTicks => Err(Refusal::lasting("the clock's thread has ended")),
    }
}
