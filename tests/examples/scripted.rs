//! The agent with one probe that does what a test's configuration says, and the sinks as they are.
//!
//! netdata starts it as its plugin (`tests/netdata.rs`): what netdata reads is what the real agent writes, for values
//! that no kernel would give.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use ebpf_process_core::{
    BuildError, Descriptor, HISTOGRAM_SLOTS, Options, OptionsError, Probe, ProbeContext, ProbeError, ProbePlugin,
    Recorder, Registry, SeriesId, SeriesRefused, Unit,
};
use ebpf_process_tests::hostile;
use serde::Deserialize;

fn main() -> ExitCode {
    let registry = Registry::default().probe(&Scripted);
    ebpf_process::run(ebpf_process_sinks::all().iter().fold(registry, |registry, sink| registry.sink(*sink)))
}

struct Scripted;

/// The table `[probes.scripted]`; `enabled` is the agent's.
#[derive(Deserialize)]
struct Script {
    /// Refuses to start: "passing" or "lasting".
    refuse: Option<String>,
    /// Ticks without values before the first.
    #[serde(default)]
    silent: u64,
    /// The metric `scripted.brief` ends when this file exists.
    #[serde(default)]
    end: PathBuf,
}

impl ProbePlugin for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn summary(&self) -> &'static str {
        "does what a test says"
    }

    fn catalog(&self, _: &Options) -> Result<Vec<Arc<Descriptor>>, OptionsError> {
        let Metrics { calls, level, time, brief } = Metrics::new();
        Ok(vec![calls, level, time, brief])
    }

    fn build(&self, options: &Options, _: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let script: Script = options.extract()?;
        match script.refuse {
            None => Ok(Box::new(Player {
                script,
                metrics: Metrics::new(),
                names: hostile::distinct_names(),
                tick: 0,
                brief: None,
            })),
            Some(how) => Err(BuildError::Refused {
                problem: "the script says so".to_owned(),
                way_out: "change it".to_owned(),
                passing: how == "passing",
            }),
        }
    }
}

struct Metrics {
    calls: Arc<Descriptor>,
    level: Arc<Descriptor>,
    time: Arc<Descriptor>,
    brief: Arc<Descriptor>,
}

impl Metrics {
    fn new() -> Self {
        Self {
            calls: Descriptor::counter("scripted.calls", Unit::CALLS, "It's \"called\" = \\").labels(["name"]).share(),
            level: Descriptor::gauge("scripted.level", Unit::SECONDS, "A level").labels(["name"]).share(),
            time: Descriptor::histogram("scripted.time", Unit::SECONDS, "A time").labels(["name"]).share(),
            brief: Descriptor::counter("scripted.brief", Unit::CALLS, "What ends").share(),
        }
    }
}

struct Player {
    script: Script,
    metrics: Metrics,
    names: Vec<String>,
    tick: u64,
    brief: Option<SeriesId>,
}

impl Probe for Player {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.tick += 1;
        if self.tick > self.script.silent {
            self.record(recorder).map_err(ProbeError::new)?;
        }
        Ok(())
    }
}

impl Player {
    /// Counter number N is 1000 times the tick and N. Two histograms grow, one of them into slots that it had not.
    fn record(&mut self, recorder: &mut Recorder) -> Result<(), SeriesRefused> {
        let Metrics { calls, level, time, brief } = &self.metrics;
        for (number, name) in (0_u64..).zip(&self.names) {
            let id = recorder.series(calls, &[name])?;
            recorder.counter(id, self.tick * 1000 + number);
            let id = recorder.series(level, &[name])?;
            recorder.gauge(id, if number % 2 == 0 { f64::MAX } else { 0.125 });
        }
        for name in ["plain", "it's \"=\" \\\nDISABLE"] {
            let mut slots = [0; HISTOGRAM_SLOTS];
            slots[3] = self.tick;
            slots[40] = self.tick.saturating_sub(self.script.silent + 2);
            let id = recorder.series(time, &[name])?;
            recorder.histogram(id, &slots, 1);
        }
        if !self.script.end.exists() {
            let id = recorder.series(brief, &[])?;
            recorder.counter(id, self.tick);
            self.brief = Some(id);
        } else if let Some(id) = self.brief.take() {
            recorder.end(id);
        }
        Ok(())
    }
}
