//! A sink that appends counters to a file: `name{key=value} total`, a line each.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use ebpf_process_core::{
    Access, BuildError, Claims, Finding, Options, OptionsError, Sink, SinkContext, SinkError, SinkPlugin, TrialContext,
    Value, View,
};
use serde::Deserialize;

pub const PLUGIN: Lines = Lines;

/// The sink type `lines`.
pub struct Lines;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinesOptions {
    path: PathBuf,
}

impl SinkPlugin for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn summary(&self) -> &'static str {
        "counters as lines in a file"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        options.extract::<LinesOptions>().map(|_| Claims::default())
    }

    fn destination(&self, options: &Options) -> Option<String> {
        options.extract::<LinesOptions>().ok().map(|options| options.path.display().to_string())
    }

    fn try_out(&self, options: &Options, _: &TrialContext) -> Vec<Finding> {
        let Ok(LinesOptions { path }) = options.extract() else { return Vec::new() };
        let name = path.display();
        // Opened, and neither made nor changed.
        vec![match File::options().append(true).open(&path) {
            Ok(_) => Finding::fine(format!("{name} can be written")),
            Err(error) if error.kind() == ErrorKind::NotFound => Finding::fine(format!("{name} will be made")),
            Err(error) => Finding::error(format!("{name}: {error}"), "name a file that can be written"),
        }]
    }

    /// What is not named here is closed to an agent that root has started.
    fn opens(&self, options: &Options) -> Vec<Access> {
        options.extract::<LinesOptions>().map(|options| Access::Write(options.path)).into_iter().collect()
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let path = options.extract::<LinesOptions>()?.path;
        let file = context.opener.append(&path).map_err(|error| {
            BuildError::refused(format!("{}: {error}", path.display()), "name a file that can be written")
        })?;
        Ok(Box::new(LinesSink { file, text: String::new() }))
    }
}

struct LinesSink {
    file: File,
    text: String,
}

impl Sink for LinesSink {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.text.clear();
        for s in view.samples().filter(|sample| matches!(sample.value(), Value::Counter(_))) {
            writeln!(self.text, "{}{{{}}} {}", s.name(), s.labels(), s.value())?;
        }
        self.file.write_all(self.text.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::{Bench, context};
    use ebpf_process_core::{Column, EntityKind, Recorder, Selection, Unit};

    use super::*;

    #[test]
    fn a_counter_becomes_a_line() {
        let path = std::env::temp_dir().join(format!("lines-{}", std::process::id()));
        let options = Options::from_value(std::collections::BTreeMap::from([("path", &path)]));
        let mut sink = PLUGIN.build(&options, context("mine")).expect("a sink");
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
