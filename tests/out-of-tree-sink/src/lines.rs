//! A sink that appends counters to a file: `name{key=value} total`, a line each.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use ebpf_process_core::prelude::*;

/// Where it writes, and what it has not written yet.
pub struct Lines(File, Vec<u8>);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    path: PathBuf,
}

impl Options {
    /// What is not named here is closed to an agent that root has started.
    pub fn opens(&self) -> [Access; 1] {
        [Access::Write(self.path.clone())]
    }
}

impl Lines {
    pub fn build(options: Options, context: SinkContext) -> Result<Self, BuildError> {
        Ok(Self(context.opener.append(&options.path)?, Vec::new()))
    }
}

impl Sink for Lines {
    fn write(&mut self, view: &View<'_>) -> SinkResult {
        self.1.clear();
        for s in view.samples().filter(|sample| matches!(sample.value(), Value::Counter(_))) {
            writeln!(self.1, "{}{{{}}} {}", s.name(), s.labels(), s.value())?;
        }
        Ok(self.0.write_all(&self.1)?)
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::{Bench, context};
    use ebpf_process_core::{Options as Table, Registry, Selection};

    use super::*;

    #[test]
    fn a_counter_becomes_a_line() {
        let path = std::env::temp_dir().join(format!("lines-{}", std::process::id()));
        let options = Table::from_value(std::collections::BTreeMap::from([("path", &path)]));
        let registry = Registry::default().sink(SinkType::new("lines", "counters as lines", Lines::build));
        let mut sink = registry.find_sink("lines").expect("its type").build(&options, context("mine")).expect("a sink");
        let mut bench = Bench::new();
        let host = bench.host(Column::counter("demo.calls", Unit::CALLS, "Calls").labels([("kind", "a")]));
        let disk = EntityKind::new("disk").keys(["disk"]);
        let disk = bench.cell(&disk, &["sda"], Column::counter("demo.calls", Unit::CALLS, "Calls"));
        let record = |recorder: &mut Recorder| {
            host.counter(recorder, 7);
            disk.counter(recorder, 3);
        };
        bench.tick(&Selection::default(), record, |view| sink.write(view)).expect("written");
        let lines = std::fs::read_to_string(&path).expect("the file");
        assert_eq!(lines, "demo.calls{kind=a} 7\ndisk.demo.calls{disk=sda} 3\n");
        std::fs::remove_file(path).expect("removed");
    }
}
