//! The agent with the probes and sinks that come with it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ebpf_process::App::default().run()
}
