//! The agent with two more kernel probes.

mod launch;
mod users;

use std::process::ExitCode;

fn main() -> ExitCode {
    ebpf_process::App::new("my-probes", env!("CARGO_PKG_VERSION")).probe(launch::LAUNCH).probe(users::USERS).run()
}
