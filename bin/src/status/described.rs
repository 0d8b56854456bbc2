//! What the configuration in effect says, for the status: a reload changes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_config::Plan;
use ebpf_process_probes::Feed;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::reloads::Outcome;
use crate::survey;

/// What the configuration in effect says.
pub(crate) struct Described(Mutex<Now>);

struct Now {
    interval: Duration,
    grace: Duration,
    sinks: BTreeMap<String, Planned>,
    feeds: Vec<Feed>,
    reload: Option<(Instant, Reload)>,
}

/// What a configuration says about a sink.
#[derive(Clone)]
pub(crate) struct Planned {
    pub(crate) kind: String,
    /// What two agents may not share.
    pub(crate) destination: Option<String>,
}

/// What came of a reload.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Reload {
    /// How many seconds ago it was.
    pub(crate) age: f64,
    /// What was done, in words.
    pub(crate) changes: Vec<String>,
    /// Why nothing was taken over.
    pub(crate) error: Option<String>,
}

impl Described {
    /// What this plan says.
    pub(crate) fn of(plan: &Plan) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Now::of(plan))))
    }

    /// Another plan is in effect.
    pub(crate) fn becomes(&self, plan: &Plan) {
        let now = &mut *self.0.lock();
        *now = Now { reload: now.reload.take(), ..Now::of(plan) };
    }

    /// What came of the last reload.
    pub(crate) fn reloaded(&self, outcome: &Outcome) {
        let reload = Reload {
            age: 0.0,
            changes: outcome.clone().unwrap_or_default(),
            error: outcome.as_ref().err().map(|refused| refused.reason.clone()),
        };
        self.0.lock().reload = Some((Instant::now(), reload));
    }

    pub(crate) fn last_reload(&self) -> Option<Reload> {
        let last = self.0.lock().reload.clone();
        last.map(|(at, reload)| Reload { age: at.elapsed().as_secs_f64(), ..reload })
    }

    pub(crate) fn interval(&self) -> Duration {
        self.0.lock().interval
    }

    /// How long a stop waits for sinks.
    pub(crate) fn grace(&self) -> Duration {
        self.0.lock().grace
    }

    /// What the counters of the configured probes feed.
    pub(crate) fn feeds(&self) -> Vec<Feed> {
        self.0.lock().feeds.clone()
    }

    pub(crate) fn sink(&self, name: &str) -> Option<Planned> {
        self.0.lock().sinks.get(name).cloned()
    }
}

impl Now {
    fn of(plan: &Plan) -> Self {
        let sinks = plan.sinks.iter().map(|sink| {
            let destination = sink.plugin.destination(&sink.options);
            (sink.spec.name.clone(), Planned { kind: sink.plugin.name().to_owned(), destination })
        });
        let (interval, grace) = (plan.interval, plan.grace);
        Self { interval, grace, sinks: sinks.collect(), feeds: survey::feeds(&plan.probes), reload: None }
    }
}
