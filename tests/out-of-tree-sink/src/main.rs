//! The agent with one more sink.

mod lines;

use std::process::ExitCode;

fn main() -> ExitCode {
    ebpf_process::App::new("my-agent", env!("CARGO_PKG_VERSION")).sink(lines::PLUGIN).run()
}
