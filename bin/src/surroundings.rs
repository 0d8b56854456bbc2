//! What the sinks of an agent are told of it, and how they are built, at the start and later.

use std::sync::Arc;
use std::time::Duration;

use ebpf_process_config::{Plan, PlannedProbe, PlannedSink};
use ebpf_process_core::engine::{OutletSpec, ProbePart, Setting, SinkPart};
use ebpf_process_core::{Direct, HostName, Ledger, Opener, Scope, SinkContext, Stop, Vitals};

use crate::destinations::{Claim, Gate};

/// A planned probe as the agent takes it.
pub(crate) fn probe_part(probe: &PlannedProbe) -> ProbePart {
    ProbePart { name: probe.name.as_str().into(), plugin: Arc::clone(&probe.plugin), options: probe.options.clone() }
}

/// What the sinks of an agent are told of it.
#[derive(Clone)]
pub(crate) struct Surroundings {
    interval: Duration,
    scope: Scope,
    host: HostName,
    instance: Option<String>,
    /// By whom its sinks open things.
    opener: Arc<dyn Opener>,
}

impl Surroundings {
    /// Of a plan, at this interval.
    pub(crate) fn of(plan: &Plan, interval: Duration) -> Self {
        let opener = Arc::new(Direct::default());
        Self { interval, scope: plan.scope, host: HostName::system(), instance: plan.instance.clone(), opener }
    }

    /// Its sinks open things by this from now on.
    pub(crate) fn opens_by(&mut self, opener: Arc<dyn Opener>) {
        self.opener = opener;
    }

    /// The same agent with another plan.
    pub(crate) fn with(&self, plan: &Plan) -> Self {
        let (instance, opener) = (plan.instance.clone(), Arc::clone(&self.opener));
        Self { interval: plan.interval, scope: plan.scope, host: self.host.clone(), instance, opener }
    }

    /// What a sink is built with.
    pub(crate) fn context(&self, spec: &OutletSpec, ledger: Arc<Ledger>, stop: Stop) -> SinkContext {
        SinkContext {
            host: self.host.clone(),
            instance: self.instance.clone(),
            scope: self.scope,
            stop,
            ledger,
            opener: Arc::clone(&self.opener),
            ..SinkContext::new(&*spec.name, spec.interval.unwrap_or(self.interval))
        }
    }

    /// A planned sink as the agent takes it: whenever it is built, it enters its gate first.
    pub(crate) fn part(&self, sink: &PlannedSink, gate: &Arc<dyn Gate>, vitals: &Arc<Vitals>) -> SinkPart {
        let spec = sink.spec.clone();
        let interval = spec.interval.unwrap_or(self.interval);
        let (planned, surroundings) = (sink.clone(), self.clone());
        let (gate, vitals) = (Arc::clone(gate), Arc::clone(vitals));
        let mut claim: Option<Claim> = None;
        SinkPart {
            plugin: Arc::clone(&sink.plugin),
            options: sink.options.clone(),
            setting: Setting { instance: self.instance.clone(), interval, scope: self.scope },
            make: Box::new(move |ledger, stop| {
                if claim.is_none() {
                    claim = Some(gate.enter(&planned)?);
                }
                let context = surroundings.context(&planned.spec, ledger, stop);
                let context = SinkContext { joins: vitals.ticks() > 0, ..context };
                planned.plugin.build(&planned.options, context)
            }),
            spec,
        }
    }
}
