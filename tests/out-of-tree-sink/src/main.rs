//! The agent with one more sink.

mod lines;

use std::process::ExitCode;

fn main() -> ExitCode {
    ebpf_process::run(ebpf_process::registry().sink(lines::PLUGIN))
}
