//! The agent with one more sink and one more probe.

mod lines;
mod pressure;

use std::process::ExitCode;

use ebpf_process_core::prelude::*;

fn main() -> ExitCode {
    let lines = SinkType::new("lines", "counters as lines in a file", lines::Lines::build).opens(lines::Options::opens);
    let pressure = ProbeType::new("pressure", "time in which work waited", pressure::Pressure::build)
        .columns(|_| pressure::columns())
        .opens(pressure::Options::opens)
        .off_by_default();
    ebpf_process::App::new("my-agent", env!("CARGO_PKG_VERSION")).sink(lines).probe(pressure).run()
}
