//! The agent with three more sinks and one more probe.

mod acked;
mod graphite;
mod lines;
mod pressure;

use std::process::ExitCode;

use ebpf_process_core::prelude::*;

fn main() -> ExitCode {
    let lines = SinkType::new("lines", "counters as lines in a file", lines::Lines::build).opens(lines::Options::opens);
    let graphite =
        SinkType::new("graphite", "numbers for Graphite, over TCP", graphite::build).opens(graphite::Options::opens);
    let acked =
        SinkType::new("acked", "numbers over TCP, each frame acknowledged", acked::build).opens(acked::Options::opens);
    let pressure = ProbeType::new("pressure", "time in which work waited", pressure::Pressure::build)
        .columns(|_| pressure::columns())
        .opens(pressure::Options::opens)
        .off_by_default();
    ebpf_process::App::new("my-agent", env!("CARGO_PKG_VERSION"))
        .sink(lines)
        .sink(graphite)
        .sink(acked)
        .probe(pressure)
        .run()
}
