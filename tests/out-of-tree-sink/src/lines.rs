//! A sink that appends counters to a file: `name{key=value} total`, a line each.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use ebpf_process_core::{
    BuildError, Claims, Finding, Options, OptionsError, Sink, SinkContext, SinkError, SinkPlugin, TrialContext, Value,
    View,
};
use serde::Deserialize;

pub static PLUGIN: Lines = Lines;

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

    fn build(&self, options: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let path = options.extract::<LinesOptions>()?.path;
        let file = File::create(&path).map_err(|error| BuildError::Refused {
            problem: format!("{}: {error}", path.display()),
            way_out: "name a file that can be written".to_owned(),
            passing: false,
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
        for metric in view.metrics() {
            for sample in metric.samples() {
                let Value::Counter(total) = sample.value() else { continue };
                let labels: Vec<String> = sample.labels().map(|(key, value)| format!("{key}={value}")).collect();
                writeln!(self.text, "{}{{{}}} {total}", metric.name(), labels.join(",")).map_err(SinkError::failed)?;
            }
        }
        self.file.write_all(self.text.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::{Bench, context};
    use ebpf_process_core::{Descriptor, Selection, Unit};

    use super::*;

    #[test]
    fn a_counter_becomes_a_line() {
        let path = std::env::temp_dir().join(format!("lines-{}", std::process::id()));
        let options = Options::from_value(std::collections::BTreeMap::from([("path", &path)]));
        let mut sink = PLUGIN.build(&options, context("mine")).expect("a sink");
        let calls = Descriptor::counter("demo.calls", Unit::CALLS, "Calls").labels(["kind"]).share();
        let mut bench = Bench::new();
        let id = bench.series(&calls, &["a"]);
        bench
            .tick(&Selection::default(), |recorder| recorder.counter(id, 7), |view| sink.write(view))
            .expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "demo.calls{kind=a} 7\n");
        std::fs::remove_file(path).expect("removed");
    }
}
