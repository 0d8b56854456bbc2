//! The agent with two more kernel probes.

mod launch;
mod users;

use std::process::ExitCode;

fn main() -> ExitCode {
    ebpf_process::run(ebpf_process::registry().probe(launch::LAUNCH).probe(users::USERS))
}
