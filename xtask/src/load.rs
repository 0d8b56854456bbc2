//! `cargo xtask load`: very many made-up rows through the sinks, what they cost, and whether anything is lost.

use std::process::Command;

use crate::Outcome;

/// `cargo xtask load [OPTION]...`: the options are those of the program in `tests/load`, which says what is wrong with
/// them.
///
/// # Errors
/// It does not build, a ledger shows a loss, or a bound is passed.
pub(crate) fn run(options: &[&str]) -> Outcome {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--release", "--quiet", "--package", "ebpf-process-load", "--"]).args(options);
    let status = cargo.status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err("load: see above".into()) }
}
