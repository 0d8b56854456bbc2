//! Taking over a changed configuration while the agent runs.

use std::sync::{Arc, Weak};
use std::{io, thread};

use ebpf_process_config::{Plan, PlannedProbe, Texts};
use ebpf_process_core::engine::{NotApplied, Parts, Remote, Ticker};
use ebpf_process_core::{ProbePlugin as _, VITALS, Vitals};
use rustix::thread::{CapabilitySet, capabilities};
use tracing::{error, info};

use crate::broker::Client;
use crate::confinement::landlock::Open;
use crate::destinations::Gate;
use crate::exit::{Exit, Refusal};
use crate::notify;
use crate::reloads::{Outcome, Refused, Requests};
use crate::status::Described;
use crate::surroundings::{Surroundings, probe_part};

/// Reads the configuration anew, or takes the texts of its files, and checks it, as at the start. Opens and attaches nothing.
pub(crate) type Replan = Box<dyn FnMut(Option<&Texts>) -> Result<Plan, Refusal> + Send>;

/// Whether this process may load programs.
fn may_load() -> bool {
    let rights = CapabilitySet::BPF | CapabilitySet::SYS_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.intersects(rights))
}

fn same_probes(one: &Plan, other: &Plan) -> bool {
    let of_kernel = |plan: &Plan| plan.probes.iter().filter(|probe| probe.name != VITALS.name()).cloned().collect();
    let (one, other): (Vec<PlannedProbe>, Vec<PlannedProbe>) = (of_kernel(one), of_kernel(other));
    one.len() == other.len()
        && one
            .iter()
            .all(|probe| other.iter().any(|other| other.name == probe.name && other.options.is_same(&probe.options)))
}

/// What came of a reload.
fn in_a_line(outcome: &Outcome) -> String {
    match outcome {
        Ok(changes) if changes.is_empty() => "the configuration was read again: nothing has changed".to_owned(),
        Ok(changes) => format!("the configuration was read again: {} changes", changes.len()),
        Err(refused) => format!("the configuration was not taken over, and nothing has changed: {}", refused.reason),
    }
}

/// What a reload needs of the agent.
pub(crate) struct Reloader {
    pub(crate) replan: Replan,
    /// What is in effect.
    pub(crate) current: Plan,
    pub(crate) surroundings: Surroundings,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) remote: Remote,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) ticker: Weak<Ticker>,
    pub(crate) described: Arc<Described>,
    /// Reads the files, where this process may not.
    pub(crate) broker: Option<Arc<Client>>,
    /// Which paths are open to this process, where others are closed.
    pub(crate) open: Option<Open>,
}

impl Reloader {
    /// Starts the thread; it ends when nobody can ask any more, or the agent has ended.
    pub(crate) fn start(mut self, requests: Requests) -> io::Result<()> {
        let work = move || {
            for request in requests {
                notify::reloading();
                let outcome = self.reload();
                notify::reloaded(&in_a_line(&outcome));
                if let Some(done) = request {
                    // Whoever asked may have gone.
                    let _ = done.send(outcome);
                }
            }
        };
        thread::Builder::new().name("reload".to_owned()).spawn(work).map(drop)
    }

    fn reload(&mut self) -> Outcome {
        let outcome = self.try_reload();
        let said = in_a_line(&outcome);
        if outcome.is_ok() {
            info!("{said}");
        } else {
            error!("{said}");
        }
        self.described.reloaded(&outcome);
        outcome
    }

    fn try_reload(&mut self) -> Outcome {
        let refused = |refusal: Refusal| Refused { reason: refusal.to_string(), exit: refusal.exit() };
        let texts = self.texts()?;
        let outcome = (self.replan)(texts.as_ref()).map_err(refused).and_then(|plan| self.become_it(plan));
        if let Some(broker) = &self.broker {
            broker.is_in_effect(outcome.is_ok());
        }
        outcome
    }

    fn become_it(&mut self, plan: Plan) -> Outcome {
        self.stays(&plan).map_err(|reason| Refused { reason, exit: Exit::Failed })?;
        let surroundings = self.surroundings.with(&plan);
        let sinks = plan.sinks.iter().map(|sink| surroundings.part(sink, &self.gate, &self.vitals)).collect();
        let probes = plan.probes.iter().map(probe_part).collect();
        let parts = Parts { interval: plan.interval, grace: plan.grace, probes, sinks };
        let not_applied = |error: NotApplied| Refused { reason: error.to_string(), exit: Exit::Failed };
        let mut changes = self.remote.apply(parts).map_err(not_applied)?;
        if !same_probes(&plan, &self.current) {
            changes.extend(self.open.iter().flat_map(|open| open.misses(&plan)));
        }
        if plan.interval != self.current.interval
            && let Some(ticker) = self.ticker.upgrade()
        {
            ticker.set_interval(plan.interval);
            changes.push(format!("one batch every {}", ebpf_process_core::duration::show(plan.interval)));
        }
        self.described.becomes(&plan);
        self.surroundings = surroundings;
        self.current = plan;
        Ok(changes)
    }

    /// The files, as the broker reads them; it has found them right. Without one they are this process's to read.
    fn texts(&self) -> Result<Option<Texts>, Refused> {
        let Some(broker) = &self.broker else { return Ok(None) };
        let wrong = |error: io::Error| Refused { reason: error.to_string(), exit: Exit::Usage };
        let bytes = broker.configuration().map_err(wrong)?;
        let texts = Texts::decode(&bytes);
        texts
            .map(Some)
            .ok_or_else(|| wrong(io::Error::other("the broker's answer is not understood; please report it")))
    }

    /// What cannot change while the agent runs.
    fn stays(&self, plan: &Plan) -> Result<(), String> {
        let (now, current) = (plan, &self.current);
        let what = [
            ("instance", now.instance == current.instance),
            ("status.socket", now.status == current.status),
            ("capabilities", now.capabilities == current.capabilities),
            ("user", now.user == current.user),
        ];
        if let Some((key, _)) = what.iter().find(|(_, same)| !same) {
            return Err(format!("{key} cannot change while the agent runs; restart it"));
        }
        if let Some(reason) = self.open.as_ref().and_then(|open| open.refuses(now)) {
            return Err(reason);
        }
        // To find that out when the probes are gone would cost what they count.
        if self.broker.is_none() && !may_load() && !same_probes(plan, current) {
            return Err(
                "other probes, or other options of theirs, take rights that this agent has given up: one that was started \
                 setuid or with file capabilities has no broker that keeps them; restart it"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
