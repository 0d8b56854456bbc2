//! An agent with one more sink: every number as a line of a file.
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use ebpf_process_core::prelude::*;

struct Lines(File);

impl Sink for Lines {
    fn write(&mut self, view: &View<'_>) -> SinkResult {
        let mut text = String::new();
        for sample in view.samples() {
            writeln!(text, "{}{{{}}} {}", sample.name(), sample.labels(), sample.value())?;
        }
        self.0.write_all(text.as_bytes())?;
        Ok(())
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    path: PathBuf,
}

fn main() -> ExitCode {
    let lines = SinkType::new("lines", "every number as a line of a file", |settings: Settings, context: SinkContext| {
        Ok(Lines(context.opener.append(&settings.path)?))
    });
    let lines = lines.opens(|settings: &Settings| [Access::Write(settings.path.clone())]);
    ebpf_process::App::new("my-agent", env!("CARGO_PKG_VERSION")).sink(lines).run()
}
