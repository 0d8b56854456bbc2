//! Which kinds of rows a sink gets without asking.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::engine::{Agent, Moment, OutletSpec};
use ebpf_process_core::testkit::{ManualClock, MemorySink, context};
use ebpf_process_core::{
    BuildError, Claims, Column, EntityKind, Options, OptionsError, Probe, ProbeError, Recorder, Selection, Sink,
    SinkContext, SinkPlugin, Unit,
};

/// A sink type that takes every kind or does not.
struct Type {
    every: bool,
    memory: MemorySink,
}

impl SinkPlugin for Type {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn summary(&self) -> &'static str {
        "remembers"
    }

    fn check(&self, _: &Options) -> Result<Claims, OptionsError> {
        Ok(Claims::default())
    }

    fn build(&self, _: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        Ok(Box::new(self.memory.clone()))
    }

    fn takes_every_kind(&self) -> bool {
        self.every
    }
}

/// Counts for a row of each kind.
struct Rows;

impl Probe for Rows {
    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let calls = || Column::counter("demo.calls", Unit::CALLS, "Calls");
        for name in [EntityKind::PROCESS, "cgroup"] {
            let kind = match recorder.existing_kind(name) {
                Some(kind) => kind,
                None => recorder.kind(EntityKind::new(name).keys(["name"])).expect("a kind"),
            };
            let column = recorder.column(kind, calls()).expect("a column");
            let row = recorder.row(kind, 1, &["a"]).expect("a row");
            recorder.counter(row, column, 1);
        }
        let column = recorder.column(recorder.host_kind(), calls()).expect("a column");
        recorder.counter(recorder.host(), column, 1);
        Ok(())
    }
}

#[test]
fn processes_are_for_who_asks_and_for_who_takes_everything() {
    let all = ["cgroup.demo.calls", "demo.calls", "process.demo.calls"];
    for (every, kinds, expected) in [
        (false, None, &all[..2]),
        (true, None, &all[..]),
        (false, Some(vec!["process".to_owned()]), &all[2..]),
        (true, Some(vec!["host".to_owned()]), &all[1..2]),
    ] {
        let plugin = Type { every, memory: MemorySink::default() };
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), Duration::from_secs(100)));
        let mut agent = Agent::new(clock, Duration::from_secs(1));
        agent.push_probe("rows", Box::new(Rows));
        let selection = Selection { kinds: kinds.clone(), ..Selection::default() };
        let spec = OutletSpec { selection, ..OutletSpec::new("memory") };
        agent.add_sink(&plugin, &Options::none(), spec, context("memory")).expect("a sink");
        agent.tick_whole(Moment { wall: Duration::from_secs(1_600_000_001), boottime: Duration::from_secs(101) });
        agent.close(Duration::from_secs(60));
        let names: BTreeSet<String> = plugin.memory.samples().into_iter().map(|sample| sample.name).collect();
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{every} {kinds:?}");
    }
}
